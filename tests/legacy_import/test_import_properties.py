"""Any original at all is imported once, and its balances are proved."""

from datetime import datetime, timedelta
from fractions import Fraction
from math import floor

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given

from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.legacy_import.conversion import convert_original
from celcombiller.legacy_import.findings import SERIOUS
from celcombiller.legacy_import.source_database import open_original
from tests.support import databases
from tests.support.legacy_import.legacy_imports import NOW, TERMS, balances, everything, found, imported, quietly
from tests.support.legacy_import.original_databases import TABLES, original
from tests.support.properties import share

EARLIEST, LATEST = datetime.fromisoformat("2015-01-01"), datetime.fromisoformat("2017-12-31")

numbers = st.one_of(
    st.integers(-1000, 1000),
    st.none(),
    st.floats(-100, 100),
    st.sampled_from(["7", "x", AMOUNT_MAX, -AMOUNT_MAX, 2**62]),
)
dates = st.one_of(
    st.datetimes(EARLIEST, LATEST).map(str),
    st.none(),
    st.sampled_from(["x", 5, "2016-07-02"]),
)
ids = st.integers(1, 7)
words = st.one_of(st.none(), st.text(max_size=5), st.integers(-5, 10**6))


def clids(n):
    return st.sampled_from([f"99111000{n}", f"+99 111-000{n}", f"abc{n}", "+" * n] + [f"99111000{n}"] * 8)


@st.composite
def originals(draw):
    """Draw the rows of an original of any generation, with what its tables allowed."""
    generation = draw(st.sampled_from(sorted(TABLES)))
    many = range(1, draw(st.integers(0, 5)) + 1)
    rows = {"users": [_user(draw, generation, n) for n in many]}

    def rows_of(*columns, most=12):
        drawn = draw(st.lists(st.tuples(*columns), max_size=most))
        return [(n, *row) for n, row in enumerate(drawn, 1)]

    if generation in ("last", "may 2016"):
        rows["voice_balance"] = rows_of(
            ids, st.none() | ids, numbers, dates.map(lambda d: "" if d is None else d), st.text(max_size=3)
        )
        rows["data_balance"] = rows_of(st.none() | ids, dates, numbers, words, words, st.text(max_size=3))
    else:
        rows["cdr"] = rows_of(dates, numbers, st.none() | ids, st.none() | ids)
    if generation == "last":
        day = st.integers(1, 31) | numbers
        rows["schedule"] = rows_of(words, day, numbers, st.integers(1, 3) | st.none(), most=3)
        rows["schedule_user"] = rows_of(ids, st.integers(1, 4), numbers.filter(lambda n: n is not None), most=6)
        rows["schedule_contract"] = rows_of(ids, dates.map(str), st.integers(-2, 12), most=4)
        rows["schedule_input"] = rows_of(ids, st.none() | st.integers(1, 12), st.none() | st.integers(1, 12), most=4)
    if generation in ("both balances", "movements"):
        sign = st.sampled_from(["+", "-", None, "?"])
        kind = [st.sampled_from(["voice", "data", None])] if generation == "both balances" else []
        rows["balance"] = rows_of(st.none() | ids, dates, st.none(), numbers, sign, *kind)
        rows["groups"] = rows_of(words, most=2)
        rows["dates"] = rows_of(ids, dates, most=4)
        rows["association"] = [row[1:] for row in rows_of(ids, ids, most=4)]
    return generation, rows


def _user(draw, generation, n):
    pot = numbers if generation.startswith("first") else numbers.filter(lambda number: number is not None)
    clid, name = draw(clids(n)), f"u{n}"
    if generation == "first":
        return n, clid, name, draw(pot)
    if generation == "first with names":
        return n, name, draw(words), clid, draw(pot), draw(st.sampled_from([0, 1, None]))
    if generation == "movements":
        return (
            n,
            name,
            draw(words),
            clid,
            draw(st.sampled_from([0, 1, None])),
            draw(st.none() | st.just(724000000000000 + n)),
        )
    level = draw(st.integers(0, 3)) if generation == "last" else draw(st.integers(0, 1))
    last = (draw(words) or "", clid, 724000000000000 + n, draw(pot), draw(pot))
    return n, level, name, draw(words), n, name, *last


def reckoned(generation, rows):
    """Say each user's balances, as that generation of the program would have shown them, rounded down."""
    shown = {}
    for row in rows["users"]:
        voice, data = {
            "first": lambda row: (row[3], 0),
            "first with names": lambda row: (row[4], 0),
            "movements": lambda row: (_summed(rows["balance"], row[0]), 0),
        }.get(generation, lambda row: row[-2:])(row)
        shown[row[0]] = _floored(voice), _floored(data)
    return shown


def _summed(balance, user_id):
    signs = {"+": 1, "-": -1}
    return sum(
        (signs.get(row[5], 0) * Fraction(_number(row[4]) or 0) for row in balance if row[1] == user_id),
        start=Fraction(0),
    )


def _number(cell):
    return Fraction(cell) if isinstance(cell, int | float | Fraction) or cell == "7" else None


def _floored(cell):
    number = _number(0 if cell is None else cell)
    return None if number is None or abs(number) > AMOUNT_MAX else floor(number)


@pytest.mark.slow
@share(0.5, suppress_health_check=[HealthCheck.too_slow])
@given(originals())
def test_any_original_imports_once_with_proved_balances(tmp_path_factory, drawn):
    generation, rows = drawn
    path = original(tmp_path_factory.mktemp("any") / "alph.db", generation, **rows)
    bytes_before = path.read_bytes()
    engine = databases.sqlite()
    with open_original(path) as old:
        converted = convert_original(old, TERMS, NOW, quietly)
    report = imported(engine, path)
    expected = reckoned(generation, rows)
    assert {old_id: tuple(new.balances.values()) for old_id, new in converted.users.items()} == {
        old_id: expected[old_id] for old_id in converted.users
    }
    for new in converted.users.values():
        assert balances(engine, new.username) == expected[new.old_id]
    left_out = {row[0] for row in rows["users"]} - converted.users.keys()
    told = [each for oddity in SERIOUS for each in found(report, oddity)]
    assert all(any(f"(users:{old_id})" in each for each in told) for old_id in left_out)
    for old_id, shown in expected.items():
        assert None not in shown or old_id in left_out
    before = everything(engine)
    imported(engine, path, now=NOW + timedelta(days=40))
    assert everything(engine) == before
    assert path.read_bytes() == bytes_before
    engine.dispose()
