"""Nodes of one ledger tell what they charge by; who charges by something else is named as long as it is there."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from celcombiller.config.digest import settings_digests
from celcombiller.config.tables import Asterisk, Calls, Config, Notices, Radius, RadiusClient, RateRow, Sms
from celcombiller.core.cluster import GONE_AFTER, announce_node
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from tests.core.ledger.test_book import NOW, database

CHEAP, DEAR = {"[[rates]]": "cheap"}, {"[[rates]]": "dear"}
HOTSPOT = RadiusClient(name="hotspot", address="10.0.0.10", secret="correct horse")
RADIUS = Radius(clients=(HOTSPOT,))


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "db.sqlite")
    yield made
    made.dispose()


@pytest.fixture
def said(engine):
    return lambda name, parts, at=NOW: transact(engine, lambda tx: announce_node(tx, name, parts, at))


def test_a_differing_node_is_named_until_it_agrees(said):
    assert said("a", CHEAP) == {}
    assert said("b", DEAR) == {"a": ["[[rates]]"]}
    assert said("c", CHEAP) == {"b": ["[[rates]]"]}
    assert said("a", CHEAP) == {"b": ["[[rates]]"]}
    assert said("b", CHEAP) == {}
    assert said("a", CHEAP) == {}


def test_a_node_that_is_gone_disagrees_with_nobody(said):
    said("a", CHEAP)
    assert said("b", DEAR, NOW + GONE_AFTER - timedelta(seconds=1)) == {"a": ["[[rates]]"]}
    assert said("b", DEAR, NOW + GONE_AFTER) == {}


def test_only_shared_settings_are_compared(said):
    said("a", {"[sms]": "1", "[calls]": "1", "[radius]": "1"})
    assert said("b", {"[sms]": "1", "[calls]": "1"}) == {}
    assert said("c", {"[sms]": "2", "[calls]": "2", "[notices]": "1"}) == {
        "a": ["[sms]", "[calls]"],
        "b": ["[sms]", "[calls]"],
    }


def test_an_older_nodes_single_digest_is_understood(said, engine):
    said("a", CHEAP)
    with engine.begin() as tx:
        tx.execute(tables.node.update().values(terms="0" * 64))
    assert said("b", CHEAP) == {"a": ["its version"]}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({}, []),
        ({"interface": "10.0.0.2", "access_port": 0}, []),
        ({"quota_octets": 5}, ["[radius]"]),
        ({"octets_per_credit": 5}, ["[radius]"]),
        ({"silent_minutes": 5}, ["[radius] silent_minutes"]),
        ({"clients": (replace(HOTSPOT, secret="another"),)}, ["[[radius.clients]] hotspot"]),
        ({"clients": (replace(HOTSPOT, disconnect_port=0),)}, ["[[radius.clients]] hotspot"]),
        ({"clients": (HOTSPOT, replace(HOTSPOT, name="pppoe", address="10.0.0.11"))}, ["[[radius.clients]]"]),
        ({"clients": ()}, []),
        ({"clients": (), "silent_minutes": 5}, ["[radius] silent_minutes"]),
    ],
)
def test_radius_settings_agree_but_for_addresses(said, engine, other, named):
    assert said("a", settings_digests(Config(radius=RADIUS))) == {}
    assert said("b", settings_digests(Config(radius=replace(RADIUS, **other)))) == ({"a": named} if named else {})
    with engine.begin() as tx:
        assert not any("horse" in row.terms or "another" in row.terms for row in tx.execute(tables.node.select()))


WAYS = {"asterisk": (Asterisk(name="a", host="h", username="u", secret="s"),), "sms": Sms(on_net_route="asterisk")}
USED = Config(**WAYS, notices=Notices(thresholds=(5,)))


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"rates": (RateRow(price=7),)}, ["[[rates]]"]),
        ({"calls": Calls(max_call_seconds=60)}, ["[calls]"]),
        ({"calls": Calls(dial_options="r")}, []),
        ({"sms": Sms(on_net_route="asterisk", on_net_price=9)}, ["[sms]"]),
        ({"sms": Sms(on_net_route="asterisk", account="sms")}, ["[sms]"]),
        ({"notices": Notices()}, []),
        ({"notices": Notices(thresholds=(6,))}, ["[notices]"]),
    ],
)
def test_charging_settings_are_compared_local_ones_not(said, section, named):
    said("a", settings_digests(USED))
    assert said("b", settings_digests(replace(USED, **section))) == ({"a": named} if named else {})
