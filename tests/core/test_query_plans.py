"""No query on the path of a call looks at a whole table, however long the history: asked of the planner."""

import re

import pytest
import sqlalchemy as sa

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import CallAnswered, TakeTrunk
from celcombiller.core.model.calls import Witness
from celcombiller.core.model.subscribers import Group
from celcombiller.core.schema import bulk, driver, tables
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.voice import asterisk_heartbeat, call_queries
from tests.core.charging.test_call_limits import OFF_NET, terms, write
from tests.core.ledger.test_book import NOW, TERMS, credit, database, ended, initiate
from tests.core.routing.test_trunk_choice import trunk


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "plans.sqlite")
    yield made
    made.dispose()


def the_path_of_a_call(engine, monkeypatch):
    """Do all that a call makes the biller ask the database; give the statements, each with parameters it had."""
    asked = []

    def note(_connection, _cursor, statement, parameters, _context, many):
        asked.append((statement, parameters[0] if many else parameters))

    def told(cursor, tx, text, values=()):
        asked.append((text, values))
        return tell(cursor, tx, text, values)

    def fetched(tx, text, values, **how):
        asked.append((text, values))
        return fetch(tx, text, values, **how)

    limited = terms(
        groups=[Group(5, "shop", calls_max=9, subscriber_calls_max=9)],
        trunks=[trunk(1, calls_max=9), trunk(2, calls_max=9)],
        max_call_seconds=5,
    )
    write(engine, limited, group_id=5)
    tell, fetch = driver.execute_on, driver.fetch_row
    monkeypatch.setattr(driver, "execute_on", told)
    monkeypatch.setattr(bulk, "execute_on", told)
    monkeypatch.setattr(bulk, "fetch_row", fetched)
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        for requests in (
            [credit(100), initiate("1.0"), initiate("2.0", caller="IMSI724000000001001")],
            [CallAnswered("pbx1", "1.0", NOW)],
            [ended("1.0"), ended("2.0", answered=False)],
            [ended("1.0", witness=Witness.REDUCER)],
        ):
            with engine.begin() as tx:
                process_batch(tx, TERMS, requests, NOW)
        for request in (initiate("3.0", called=OFF_NET), TakeTrunk("pbx1", "3.0", 0, 1, (2,)), ended("3.0")):
            with engine.begin() as tx:
                (answer,) = process_batch(tx, limited, [request], NOW)
            assert not isinstance(answer, Exception), answer
        with engine.begin() as tx:
            tx.execute(sa.select(tables.subscriber).where(Directory.is_named_by(["u1001"]))).all()
            tx.execute(sa.select(tables.account).where(tables.account.c.subscriber_id == 1)).all()
            after = call_queries.OpenCall(1, "r", "u", 1, NOW)
            call_queries.list_open(tx, "pbx1", after=after, limit=10)
            call_queries.overdue_calls(tx, NOW, limit=10)
            call_queries.count_overdue(tx, NOW)
            asterisk_heartbeat.server_seen(tx, "pbx1", NOW)
            asterisk_heartbeat.server_last_seen(tx, "pbx1")
            asterisk_heartbeat.last_call_event(tx, "pbx1")
            asterisk_heartbeat.record_call_event(tx, "pbx1", NOW)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    return {
        statement: parameters
        for statement, parameters in asked
        if re.match("with|select|update|insert", statement, re.IGNORECASE)
    }


def scans(engine, explain, statements):
    """Give the plans that look at a whole table of ours."""
    found = []
    with engine.connect() as connection:
        for statement, parameters in statements.items():
            rows = connection.exec_driver_sql(
                f"{explain} {statement}", tuple(parameters) if isinstance(parameters, list) else parameters
            ).all()
            plan = "\n".join(str(row[-1]) for row in rows)
            ours = "|".join(tables.metadata.tables)
            if re.search(rf"\bSCAN ({ours})\b(?! USING INDEX ix_call_open)|Seq Scan on ({ours})\b", plan):
                found.append(f"{statement}\n{plan}")
        connection.rollback()
    return found


def test_no_call_query_scans_a_table_on_sqlite(engine, monkeypatch):
    statements = the_path_of_a_call(engine, monkeypatch)
    assert len(statements) >= 15
    assert scans(engine, "explain query plan", statements) == []


def test_a_scan_would_be_seen(engine):
    statements = {"select * from call where outcome = 'x'": ()}
    assert len(scans(engine, "explain query plan", statements)) == 1
