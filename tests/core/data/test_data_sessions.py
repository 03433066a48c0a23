"""Data sessions: whatever of their reports is repeated, reordered or lost, each octet that was told is charged once."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import Credit
from celcombiller.core.data import disconnect_requests, session_queries, session_records
from celcombiller.core.data import session as data_session
from celcombiller.core.data.accounting_reports import (
    AcctStatusType,
    Conditions,
    NasRestart,
    StaleSession,
    Usage,
    key_of,
)
from celcombiller.core.data.report_order import REORDERED
from celcombiller.core.data.session import Closing, DataSession, DataState
from celcombiller.core.errors import InvalidValue, UnknownSubscriber
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.rating.pricing import affordable_octets, octets_price
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.core.ledger.test_book import NOW, TERMS, database, proved
from tests.support.properties import share

QUOTA = 100
HOUR = timedelta(hours=1)
CONDITIONS = Conditions(quota_octets=QUOTA)


def ask(engine, *requests, now=NOW):
    with engine.begin() as tx:
        return process_batch(tx, TERMS, requests, now)


def hear(engine, *reports, now=NOW):
    """Tell these, one after the other; give the answer to the last."""
    for each in reports:
        (answer,) = ask(engine, each, now=now)
    return answer


def told(which, octets=0, session_id="A1", username="u1001", **facts):
    made = Usage("hotspot/nas1", session_id, username, which, facts.pop("at", NOW), octets, 0, identities=(username,))
    return replace(made, **{"conditions": CONDITIONS} | facts)


def start(**facts):
    return told(AcctStatusType.START, **facts)


def interim(octets, **facts):
    return told(AcctStatusType.INTERIM, octets, **facts)


def stop(octets, **facts):
    return told(AcctStatusType.STOP, octets, cause="User-Request", **facts)


def give(engine, value, username="u1001", reference="given"):
    ask(engine, Credit(username, Kind.DATA, value, "web", reference))


def pot(engine, username="u1001"):
    with engine.begin() as tx:
        account = balances(tx, subscriber_records.find(tx, username).id)[Kind.DATA]
    return account.posted, account.held


def rows(engine):
    with engine.begin() as tx:
        return [
            session_records.session_from_row(row)
            for row in tx.execute(sa.select(tables.data_session).order_by(tables.data_session.c.id))
        ]


def notes(engine):
    with engine.begin() as tx:
        return [
            row.note
            for row in tx.execute(sa.select(tables.transfer).order_by(tables.transfer.c.id))
            if row.origin == "data"
        ]


# -- one session -----------------------------------------------------------------------------------------------------


def test_a_session_holds_its_quota_returning_the_rest(engine):
    give(engine, 1000)
    assert hear(engine, start()).state is DataState.OPEN
    assert pot(engine) == (1000, QUOTA)
    hear(engine, interim(30))
    assert pot(engine) == (970, QUOTA)
    hear(engine, interim(90))
    assert pot(engine) == (910, QUOTA)
    session = hear(engine, stop(95))
    assert (session.state, session.charged, session.closed_by, session.cause) == (
        *(DataState.CLOSED, 95, Closing.STOP),
        "User-Request",
    )
    assert pot(engine) == (905, 0)
    assert notes(engine) == ["", "", ""]
    proved(engine)


def test_a_hold_never_exceeds_credit_or_quota(engine):
    give(engine, 30)
    hear(engine, start())
    assert pot(engine) == (30, 30)
    give(engine, 500, reference="more")
    hear(engine, interim(0))
    assert pot(engine) == (530, QUOTA)


def test_without_a_quota_all_credit_is_held(engine):
    give(engine, 5000)
    hear(engine, start(conditions=Conditions(quota_octets=0)))
    assert pot(engine) == (5000, 5000)
    proved(engine)


def test_reports_in_one_batch_keep_their_order(engine):
    give(engine, 1000)
    answers = ask(engine, start(), interim(50), stop(70), start(session_id="B2"), interim(5, session_id="B2"))
    assert [answer.charged for answer in answers] == [0, 50, 70, 0, 5]
    assert pot(engine) == (925, QUOTA)
    proved(engine)


def test_a_started_credit_is_charged_whole(engine):
    give(engine, 10)
    coarse = Conditions(octets_per_credit=1000, quota_octets=2500)
    hear(engine, start(conditions=coarse))
    assert pot(engine) == (10, 3)
    for octets, left in ((1, 9), (999, 9), (1000, 9), (1001, 8)):
        hear(engine, interim(octets, conditions=coarse))
        assert pot(engine)[0] == left
    hear(engine, stop(1001, conditions=Conditions(octets_per_credit=1)))  # it goes on at the price that it began with
    assert pot(engine) == (8, 0)
    proved(engine)


@given(octets=st.integers(0, 2**53), octets_per_credit=st.integers(1, 10**12))
def test_the_price_covers_octets_without_excess(octets, octets_per_credit):
    price = octets_price(octets, octets_per_credit)
    assert affordable_octets(price, octets_per_credit) >= octets
    assert price == 0 or affordable_octets(price - 1, octets_per_credit) < octets


# -- repeated, reordered, lost ---------------------------------------------------------------------------------------


def test_octets_that_go_backwards_are_not_given_back(engine):
    give(engine, 1000)
    hear(engine, start(), interim(80), interim(20))
    assert (pot(engine), rows(engine)[0].octets) == ((920, QUOTA), 80)
    assert hear(engine, stop(10)).charged == 80
    assert pot(engine) == (920, 0)
    proved(engine)


@pytest.mark.parametrize("first", [interim(40), stop(40)])
def test_a_lost_start_does_not_prevent_charging(engine, first):
    give(engine, 1000)
    session = hear(engine, first)
    assert (session.charged, session.note) == (40, "its beginning was not told")
    hear(engine, start(), stop(60))
    assert pot(engine) == (940, 0)
    assert len(rows(engine)) == 1
    proved(engine)


def test_a_late_larger_report_is_charged_with_note(engine):
    give(engine, 1000)
    hear(engine, start(), stop(50), interim(50), interim(30), stop(50))
    assert pot(engine) == (950, 0)
    session = hear(engine, interim(70))
    assert (session.state, session.charged, session.note) == (DataState.CLOSED, 70, "more was told after it was closed")
    assert pot(engine) == (930, 0)
    assert notes(engine) == ["", "told after the session was closed (stop)"]
    proved(engine)


def test_a_repeated_start_after_the_stop_begins_nothing(engine):
    give(engine, 1000)
    hear(engine, start(), stop(50), start(at=NOW + REORDERED))
    assert len(rows(engine)) == 1
    assert pot(engine) == (950, 0)


def test_a_reused_id_is_another_session(engine):
    give(engine, 1000)
    hear(engine, start(), stop(50))
    later = NOW + REORDERED * 2
    hear(engine, start(at=later), interim(30, at=later))
    assert [each.generation for each in rows(engine)] == [0, 1]
    assert pot(engine) == (920, QUOTA)
    proved(engine)


def test_a_start_date_tells_replay_from_new_session(engine):
    give(engine, 1000)
    later = NOW + HOUR
    hear(engine, start(dated_at=NOW), stop(50, dated_at=NOW + timedelta(seconds=9)))
    hear(engine, start(dated_at=NOW, at=later), now=later)
    assert len(rows(engine)) == 1
    hear(engine, start(dated_at=NOW + timedelta(seconds=10), at=NOW))
    assert len(rows(engine)) == 2


def test_an_id_is_per_nas_and_user(engine):
    for username in ("u1001", "u1002"):
        give(engine, 1000, username, username)
    hear(engine, start(), start(username="u1002"), replace(start(), nas="hotspot/nas2"), stop(50))
    assert pot(engine) == (950, QUOTA)
    assert pot(engine, "u1002") == (1000, QUOTA)
    proved(engine)


def test_a_nas_restart_ends_its_sessions(engine):
    give(engine, 1000)
    hear(engine, start(), interim(50), start(session_id="B2"), replace(start(session_id="C3"), nas="hotspot/nas2"))
    closed = hear(engine, NasRestart("hotspot/nas1", NOW, "Accounting-On"))
    assert [(each.session_id, each.charged, each.closed_by) for each in closed] == [
        ("A1", 50, Closing.RESTART),
        ("B2", 0, Closing.RESTART),
    ]
    assert pot(engine) == (950, QUOTA)
    assert hear(engine, NasRestart("hotspot/nas1", NOW, "Accounting-On")) == []
    hear(engine, start(at=NOW + timedelta(seconds=1)))
    assert len(rows(engine)) == 4
    proved(engine)


def test_a_replayed_restart_spares_later_sessions(engine):
    give(engine, 1000)
    hear(engine, start(dated_at=NOW + HOUR), start(session_id="B2", at=NOW + HOUR))
    assert hear(engine, NasRestart("hotspot/nas1", NOW, "Accounting-On", dated_at=NOW)) == []


# -- silence ---------------------------------------------------------------------------------------------------------


def test_a_silent_session_closes_at_its_last_total(engine):
    give(engine, 1000)
    hear(engine, start(), interim(50))
    with engine.begin() as tx:
        assert session_queries.silent_sessions(tx, NOW, limit=9) == []
        (silence,) = session_queries.silent_sessions(tx, NOW + HOUR, limit=9)
    session = hear(engine, silence, now=NOW + HOUR)
    assert (session.state, session.closed_by, session.ended_at) == (DataState.CLOSED, Closing.SILENCE, NOW)
    assert session.note == "nobody told of its end; it was heard last at 2026-11-01 12:00:00 UTC"
    assert hear(engine, silence, now=NOW + HOUR) is None
    assert pot(engine) == (950, 0)
    proved(engine)


def test_a_reporting_session_is_not_silent(engine):
    give(engine, 1000)
    hear(engine, start())
    hear(engine, interim(5), now=NOW + HOUR)
    assert hear(engine, StaleSession(start().key, data_session.reference_of(start().key, 0), NOW + HOUR)) is None


def test_a_silent_session_resumes_when_heard(engine):
    give(engine, 1000)
    hear(
        engine,
        start(),
        interim(50),
        StaleSession(start().key, data_session.reference_of(start().key, 0), NOW + HOUR),
        interim(80),
    )
    assert (rows(engine)[0].state, pot(engine)) == (DataState.OPEN, (920, QUOTA))
    hear(engine, stop(90))
    assert pot(engine) == (910, 0)
    proved(engine)


def test_an_idle_sessions_hold_is_renewed_in_time(engine):
    give(engine, 1000)
    hear(engine, start())
    for hours in range(1, 6):
        hear(engine, interim(0), now=NOW + hours * HOUR)
        with engine.begin() as tx:
            expires_at = tx.execute(
                sa.select(tables.hold.c.expires_at).where(tables.hold.c.state == "open")
            ).scalar_one()
        assert expires_at >= NOW + (hours + 1) * HOUR + data_session.HOLD_MARGIN
    assert pot(engine) == (1000, QUOTA)


# -- no credit, no subscriber ----------------------------------------------------------------------------------------


def test_use_beyond_credit_is_charged_and_ends(engine):
    give(engine, 120)
    assert hear(engine, start(), interim(100)).disconnect == ""
    session = hear(engine, interim(150))
    assert (session.disconnect, session.disconnect_at) == ("the credit is spent", NOW)
    assert pot(engine) == (-30, 0)
    assert notes(engine)[-1] == "50 for the octets, 20 were held"
    give(engine, 500, reference="more")
    assert hear(engine, interim(160)).disconnect == ""
    assert hear(engine, stop(160)).disconnect_at is None
    proved(engine)


def test_a_disabled_subscribers_session_is_charged_and_ended(engine):
    give(engine, 1000)
    hear(engine, start())
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1001", NOW, enabled=False)
    assert hear(engine, interim(10)).disconnect == "the subscriber is disabled"
    assert pot(engine)[0] == 990


def test_a_deleted_subscribers_session_settles_on_their_account(engine):
    give(engine, 1000)
    hear(engine, start())
    account_id = rows(engine)[0].account_id
    with engine.begin() as tx:
        subscriber_records.delete(tx, "u1001", NOW)
        subscriber_records.change(tx, "u1002", {"username": "u1001"}, NOW)
    assert hear(engine, interim(5)).disconnect == ""
    assert ends(engine) == [data_session.GONE]
    assert hear(engine, interim(10)).disconnect == data_session.GONE
    hear(engine, stop(20))
    assert pot(engine) == (0, 0)
    with engine.begin() as tx:
        posted = tx.execute(sa.select(tables.account.c.posted).where(tables.account.c.id == account_id)).scalar_one()
    assert posted == 980
    proved(engine)


def ends(engine, now=NOW):
    """Claim the sessions that are to end now, and say why."""
    with engine.begin() as tx:
        if not disconnect_requests.is_due(tx, now):
            return []
        disconnect_requests.request_disconnects(tx, now)
        return [each.disconnect for each in disconnect_requests.claim(tx, now, limit=9)]


def test_an_end_is_requested_until_settled(engine):
    give(engine, 10)
    hear(engine, start(), interim(10))
    assert ends(engine) == [data_session.SPENT]
    assert ends(engine) == []
    at, waits = NOW, []
    for _ in range(8):
        waits.append(rows(engine)[0].disconnect_at - at)
        at = rows(engine)[0].disconnect_at
        assert ends(engine, at - timedelta(microseconds=1)) == []
        assert ends(engine, at) == [data_session.SPENT]
    assert waits == [min(disconnect_requests.RETRY_MIN * 2**each, disconnect_requests.RETRY_MAX) for each in range(8)]
    (session,) = rows(engine)
    with engine.begin() as tx:
        disconnect_requests.answered(tx, session.reference, "ACK", settled=True)
    assert ends(engine, at + HOUR) == []
    assert rows(engine)[0].disconnect_said == "ACK"


def test_restored_credit_cancels_the_end(engine):
    give(engine, 10)
    give(engine, 10, "u1002", "his")
    hear(engine, start(), interim(30), start(session_id="B2", username="u1002"))
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1002", NOW, enabled=False)
        disconnect_requests.request_disconnects(tx, NOW)
        subscriber_records.enable(tx, "u1002", NOW, enabled=True)
    assert [each.disconnect for each in rows(engine)] == [data_session.SPENT, data_session.DISABLED]
    give(engine, 20, reference="not enough")
    assert ends(engine) == [data_session.SPENT]
    give(engine, 1, reference="enough")
    assert ends(engine, NOW + HOUR) == []
    assert [each.disconnect for each in rows(engine)] == ["", ""]
    assert hear(engine, interim(30)).disconnect == ""
    assert pot(engine) == (1, 1)


def test_a_renamed_subscribers_session_goes_on(engine):
    give(engine, 1000)
    hear(engine, start())
    with engine.begin() as tx:
        subscriber_records.change(tx, "u1001", {"username": "ana"}, NOW)
    assert hear(engine, interim(10)).disconnect == ""
    assert ends(engine) == []
    assert pot(engine, "ana") == (990, QUOTA)


def test_an_unknown_users_session_is_refused_alone(engine):
    give(engine, 1000)
    refused, answer = ask(engine, start(username="nobody"), interim(10))
    assert isinstance(refused, UnknownSubscriber)
    assert answer.charged == 10
    assert len(rows(engine)) == 1


def test_impossible_octet_counts_are_refused(engine):
    give(engine, 1000)
    hear(engine, start(), interim(5))
    assert isinstance(hear(engine, interim(2**53)), InvalidValue)
    assert hear(engine, interim(6)).charged == 6


@pytest.mark.parametrize("said", ["u1001", "1001", "724000000001001", "IMSI724000000001001", "+1001"])
def test_a_subscriber_is_known_by_each_identity(engine, said):
    give(engine, 1000)
    identities = (said, f"IMSI{said}")
    assert isinstance(hear(engine, start(username=said, identities=identities)), DataSession)
    assert pot(engine) == (1000, QUOTA)


def test_names_are_told_apart_wherever_one_ends():
    assert key_of("a", "bc") != key_of("ab", "c")
    assert len(data_session.reference_of("k", 12345)) == data_session.REFERENCE_CHARACTERS


def test_an_audit_sees_wrong_charges_and_holds(engine):
    from celcombiller.core.audit.report import audit  # noqa: PLC0415

    give(engine, 1000)
    hear(engine, start(), interim(50), start(session_id="B2"), stop(5, session_id="B2"))
    table = tables.data_session
    for change in ({"octets": 51}, {"charged": 49}, {"holds": 9}):
        with engine.begin() as tx:
            tx.execute(sa.update(table).where(table.c.session_id == "A1").values(change))
            assert not audit(tx).ok, change
            tx.rollback()
    with engine.begin() as tx:
        tx.execute(sa.delete(table))
        assert {each.law for each in audit(tx).differences} == {
            "a data session's charge has a session",
            "a data session's open hold has an open session",
        }
        tx.rollback()


# -- in any order ----------------------------------------------------------------------------------------------------


class DataMachine(RuleBasedStateMachine):
    """NASes whose reports are lost, repeated and reordered, batches that crash, credit that comes and goes.

    What each session is charged is the highest total that arrived; now and then all is proved.
    """

    sessions = st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(["u1001", "u1002"]))

    @initialize(dated=st.booleans())
    def begin(self, dated):
        self.dated = dated  # a NAS dates all that it tells, or nothing
        self.engine = database()
        self.now = NOW
        self.number = 0
        self.under_way = []  # told by a NAS and not arrived yet
        self.used = {}
        self.over = set()
        self.highest = {}

    def teardown(self):
        self.prove()
        self.engine.dispose()

    @rule()
    def prove(self):
        proved(self.engine)

    @rule(value=st.integers(-200, 400), username=st.sampled_from(["u1001", "u1002"]))
    def credit(self, value, username):
        self.number += 1
        ask(self.engine, Credit(username, Kind.DATA, value, "web", f"r{self.number}"))

    @rule(which=sessions, more=st.integers(0, 90), kind=st.sampled_from(AcctStatusType))
    def tell(self, which, more, kind):
        if which in self.over:
            return
        octets = self.used.get(which, 0) + (0 if kind is AcctStatusType.START else more)
        if kind is AcctStatusType.START and which in self.used:
            return
        self.used[which] = octets
        if kind is AcctStatusType.STOP:
            self.over.add(which)
        dated_at = self.now.replace(microsecond=0) if self.dated else None
        self.under_way.append(told(kind, octets, which[0], which[1], at=self.now, dated_at=dated_at))

    @rule(data=st.data(), crash=st.booleans(), stays=st.booleans())
    def arrive(self, data, crash, stays):
        """Have some that are under way arrive together, in any order; with ``stays`` they come again later."""
        if not self.under_way:
            return
        some = data.draw(st.lists(st.sampled_from(self.under_way), min_size=1, max_size=4))
        if crash:
            with self.engine.connect() as tx, tx.begin() as began:
                process_batch(tx, TERMS, some, self.now)
                began.rollback()
            return
        for each, answer in zip(some, ask(self.engine, *some, now=self.now), strict=True):
            which = (each.session_id, each.username)
            self.highest[which] = max(self.highest.get(which, 0), each.octets)
            assert answer.charged == self.highest[which]
            if not stays and each in self.under_way:
                self.under_way.remove(each)

    @rule(data=st.data())
    def lose(self, data):
        if self.under_way:
            self.under_way.remove(data.draw(st.sampled_from(self.under_way)))

    @rule(seconds=st.sampled_from([0.4, 1, 59, 61, 4000]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def silence(self):
        with self.engine.begin() as tx:
            silent = session_queries.silent_sessions(tx, self.now + timedelta(seconds=1), limit=2)
        ask(self.engine, *silent, now=self.now)

    @rule(cause=st.sampled_from(["Accounting-On", "Accounting-Off"]))
    def restart(self, cause):
        dated_at = self.now.replace(microsecond=0) if self.dated else None
        ask(self.engine, NasRestart("hotspot/nas1", self.now, cause, dated_at), now=self.now)

    @invariant()
    def each_octet_that_was_told_is_charged_once(self):
        if not hasattr(self, "engine"):
            return
        charged = [((each.session_id, each.username), each.charged) for each in rows(self.engine)]
        assert sorted(charged) == sorted(self.highest.items())


TestData = DataMachine.TestCase
TestData.settings = share(0.2)
