"""Octets priced by a tariff, and paid by bundles before the balance."""

from datetime import timedelta
from fractions import Fraction
from math import ceil

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.data.session import DataState
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.tariffs import Calendar, Prices, Rate, Service, Step, Window, flat_rate
from celcombiller.core.rating.segments import price_segments
from celcombiller.core.schema import tables
from tests.core.data.test_data_sessions import give as give_credit
from tests.core.data.test_data_sessions import hear, interim, pot, start, stop
from tests.core.ledger.test_book import NOW, database, proved
from tests.support.bundles import give
from tests.support.tariffs import make_policy

NIGHT = Window(frozenset(range(7)), 0, 6 * 60)
BY_HOUR = Rate("", "data", Prices(steps=(Step(0, 1, 2, 1),)), ((NIGHT, Prices(steps=(Step(0, 1, 1, 1),))),), Calendar())


def account(engine, account_id):
    with engine.begin() as tx:
        row = tx.execute(sa.select(tables.account).where(tables.account.c.id == account_id)).one()
    return row.posted, row.held


def test_octets_of_a_bundle_are_spent_first(engine):
    give_credit(engine, 1000)
    bundle = give(engine, BundleKind.OCTETS, 60)
    hear(engine, start())
    assert (account(engine, bundle), pot(engine)) == ((60, 60), (1000, 40))
    session = hear(engine, interim(50))
    assert (session.charged, account(engine, bundle), pot(engine)) == (0, (10, 10), (1000, 90))
    session = hear(engine, stop(75))
    assert (session.state, session.charged, account(engine, bundle), pot(engine)) == (
        *(DataState.CLOSED, 15),
        *((0, 0), (985, 0)),
    )
    proved(engine)


def test_a_bundle_alone_keeps_a_session_alive(engine):
    bundle = give(engine, BundleKind.OCTETS, 60)
    hear(engine, start())
    session = hear(engine, interim(50))
    assert (session.disconnect, account(engine, bundle)) == ("", (10, 10))
    session = hear(engine, interim(60))
    assert session.disconnect != ""
    proved(engine)


def test_a_bundle_given_meanwhile_pays_what_follows(engine):
    give_credit(engine, 100)
    hear(engine, start(), interim(30))
    bundle = give(engine, BundleKind.OCTETS, 60)
    hear(engine, interim(40))
    session = hear(engine, stop(90))
    assert (session.charged, account(engine, bundle), pot(engine)) == (40, (10, 0), (60, 0))
    proved(engine)


def test_a_late_report_is_paid_by_the_balance(engine):
    give_credit(engine, 100)
    bundle = give(engine, BundleKind.OCTETS, 60)
    hear(engine, start(), stop(50), stop(55))
    assert (account(engine, bundle), pot(engine)) == ((10, 0), (95, 0))
    proved(engine)


@pytest.mark.parametrize(("hour", "charged"), [(2, 40), (12, 80)])
def test_octets_cost_what_their_hour_says(engine, hour, charged):
    give_credit(engine, 1000)
    at = NOW.replace(hour=hour)
    with engine.begin() as tx:
        policy = make_policy(tx, Service.DATA, BY_HOUR)
    for report in (start(at=at), stop(40, at=at)):
        with engine.begin() as tx:
            (session,) = process_batch(tx, policy, [report], at)
    assert (session.charged, pot(engine)) == (charged, (1000 - charged, 0))
    proved(engine)


def test_each_report_has_the_price_of_its_time(engine):
    give_credit(engine, 1000)
    with engine.begin() as tx:
        policy = make_policy(tx, Service.DATA, BY_HOUR)
    night, day = NOW.replace(hour=5), NOW.replace(hour=7)
    for report, at in ((start(), night), (interim(10), night), (interim(30), day), (stop(31), day)):
        with engine.begin() as tx:
            (session,) = process_batch(tx, policy, [report], at)
    assert session.charged == 10 + 2 * 21
    proved(engine)


def test_data_without_a_rate_is_never_free(engine):
    give_credit(engine, 100)
    with engine.begin() as tx:
        policy = make_policy(tx, Service.DATA, flat_rate("999"))
    for report in (start(), stop(40)):
        with engine.begin() as tx:
            (session,) = process_batch(tx, policy, [report], NOW)
    assert (session.charged, session.tariff_version_id) == (40, None)
    proved(engine)


steps = st.builds(
    lambda gaps, increments, prices, pers: tuple(
        Step(sum(gaps[:n]), increments[n], prices[n], pers[n]) for n in range(len(gaps) + 1)
    ),
    st.lists(st.integers(1, 40), max_size=2),
    *(st.lists(st.integers(least, 20), min_size=3, max_size=3) for least in (1, 0, 1)),
)


@given(st.lists(st.tuples(st.builds(Prices, st.integers(0, 9), steps), st.integers(0, 60)), max_size=4))
def test_segments_cost_the_sum_of_increments(segments):
    used = [(prices, units) for prices, units in segments if units]
    place, cost, ends = 0, Fraction(0), []
    for _, units in used:
        ends.append(units + (ends[-1] if ends else 0))
    while used and place < ends[-1]:
        prices = next(prices for (prices, _), end in zip(used, ends, strict=True) if place < end)
        step = next(step for step in reversed(prices.steps) if step.start <= place)
        cost += Fraction(step.increment * step.price, step.per)
        place += step.increment
    assert price_segments(segments) == (used[0][0].connect_fee if used else 0) + ceil(cost)


@given(
    st.integers(0, 300),
    st.integers(0, 300),
    st.lists(st.integers(0, 500), min_size=1, max_size=6),
    st.sampled_from([flat_rate(), flat_rate(price=3, increment=7), BY_HOUR]),
)
def test_all_octets_are_paid_once(bundled, credit, reports, rate):
    """Some milliseconds an example, on a database in memory."""
    engine = database()
    if credit:
        give_credit(engine, credit)
    bundle = give(engine, BundleKind.OCTETS, bundled) if bundled else None
    with engine.begin() as tx:
        policy = make_policy(tx, Service.DATA, rate)
    told = [start(), *map(interim, reports), stop(reports[-1])]
    for hours, report in enumerate(told):
        with engine.begin() as tx:
            (session,) = process_batch(tx, policy, [report], NOW + timedelta(hours=3 * hours))
    left = account(engine, bundle) if bundled else (0, 0)
    assert left == (max(0, bundled - session.octets), 0)
    assert pot(engine) == (credit - session.charged, 0)
    assert (session.charged == 0) == (session.octets <= bundled)
    proved(engine)
    engine.dispose()
