"""Low-balance notices are exactly the crossings of a threshold, however the nodes that look for them live and die."""

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from celcombiller.core.audit.report import audit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.ledger import bookmarks
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.notifications import low_balance
from celcombiller.core.notifications.low_balance import NoticeRules
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy, MessageSubmission
from celcombiller.core.subscribers import subscriber_records
from celcombiller.jobs.low_balance import LOOK_SECONDS, LowBalanceService
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import NOW, TERMS, ask, credit, ended, initiate, proved, voice
from tests.support.deferreds import result_of
from tests.support.properties import share
from tests.support.query_plans import plans_of

RULES = NoticeRules(thresholds=(600, 60, 0), text="{balance}|{credits}|{threshold}")
WAY = MessagePolicy(on_net_route=Route.ASTERISK)
PEOPLE = ("u1001", "u1002", "u1003")


@pytest.fixture
def engine(engine):
    yield engine
    proved(engine)


class Node:
    """A biller that looks for low balances, one question to the database at a time; it may be killed at any."""

    def __init__(self, engine, rules=RULES, terms=WAY, now=lambda: NOW):
        self.engine, self.rules, self.terms, self.now = engine, rules, terms, now
        self.metrics = Metrics()
        self._start()

    def _start(self):
        self.waiting = self.looking = None
        self.service = LowBalanceService(
            Clock(),
            self.rules,
            self.terms,
            transact=self._asked,
            read=self._asked,
            now=self.now,
            metrics=self.metrics,
        )

    def _asked(self, work):
        answer = Deferred()
        self.waiting = (answer, work)
        return answer

    def step(self):
        """Go on by one question; begin a look where none goes on."""
        if self.waiting is None:
            self.looking = Deferred.fromCoroutine(self.service.scan())
        (answer, work), self.waiting = self.waiting, None
        with self.engine.begin() as tx:
            done = work(tx)
        answer.callback(done)

    def look(self):
        """Go on to the end of this look."""
        self.step()
        while self.waiting is not None:
            self.step()
        result_of(self.looking)

    def kill(self, *, committed):
        """End the process at its question, before the commit or after it, and start another."""
        if self.waiting is not None:
            _, work = self.waiting
            with self.engine.connect() as tx:
                work(tx)
                (tx.commit if committed else tx.rollback)()
        self._start()


def found(engine):
    """Give who was told of which threshold, in the order of the movements."""
    notice, account, subscriber = tables.notice, tables.account, tables.subscriber
    with engine.connect() as tx:
        rows = tx.execute(
            sa.select(subscriber.c.username, notice.c.threshold)
            .select_from(notice.join(account, account.c.id == notice.c.account_id).join(subscriber))
            .order_by(notice.c.transfer_id)
        ).all()
    return [tuple(row) for row in rows]


def texts(engine):
    with engine.connect() as tx:
        return list(tx.execute(sa.select(tables.message.c.text).order_by(tables.message.c.id)).scalars())


_count = iter(range(10**9))


def move(engine, value, username="u1001", **more):
    (made,) = ask(engine, credit(value, f"move {next(_count)}", username=username), **more)
    return made


def begun(engine, **facts):
    """Give a node that has put its bookmark where the ledger is now."""
    node = Node(engine, **facts)
    node.look()
    return node


def test_a_balance_that_becomes_low_is_told_once(engine):
    node = begun(engine)
    move(engine, 700)
    move(engine, -100)
    node.look()
    node.look()
    move(engine, -10)
    node.look()
    assert found(engine) == [("u1001", 600)]
    assert texts(engine) == ["10 min|600|10 min"]


def test_a_notice_repeats_after_a_recovery(engine):
    node = begun(engine)
    for value in (61, -1, 1, -1):
        move(engine, value)
    node.look()
    assert found(engine) == [("u1001", 60), ("u1001", 60)]


def test_several_thresholds_crossed_give_the_lowest_notice(engine):
    node = begun(engine)
    move(engine, 700)
    move(engine, -650)
    node.look()
    assert found(engine) == [("u1001", 60)]
    assert texts(engine) == ["50 s|50|1 min"]


def test_a_calls_charge_can_cause_a_notice(engine):
    node = begun(engine)
    move(engine, 100)
    ask(engine, initiate())
    node.look()
    assert found(engine) == []  # what is held is not spent
    ask(engine, ended(talk_ms=45_000))
    node.look()
    assert found(engine) == [("u1001", 60)]


def test_sms_credit_is_watched_where_set(engine):
    node = begun(engine, rules=NoticeRules(thresholds=(5,), kind=Kind.SMS, text="{balance} of {threshold}, {credits}"))
    ask(engine, Credit("u1001", Kind.SMS, 6, "web", "sms"))
    by_sms = replace(TERMS, messages=MessagePolicy(account=Kind.SMS, on_net_route=Route.ASTERISK, on_net_price=2))
    sent = MessageSubmission("sms:m", MessageOrigin.PHONE, "", "1001", "1002", "hello", direct=True)
    ask(engine, sent, MessageOutcome("sms:m", MessageState.ACCEPTED), terms=by_sms)
    node.look()
    assert found(engine) == [("u1001", 5)]
    with engine.connect() as tx:
        texts = tx.execute(sa.select(tables.message.c.text).where(tables.message.c.origin == "notice")).scalars().all()
    assert texts == ["4 of 5, 4"]


def test_only_the_balance_that_is_watched_counts(engine):
    node = begun(engine, rules=NoticeRules(thresholds=(60,), kind=Kind.DATA, text="{balance}"))
    move(engine, 100)
    move(engine, -100)
    node.look()
    assert found(engine) == []


def test_crossings_before_switching_on_cause_no_notice(engine):
    move(engine, 100)
    move(engine, -50)
    node = begun(engine)
    move(engine, 100)
    node.look()
    assert found(engine) == []


def test_long_past_crossings_cause_no_notice(engine):
    node = begun(engine)
    old = NOW - low_balance.OLD
    for at in (old, old + timedelta(seconds=1)):
        move(engine, 100, now=at)
        move(engine, -100, now=at)
    node.look()
    assert found(engine) == [("u1001", 0)]


def test_who_is_disabled_or_deleted_is_told_nothing(engine):
    node = begun(engine)
    for username in PEOPLE:
        move(engine, 100, username)
        move(engine, -100, username)
    with engine.begin() as tx:
        subscriber_records.enable(tx, "u1001", NOW, enabled=False)
        subscriber_records.delete(tx, "u1002", NOW)
    node.look()
    assert found(engine) == [("u1003", 0)]


def test_an_unsendable_notice_keeps_its_reason(engine):
    node = begun(engine, terms=MessagePolicy())
    move(engine, 100)
    move(engine, -100)
    node.look()
    assert found(engine) == [("u1001", 0)]
    assert texts(engine) == []
    with engine.connect() as tx:
        assert "no way" in tx.execute(sa.select(tables.notice.c.note)).scalar_one()
    assert node.metrics.registry.get_sample_value("celcombiller_notices_total", {"result": "failed"}) == 1
    node.terms = WAY
    node.kill(committed=False)
    node.look()
    assert texts(engine) == []


def test_many_notices_are_written_in_batches(engine, monkeypatch):
    monkeypatch.setattr(low_balance, "NOTICES_PER_TRANSACTION_MAX", 2)
    monkeypatch.setattr(low_balance, "IDS_PER_SCAN_MAX", 5)
    node = begun(engine)
    for _ in range(5):
        move(engine, 100)
        move(engine, -100)
        move(engine, 1, "u1002")
    with engine.connect() as tx:
        last_id = bookmarks.find_watermark(tx).last_id
        assert len(low_balance.find(tx, RULES, 0, last_id, NOW).crossings) == 2
        assert low_balance.find(tx, RULES, last_id - 1, last_id, NOW).until_id == last_id
    node.look()
    assert found(engine) == [("u1001", 0)] * 5
    assert node.metrics.registry.get_sample_value("celcombiller_notices_total", {"result": "queued"}) == 5


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_the_look_uses_the_transfer_id_index(engine):
    lines = plans_of(engine, lambda tx: low_balance.find(tx, RULES, 5, 10, NOW))
    assert any("SEARCH transfer USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in line for line in lines), lines
    assert not any(line.startswith("SCAN") for line in lines), lines


def test_the_audit_names_an_unfounded_notice(engine):
    node = begun(engine)
    move(engine, 100)
    move(engine, -100)
    node.look()
    with engine.begin() as tx:
        tx.execute(sa.update(tables.notice).values(threshold=100))
        (difference,) = audit(tx).differences
        assert difference.law == "a notice tells of a balance that became low"
        tx.rollback()


def test_the_look_resumes_after_an_outage(engine):
    node = begun(engine)
    clock, looks = node.service._loop.clock, []

    def read(work):
        looks.append(work)
        if len(looks) == 1:
            raise StoreUnavailable("away")
        with engine.begin() as tx:
            result = work(tx)
        return outcome_of(result)

    node.service._read = node.service._transact = read
    move(engine, 100)
    move(engine, -100)
    node.service.startService()
    assert found(engine) == []
    clock.advance(LOOK_SECONDS)
    assert found(engine) == [("u1001", 0)]
    node.service.stopService()
    assert not clock.getDelayedCalls()


def outcome_of(result):
    made = Deferred()
    made.callback(result)
    return made


def test_of_two_nodes_one_writes_the_notice(engine):
    nodes = [begun(engine), Node(engine)]
    move(engine, 100)
    move(engine, -100)
    for node in nodes:
        for _ in range(4):
            node.step()  # now it has found the crossing
    for node in nodes:
        node.look()
    assert found(engine) == [("u1001", 0)]
    counted = [
        node.metrics.registry.get_sample_value("celcombiller_notices_total", {"result": "queued"}) for node in nodes
    ]
    assert counted == [1, 0]


def test_a_stop_leaves_the_rest_for_later(engine, monkeypatch):
    monkeypatch.setattr(low_balance, "IDS_PER_SCAN_MAX", 1)
    node = begun(engine)
    for _ in range(4):
        move(engine, 100)
        move(engine, -100)
    for _ in range(3):
        node.step()  # the horizon, its completeness, the bookmark: now the first stretch
    node.service._ending = True
    node.look()
    assert len(found(engine)) <= 1
    node.kill(committed=False)
    node.look()
    assert len(found(engine)) == 4


# -- any order of movements, looks, deaths and races -------------------------------------------------------------------

people = st.sampled_from(PEOPLE)
steps = st.one_of(
    st.tuples(st.just("move"), people, st.sampled_from([-700, -61, -1, 1, 60, 61, 700]) | st.integers(-800, 800)),
    st.tuples(st.just("call"), people, st.integers(1, 900)),
    *[st.tuples(st.just("step"), st.integers(0, 1), st.integers(1, 5))] * 3,
    st.tuples(st.just("kill"), st.integers(0, 1), st.booleans()),
)


def carry_out(engine, step, nodes):
    """Do one thing; give the crossing that a plain look at the balance before and after says it is, if it is one."""
    what, who, much = step
    if what == "step":
        for _ in range(much):
            nodes[who].step()
        return []
    if what == "kill":
        nodes[who].kill(committed=much)
        return []
    before = voice(engine, who).posted
    if what == "move" and much:
        move(engine, much, who)
    if what == "call":
        uniqueid = f"{next(_count)}.0"
        ask(engine, initiate(uniqueid, caller=who[1:], called="1002" if who != "u1002" else "1001"))
        ask(engine, ended(uniqueid, talk_ms=much * 1000))
    after = voice(engine, who).posted
    crossed = [each for each in RULES.thresholds if after <= each < before]
    return [(who, min(crossed))] if crossed else []


def check_the_notices_are_the_crossings(engine, sequence):
    nodes = [begun(engine), Node(engine)]
    told_before, texts_before = len(found(engine)), len(texts(engine))
    expected = [crossing for step in sequence for crossing in carry_out(engine, step, nodes)]
    for node in nodes:
        if node.waiting is not None:
            while node.waiting is not None:
                node.step()
            result_of(node.looking)
        node.look()
    assert found(engine)[told_before:] == expected
    assert len(texts(engine)[texts_before:]) == len(expected)
    proved(engine)


any_order = st.lists(steps, min_size=10, max_size=60)


@share(0.2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_order)
def test_notices_equal_crossings_on_two_nodes(engine, sequence):
    check_the_notices_are_the_crossings(engine, sequence)
