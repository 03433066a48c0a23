"""Messages about fees: before a due date, on it where it is unpaid, and when a subscriber is switched off and on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import FeeState, RunState
from celcombiller.core.schedules import runs, schedule_records
from celcombiller.core.schedules.chunk_sql import next_chunk_end
from celcombiller.core.schedules.due_dates import last_come, next_due_date
from celcombiller.core.schedules.fee_terms import parse_days
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime, time

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.schedules import FeePeriod, Schedule

REMINDED_AT_ONCE = 25
"""Most messages that one transaction writes, so that a call request waits for no more."""

_membership, _period, _reminder = tables.membership, tables.fee_period, tables.fee_reminder
_subscriber, _account, _schedule = tables.subscriber, tables.account, tables.schedule


@dataclass(frozen=True, slots=True)
class FeeNotices:
    """The texts of the messages (empty: none is sent), and how they are sent."""

    reminder: str = ""
    unpaid: str = ""
    suspended: str = ""
    resumed: str = ""
    style: BalanceStyle = field(default_factory=BalanceStyle)
    policy: MessagePolicy = field(default_factory=MessagePolicy)


class Reminder(NamedTuple):
    """What the members of a schedule are reminded of: a due date, so many days before it; 0: it is unpaid."""

    schedule: Schedule
    due_on: date
    days: int


def list_due(tx: Connection, notices: FeeNotices, run_at: time, now: datetime) -> list[Reminder]:
    """Return the reminders that are due now and not all sent. Reads only.

    Of several before one due date that the biller missed, only the last is sent.
    """
    found = []
    for schedule in schedule_records.list_all(tx):
        if schedule.takes and schedule.enabled:
            found += list(_due_of(tx, notices, schedule, last_come(now, run_at, schedule.time_zone)))
    return [each for each in found if not _is_done(tx, each)]


def _due_of(tx: Connection, notices: FeeNotices, schedule: Schedule, today: date) -> Iterator[Reminder]:
    days = parse_days(schedule.remind_days or "")
    coming = next_due_date(schedule, today)
    if notices.reminder and coming is not None:
        near = [each for each in days if each >= (coming - today).days]
        if near:
            yield Reminder(schedule, coming, min(near))
    if notices.unpaid and 0 in days:
        for run in runs.history(tx, schedule_id=schedule.id, limit=1):
            is_taken = run.state is not RunState.SKIPPED and run.undone_at is None
            if run.due_on == today and is_taken and next_chunk_end(tx, run, 1) is None:
                yield Reminder(schedule, today, 0)


def remind_some(tx: Connection, notices: FeeNotices, reminder: Reminder, now: datetime) -> int:
    """Queue the next messages of a reminder, each once; return how many members were looked at, 0: it is done."""
    schedule, due_on, days = reminder
    schedule_records.find(tx, schedule.id, lock=True)
    key = (_reminder.c.schedule_id == schedule.id, _reminder.c.due_on == due_on, _reminder.c.days == days)
    known = tx.execute(sa.select(_reminder).where(*key)).first()
    if known is None:
        values = {"schedule_id": schedule.id, "due_on": due_on, "days": days, "last_membership_id": 0, "done": False}
        tx.execute(sa.insert(_reminder).values(values))
    elif known.done:
        return 0
    after_id = 0 if known is None else known.last_membership_id
    rows = tx.execute((_owing if days == 0 else _members)(schedule, due_on, after_id)).all()
    for row in rows:
        words = {"name": schedule.name, "date": due_on, "amount": row.amount, "balance": row.balance, "left": row.left}
        text = notices.unpaid if days == 0 else notices.reminder
        _submit(tx, notices, f"fee-reminder:{schedule.id}:{row.subscriber_id}:{due_on}:{days}", row, text, words, now)
    done = {"last_membership_id": max((row.id for row in rows), default=after_id), "done": len(rows) < REMINDED_AT_ONCE}
    tx.execute(sa.update(_reminder).where(*key).values(done))
    return len(rows)


def notify_suspended(tx: Connection, notices: FeeNotices, period: FeePeriod, now: datetime) -> None:
    """Queue the message to who is switched off."""
    _notify(tx, notices, notices.suspended, f"fee-suspended:{period.id}:{now.date()}", period, now)


def notify_resumed(tx: Connection, notices: FeeNotices, period: FeePeriod, now: datetime) -> None:
    """Queue the message to who has paid and is on again."""
    _notify(tx, notices, notices.resumed, f"fee-resumed:{period.id}", period, now)


def _notify(tx: Connection, notices: FeeNotices, text: str, reference: str, period: FeePeriod, now: datetime) -> None:
    if not text:
        return
    account = sa.and_(_account.c.subscriber_id == _subscriber.c.id, _account.c.kind == Kind.VOICE.value)
    who = _addressees().join(_account, account)
    row = tx.execute(who.where(_subscriber.c.id == period.subscriber_id)).first()
    name = tx.execute(sa.select(_schedule.c.name).where(_schedule.c.id == period.schedule_id)).scalar_one()
    if row is not None:
        words = {"name": name, "date": period.due_on, "amount": period.amount, "left": period.left}
        _submit(tx, notices, reference, row, text, words | {"balance": row.balance}, now)


def _submit(
    tx: Connection,
    notices: FeeNotices,
    reference: str,
    who: sa.Row[Any],
    text: str,
    words: dict[str, Any],
    now: datetime,
) -> None:
    """Queue a message, once for its reference. One that cannot be queued is left out."""
    amounts = {
        name: partial(format_balance, words[name], Kind.VOICE, notices.style) for name in ("amount", "balance", "left")
    }
    written = notices.policy.write(text, who.language, **words | amounts)
    try:
        messages.submit(tx, notices.policy, reference=reference, to_number=who.clid, text=written, now=now)
    except BillerError:
        return


def _is_done(tx: Connection, reminder: Reminder) -> bool:
    key = (_reminder.c.schedule_id == reminder.schedule.id, _reminder.c.due_on == reminder.due_on)
    found = sa.select(_reminder.c.done).where(*key, _reminder.c.days == reminder.days)
    return bool(tx.execute(found).scalar())


def _members(schedule: Schedule, due_on: date, after_id: int) -> sa.Select[Any]:
    """Select the next members who pay on a due date that is to come."""
    amount = sa.literal(schedule.value, sa.BigInteger)
    due = (_membership.c.schedule_id == schedule.id, _membership.c.ended_at.is_(None), _membership.c.count > 0)
    return (
        _addressees(_membership.c.id, _membership.c.subscriber_id, amount.label("amount"), amount.label("left"))
        .select_from(_membership)
        .where(*due, _membership.c.joined_on <= due_on, _membership.c.id > after_id)
        .join(_subscriber, _subscriber.c.id == _membership.c.subscriber_id)
        .join(_account, sa.and_(_account.c.subscriber_id == _subscriber.c.id, _account.c.kind == Kind.VOICE.value))
        .order_by(_membership.c.id)
        .limit(REMINDED_AT_ONCE)
    )


def _owing(schedule: Schedule, due_on: date, after_id: int) -> sa.Select[Any]:
    """Select the next members who owe the fee of a due date."""
    left = _period.c.amount - _period.c.paid
    of_date = (_period.c.schedule_id == schedule.id, _period.c.due_on == due_on, _period.c.state == FeeState.OWED)
    return (
        _addressees(_period.c.membership_id.label("id"), _period.c.subscriber_id, _period.c.amount, left.label("left"))
        .select_from(_period)
        .where(*of_date, _period.c.membership_id > after_id)
        .join(_subscriber, _subscriber.c.id == _period.c.subscriber_id)
        .join(_account, sa.and_(_account.c.subscriber_id == _subscriber.c.id, _account.c.kind == Kind.VOICE.value))
        .order_by(_period.c.membership_id)
        .limit(REMINDED_AT_ONCE)
    )


def _addressees(*columns: Any) -> sa.Select[Any]:
    balance = (_account.c.posted - _account.c.held).label("balance")
    found = sa.select(*columns, _subscriber.c.clid, _subscriber.c.language, balance)
    return found.where(_subscriber.c.enabled, NOT_DELETED)
