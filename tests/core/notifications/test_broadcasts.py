"""A broadcast reaches each member of a group once, however the nodes that queue it live and die."""

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from celcombiller.core.access.actor import Actor
from celcombiller.core.charging import messages
from celcombiller.core.errors import InvalidValue, NotOffered, TransferConflict
from celcombiller.core.model.messages import MessageState, Route
from celcombiller.core.model.subscribers import Level
from celcombiller.core.notifications import broadcasts
from celcombiller.core.schema import tables
from celcombiller.core.sms import outbox_queue
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy
from celcombiller.core.subscribers import group_records, subscriber_records
from celcombiller.jobs.notices import broadcasts as jobs
from celcombiller.jobs.notices.broadcasts import advance_broadcasts
from celcombiller.runtime.log.faults import FaultLog
from tests.core.ledger.test_book import NOW, proved
from tests.support.deferreds import result_of
from tests.support.properties import share
from tests.support.query_plans import plans_of
from tests.support.schedules import drive

POLICY = MessagePolicy(on_net_route=Route.SMPP, on_net_price=7, sender="village", parts_max=3)
STAFF = Actor("clara", "", manages=frozenset({Level.SUBSCRIBER}))
MEMBERS = 12


@pytest.fixture
def engine(engine, monkeypatch):
    """Give a ledger with a group of twelve members, of whom one is disabled, and slices of five."""
    monkeypatch.setattr(broadcasts, "SLICE", 5)
    monkeypatch.setattr(broadcasts, "WAITING_MAX", 10_000)
    with engine.begin() as tx:
        group = group_records.add(tx, name="village", now=NOW)
        for number in range(2001, 2001 + MEMBERS):
            facts = {"name": "N", "imsi": f"72400000000{number}", "cpf": None, "address": "", "password_hash": None}
            subscriber_records.add(
                tx,
                username=f"u{number}",
                clid=str(number),
                level=Level.SUBSCRIBER,
                **facts,
                now=NOW,
            )
            subscriber_records.change(tx, f"u{number}", {"group_id": group.id}, NOW)
        subscriber_records.enable(tx, "u2003", NOW, enabled=False)
    yield engine
    proved(engine)


def add(engine, text="hello", key="k", actor=STAFF, policy=POLICY):
    with engine.begin() as tx:
        return broadcasts.add(tx, actor, policy, 1, text, key=key, now=NOW)


def look(engine, policy=POLICY, now=NOW):
    async def at_once(work):
        with engine.begin() as tx:
            return work(tx)

    drive(advance_broadcasts(at_once, at_once, policy, now))


def rows_of(engine, table=tables.message):
    with engine.begin() as tx:
        return tx.execute(sa.select(table).order_by(table.c.id)).all()


def accept(engine, rows):
    with engine.begin() as tx:
        for row in rows:
            messages.record_outcome(tx, MessageOutcome(row.reference, MessageState.ACCEPTED), NOW)


def show(engine, broadcast_id=1):
    with engine.begin() as tx:
        return broadcasts.find(tx, broadcast_id), broadcasts.count_messages(tx, broadcast_id)


EXPECTED = [str(number) for number in range(2001, 2001 + MEMBERS) if number != 2003]


def test_each_enabled_member_gets_one_free_message(engine):
    add(engine)
    look(engine)
    look(engine)
    rows = rows_of(engine)
    assert sorted(row.to_number for row in rows) == EXPECTED
    assert {(row.text, row.from_number, row.price, row.subscriber_id, row.broadcast_id) for row in rows} == {
        ("hello", "village", 0, None, 1)
    }
    assert rows[0].reference == f"sms:broadcast:1:{rows[0].callee_id}"
    made, counts = show(engine)
    assert (made.queued, made.left_out, made.completed_at) == (MEMBERS - 1, 1, NOW)
    assert counts[MessageState.QUEUED] == MEMBERS - 1


def test_a_plan_counts_members_and_parts(engine):
    with engine.begin() as tx:
        planned = broadcasts.plan(tx, POLICY, 1, "ж" * 71)
        assert (planned.recipients, planned.disabled, planned.parts) == (MEMBERS - 1, 1, 2)
        for text in ("", "x" * 460):
            with pytest.raises(InvalidValue):
                broadcasts.plan(tx, POLICY, 1, text)
        with pytest.raises(NotOffered):
            broadcasts.plan(tx, MessagePolicy(off_net_route=Route.SMPP), 1, "hello")


def test_the_same_key_gives_the_first_broadcast(engine):
    first = add(engine)
    look(engine)
    assert add(engine).id == first.id
    with pytest.raises(TransferConflict):
        add(engine, text="other")
    assert add(engine, actor=replace(STAFF, subscriber_id=9)).id == 2
    assert len(rows_of(engine, tables.broadcast)) == 2
    with engine.begin() as tx:
        assert [row.subject for row in tx.execute(sa.select(tables.trail))] == ["broadcast:1", "broadcast:2"]


def test_nothing_is_made_for_nobody(engine):
    with engine.begin() as tx:
        tx.execute(sa.update(tables.subscriber).values(enabled=False))
    with pytest.raises(InvalidValue):
        add(engine)
    assert rows_of(engine, tables.broadcast) == []


def test_messages_of_others_wait_for_few(engine, monkeypatch):
    monkeypatch.setattr(broadcasts, "WAITING_MAX", 4)
    add(engine)
    look(engine)
    look(engine)
    assert len(rows_of(engine)) == 4
    accept(engine, rows_of(engine)[:3])
    with engine.begin() as tx:
        claimed = outbox_queue.claim(tx, Route.SMPP, "me", NOW, limit=5, lease=timedelta(minutes=1))
        again = [each.message.reference for each in claimed]
        outbox_queue.reschedule(tx, "me", again, "phone away", NOW, retry_seconds_max=60)
    look(engine)
    assert len(rows_of(engine)) == 9, "one that is tried again later keeps no other from its turn"


def test_it_waits_for_a_way(engine):
    add(engine)
    look(engine, policy=MessagePolicy())
    assert (rows_of(engine), show(engine)[0].completed_at) == ([], None)
    look(engine)
    assert len(rows_of(engine)) == MEMBERS - 1


def test_a_fault_in_one_stops_no_other(engine, monkeypatch, expected_failures):
    for key in "ab":
        add(engine, key=key)
    advance = broadcasts.advance

    def broken(tx, broadcast_id, policy, now):
        if broadcast_id == 1:
            raise ZeroDivisionError
        return advance(tx, broadcast_id, policy, now)

    monkeypatch.setattr(broadcasts, "advance", broken)
    monkeypatch.setattr(jobs, "_FAULTS", FaultLog(Logger()))
    look(engine)
    assert (show(engine, 1)[0].queued, show(engine, 2)[0].queued) == (0, MEMBERS - 1)
    assert expected_failures.pop().check(ZeroDivisionError)


def test_cancelled_messages_are_never_sent(engine, monkeypatch):
    monkeypatch.setattr(broadcasts, "WAITING_MAX", 9)
    add(engine)
    look(engine)
    with engine.begin() as tx:
        sent, being_sent = outbox_queue.claim(tx, Route.SMPP, "me", NOW, limit=2, lease=timedelta(minutes=1))
        messages.record_outcome(tx, MessageOutcome(sent.message.reference, MessageState.ACCEPTED), NOW)
        broadcasts.cancel(tx, STAFF, 1, NOW)
    look(engine)
    made, counts = show(engine)
    assert (made.completed_at, counts[MessageState.QUEUED], counts[MessageState.REFUSED]) == (None, 1, 7)
    with engine.begin() as tx:
        outbox_queue.reschedule(tx, "me", [being_sent.message.reference], "later", NOW, retry_seconds_max=60)
    for _ in range(2):
        look(engine)
    made, counts = show(engine)
    assert (made.completed_at, made.queued) == (NOW, 9)
    assert {state: number for state, number in counts.items() if number} == {"accepted": 1, "refused": 8}
    assert {row.text for row in rows_of(engine)} == {None}


def test_to_cancel_what_is_sent_changes_nothing(engine):
    add(engine)
    look(engine)
    accept(engine, rows_of(engine))
    with engine.begin() as tx:
        assert broadcasts.cancel(tx, STAFF, 1, NOW).cancelled_at is None


def test_a_slice_is_found_by_index(engine):
    def work(tx):
        if engine.dialect.name == "postgresql":  # for so few rows it would not look at an index
            tx.execute(sa.text("set local enable_seqscan = off"))
            tx.execute(sa.text("set local enable_sort = off"))
        tx.execute(broadcasts.members_statement(1, 5))

    plans = plans_of(engine, work)
    assert any("ix_subscriber_of_group" in line for line in plans), plans
    assert not any("SORT" in line.upper() or "TEMP B-TREE" in line for line in plans), plans


class Node:
    """A biller that queues broadcasts, one question to the database at a time; it may be killed at any."""

    def __init__(self, engine):
        self.engine = engine
        self._end()

    def _end(self):
        self.waiting = self.looking = None

    def _asked(self, work):
        answer = Deferred()
        self.waiting = (answer, work)
        return answer

    def step(self):
        """Go on by one question; begin a look where none goes on."""
        if self.waiting is None:
            self.looking = Deferred.fromCoroutine(advance_broadcasts(self._asked, self._asked, POLICY, NOW))
        (answer, work), self.waiting = self.waiting, None
        with self.engine.begin() as tx:
            done = work(tx)
        answer.callback(done)

    def finish(self):
        """Go on to the end of this look."""
        self.step()
        while self.waiting is not None:
            self.step()
        result_of(self.looking)

    def kill(self, *, committed):
        """End the process at its question, before the commit or after it, and start another."""
        if self.waiting is not None:
            (_, work), self.waiting = self.waiting, None
            with self.engine.connect() as tx:
                work(tx)
                (tx.commit if committed else tx.rollback)()
        self._end()


@share(0.5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["step", "step", "lost", "done", "submit"]), st.integers(0, 1)), max_size=40),
    st.data(),
)
def test_each_member_gets_it_once_whatever_dies(engine, events, data):
    first = len(rows_of(engine, tables.broadcast)) + 1
    made = {add(engine, key=f"{first} {n}").id for n in range(2)}
    nodes = [Node(engine), Node(engine)]
    for event, number in events:
        node = nodes[number]
        if event == "step":
            node.step()
        elif event == "submit":
            made.add(add(engine, key=f"{first} {data.draw(st.integers(0, 1))}").id)
        else:
            node.kill(committed=event == "done")
    for _ in range(2):
        for node in nodes:
            node.finish()
    assert len(made) == 2
    for broadcast_id in made:
        found = [row.to_number for row in rows_of(engine) if row.broadcast_id == broadcast_id]
        assert sorted(found) == EXPECTED
        assert show(engine, broadcast_id)[0].queued == len(EXPECTED)
