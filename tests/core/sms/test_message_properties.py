"""Messages are charged once, when they are accepted, whatever is repeated, lost or late; the audit proves it each time.

They are charged to the account that they were held on, whichever of the two pays for the next.
"""

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from celcombiller.core.audit.report import audit
from celcombiller.core.charging import messages
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import (
    BadNumber,
    InsufficientBalance,
    InvalidValue,
    NotFound,
    SubscriberDisabled,
    TransferConflict,
    UnknownSubscriber,
)
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.schema import tables
from celcombiller.core.sms import message_queries, outbox_queue
from celcombiller.core.sms.charging import PHONE_VALIDITY, MessageOutcome, MessagePolicy, MessageSubmission
from celcombiller.core.sms.receipt import DeliveryReceipt
from celcombiller.core.subscribers import subscriber_records
from tests.core.ledger.test_book import NOW, TERMS, ask, credit, database, initiate, proved, voice
from tests.support.properties import share
from tests.support.query_plans import plans_of

ROUTES = MessagePolicy(
    on_net_route=Route.ASTERISK, off_net_route=Route.SMPP, on_net_price=3, off_net_price=5, parts_max=4, sender="Rede"
)
PRICED = replace(TERMS, messages=ROUTES)
BY_SMS = replace(TERMS, messages=replace(ROUTES, account=Kind.SMS))
LEASE = timedelta(minutes=5)
ACCEPTED, REFUSED, EXPIRED = MessageState.ACCEPTED, MessageState.REFUSED, MessageState.EXPIRED
DELIVERED, FAILED = MessageState.DELIVERED, MessageState.FAILED


def send(reference="m", *, caller="1001", to="1002", text="hello", **facts):
    made = MessageSubmission(messages.reference_of(reference), MessageOrigin.PHONE, "", caller, to, text, direct=True)
    return replace(made, **facts)


def told(outcome, reference="m", note=""):
    return MessageOutcome(messages.reference_of(reference), outcome, note)


def receipt(network_id, outcome=FAILED, note="", *numbers):
    return DeliveryReceipt((network_id,), outcome, note, frozenset(numbers))


def do(engine, *requests, now=NOW, terms=PRICED):
    return ask(engine, *requests, now=now, terms=terms)


def account(engine):
    now = voice(engine)
    return now.posted, now.held


def accounts(engine):
    """Give what is posted and held on the accounts that may pay for messages."""
    with engine.begin() as tx:
        found = balances(tx, subscriber_records.find(tx, "u1001").id)
    return {kind: (found[kind].posted, found[kind].held) for kind in (Kind.VOICE, Kind.SMS)}


def sms_credit(value):
    return Credit("u1001", Kind.SMS, value, "web", "r sms")


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "messages.sqlite")
    do(made, credit(100))
    yield made
    proved(made)
    made.dispose()


# -- one message -----------------------------------------------------------------------------------------------------


def test_a_message_is_held_and_charged_on_acceptance(engine):
    (posting,) = do(engine, send(text="x" * 161))
    message = posting.message
    assert (message.state, message.parts, message.cost, message.text) == (MessageState.SENDING, 2, 6, None)
    assert account(engine) == (100, 6)
    for first in (True, False):
        (posting,) = do(engine, told(ACCEPTED))
        assert (posting.first, posting.message.state) == (first, ACCEPTED)
        assert account(engine) == (94, 0)


@pytest.mark.parametrize("outcome", [REFUSED, EXPIRED, FAILED])
def test_a_refused_message_stays_free(engine, outcome):
    do(engine, send(), told(outcome, note="why"))
    assert account(engine) == (100, 0)
    (posting,) = do(engine, told(ACCEPTED))
    assert (posting.first, posting.message.note) == (False, "why")
    do(engine, told(DELIVERED), told(FAILED))
    assert account(engine) == (100, 0)


def test_a_failure_receipt_refunds_with_a_reference(engine):
    do(engine, send(), told(ACCEPTED))
    for _ in range(3):
        do(engine, told(FAILED, note="receipt: UNDELIV"))
    do(engine, told(DELIVERED), told(ACCEPTED))
    assert account(engine) == (100, 0)
    with engine.begin() as tx:
        rows = tx.execute(sa.select(tables.transfer).where(tables.transfer.c.origin == "reversal")).all()
    assert [(row.reference, row.amount, row.note) for row in rows] == [("reversal:sms:m", 3, "receipt: UNDELIV")]


def test_a_delivered_message_stays_charged(engine):
    do(engine, send(), told(ACCEPTED), told(DELIVERED), told(FAILED))
    assert account(engine) == (97, 0)


def test_a_receipt_before_the_answer_charges_too(engine):
    do(engine, send(), told(DELIVERED), told(ACCEPTED))
    assert account(engine) == (97, 0)


def test_a_repeated_message_repeats_its_answer(engine):
    first, again, other = do(engine, send(), send(), send(text="other"))
    assert (again.message, again.first, first.first) == (first.message, False, True)
    assert isinstance(other, TransferConflict)
    assert account(engine) == (100, 3)


def test_two_messages_never_overspend(engine):
    answers = do(engine, *(send(str(n), text="x" * 600) for n in range(10)))
    granted = [each for each in answers if not isinstance(each, InsufficientBalance)]
    assert len(granted) == 8
    assert account(engine) == (100, 96)


def test_calls_and_messages_share_balance_and_batch(engine):
    grant, refused = do(engine, initiate(), send())
    assert grant.seconds == 100
    assert isinstance(refused, InsufficientBalance)


def test_prices_are_by_net_and_may_be_zero(engine):
    on, off, free = do(engine, send("a"), send("b", to="5599"), send("c", free=True, caller=""))
    assert [(each.message.route, each.message.cost) for each in (on, off)] == [("asterisk", 3), ("smpp", 5)]
    assert (free.message.account_id, free.message.cost, free.message.from_number) == (None, 0, "Rede")
    assert account(engine) == (100, 8)
    do(engine, *(told(ACCEPTED, each) for each in "abc"))
    assert account(engine) == (92, 0)


@pytest.mark.parametrize("account", ["voice", "sms"])
@pytest.mark.parametrize("outcomes", [[ACCEPTED], [REFUSED], [EXPIRED], [ACCEPTED, FAILED], [ACCEPTED, DELIVERED]])
def test_only_the_account_that_the_operator_says_pays(engine, account, outcomes):
    pays, other = (Kind.VOICE, Kind.SMS) if account == "voice" else (Kind.SMS, Kind.VOICE)
    terms = PRICED if pays is Kind.VOICE else BY_SMS
    do(engine, sms_credit(100))
    do(engine, send(), terms=terms)
    assert accounts(engine) == {pays: (100, 3), other: (100, 0)}
    do(engine, *(told(each) for each in outcomes), terms=terms)
    charged = 3 if outcomes[-1] in (ACCEPTED, DELIVERED) else 0
    assert accounts(engine) == {pays: (100 - charged, 0), other: (100, 0)}


@pytest.mark.parametrize(("before", "after"), [(PRICED, BY_SMS), (BY_SMS, PRICED)])
@pytest.mark.parametrize("outcomes", [[ACCEPTED], [REFUSED], [EXPIRED], [ACCEPTED, FAILED], [ACCEPTED, DELIVERED]])
def test_a_message_keeps_its_account_when_settings_change(engine, before, after, outcomes):
    do(engine, sms_credit(100))
    first, *_ = do(engine, send(), terms=before)
    again, *_ = do(engine, send(), send("later"), *(told(each) for each in outcomes), terms=after)
    assert (again.first, again.message.account_id) == (False, first.message.account_id)
    charged = 3 if outcomes[-1] in (ACCEPTED, DELIVERED) else 0
    assert accounts(engine) == {before.messages.account: (100 - charged, 0), after.messages.account: (100, 3)}


def test_without_sms_credit_voice_pays_no_message(engine):
    (refused,) = do(engine, send(), terms=BY_SMS)
    assert isinstance(refused, InsufficientBalance)
    do(engine, sms_credit(3))
    grant, posting = do(engine, initiate(), send(), terms=BY_SMS)
    assert (grant.seconds, posting.message.cost) == (100, 3)


def test_a_submitted_message_uses_the_same_account(engine):
    do(engine, sms_credit(100))
    with engine.begin() as tx:
        for terms in (PRICED, BY_SMS):
            account = terms.messages.account
            messages.submit(tx, terms.messages, reference=account, to_number="1002", text="x", now=NOW, payer="u1001")
        assert [each.kind for each in message_queries.list_messages(tx, limit=9)] == [Kind.SMS, Kind.VOICE]
        messages.submit(tx, BY_SMS.messages, reference="free", to_number="1002", text="x", now=NOW)
        assert message_queries.by_reference(tx, "sms:free").kind is None
    assert accounts(engine) == {Kind.VOICE: (100, 3), Kind.SMS: (100, 3)}


def test_a_message_not_by_asterisk_is_queued(engine):
    (posting,) = do(engine, send(to="5599"))
    assert (posting.message.state, posting.message.text) == (MessageState.QUEUED, "hello")
    (posting,) = do(engine, told(ACCEPTED))
    assert posting.message.text is None


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        ({"caller": "9"}, UnknownSubscriber),
        ({"to": "1002&PJSIP"}, BadNumber),
        ({"to": "1002,1"}, BadNumber),
        ({"to": "1002\n"}, BadNumber),
        ({"to": ""}, BadNumber),
        ({"text": ""}, InvalidValue),
        ({"text": "\ud800"}, InvalidValue),
        ({"text": "a\0"}, InvalidValue),
        ({"text": "x" * 613}, InvalidValue),
    ],
)
def test_a_forbidden_message_is_refused_without_trace(engine, facts, refusal):
    (answer,) = do(engine, send(**facts))
    assert isinstance(answer, refusal)
    assert account(engine) == (100, 0)
    with engine.begin() as tx:
        assert message_queries.list_messages(tx, limit=9) == []


def test_disabled_or_unrouted_senders_are_refused(engine):
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1002", NOW, enabled=False)
    (refused,) = do(engine, send(caller="1002"))
    assert isinstance(refused, SubscriberDisabled)
    for to in ("1002", "5599"):
        (refused,) = do(engine, send(to=to), terms=TERMS)
        assert isinstance(refused, BadNumber)


def test_a_receipt_without_message_is_refused(engine):
    (refused,) = do(engine, told(ACCEPTED))
    assert isinstance(refused, NotFound)


def test_an_unreported_message_expires_uncharged(engine):
    do(engine, send("direct"), send("queued", to="5599"))
    with engine.begin() as tx:
        assert outbox_queue.overdue(tx, NOW + PHONE_VALIDITY - timedelta(seconds=1), limit=9) == []
        late = outbox_queue.overdue(tx, NOW + ROUTES.validity, limit=9)
    answers = do(engine, *late)
    assert [(each.message.reference, each.message.state, each.message.note) for each in answers] == [
        ("sms:direct", EXPIRED, "nobody told whether the network took it"),
        ("sms:queued", EXPIRED, "it was not sent in its time"),
    ]
    assert account(engine) == (100, 0)


# -- submit and the queue ----------------------------------------------------------------------------------------------


def submit(engine, reference="n", text="hello", to="1002", **facts):
    with engine.begin() as tx:
        return messages.submit(tx, ROUTES, reference=reference, to_number=to, text=text, now=NOW, **facts)


def claim(engine, owner="a", now=NOW, route=Route.ASTERISK, limit=9):
    with engine.begin() as tx:
        return outbox_queue.claim(tx, route, owner, now, limit=limit, lease=LEASE)


def test_a_notice_is_free_and_queued_once(engine):
    assert submit(engine).first
    again = submit(engine, text="another balance")
    assert (again.first, again.message.text, again.message.cost) == (False, "hello", 0)
    assert len(claim(engine)) == 1


def test_a_claim_holds_until_it_lapses(engine):
    submit(engine)
    (due,) = claim(engine)
    assert (due.message.reference, due.callee.username, due.taken) == ("sms:n", "u1002", frozenset())
    assert claim(engine, "b", NOW + LEASE - timedelta(seconds=1)) == []
    assert claim(engine, "b", NOW, Route.SMPP) == []
    assert len(claim(engine, "b", NOW + LEASE)) == 1


def test_a_postponed_message_waits_longer_each_time(engine):
    submit(engine)
    at = NOW
    for seconds in (1, 2, 4, 8, 8):
        assert len(claim(engine, now=at)) == 1
        with engine.begin() as tx:
            outbox_queue.reschedule(tx, "other", ["sms:n"], "not mine", at, retry_seconds_max=8)
            outbox_queue.reschedule(tx, "a", ["sms:n"], "away", at, retry_seconds_max=8)
        at += timedelta(seconds=seconds)
        assert claim(engine, now=at - timedelta(milliseconds=1)) == []
    claim(engine, now=at)
    with engine.begin() as tx:
        outbox_queue.release_claims(tx, "a")
        assert outbox_queue.is_due(tx, Route.ASTERISK, at)
        assert message_queries.list_messages(tx, limit=1)[0].attempts == 5


def test_an_accepted_part_is_known_to_the_next(engine):
    submit(engine, text="x" * 200, to="5599")
    with engine.begin() as tx:
        for network_id in ("id1", "id2"):
            outbox_queue.record_accepted_part(tx, "sms:n", 1, network_id, NOW)
    (due,) = claim(engine, route=Route.SMPP)
    assert due.taken == {1}
    with engine.begin() as tx:
        assert messages.apply_receipt(tx, receipt("id2"), NOW) is None
        assert messages.apply_receipt(tx, receipt("id1"), NOW).message.state is REFUSED


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        ("update message set state = 'refused'", "a message's hold is in the message's state"),
        ("delete from hold", "a message's hold is in the message's state"),
        ("update message set price = 1", "a message's hold is what it costs"),
        ("update transfer set amount = 2 where origin = 'sms'", "a message is charged what it costs"),
        ("update message set state = 'failed'", "a failed message has its charge back"),
        ("update transfer set reference = 'sms:x' where origin = 'sms'", "a message's charge has a message"),
        (
            "update account set posted = posted + 1 where kind = 'sms' and posted > 0",
            "posted is the sum of its transfers",
        ),
        ("update account set held = held + 1 where kind = 'sms' and posted > 0", "held is the sum of the open holds"),
        (
            "update message set account_id = (select id from account where kind = 'voice' and posted > 0)",
            "a message is charged what it costs",
        ),
        (
            "update hold set account_id = (select id from account where kind = 'voice' and posted > 0)",
            "a message is paid and held by one account of its sender",
        ),
        ("update message set subscriber_id = callee_id", "a message is paid and held by one account of its sender"),
        (
            "update account set kind = 'data' where kind = 'sms' and posted > 0",
            "a message is paid and held by one account of its sender",
        ),
    ],
)
def test_the_audit_names_every_wrong_message(tmp_path, damage, law):
    engine = database(tmp_path / "damaged.sqlite")
    do(engine, credit(100), sms_credit(100), send(), told(ACCEPTED), terms=BY_SMS)
    proved(engine)
    if "'data'" in damage:
        with engine.begin() as tx:
            tx.execute(sa.text("delete from account where kind = 'data'"))
    with engine.begin() as tx:
        tx.execute(sa.text(damage))
        assert law in {each.law for each in audit(tx).differences}
    engine.dispose()


@pytest.mark.parametrize(
    ("question", "index"),
    [
        (lambda tx: outbox_queue.is_due(tx, Route.SMPP, NOW), "ix_message_queued (route=?)"),
        (lambda tx: outbox_queue.claim(tx, Route.SMPP, "a", NOW, limit=5, lease=LEASE), "ix_message_queued (route=?)"),
        (message_queries.count_backlog, "ix_message_queued"),
        (lambda tx: outbox_queue.overdue(tx, NOW, limit=5), "ix_message_open"),
        (lambda tx: messages.apply_receipt(tx, receipt("x"), NOW), "ix_message_part_network_id"),
        (lambda tx: message_queries.list_messages(tx, limit=5, after=(NOW, 5)), "ix_message_queued_at_id"),
        (
            lambda tx: message_queries.list_messages(tx, limit=5, subscriber_id=1, after=(NOW, 5)),
            "ix_message_subscriber_id",
        ),
    ],
)
def test_frequent_queries_use_an_index_without_sorting(engine, question, index):
    lines = plans_of(engine, question)
    assert index in lines[0]
    assert not any("ORDER BY" in each for each in lines) or "part" in index


# -- the laws under any order of events ----------------------------------------------------------------------------------

FINAL = {REFUSED, EXPIRED, DELIVERED, FAILED}
NUMBERS = st.integers(0, 2)


class MessageMachine(RuleBasedStateMachine):
    """Messages of phones and of the queue, crashes before a commit and after a sending, receipts and time, in any order.

    The operator changes meanwhile which account pays.
    """

    def open(self):
        return database()

    @initialize()
    def begin(self):
        self.engine = self.open()
        self.now = NOW
        self.given = 40
        self.claims = []
        self.states = {}
        self.payers = {}
        self.terms = PRICED
        do(self.engine, credit(self.given), sms_credit(self.given))

    def teardown(self):
        if hasattr(self, "engine"):
            self.prove()
            self.engine.dispose()

    @rule()
    def prove(self):
        proved(self.engine)

    def requests(self, numbers, length, queued):
        to = "5599" if queued else "1002"
        return [send(f"{to}{n}", to=to, text="x" * length) for n in numbers]

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=3), queued=st.booleans(), crash=st.booleans())
    def sends(self, numbers, queued, crash):
        asked = self.requests(numbers, 161 if 0 in numbers else 5, queued)
        if not crash:
            do(self.engine, *asked, now=self.now, terms=self.terms)
            return
        with self.engine.connect() as tx, tx.begin() as began:  # what goes to the driver itself begins nothing
            process_batch(tx, self.terms, asked, self.now)
            began.rollback()

    @rule(terms=st.sampled_from([PRICED, BY_SMS]))
    def the_operator_says_who_pays(self, terms):
        self.terms = terms

    @rule(
        place=st.integers(0, 5),
        outcomes=st.lists(st.sampled_from([ACCEPTED, *sorted(FINAL)]), min_size=2, max_size=3, unique=True),
    )
    def is_told(self, place, outcomes):
        if self.states:
            reference = sorted(self.states)[place % len(self.states)]
            do(self.engine, *(MessageOutcome(reference, each) for each in outcomes), now=self.now, terms=self.terms)

    @rule(limit=st.integers(1, 3))
    def claims_some(self, limit):
        owner = f"owner{len(self.claims)}"
        with self.engine.begin() as tx:
            due = outbox_queue.claim(tx, Route.SMPP, owner, self.now, limit=limit, lease=LEASE)
        self.claims.append((owner, due))

    @rule(place=st.integers(0, 3), how=st.sampled_from(["all", "all", "one part", "put off", "crash"]))
    def works_a_claim(self, place, how):
        """What an outbox does with what it claimed, perhaps long after its lease; a crash leaves the rest undone."""
        if not self.claims:
            return
        owner, due = self.claims.pop(place % len(self.claims))
        for each in due:
            reference, parts = each.message.reference, range(1, each.message.parts + 1)
            with self.engine.begin() as tx:
                if how == "put off":
                    outbox_queue.reschedule(tx, owner, [reference], "why", self.now, retry_seconds_max=8)
                for part in [n for n in parts if n not in each.taken][: 1 if how == "one part" else None]:
                    if how in ("all", "one part"):
                        outbox_queue.record_accepted_part(tx, reference, part, f"{reference}.{part}", self.now)
            if how == "all":
                do(self.engine, MessageOutcome(reference, ACCEPTED), now=self.now, terms=self.terms)

    @rule(number=NUMBERS, part=st.integers(1, 2), outcome=st.sampled_from([DELIVERED, DELIVERED, FAILED]))
    def a_receipt_comes(self, number, part, outcome):
        with self.engine.begin() as tx:
            network_id = f"sms:5599{number}.{part}"
            messages.apply_receipt(tx, receipt(network_id, outcome, f"receipt: {network_id}"), self.now)

    @rule(minutes=st.sampled_from([1, 6, 6, 6, 90, 2000]))
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)
        with self.engine.begin() as tx:
            late = outbox_queue.overdue(tx, self.now, limit=2)
        do(self.engine, *late, now=self.now, terms=self.terms)

    @invariant()
    def balances_are_as_charged_and_what_ended_stays_so(self):
        if not hasattr(self, "engine"):
            return
        with self.engine.begin() as tx:
            listed = message_queries.list_messages(tx, limit=99)
        found = [each.message for each in listed]
        for each in listed:
            assert self.payers.setdefault(each.message.reference, each.kind) is each.kind
        for message in found:
            was = self.states.get(message.reference)
            assert was not in FINAL or message.state is was
            assert was is not ACCEPTED or message.state in (ACCEPTED, DELIVERED, FAILED)
            self.states[message.reference] = message.state
        for kind, now in accounts(self.engine).items():
            mine = [each for each in found if self.payers[each.reference] is kind]
            charged = sum(each.cost for each in mine if each.state in (ACCEPTED, DELIVERED))
            held = sum(each.cost for each in mine if each.state.is_open)
            assert now == (self.given - charged, held)
            assert held + charged <= self.given


TestMessages = MessageMachine.TestCase
TestMessages.settings = share(0.6)
