"""The proof: recompute every balance and every hold from what is recorded, and name each difference.

Laws 1 to 6, as questions to the database that must have no answer. They only read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller import networks, schema
from celcombiller.datasessions import ORIGIN, REFERENCE_CHARACTERS
from celcombiller.ledger import REVERSAL
from celcombiller.model import CallState, CreditOutcome, HoldState, Kind, MessageState, ScheduleKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account, transfer, hold, call = schema.account, schema.transfer, schema.hold, schema.call
message, notice = schema.message, schema.notice
credit, run = schema.schedule_credit, schema.schedule_run
data = schema.data_session


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the law says: where, what, and the two values that should be one."""

    law: str
    subject: str
    expected: int | str | None
    found: int | str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What was recomputed, and what differed."""

    accounts: int
    transfers: int
    holds: int
    calls: int
    schedule_credits: int
    differences: list[Difference]

    @property
    def ok(self) -> bool:
        """Whether everything is as recorded."""
        return not self.differences


def audit(tx: Connection) -> Report:
    """Recompute everything. Takes time in proportion to the history; nothing is locked on PostgreSQL."""

    def count(table: sa.Table) -> int:
        return int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    questions = (
        *(_posted, _chain, _held, _calls, _charges, _messages, _message_accounts, _message_charges),
        *(_data_charges, _data_holds, _schedule_credits, _schedule_transfers, _runs, _networks, _notices),
    )
    differences = [difference for question in questions for difference in question(tx)]
    return Report(count(account), count(transfer), count(hold), count(call), count(credit), differences)


def _moves() -> sa.Subquery:
    """Every transfer twice, as each of its two accounts sees it: signed value and balance after."""
    return sa.union_all(
        sa.select(
            transfer.c.id,
            transfer.c.reference,
            transfer.c.credit_account_id.label("account_id"),
            transfer.c.amount.label("value"),
            transfer.c.credit_posted.label("posted"),
        ),
        sa.select(
            transfer.c.id,
            transfer.c.reference,
            transfer.c.debit_account_id,
            -transfer.c.amount,
            transfer.c.debit_posted,
        ),
    ).subquery()


def _posted(tx: Connection) -> Iterator[Difference]:
    """Law 1: posted = credits - debits."""
    moves = _moves()
    totals = sa.select(moves.c.account_id, sa.func.sum(moves.c.value).label("total")).group_by(moves.c.account_id)
    total = totals.subquery()
    expected = sa.func.coalesce(total.c.total, 0)
    rows = tx.execute(
        sa.select(account.c.id, account.c.posted, expected.label("expected"))
        .outerjoin(total, total.c.account_id == account.c.id)
        .where(account.c.subscriber_id.is_not(None), account.c.posted != expected)
        .order_by(account.c.id)
    )
    for row in rows:
        yield Difference("posted is the sum of its transfers", _account(tx, row.id), int(row.expected), row.posted)


def _chain(tx: Connection) -> Iterator[Difference]:
    """Law 1: each transfer's balance after continues the one before."""
    moves = _moves()
    before = sa.func.lag(moves.c.posted, 1, 0).over(partition_by=moves.c.account_id, order_by=moves.c.id)
    chain = (
        sa.select(moves, before.label("before"))
        .join(account, account.c.id == moves.c.account_id)
        .where(account.c.subscriber_id.is_not(None))
        .subquery()
    )
    expected = chain.c.before + chain.c.value
    rows = tx.execute(
        sa.select(chain.c.reference, chain.c.account_id, chain.c.posted, expected.label("expected"))
        .where(sa.or_(chain.c.posted.is_(None), chain.c.posted != expected))
        .order_by(chain.c.id)
    )
    for row in rows:
        subject = f"transfer {row.reference} of {_account(tx, row.account_id)}"
        yield Difference("the balance after continues the one before", subject, row.expected, row.posted)


def _held(tx: Connection) -> Iterator[Difference]:
    """Law 2: held = the sum of the open holds."""
    sums = (
        sa.select(hold.c.account_id, sa.func.sum(hold.c.amount).label("total"))
        .where(hold.c.state == HoldState.OPEN)
        .group_by(hold.c.account_id)
        .subquery()
    )
    expected = sa.func.coalesce(sums.c.total, 0)
    rows = tx.execute(
        sa.select(account.c.id, account.c.held, expected.label("expected"))
        .outerjoin(sums, sums.c.account_id == account.c.id)
        .where(account.c.held != expected)
        .order_by(account.c.id)
    )
    for row in rows:
        yield Difference("held is the sum of the open holds", _account(tx, row.id), int(row.expected), row.held)


def _calls(tx: Connection) -> Iterator[Difference]:
    """Law 5: a call and its hold end together, in the same way."""
    rows = tx.execute(
        sa.select(call.c.reference, call.c.state, hold.c.state.label("hold_state"))
        .outerjoin(hold, hold.c.reference == call.c.reference)
        .where(sa.or_(hold.c.state.is_(None), hold.c.state != call.c.state))
        .order_by(call.c.id)
    )
    for row in rows:
        yield Difference("a call's hold is in the call's state", row.reference, row.state, row.hold_state)


def _charges(tx: Connection) -> Iterator[Difference]:
    """Law 4: a settled call is charged its cost, once, to its account; any other call nothing."""
    charged = sa.func.coalesce(transfer.c.amount, 0)
    expected = sa.case((call.c.state == CallState.SETTLED, call.c.cost), else_=0)
    rows = tx.execute(
        sa.select(call.c.reference, expected.label("expected"), charged.label("charged"))
        .outerjoin(transfer, transfer.c.reference == call.c.reference)
        .where(sa.or_(charged != expected, transfer.c.debit_account_id != call.c.account_id))
        .order_by(call.c.id)
    )
    for row in rows:
        yield Difference("a call is charged its cost", row.reference, row.expected, row.charged)
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(call, call.c.reference == transfer.c.reference)
        .where(transfer.c.reference.like("call:%"), call.c.id.is_(None))
        .order_by(transfer.c.id)
    )
    for stray in strays:
        yield Difference("a call's charge has a call", stray.reference, None, stray.amount)


_HOLD_OF_MESSAGE = {
    MessageState.QUEUED: HoldState.OPEN,
    MessageState.SENDING: HoldState.OPEN,
    MessageState.ACCEPTED: HoldState.SETTLED,
    MessageState.DELIVERED: HoldState.SETTLED,
    MessageState.FAILED: HoldState.SETTLED,
    MessageState.REFUSED: HoldState.RELEASED,
    MessageState.EXPIRED: HoldState.EXPIRED,
}
_IS_CHARGED = message.c.state.in_([each for each, its in _HOLD_OF_MESSAGE.items() if its is HoldState.SETTLED])


def _messages(tx: Connection) -> Iterator[Difference]:
    """A message that somebody pays has a hold of what it costs, which ends with it, in its way; a free one none."""
    state = sa.case(*((message.c.state == each, its.value) for each, its in _HOLD_OF_MESSAGE.items()))
    expected = sa.case((message.c.account_id.is_not(None), state), else_=None)
    cost = message.c.price * message.c.parts
    rows = tx.execute(
        sa.select(message.c.reference, expected.label("expected"), hold.c.state, cost.label("cost"), hold.c.amount)
        .outerjoin(hold, hold.c.reference == message.c.reference)
        .where(sa.or_(expected.is_distinct_from(hold.c.state), hold.c.amount != cost))
        .order_by(message.c.id)
    )
    for row in rows:
        if row.expected == row.state:
            yield Difference("a message's hold is what it costs", row.reference, row.cost, row.amount)
        else:
            yield Difference("a message's hold is in the message's state", row.reference, row.expected, row.state)


def _message_accounts(tx: Connection) -> Iterator[Difference]:
    """A message is paid from the voice or the sms account of who sends it, and its hold is of the same one."""
    pays = sa.and_(account.c.subscriber_id == message.c.subscriber_id, account.c.kind.in_([Kind.VOICE, Kind.SMS]))
    rows = tx.execute(
        sa.select(message.c.reference, message.c.account_id, hold.c.account_id.label("held_of"))
        .join(account, account.c.id == message.c.account_id)
        .outerjoin(hold, hold.c.reference == message.c.reference)
        .where(sa.or_(sa.not_(pays), hold.c.account_id != message.c.account_id))
        .order_by(message.c.id)
    )
    for row in rows:
        paid, held = (None if each is None else _account(tx, each) for each in (row.account_id, row.held_of))
        yield Difference("a message is paid and held by one account of its sender", row.reference, paid, held)


def _message_charges(tx: Connection) -> Iterator[Difference]:
    """A message that was accepted is charged once; one that failed after that has its charge back."""
    cost = sa.case((message.c.account_id.is_not(None), message.c.price * message.c.parts), else_=0)
    back = transfer.alias()
    charged, returned = sa.func.coalesce(transfer.c.amount, 0), sa.func.coalesce(back.c.amount, 0)
    to_charge = sa.case((_IS_CHARGED, cost), else_=0)
    failed = message.c.state == MessageState.FAILED
    rows = tx.execute(
        sa.select(
            *(message.c.reference, to_charge.label("to_charge"), charged.label("charged")),
            *(returned.label("returned"), failed.label("failed")),
        )
        .outerjoin(transfer, transfer.c.reference == message.c.reference)
        .outerjoin(back, back.c.reference == sa.literal(f"{REVERSAL}:") + message.c.reference)
        .where(
            sa.or_(
                charged != to_charge,
                transfer.c.debit_account_id != message.c.account_id,
                sa.and_(failed, returned != to_charge),
                back.c.credit_account_id != message.c.account_id,
            )
        )
        .order_by(message.c.id)
    )
    for row in rows:
        if row.failed and row.charged == row.to_charge:
            yield Difference("a failed message has its charge back", row.reference, row.to_charge, row.returned)
        else:
            yield Difference("a message is charged what it costs", row.reference, row.to_charge, row.charged)
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(message, message.c.reference == transfer.c.reference)
        .where(transfer.c.reference.like("sms:%"), message.c.id.is_(None))
        .order_by(transfer.c.id)
    )
    for stray in strays:
        yield Difference("a message's charge has a message", stray.reference, None, stray.amount)


def _data_charges(tx: Connection) -> Iterator[Difference]:
    """Law 4 of data: a session is charged the price of its octets, in so many transfers out of its account."""
    of_session = sa.func.substr(transfer.c.reference, 1, REFERENCE_CHARACTERS)
    sums = (
        sa.select(
            of_session.label("reference"),
            sa.func.sum(transfer.c.amount).label("total"),
            sa.func.min(transfer.c.debit_account_id).label("account_id"),
            sa.func.max(transfer.c.debit_account_id).label("other_account_id"),
        )
        .where(transfer.c.reference.like(f"{ORIGIN}:%"))
        .group_by(of_session)
        .subquery()
    )
    charged = sa.func.coalesce(sums.c.total, 0)
    price = (data.c.octets + data.c.octets_per_credit - 1) // data.c.octets_per_credit
    whose = sa.or_(sums.c.account_id != data.c.account_id, sums.c.other_account_id != data.c.account_id)
    rows = tx.execute(
        sa.select(data.c.reference, data.c.charged, price.label("price"), charged.label("transferred"))
        .outerjoin(sums, sums.c.reference == data.c.reference)
        .where(sa.or_(charged != data.c.charged, price != data.c.charged, whose))
        .order_by(data.c.id)
    )
    for row in rows:
        yield Difference("a data session is charged its octets", row.reference, int(row.price), int(row.transferred))
    strays = tx.execute(
        sa.select(sums.c.reference, sums.c.total)
        .outerjoin(data, data.c.reference == sums.c.reference)
        .where(data.c.id.is_(None))
        .order_by(sums.c.reference)
    )
    for stray in strays:
        yield Difference("a data session's charge has a session", stray.reference, None, int(stray.total))


def _data_holds(tx: Connection) -> Iterator[Difference]:
    """Law 5 of data: an open session has one open hold, its last; a closed one has none."""
    is_open = sa.and_(hold.c.state == HoldState.OPEN, hold.c.reference.like(f"{ORIGIN}:%"))
    of_session = sa.func.substr(hold.c.reference, 1, REFERENCE_CHARACTERS)
    last = data.c.reference.concat(":").concat(sa.cast(data.c.holds, sa.Text))
    rows = tx.execute(
        sa.select(data.c.reference, hold.c.state)
        .outerjoin(hold, sa.and_(hold.c.reference == last, hold.c.account_id == data.c.account_id))
        .where(data.c.state == "open", sa.or_(hold.c.state.is_(None), hold.c.state != HoldState.OPEN))
        .order_by(data.c.id)
    )
    for row in rows:
        yield Difference("an open data session has an open hold", row.reference, HoldState.OPEN, row.state)
    strays = tx.execute(
        sa.select(hold.c.reference)
        .outerjoin(data, sa.and_(data.c.reference == of_session, last == hold.c.reference, data.c.state == "open"))
        .where(is_open, data.c.id.is_(None))
        .order_by(hold.c.reference)
    )
    for stray in strays:
        yield Difference("a data session's open hold has an open session", stray.reference, None, HoldState.OPEN)


def _schedule_credits(tx: Connection) -> Iterator[Difference]:
    """Law 6: who was credited on a due date got the run's value of each of its kinds, and who was not got nothing."""
    for kind in Kind:
        kinds = [each for each in ScheduleKind if kind in each.kinds]
        owed = sa.and_(credit.c.outcome == CreditOutcome.CREDITED, run.c.kind.in_(kinds))
        expected = sa.case((owed, run.c.value), else_=None)
        made = sa.and_(
            transfer.c.reference == credit.c[f"{kind}_reference"],
            transfer.c.credit_account_id == account.c.id,
            transfer.c.debit_account_id == schema.OPERATOR_ACCOUNT_IDS[kind],
            transfer.c.origin == "schedule",
        )
        mine = sa.and_(account.c.subscriber_id == credit.c.subscriber_id, account.c.kind == kind)
        of_run = sa.and_(run.c.schedule_id == credit.c.schedule_id, run.c.due_on == credit.c.due_on)
        rows = tx.execute(
            sa.select(credit, expected.label("expected"), transfer.c.amount)
            .select_from(credit.outerjoin(run, of_run).outerjoin(account, mine).outerjoin(transfer, made))
            .where(sa.or_(run.c.id.is_(None), expected.is_distinct_from(transfer.c.amount)))
            .order_by(credit.c.id)
        )
        for row in rows:
            subject = f"schedule {row.schedule_id}, due on {row.due_on}, subscriber {row.subscriber_id}, {kind}"
            yield Difference("a due date gives what its run says", subject, row.expected, row.amount)


def _schedule_transfers(tx: Connection) -> Iterator[Difference]:
    """Law 6: a transfer of a schedule belongs to one member's due date."""
    references = (credit.c.voice_reference, credit.c.data_reference, credit.c.sms_reference)
    known = sa.union_all(
        *(sa.select(each.label("reference")).where(each.is_not(None)) for each in references)
    ).subquery()
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(known, known.c.reference == transfer.c.reference)
        .where(transfer.c.reference.like("schedule:%"), known.c.reference.is_(None))
        .order_by(transfer.c.id)
    )
    for stray in strays:
        yield Difference("a schedule's transfer has its due date", stray.reference, None, stray.amount)


def _runs(tx: Connection) -> Iterator[Difference]:
    """Law 6: a run says how many members it credited, passed over and failed to credit."""
    counts = (
        sa.select(credit.c.schedule_id, credit.c.due_on, credit.c.outcome, sa.func.count().label("members"))
        .group_by(credit.c.schedule_id, credit.c.due_on, credit.c.outcome)
        .subquery()
    )
    for outcome in CreditOutcome:
        counted = counts.alias()
        expected = sa.func.coalesce(counted.c.members, 0)
        same = sa.and_(
            counted.c.schedule_id == run.c.schedule_id,
            counted.c.due_on == run.c.due_on,
            counted.c.outcome == outcome,
        )
        rows = tx.execute(
            sa.select(run.c.schedule_id, run.c.due_on, run.c[outcome].label("found"), expected.label("expected"))
            .outerjoin(counted, same)
            .where(run.c[outcome] != expected)
            .order_by(run.c.id)
        )
        for row in rows:
            subject = f"schedule {row.schedule_id}, due on {row.due_on}"
            yield Difference(f"a run counts whom it {outcome}", subject, row.expected, row.found)


def _networks(tx: Connection) -> Iterator[Difference]:
    """Every network is wanted to know exactly the subscribers who may use the service."""
    for network, imsi, expected, found in networks.inconsistent(tx):
        yield Difference("a network is to know who may use the service", f"IMSI {imsi} on {network}", expected, found)


def _notices(tx: Connection) -> Iterator[Difference]:
    """A low balance that was noticed is one: the movement took it from above the threshold to there or below."""
    crossed = sa.and_(
        transfer.c.debit_account_id == notice.c.account_id,
        transfer.c.debit_posted <= notice.c.threshold,
        transfer.c.debit_posted + transfer.c.amount > notice.c.threshold,
    )
    rows = tx.execute(
        sa.select(notice.c.account_id, notice.c.threshold, transfer.c.reference, transfer.c.debit_posted)
        .join(transfer, transfer.c.id == notice.c.transfer_id)
        .where(sa.case((crossed, 1), else_=0) == 0)
        .order_by(notice.c.transfer_id)
    )
    for row in rows:
        subject = f"{_account(tx, row.account_id)}, transfer {row.reference}"
        yield Difference("a notice tells of a balance that became low", subject, row.threshold, row.debit_posted)


def _account(tx: Connection, account_id: int) -> str:
    row = tx.execute(
        sa.select(schema.subscriber.c.username, account.c.kind)
        .select_from(account.outerjoin(schema.subscriber, schema.subscriber.c.id == account.c.subscriber_id))
        .where(account.c.id == account_id)
    ).one()
    return f"{row.username or 'operator'}'s {row.kind} account"
