"""Nodes of one ledger tell what they charge by; who charges by something else is named as long as it is there."""

from datetime import timedelta

import pytest
from outcomes import result_of
from test_ledger import NOW, database
from twisted.internet.defer import Deferred, succeed

from celcombiller.config import Agi, Config, Sms
from celcombiller.nodes import GONE_AFTER, announce
from celcombiller.service import Comparison
from celcombiller.store import transact


@pytest.fixture
def said(tmp_path):
    engine = database(tmp_path / "db.sqlite")
    yield lambda name, terms, at=NOW: transact(engine, lambda tx: announce(tx, name, terms, at))
    engine.dispose()


def test_a_node_that_charges_by_something_else_is_named_until_it_agrees(said):
    assert said("a", "cheap") == []
    assert said("b", "dear") == ["a"]
    assert said("c", "cheap") == ["b"]
    assert said("a", "cheap") == ["b"]
    assert said("b", "cheap") == []
    assert said("a", "cheap") == []


def test_a_node_that_is_gone_disagrees_with_nobody(said):
    said("a", "cheap")
    assert said("b", "dear", NOW + GONE_AFTER - timedelta(seconds=1)) == ["a"]
    assert said("b", "dear", NOW + GONE_AFTER) == []


def test_nodes_that_have_messages_paid_from_different_accounts_are_told_apart(tmp_path):
    engine = database(tmp_path / "db.sqlite")

    class Here:
        def transact(self, work):
            return succeed(transact(engine, work))

    def node(port, account):
        return Comparison(Here(), Config(agi=Agi(listen=f"tcp:{port}"), sms=Sms(account=account)))

    nodes = [node(4573, "voice"), node(4574, "sms"), node(4575, "sms")]
    for each in nodes * 2:
        result_of(Deferred.fromCoroutine(each()))
    assert [len(each._differing) for each in nodes] == [2, 1, 1]
    engine.dispose()
