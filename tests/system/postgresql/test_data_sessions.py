"""Data sessions where two nodes work at once, and their lists, on PostgreSQL."""

import threading

import pytest

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.data import disconnect_requests
from celcombiller.core.data.session import DataState
from celcombiller.core.reports import history
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from tests.core.data import test_data_sessions as data
from tests.core.ledger.test_book import NOW, TERMS, proved

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


def test_two_nodes_charge_a_session_report_once(engine):
    data.give(engine, 10_000)
    told = [
        [data.interim(octets, session_id=name) for octets in range(node, 200, 2)] for name in "AB" for node in (0, 1)
    ]

    def tell(reports):
        node = open_engine(engine.url.render_as_string(hide_password=False), lock_seconds=5)
        for each in reports:
            transact(node, lambda tx, each=each: process_batch(tx, TERMS, [each], NOW))
        node.dispose()

    threads = [threading.Thread(target=tell, args=(each,)) for each in told]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert [each.charged for each in data.rows(engine)] == [199, 199]
    assert data.pot(engine) == (10_000 - 398, 2 * data.QUOTA)
    proved(engine)


def test_sessions_are_read_back_page_by_page(engine):
    data.give(engine, 1000)
    data.hear(engine, *(data.start(session_id=name, at=NOW + number * data.HOUR) for number, name in enumerate("ABC")))
    data.hear(engine, data.stop(5, session_id="B", at=NOW + 9 * data.HOUR))

    def found(**wanted):
        with engine.begin() as tx:
            return [
                (each.session.session_id, each.username) for each in history.list_data_sessions(tx, limit=2, **wanted)
            ]

    assert found() == [("C", "u1001"), ("B", "u1001")]
    assert found(after=(NOW + data.HOUR, 2)) == [("A", "u1001")]
    assert found(state=DataState.OPEN, nas="hotspot/nas1") == [("C", "u1001"), ("A", "u1001")]
    assert found(since=NOW + data.HOUR, until=NOW + 2 * data.HOUR, state=DataState.CLOSED) == [("B", "u1001")]


def test_one_node_claims_a_disconnect_then_retries(engine):
    data.give(engine, 1000)
    data.hear(engine, data.start(), data.start(session_id="B2"))
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1001", NOW, enabled=False)
        assert disconnect_requests.is_due(tx, NOW)
        disconnect_requests.request_disconnects(tx, NOW)
    with engine.begin() as one, engine.begin() as other:
        assert len(disconnect_requests.claim(one, NOW, limit=9)) == 2
        assert disconnect_requests.claim(other, NOW, limit=9) == []
    with engine.begin() as tx:
        assert disconnect_requests.claim(tx, NOW, limit=9) == []
        assert not disconnect_requests.is_due(tx, NOW)
        again = disconnect_requests.claim(tx, NOW + disconnect_requests.RETRY_MIN, limit=9)
        assert [each.disconnect_tries for each in again] == [1, 1]
        disconnect_requests.answered(tx, again[0].reference, "ACK", settled=True)
    proved(engine)
