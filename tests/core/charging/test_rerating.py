"""Calls that are charged again by another version of a tariff."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.audit.report import audit
from celcombiller.core.charging.rerating import NewPrices, charge_again, list_rerated
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import NOW, ask, credit, database, ended, initiate, proved, voice
from tests.support.bundles import give

DAY = {"since": NOW - timedelta(days=1), "until": NOW + timedelta(days=1)}


def version(engine, rate, number=1):
    """Enter a version of a tariff by its rows alone, and return its prices."""
    with engine.begin() as tx:
        tariffs = sa.insert(tables.tariff).values(name=f"T{number}", time_zone="UTC", is_default=False, created_at=NOW)
        tariff_id = tx.execute(tariffs.returning(tables.tariff.c.id)).scalar_one()
        values = {"tariff_id": tariff_id, "number": number, "created_at": NOW, "created_by": "x"}
        versions = sa.insert(tables.tariff_version).values(values).returning(tables.tariff_version.c.id)
        return NewPrices(tx.execute(versions).scalar_one(), f"T{number}", number, Tariff([rate]))


def rerate(engine, new):
    with engine.begin() as tx:
        found = list_rerated(tx, new, **DAY)
    with engine.begin() as tx:
        return charge_again(tx, new, found, NOW)


@pytest.fixture
def called(engine):
    ask(engine, credit(100), initiate(), ended(talk_ms=10_000))
    return engine


@pytest.mark.parametrize(("price", "left"), [(3, 70), (1, 90), (0, 100)])
def test_the_difference_is_posted_either_way(called, price, left):
    new = version(called, flat_rate(price=price))
    assert rerate(called, new) == (price != 1)
    assert voice(called).posted == left
    proved(called)


def test_a_call_is_charged_again_once(called):
    new = version(called, flat_rate(price=3))
    assert [rerate(called, new), rerate(called, new)] == [1, 0]
    with called.begin() as tx:
        (rerated,) = list_rerated(tx, new, **DAY)
    assert (rerated.known, rerated.difference, rerated.charged) == (True, 0, 30)
    proved(called)


def test_two_rerates_at_once_post_one_transfer(called):
    new = version(called, flat_rate(price=3))
    with called.begin() as tx:
        found = list_rerated(tx, new, **DAY)
    with called.begin() as tx:
        assert charge_again(tx, new, found, NOW) == 1
    with called.begin() as tx:
        assert charge_again(tx, new, found, NOW) == 0
    assert voice(called).posted == 70
    proved(called)


def test_a_later_version_starts_from_the_last(called):
    for number, price in enumerate((3, 2, 5), 1):
        rerate(called, version(called, flat_rate(price=price), number))
        assert voice(called).posted == 100 - 10 * price
    proved(called)


def test_what_bundles_gave_stays_given(engine):
    ask(engine, credit(100))
    give(engine, BundleKind.SECONDS, 4)
    ask(engine, initiate(), ended(talk_ms=10_000))
    rerate(engine, version(engine, flat_rate(price=2)))
    assert voice(engine).posted == 100 - 12
    proved(engine)


def test_a_number_without_a_rate_is_left_alone(called):
    new = version(called, flat_rate("999"))
    with called.begin() as tx:
        (rerated,) = list_rerated(tx, new, **DAY)
    assert (rerated.price, rerated.difference) == (None, 0)
    assert rerate(called, new) == 0


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update rerating set price = 31", "paid its new price"),
        ("update rerating set difference = 21", "has its transfer"),
        ("delete from rerating", "has its call"),
    ],
)
def test_audit_finds_a_wrong_rerating(called, damage, law):
    rerate(called, version(called, flat_rate(price=3)))
    with called.begin() as tx:
        tx.execute(sa.text(damage))
        assert any(law in each.law for each in audit(tx).differences)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60), st.integers(0, 5)), min_size=1, max_size=4))
def test_any_prices_leave_the_newest(rates):
    engine = database()
    ask(engine, credit(1000), initiate(), ended(talk_ms=10_000))
    for number, (price, increment, fee) in enumerate(rates, 1):
        rerate(engine, version(engine, flat_rate("", "", fee, price, increment), number))
        assert voice(engine).posted == 1000 - fee - -(-10 // increment) * price
    proved(engine)
    engine.dispose()
