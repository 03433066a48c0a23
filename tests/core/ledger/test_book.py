"""The ledger's laws, on values and on a real SQLite file, under any order of calls, credits, crashes and restarts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from celcombiller.core.audit.report import audit
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import CallAnswered, ChargingPolicy, Credit, Initiate, Terminate
from celcombiller.core.errors import (
    BadNumber,
    BalanceTooHigh,
    HoldNotOpen,
    InsufficientBalance,
    InvalidValue,
    NoRate,
    SchemaMismatch,
    SubscriberDisabled,
    TransferConflict,
    UnknownCall,
    UnknownSubscriber,
)
from celcombiller.core.ledger import reversals
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Account, HoldState, Kind, SellerKind
from celcombiller.core.model.calls import BY_CDR, CallGrant, CallReport, CallState, Settlement, Witness
from celcombiller.core.model.subscribers import Level
from celcombiller.core.model.tariffs import Rate, flat_rate
from celcombiller.core.rating.pricing import affordable, charged_ms, price
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import migrations, tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.voice import call_queries
from celcombiller.database.engine import open_engine
from tests.support import databases
from tests.support.databases import three_subscribers
from tests.support.properties import share

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
TERMS = ChargingPolicy(Tariff([Rate()]))


def database(path="", url="", *, lock_seconds=1):
    if not url:
        return databases.sqlite(path, three_subscribers, lock_seconds=lock_seconds)
    engine = open_engine(url, lock_seconds=lock_seconds)
    with engine.begin() as tx:
        migrations.upgrade(tx)
        three_subscribers(tx)
    return engine


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "ledger.sqlite")
    yield made
    made.dispose()


def ask(engine, *requests, now=NOW, terms=TERMS):
    with engine.begin() as tx:
        return process_batch(tx, terms, requests, now)


def initiate(uniqueid="1.0", caller="1001", called="1002", **facts):
    previous = CallReport(answered=False, at=NOW)
    made = Initiate(
        "pbx1", uniqueid, f"session {uniqueid}", f"PJSIP/{caller}-{uniqueid}", "", caller, called, False, previous
    )
    return replace(made, **facts)


def ended(uniqueid="1.0", talk_ms=1200, witness=Witness.AGI, answered=True, **facts):
    note = f"{BY_CDR}Master.csv" if witness is Witness.CDR else ""
    at = NOW + timedelta(seconds=30)
    ending = CallReport(answered=answered, at=at, talk_ms=talk_ms if answered else None, note=note)
    return Terminate("pbx1", uniqueid, witness, ending, **facts)


def credit(value, reference="r", username="u1001"):
    return Credit(username, Kind.VOICE, value, "web", reference)


def voice(engine, username="u1001"):
    with engine.begin() as tx:
        return balances(tx, subscriber_records.find(tx, username).id)[Kind.VOICE]


def proved(engine):
    with engine.begin() as tx:
        report = audit(tx)
    assert report.ok, report.differences


# -- one call --------------------------------------------------------------------------------------------------------


def test_a_call_holds_and_pays_what_it_used(engine):
    ask(engine, credit(100))
    (grant,) = ask(engine, initiate())
    assert grant.seconds == 100
    assert voice(engine).held == 100
    (settlement,) = ask(engine, ended(talk_ms=9001))
    assert (settlement.first, settlement.call.cost) == (True, 10)
    assert (voice(engine).posted, voice(engine).held) == (90, 0)
    proved(engine)


@pytest.mark.parametrize("together", [True, False])
def test_a_second_call_cannot_use_the_hold(engine, together):
    ask(engine, credit(100))
    asked = [initiate("1.0"), initiate("2.0")]
    first, second = ask(engine, *asked) if together else [ask(engine, each)[0] for each in asked]
    assert isinstance(first, CallGrant)
    assert isinstance(second, InsufficientBalance)
    proved(engine)


def test_an_unanswered_call_leaves_no_hold(engine):
    ask(engine, credit(100), initiate())
    (settlement,) = ask(engine, ended(answered=False))
    assert (settlement.call.state, settlement.call.cost) == (CallState.RELEASED, 0)
    assert (voice(engine).posted, voice(engine).held) == (100, 0)
    proved(engine)


def test_an_answer_of_zero_length_costs_an_increment(engine):
    ask(engine, credit(100), initiate(), ended(talk_ms=0))
    assert voice(engine).posted == 99


@pytest.mark.parametrize(("talk_ms", "cost"), [(3000, 3), (3001, 3), (4000, 3), (4001, 5)])
def test_a_late_cut_costs_the_grant_overruns_talk(engine, talk_ms, cost):
    ask(engine, credit(3), initiate())
    (settlement,) = ask(engine, ended(talk_ms=talk_ms))
    assert settlement.call.cost == cost
    assert voice(engine).posted == 3 - cost
    assert bool(settlement.call.note) == (cost > 3)
    proved(engine)


def test_a_second_witness_gets_the_same_answer(engine):
    ask(engine, credit(100), initiate(), ended(talk_ms=1200))
    (close, far) = ask(engine, ended(talk_ms=1700, witness=Witness.REDUCER), ended(talk_ms=9000, witness=Witness.AMI))
    assert not close.first
    assert (close.call.cost, far.call.cost) == (2, 2)
    with engine.begin() as tx:
        rows = tx.execute(sa.select(tables.testimony.c.witness, tables.testimony.c.discrepancy)).all()
    assert sorted(rows) == [("agi", False), ("ami", True), ("reducer", False)]
    assert voice(engine).posted == 98
    proved(engine)


def test_a_reducer_cannot_make_answered_calls_free(engine):
    ask(engine, credit(100), initiate(), CallAnswered("pbx1", "1.0", NOW + timedelta(seconds=5)))
    (settlement,) = ask(engine, ended(answered=False, witness=Witness.REDUCER))
    assert (settlement.call.state, settlement.first) == (CallState.OPEN, False)
    with engine.begin() as tx:
        assert tx.execute(sa.select(tables.testimony.c.witness, tables.testimony.c.answered)).all() == [
            ("reducer", False)
        ]
    ask(engine, Terminate("pbx1", "1.0", Witness.AMI, CallReport(answered=True, at=NOW + timedelta(seconds=8))))
    assert voice(engine).posted == 97


def test_talk_after_an_early_answer_uses_the_stamp(engine):
    ask(engine, credit(100), initiate(answered_early=True))
    ending = CallReport(True, NOW + timedelta(seconds=9), talk_ms=9000, answered_at=NOW + timedelta(seconds=7))
    (settlement,) = ask(engine, Terminate("pbx1", "1.0", Witness.AGI, ending))
    assert settlement.call.talk_ms == 2000


def test_an_unstamped_answer_is_dated_from_the_end(engine):
    ask(engine, credit(100), initiate())
    (settlement,) = ask(engine, ended(talk_ms=4000))
    assert settlement.call.answered_at == settlement.call.ended_at - timedelta(seconds=4)


def test_only_the_first_answer_of_a_call_counts(engine):
    ask(engine, credit(100), initiate())
    first, again = (NOW + timedelta(seconds=seconds) for seconds in (5, 7))
    ask(engine, CallAnswered("pbx1", "1.0", first))
    assert ask(engine, CallAnswered("pbx1", "1.0", again))[0].answered_at == first
    ask(engine, ended(answered=False))
    assert ask(engine, CallAnswered("pbx1", "1.0", again))[0].answered_at is None


def test_only_on_net_calls_know_their_callee(engine):
    with engine.begin() as tx:
        callee = subscriber_records.find(tx, "u1002").id
    ask(engine, credit(100))
    (inside,) = ask(engine, initiate(called="+1002"))
    ask(engine, ended())
    (outside,) = ask(engine, initiate("2.0", called="5555"), terms=replace(TERMS, external=True))
    assert (inside.call.callee_id, inside.call.to_number) == (callee, "1002")
    assert (outside.call.callee_id, outside.call.to_number) == (None, "5555")


def test_recent_calls_name_their_payers(engine):
    ask(engine, credit(5), credit(5, "other", "u1002"))
    ask(engine, initiate(), initiate("2.0", caller="1002", called="1001"))
    with engine.begin() as tx:
        listed = call_queries.recent(tx, limit=9)
    assert [(username, call.from_number) for username, _, call in listed] == [("u1002", "1002"), ("u1001", "1001")]


def test_the_same_question_again_gets_the_same_grant(engine):
    ask(engine, credit(100))
    (first,), (again,) = ask(engine, initiate()), ask(engine, initiate())
    assert (again.seconds, again.call.reference) == (first.seconds, first.call.reference)
    assert voice(engine).held == 100
    proved(engine)


def test_a_second_dial_is_its_own_leg(engine):
    ask(engine, credit(100), initiate())
    talked = CallReport(answered=True, at=NOW + timedelta(seconds=9), talk_ms=5000)
    (grant,) = ask(engine, initiate(authorization="another", previous=talked))
    assert (grant.call.leg, grant.seconds) == (1, 95)
    proved(engine)


def test_a_call_allowed_without_ledger_is_charged_later(engine):
    (settlement,) = ask(engine, ended(talk_ms=4000, unauthorized_request=initiate()))
    assert settlement.call.cost == 4
    assert voice(engine).posted == -4
    assert "without an authorization" in settlement.call.note
    proved(engine)


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        (initiate(caller="9"), UnknownSubscriber),
        (initiate(caller="unknown"), UnknownSubscriber),
        (initiate(called="1002&PJSIP/x"), BadNumber),
        (initiate(called="1002,60"), BadNumber),
        (initiate(called="1002\n"), BadNumber),
        (initiate(called=""), BadNumber),
        (initiate(called="5555"), BadNumber),
        (initiate(caller="1003"), SubscriberDisabled),
    ],
)
def test_a_refusal_has_a_reason_and_stands_alone(engine, question, refusal):
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1003", NOW, enabled=False)
    given, refused, granted = ask(engine, credit(10), question, initiate("7.0"))
    assert isinstance(refused, refusal)
    assert given.credit_posted == 10
    assert granted.seconds == 10
    proved(engine)


def test_a_subscriber_is_found_by_each_identity(engine):
    ask(engine, credit(10))
    for n, facts in enumerate(
        [
            {"account_code": "u1001"},
            {"account_code": "1001"},
            {"account_code": "IMSI724000000001001"},
            {"caller_number": "+1001"},
            {"caller_number": "IMSI724000000001001"},
        ]
    ):
        (grant,) = ask(engine, initiate(f"{n}.5", caller="nobody", **facts))
        assert grant.subscriber.username == "u1001"
        ask(engine, ended(f"{n}.5", answered=False))


def test_an_unauthorized_calls_end_is_unknown(engine):
    (answer,) = ask(engine, ended())
    assert isinstance(answer, UnknownCall)


def test_a_credit_is_given_once_for_its_id(engine):
    first, again, other, missing = ask(engine, credit(5), credit(5), credit(6), credit(5, "x", "nobody"))
    assert first == again
    assert isinstance(other, TransferConflict)
    assert isinstance(missing, UnknownSubscriber)
    assert voice(engine).posted == 5


def test_credit_is_not_taken_below_what_is_available(engine):
    ask(engine, credit(5))
    (refused,) = ask(engine, credit(-6, "minus"))
    assert isinstance(refused, InsufficientBalance)


def test_credit_may_leave_a_balance_below_zero(engine):
    ask(engine, ended(talk_ms=4000, unauthorized_request=initiate()))
    (given,) = ask(engine, credit(3))
    assert given.credit_posted == -1
    proved(engine)


def test_a_hold_ends_once(engine):
    book = Book(accounts={1: Account(1, Kind.VOICE, None, 0, 0, 0), 5: Account(5, Kind.VOICE, 1, 9, 0, 0)})
    book.hold("c", 5, 4, now=NOW, expires_at=NOW)
    book.settle("c", 3, origin="call", now=NOW)
    assert book.holds["c"].state is HoldState.SETTLED
    with pytest.raises(HoldNotOpen):
        book.release("c", now=NOW)
    assert book.accounts[5].posted == 6


@pytest.fixture
def book():
    """A book of the operator's accounts of voice and data, and of one with 9 and one with -9 credits."""
    accounts = [
        Account(1, Kind.VOICE, None, 0, 0, 0),
        Account(2, Kind.DATA, None, 0, 0, 0),
        Account(5, Kind.VOICE, 1, 9, 0, 0),
        Account(6, Kind.VOICE, 2, -9, 0, 0),
    ]
    return Book(accounts={each.id: each for each in accounts})


@pytest.mark.parametrize(
    ("debit", "credit", "amount"), [(1, 5, 0), (1, 5, -1), (1, 5, AMOUNT_MAX + 1), (2, 5, 1), (5, 5, 1)]
)
def test_an_impossible_transfer_is_refused(book, debit, credit, amount):
    with pytest.raises(InvalidValue):
        book.post("t", debit, credit, amount, origin="test", now=NOW)
    assert (book.accounts[5].posted, book.transfers) == (9, {})


def test_no_balance_grows_beyond_the_highest(book):
    with pytest.raises(BalanceTooHigh):
        book.post("t", 1, 5, AMOUNT_MAX - 8, origin="test", now=NOW)
    assert (book.accounts[5].posted, book.transfers) == (9, {})
    book.post("t", 1, 5, AMOUNT_MAX - 9, origin="test", now=NOW)
    assert book.accounts[5].posted == AMOUNT_MAX


def test_a_seller_sells_voice_credit_only(book):
    book.accounts[7] = Account(7, SellerKind.SELLER, 3, 0, 0, 0)
    book.post("refill", 1, 7, 8, origin="refill", now=NOW)
    book.post("sale", 7, 5, 3, origin="sale", now=NOW)
    book.post("undo", 5, 7, 1, origin="reversal", now=NOW)
    for debit, credit_ in ((7, 2), (2, 7)):
        with pytest.raises(InvalidValue, match="of one kind"):
            book.post("other", debit, credit_, 1, origin="sale", now=NOW)
    assert (book.accounts[7].posted, book.accounts[5].posted) == (6, 11)


@pytest.mark.parametrize("amount", [-1, AMOUNT_MAX + 1])
def test_an_impossible_hold_is_refused(book, amount):
    with pytest.raises(InvalidValue):
        book.hold("h", 5, amount, now=NOW, expires_at=NOW)
    assert (book.accounts[5].held, book.holds) == (0, {})


def test_an_account_below_zero_holds_only_nothing(book):
    book.hold("free", 6, 0, now=NOW, expires_at=NOW)
    with pytest.raises(InsufficientBalance, match="1 asked for, 0 available"):
        book.hold("h", 6, 1, now=NOW, expires_at=NOW)


def test_a_refused_ending_names_the_holds_state(book):
    book.hold("h", 5, 4, now=NOW, expires_at=NOW)
    book.expire("h", now=NOW)
    with pytest.raises(HoldNotOpen, match="the hold h is expired"):
        book.settle("h", 1, origin="call", now=NOW)
    with pytest.raises(HoldNotOpen, match="the hold x is not there"):
        book.release("x", now=NOW)
    assert book.accounts[5].available == 9


def test_a_reversal_is_answered_alike_twice(engine):
    ask(engine, credit(5))
    answers = []
    for _ in range(2):
        with engine.begin() as tx:
            answers.append(reversals.reverse(tx, "r", note="by mistake", now=NOW))
    assert answers[0] == answers[1]
    assert (answers[0].amount, answers[0].debit_posted, voice(engine).posted) == (5, 0, 0)


# -- rating ----------------------------------------------------------------------------------------------------------

rates = st.builds(flat_rate, connect_fee=st.integers(0, 500), price=st.integers(1, 500), increment=st.integers(1, 120))


@given(rates, st.integers(0, 10**6), st.integers(1, 86400))
def test_affordable_usage_never_costs_more_than_balance(rate, available, longest):
    seconds = affordable(rate, available, NOW, longest)
    assert 0 <= seconds <= longest
    if seconds:
        assert price(rate, seconds, NOW) <= available


@given(rates, st.integers(0, 10**6))
def test_a_balance_buys_every_increment_it_can(rate, available):
    seconds = affordable(rate, available, NOW, 10**9)
    assert price(rate, seconds + 1, NOW) > available


@given(rates, st.integers(0, 10**4), st.integers(0, 10**2))
def test_longer_talk_is_never_cheaper(rate, seconds, more):
    assert price(rate, seconds, NOW) <= price(rate, seconds + more, NOW)


@given(st.integers(0, 10**7), st.integers(1, 10**4))
def test_a_late_cut_is_charged_as_the_grant(talk_ms, granted):
    charged = charged_ms(talk_ms, granted)
    assert charged <= talk_ms
    assert charged == talk_ms or talk_ms - charged <= 1000


def test_the_longest_prefix_gives_the_rate():
    tariff = Tariff([flat_rate("5"), flat_rate("+551"), flat_rate("55119")])
    assert [tariff.rate_for(number).prefix for number in ("5", "+55199", "551199")] == ["5", "+551", "55119"]
    with pytest.raises(NoRate):
        tariff.rate_for("4")


# -- the schema ------------------------------------------------------------------------------------------------------


def test_migrations_make_exactly_the_schema(engine):
    with engine.begin() as tx:
        assert compare_metadata(MigrationContext.configure(tx), tables.metadata) == []
        migrations.check(tx)


def test_a_database_newer_than_the_program_is_refused(engine):
    with engine.begin() as tx:
        tx.execute(sa.text("update alembic_version set version_num = '9999'"))
    for attempt in (migrations.check, migrations.upgrade):
        with engine.begin() as tx, pytest.raises(SchemaMismatch, match="newer"):
            attempt(tx)


def test_a_deleted_subscribers_call_is_settled(engine):
    ask(engine, credit(60), initiate())
    with engine.begin() as tx:
        subscriber_records.delete(tx, "u1001", NOW)
        heir = subscriber_records.add(
            tx,
            username="u1001",
            name="Heir",
            clid="1001",
            imsi="724000000001001",
            cpf=None,
            address="",
            level=Level.SUBSCRIBER,
            password_hash=None,
            now=NOW,
        )
    (settled,) = ask(engine, ended(talk_ms=10_000))
    assert (settled.call.cost, settled.call.subscriber_id) == (10, 1)
    assert voice(engine).posted == 0
    (refused,) = ask(engine, initiate("2.0"))
    assert isinstance(refused, InsufficientBalance)
    (transfer,) = ask(engine, credit(5, "to the heir"))
    with engine.begin() as tx:
        assert transfer.credit_account_id == balances(tx, heir.id)[Kind.VOICE].id
        assert balances(tx, settled.call.subscriber_id)[Kind.VOICE].posted == 50
        assert audit(tx).ok


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update account set posted = posted + 1 where id = 3", "posted is the sum"),
        ("update transfer set credit_posted = 7 where id = 1", "the balance after"),
        ("update transfer set debit_account_id = 2 where id = 1", "credit keeps its kind"),
        ("update account set held = 1 where id = 3", "held is the sum"),
        ("update hold set state = 'open', ended_at = null", "a call's hold"),
        ("update call set cost = 1", "a call is charged its cost"),
        ("update call set talk_ms = 9000", "a call costs the price of its talk"),
        ("update call set price = 2", "a call costs the price of its talk"),
    ],
)
def test_audit_names_what_was_tampered_with(engine, damage, law):
    ask(engine, credit(100), initiate(), ended(talk_ms=3000))
    with engine.begin() as tx:
        tx.execute(sa.text(damage))
        assert any(law in each.law for each in audit(tx).differences)


# -- the laws under any order of events ------------------------------------------------------------------------------


class LedgerMachine(RuleBasedStateMachine):
    """Calls, credits, witnesses, crashes before the commit and restarts in any order; all is proved now and then."""

    @initialize()
    def begin(self):
        self.engine = database()
        self.given = {}
        self.number = 0
        self.settled = {}

    def teardown(self):
        self.prove()
        self.engine.dispose()

    callers = st.sampled_from(["1001", "1002"])
    uniqueids = st.integers(0, 5).map(lambda n: f"{n}.0")

    @rule(value=st.integers(-50, 100), again=st.booleans(), username=st.sampled_from(["u1001", "u1002"]))
    def credit(self, value, again, username):
        self.number += not again
        ask(self.engine, credit(value, f"r{self.number}", username))

    @rule(requests=st.lists(st.tuples(uniqueids, callers), min_size=1, max_size=4), crash=st.booleans())
    def initiate(self, requests, crash):
        asked = [initiate(uniqueid, caller, authorization=f"{uniqueid}{caller}") for uniqueid, caller in requests]
        if not crash:
            ask(self.engine, *asked)
            return
        before = self.everything()
        with self.engine.connect() as tx, tx.begin() as began:  # what goes to the driver itself begins nothing
            process_batch(tx, TERMS, asked, NOW)
            began.rollback()
        assert self.everything() == before

    def everything(self):
        with self.engine.begin() as tx:
            return [tx.execute(sa.select(table)).all() for table in (tables.account, tables.hold, tables.call)]

    @rule(uniqueid=uniqueids, talk_ms=st.integers(0, 130_000), answered=st.booleans(), witness=st.sampled_from(Witness))
    def terminate(self, uniqueid, talk_ms, answered, witness):
        (answer,) = ask(self.engine, ended(uniqueid, talk_ms, witness, answered))
        if isinstance(answer, Settlement) and answer.call.state is not CallState.OPEN:
            known = self.settled.setdefault(answer.call.reference, answer.call.cost)
            assert known == answer.call.cost

    @rule(uniqueid=uniqueids)
    def answer(self, uniqueid):
        ask(self.engine, CallAnswered("pbx1", uniqueid, NOW))

    @rule()
    def prove(self):
        proved(self.engine)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = share(0.4)
