"""A schedule that gives bundles: one to each member for each due date, whatever breaks."""

import contextlib
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import bundle_records, expiry, offers
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.errors import InvalidValue, NotFound
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.schedules import RunState
from celcombiller.core.schedules import forecast, memberships, runs, schedule_records
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.jobs import schedule_pass
from tests.support.schedules import DAY, NOW, RULES, TODAY, Killed, go, plan, subscriber

TERMS = BundleTerms("night hour", BundleKind.SECONDS, 3600, ("voice",), ("on-net", "55"), 3)


@pytest.fixture
def ledger(engine):
    """Five members of a daily schedule of an offer; the last one is disabled."""
    with engine.begin() as tx:
        made = offers.add(tx, TERMS, price=300, valid_hours=36, renews=True, now=NOW)
        schedule = plan(tx, offer_id=made.id, value=0)
        for number in range(1, 6):
            who = subscriber(tx, number)
            memberships.join(tx, schedule, who.id, count=3, joined_on=TODAY, now=NOW)
        subscriber_records.enable(tx, "u5", NOW, enabled=False)
    yield engine
    with engine.begin() as tx:
        report = audit(tx)
    assert report.ok, report.differences


def given(engine, username=None):
    with engine.begin() as tx:
        who = None if username is None else subscriber_records.find(tx, username).id
        return [each for _, each in bundle_records.list_all(tx, subscriber_id=who, limit=1000)]


def test_each_member_gets_the_offers_bundle(ledger):
    go(ledger)
    bundles = given(ledger)
    assert len(bundles) == 4
    (mine,) = given(ledger, "u1")
    assert (mine.name, mine.kind, mine.posted, mine.amount) == ("night hour", BundleKind.SECONDS, 3600, 3600)
    assert (mine.services, mine.destinations, mine.priority) == (("voice",), ("on-net", "55"), 3)
    assert (mine.valid_from, mine.valid_until, mine.renews) == (NOW, NOW + timedelta(hours=36), False)
    assert mine.reference == f"schedule:1:{mine.subscriber_id}:{TODAY}:bundle"
    with ledger.begin() as tx:
        (run,) = runs.history(tx, limit=5)
        prices = tx.execute(sa.select(tables.transfer).where(tables.transfer.c.reference.like("price:%"))).all()
    assert (run.credited, run.passed, run.failed, run.value, run.offer_id) == (4, 1, 0, 3600, 1)
    assert prices == []


def test_each_date_gives_one_more(ledger):
    for day in range(3):
        for _ in range(2):
            go(ledger, NOW + day * DAY)
    assert [each.posted for each in given(ledger, "u1")] == [3600] * 3
    with ledger.begin() as tx:
        assert expiry.end_expired(tx, expiry.due_ends(tx, NOW + 2 * DAY, limit=100), NOW + 2 * DAY) == 4
        pots = tx.execute(sa.select(tables.account.c.pot).where(tables.account.c.kind == "seconds")).scalars()
        assert sorted(pots) == [0, *[1] * 4, *[2] * 4, *[3] * 4]


def test_a_bundle_given_by_hand_stays_apart(ledger):
    with ledger.begin() as tx:
        who = subscriber_records.find(tx, "u1")
        bundle_records.give(tx, who.id, TERMS, valid_hours=5, reference="id:x", now=NOW)
    go(ledger)
    assert sorted(each.reference for each in given(ledger, "u1")) == ["id:x", f"schedule:1:{who.id}:{TODAY}:bundle"]


@pytest.mark.parametrize("nth", range(1, 6))
@pytest.mark.parametrize("committed", [False, True])
def test_a_crash_gives_nothing_twice(ledger, monkeypatch, nth, committed):
    calls = [0]
    whole = runs.advance

    def dying(tx, *words, **more):
        calls[0] += 1
        if calls[0] == nth and not committed:
            whole(tx, *words, **more)
            raise Killed("gone")
        if calls[0] == nth + 1 and committed:
            raise Killed("gone")
        return whole(tx, *words, **more)

    monkeypatch.setattr(schedule_pass.runs, "advance", dying)
    with contextlib.suppress(Killed):
        go(ledger)
    monkeypatch.undo()
    go(ledger)
    assert len(given(ledger)) == 4


def test_the_forecast_counts_no_credit(ledger):
    with ledger.begin() as tx:
        schedule = schedule_records.list_all(tx)[0]
        (due,) = forecast.due(tx, schedule, RULES, TODAY, NOW)
        members = forecast.due_members(tx, [due], RULES, limit=2)
    assert (due.credited, due.passed, due.run.value, schedule.kind_word) == (4, 1, 3600, "bundle")
    assert [due.total(kind) for kind in ("voice", "data", "sms")] == [0, 0, 0]
    assert [(each.username, each.value) for each in members] == [("u1", 3600), ("u2", 3600)]


def test_a_changed_offer_counts_from_the_next_date(ledger):
    go(ledger)
    with ledger.begin() as tx:
        offers.change(tx, 1, {"amount": 60, "valid_hours": 1})
    go(ledger, NOW + DAY)
    assert [each.amount for each in given(ledger, "u1")] == [60, 3600]


def test_an_offer_in_a_schedule_is_not_deleted(ledger):
    with ledger.begin() as tx:
        with pytest.raises(InvalidValue, match="schedule 1"):
            offers.delete(tx, 1, NOW)
        with pytest.raises(NotFound):
            plan(tx, name="other", offer_id=7)
        schedule_records.delete(tx, 1, NOW)
        offers.delete(tx, 1, NOW)


def test_a_withdrawn_offer_skips_its_date(ledger):
    with ledger.begin() as tx:
        tx.execute(sa.update(tables.offer).values(deleted_at=NOW))
    go(ledger)
    with ledger.begin() as tx:
        (run,) = runs.history(tx, limit=5)
    assert (run.state, run.note, given(ledger)) == (RunState.SKIPPED, "its offer was deleted", [])


def test_a_schedule_changes_between_credit_and_bundles(ledger):
    go(ledger)
    with ledger.begin() as tx:
        assert schedule_records.change(tx, 1, value=5).offer_id is None
    go(ledger, NOW + DAY)
    with ledger.begin() as tx:
        assert schedule_records.change(tx, 1, offer_id=1).value == 3600
    go(ledger, NOW + 2 * DAY)
    assert len(given(ledger, "u1")) == 2
    with ledger.begin() as tx:
        values = [(each.value, each.kind_word) for each in runs.history(tx, limit=5)]
    assert values == [(3600, "bundle"), (5, "voice"), (3600, "bundle")]
