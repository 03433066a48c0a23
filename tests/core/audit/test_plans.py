"""How the audit's queries are planned on PostgreSQL, however old its statistics are."""

import pytest
import sqlalchemy as sa

from celcombiller.core.audit import report
from tests.support import databases


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
    plans = []

    def explain(tx, cursor, statement, parameters, context, many):
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
    assert plans == []
