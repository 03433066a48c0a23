"""Who may call, and what they may owe or spend, cannot change without the billers looking at open calls again."""

import ast
import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import celcombiller
from celcombiller.cli.common import current_operator
from celcombiller.core.access.changes import group_changes, subscriber_changes
from celcombiller.core.charging import operator_credit
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schedules.due_dates import zone_of
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import group_records, subscriber_records
from tests.support import databases
from tests.support.databases import NOW

ROOT = Path(celcombiller.__file__).parent
ACTOR = current_operator()
GROUP = 1
CALLING = {
    "subscriber": ("enabled", "deleted_at", "calls_max", "barred", "allowed", "group_id"),
    "account": ("floor", "day_limit", "month_limit"),
    "subscriber_group": (
        *("calls_max", "subscriber_calls_max", "barred", "allowed", "call_seconds_max", "call_cost_max"),
    ),
}
"""What decides whether an open call may go on, and how long."""
WHOSE = {"subscriber": "new.id", "account": "new.subscriber_id", "subscriber_group": "0"}
CHANGED_BY = {
    ("core/subscribers/subscriber_records.py", "change"),
    ("core/subscribers/subscriber_records.py", "delete"),
    ("core/subscribers/subscriber_records.py", "replace_hash"),  # another hash of the same password
    ("core/subscribers/group_records.py", "change"),
    ("core/subscribers/group_records.py", "delete"),  # it has no members
    ("core/ledger/accounts.py", "set_credit_limit"),
    ("core/ledger/accounts.py", "set_spending_limits"),
    ("core/ledger/group_credit.py", "to"),  # a transfer, which billers see
    ("core/ledger/group_credit.py", "of"),  # fees, which take nothing that a call holds
    ("core/ledger/book.py", ""),  # the same, and holds
    ("legacy_import/write_subscribers.py", "write"),  # the numbers and the name of an administrator
}
"""The functions that update these tables."""


@pytest.fixture
def engine():
    made = databases.sqlite("", databases.three_subscribers)
    with made.begin() as tx:
        tx.exec_driver_sql("create table touched (who integer)")
        for table, columns in CALLING.items():
            differs = " or ".join(f"old.{each} is not new.{each}" for each in columns)
            tx.exec_driver_sql(
                f"create trigger of_{table} after update on {table} when {differs}"
                f" begin insert into touched values ({WHOSE[table]}); end"
            )
    yield made
    made.dispose()


users = st.sampled_from(["u1001", "u1002", "u1003"])
prefixes = st.lists(st.sampled_from(["55", "1", "0900"]), unique=True)
number = st.none() | st.integers(0, 3)
of_user = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "calls_max": number,
        "barred": st.none() | prefixes,
        "allowed": st.none() | prefixes,
        "group_id": st.sampled_from([None, GROUP]),
        "name": st.sampled_from(["Ana", "Bia"]),
    },
)
of_group = st.fixed_dictionaries(
    {},
    optional={
        "calls_max": number,
        "subscriber_calls_max": number,
        "call_seconds_max": number,
        "call_cost_max": number,
        "barred": prefixes,
        "allowed": prefixes,
    },
)
spending = st.fixed_dictionaries({}, optional={"day_limit": number, "month_limit": number})
changes = st.one_of(
    st.builds(lambda who, facts: ("user", who, facts), users, of_user),
    st.builds(lambda facts: ("group", None, facts), of_group),
    st.builds(lambda who, limit: ("credit limit", who, limit), users, st.integers(0, 3)),
    st.builds(lambda who, limits: ("spending", who, limits), users, spending),
    st.builds(lambda who: ("delete", who, None), users),
)


def do(tx, what, who, facts):
    match what:
        case "user":
            subscriber_changes.change(tx, ACTOR, who, facts, NOW)
        case "group":
            group_changes.change(tx, ACTOR, GROUP, facts, NOW)
        case "credit limit":
            operator_credit.set_credit_limit(tx, who, Kind.VOICE, facts, ACTOR, NOW)
        case "spending":
            operator_credit.set_spending_limits(tx, who, Kind.VOICE, facts, ACTOR, zone=zone_of("UTC"), now=NOW)
        case _:
            subscriber_changes.delete(tx, ACTOR, who, NOW)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example is rolled back
@given(drawn=st.lists(changes, max_size=8))
def test_no_change_goes_unseen(engine, drawn):
    gone = set()
    with engine.connect() as tx:
        assert group_records.add(tx, name="students", now=NOW).id == GROUP
        for what, who, facts in drawn:
            if who in gone:
                continue
            tx.exec_driver_sql("delete from touched")
            tx.execute(sa.delete(tables.live_change))
            do(tx, what, who, facts)
            gone |= {who} if what == "delete" else set()
            touched = set(tx.exec_driver_sql("select who from touched").scalars())
            seen = {each or 0 for each in tx.execute(sa.select(tables.live_change.c.subscriber_id)).scalars()}
            assert touched <= seen, (what, who, facts)
        tx.rollback()


def test_a_name_alone_concerns_no_call(engine):
    with engine.begin() as tx:
        subscriber_records.change(tx, "u1001", {"name": "Ana", "enabled": True}, NOW)
        assert tx.execute(sa.select(tables.live_change)).all() == []


def updated(tree, table):
    """Yield the functions of a module that update a table: by its name in `tables`, or by a name for that."""
    names = {f"tables.{table}"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and ast.unparse(node.value) in names:
            names |= {ast.unparse(each) for each in node.targets}
    for function in [tree, *(each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef))]:
        inside = ast.walk(function) if function is not tree else (n for top in tree.body for n in _outside(top))
        for node in inside:
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update"
            is_update = is_call and ast.unparse(node.func) in ("sa.update", "bulk.update")
            if is_update and ast.unparse(node.args[0]) in names:
                yield getattr(function, "name", "")


def _outside(top):
    return () if isinstance(top, ast.FunctionDef | ast.ClassDef) else ast.walk(top)


@pytest.mark.slow
def test_only_known_functions_update_these_tables():
    found = set()
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text()
        if "migrations" not in path.parts and re.search(r"\b(sa|bulk)\.update\b", text):
            tree = ast.parse(text)
            found |= {(str(path.relative_to(ROOT)), name) for table in CALLING for name in updated(tree, table)}
    assert found == CHANGED_BY
