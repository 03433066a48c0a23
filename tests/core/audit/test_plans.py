"""How the audit's queries are planned: by no plan is a table looked at once for each row of another.

On PostgreSQL however old its statistics are.
"""

import contextlib
import sqlite3

import pytest
import sqlalchemy as sa

from celcombiller.core.audit import report
from tests.support import databases


@pytest.fixture(autouse=True)
def checks_as_they_are(monkeypatch):
    """Ask each check by its own statements, which are heard; others ask what they asked before."""
    monkeypatch.setattr(report, "CHECKS", databases.CHECKS)


@pytest.fixture
def postgresql(cluster):
    with databases.on_postgresql(cluster, databases.three_subscribers) as made:
        yield made


@pytest.mark.real
def test_only_checks_by_keys_join_without_hash(postgresql, monkeypatch):
    seen = {}

    def watched(check):
        def watch(tx):
            seen[check.__name__] = tx.execute(sa.text("show enable_nestloop")).scalar()
            yield from check(tx)

        return watch

    checks = {check: watched(check) for check in report.CHECKS}
    monkeypatch.setattr(report, "CHECKS", tuple(checks.values()))
    monkeypatch.setattr(report, "_BY_KEYS", tuple(checks[check] for check in report._BY_KEYS))
    with postgresql.begin() as tx:
        assert report.audit(tx).ok
        assert tx.execute(sa.text("show enable_nestloop")).scalar() == "on"
    by_keys = {"check_spent", "check_tariff_prices", "check_trunk_costs", "check_day_sums"}
    assert {name for name, value in seen.items() if value == "on"} == by_keys


@pytest.mark.real
def test_old_statistics_lead_to_hash_joins(postgresql):
    """The tables were analyzed while they were empty; by the plan that PostgreSQL chose then an audit took minutes.

    Every network with every subscriber is no join of two tables' rows: it is the list of what must be there.
    """
    plans, asked = [], []

    def explain(tx, cursor, statement, parameters, context, many):
        asked.append(statement)
        if statement.startswith("SELECT") and "JOIN" in statement:
            cursor.execute(f"explain {statement}", parameters)
            lines = [line for (line,) in cursor.fetchall()]
            kinds = ("Nested Loop", "Merge") if "ON true" not in statement else ("Merge",)
            plans.extend(line for line in lines if any(kind in line for kind in kinds))

    with postgresql.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze")
    sa.event.listen(postgresql, "before_cursor_execute", explain)
    with postgresql.begin() as tx:
        assert report.audit(tx).ok
    assert (plans, len(asked) > len(report.CHECKS)) == ([], True)


NUMBERS = "SCAN numbers"
"""The numbers of the parts of a fee: as many as one fee had at most."""


def list_inner_scans(plan):
    """Return what the lines of a plan of SQLite look at whole for each row of what stands before."""
    details = {line: detail for line, _, _, detail in plan}
    loops = {}
    for _, parent, _, detail in plan:
        if detail.startswith(("SCAN", "SEARCH")) and detail not in ("SCAN CONSTANT ROW", NUMBERS):
            loops.setdefault(parent, []).append(detail)
    return [
        detail
        for parent, each in loops.items()
        for detail in each["CORRELATED" not in details.get(parent, "") :]
        if detail.startswith("SCAN")
    ]


def test_no_check_scans_within_a_scan(tmp_path):
    """SQLite joins by loops: on a ledger of 20,000 vouchers an audit took minutes where the inner one had no index."""
    engine, found, asked = databases.sqlite(tmp_path / "ledger.sqlite", databases.three_subscribers), {}, []

    def explain(_tx, cursor, statement, parameters, _context, _many):
        asked.append(statement)
        if statement.startswith(("SELECT", "WITH")):
            plan = cursor.connection.execute(f"explain query plan {statement}", parameters).fetchall()
            found.update(dict.fromkeys(list_inner_scans(plan), statement))

    sa.event.listen(engine, "before_cursor_execute", explain)
    with engine.begin() as tx:
        assert report.audit(tx).ok
    engine.dispose()
    assert (found, len(asked) > len(report.CHECKS)) == ({}, True)


def test_an_inner_scan_is_found():
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        made.execute("create table a (x text)")
        made.execute("create table b (x text)")
        for statement in (
            "from a left join b on a.x = 'p' || b.x",
            "from a where exists (select 1 from b where b.x > a.x)",
        ):
            assert list_inner_scans(made.execute(f"explain query plan select 1 {statement}").fetchall())
        assert not list_inner_scans(made.execute("explain query plan select 1 from a join b on a.x = b.x").fetchall())
