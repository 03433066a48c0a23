"""Fee periods: who owes what since when, and how it ends: paid later, waived, cancelled or undone.

A run opens the periods of its members (`celcombiller.core.schedules.fee_chunk`). Whoever ends one locks its subscriber,
then the voice account, and writes it only as it was read; so a period is paid at most once on any number of nodes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.errors import InsufficientBalance, InvalidValue, NotFound
from celcombiller.core.ledger.book import REVERSAL, Book
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import FeePeriod, FeeState, Joining, Run, RunState, WhenShort
from celcombiller.core.schedules.due_dates import local_date, next_due_date
from celcombiller.core.schedules.fee_chunk import available, bundle_end, last_transfer_id
from celcombiller.core.schedules.fee_terms import (
    MIDNIGHT,
    ORIGIN,
    bundle_reference_of,
    first_amount,
    last_due_date,
    period_end,
    reference_of,
    start_of,
    suspension_time,
)
from celcombiller.core.schedules.runs import find_run
from celcombiller.core.schema import bulk, tables
from celcombiller.core.schema.live_change import record_live_change
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.schedules import Membership, Schedule

_period, _account, _subscriber, _run = tables.fee_period, tables.account, tables.subscriber, tables.schedule_run
_transfer, _bundle, _schedule = tables.transfer, tables.bundle, tables.schedule

_IS_OWED = _period.c.state == sa.literal(FeeState.OWED.value, literal_execute=True)
"""As a literal, so that the partial index is used."""


# -- opening and cancelling: who joins between two due dates, and who leaves -------------------------------------------


def open_first(tx: Connection, schedule: Schedule, membership: Membership, now: datetime) -> None:
    """Open the fee period of who joins between two due dates, by the rule of the schedule; the schedule is locked.

    Who joins on a due date gets the period of its run. Who left and joins again in one period goes on with the same.
    """
    joined_on = membership.joined_on
    start, end = last_due_date(schedule, joined_on), next_due_date(schedule, joined_on)
    if not schedule.takes or start is None or end is None or end <= local_date(now, schedule.time_zone):
        return
    of_period = (_period.c.schedule_id == schedule.id, _period.c.due_on == start)
    known = tx.execute(
        sa.select(_period).where(*of_period, _period.c.subscriber_id == membership.subscriber_id)
    ).first()
    since = {
        "due_at": start_of(joined_on, schedule),
        "suspend_at": suspension_time(schedule, joined_on, MIDNIGHT),
    }
    if known is not None:
        if known.state == FeeState.CANCELLED and _is_taken(tx, schedule, start):
            values = since | {
                "state": FeeState.OWED,
                "closed_at": None,
                "suspended_at": None,
                "membership_id": membership.id,
            }
            tx.execute(sa.update(_period).where(_period.c.id == known.id).values(values))
        return
    amount = first_amount(schedule, start, end, joined_on)
    if joined_on == start or schedule.joining is Joining.NEXT or amount == 0 or not _is_taken(tx, schedule, start):
        return
    row = {
        "schedule_id": schedule.id,
        "subscriber_id": membership.subscriber_id,
        "due_on": start,
        "membership_id": membership.id,
        "state": FeeState.OWED,
        "amount": amount,
        "paid": 0,
        "parts": 0,
        "when_short": schedule.when_short,
        "offer_id": schedule.offer_id,
        "ends_at": period_end(schedule, start),
        "seen_transfer_id": 0,
        "note": f"joined on {joined_on}",
    }
    tx.execute(sa.insert(_period).values(row | since))


def _is_taken(tx: Connection, schedule: Schedule, due_on: date) -> bool:
    """Return whether the fee of a due date is taken from members: its run was neither skipped nor undone."""
    which = (_run.c.schedule_id == schedule.id, _run.c.due_on == due_on)
    row = tx.execute(sa.select(_run.c.state, _run.c.undone_at).where(*which)).first()
    return schedule.enabled if row is None else row.state != RunState.SKIPPED and row.undone_at is None


def cancel_owed(tx: Connection, *conditions: sa.ColumnElement[bool], note: str, now: datetime) -> None:
    """Cancel what members owe who leave; what they paid of it stays paid, and who was suspended for it is on again."""
    which = sa.and_(_IS_OWED, *conditions)
    ids = sorted(set(tx.execute(sa.select(_period.c.subscriber_id).where(which)).scalars()))
    if ids:
        _lock(tx, ids)
        values = {"state": FeeState.CANCELLED, "closed_at": now, "note": note}
        tx.execute(sa.update(_period).where(which).values(values))
        lift(tx, ids)


# -- taking later ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collected:
    """A fee period after it was tried again, what was taken now, and whether its subscriber is on again."""

    period: FeePeriod
    taken: int
    resumed: bool = False


def list_collectable(tx: Connection, now: datetime, *, after_id: int = 0, limit: int) -> list[int]:
    """Return owed periods that can be paid now, wholly or, where parts are taken, in part. Reads only.

    Those that wait for credit are among them only when credit came since they were last tried.
    """
    needed = sa.case((_period.c.when_short == WhenShort.PART.value, 1), else_=_period.c.amount - _period.c.paid)
    newer = (
        sa.select(_transfer.c.id)
        .where(_transfer.c.credit_account_id == _account.c.id, _transfer.c.id > _period.c.seen_transfer_id)
        .limit(1)
        .correlate(_account, _period)
        .scalar_subquery()
    )
    rows = tx.execute(
        sa.select(_period.c.id)
        .join(_account, sa.and_(_account.c.subscriber_id == _period.c.subscriber_id, _account.c.kind == Kind.VOICE))
        .join(_subscriber, _subscriber.c.id == _period.c.subscriber_id)
        .where(
            _IS_OWED,
            _period.c.id > after_id,
            _period.c.due_at <= now,
            available(_account) >= needed,
            _subscriber.c.enabled,
            _subscriber.c.deleted_at.is_(None),
            sa.or_(_period.c.when_short != WhenShort.WAIT.value, newer.is_not(None)),
        )
        .order_by(_period.c.id)
        .limit(limit)
    )
    return list(rows.scalars())


def collect(tx: Connection, period_ids: Collection[int], now: datetime) -> list[Collected]:
    """Try to take what is owed of these periods, the oldest of each subscriber first; return those that gave some.

    A fee never brings a balance below 0, and takes nothing that is held, whatever the credit limit.
    """
    owners = tx.execute(sa.select(_period.c.subscriber_id).where(_period.c.id.in_(period_ids), _IS_OWED)).scalars()
    subscriber_ids = sorted(set(owners))
    suspended = _lock(tx, subscriber_ids)
    book, accounts = _load(tx, subscriber_ids)
    names = _names(tx)
    last_id = last_transfer_id(tx)
    collected: list[Collected] = []
    for was in _read(tx, _IS_OWED, _period.c.id.in_(period_ids), of=subscriber_ids):
        account = book.accounts[accounts[was.subscriber_id]]
        some = max(account.posted - account.held, 0)
        amount = min(some, was.left) if was.when_short is WhenShort.PART else was.left * (some >= was.left)
        if amount == 0:
            _write(tx, was, replace(was, seen_transfer_id=last_id))
            continue
        part, operator_id = was.parts + 1, tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE]
        reference = reference_of(was.schedule_id, was.subscriber_id, was.due_on, part)
        note = names.get(was.schedule_id, "")
        book.post(reference, account.id, operator_id, amount, origin=ORIGIN, now=now, note=note)
        is_ = replace(was, paid=was.paid + amount, parts=part, seen_transfer_id=last_id)
        collected.append(Collected(_end(is_, FeeState.PAID, now) if is_.paid == is_.amount else is_, amount))
        _write(tx, was, collected[-1].period)
    book.save(tx)
    paid = [each.period for each in collected if each.period.state is FeeState.PAID]
    given = {each.id: each for each in (_give(tx, period, now) for period in paid)}
    on_again = set(lift(tx, subscriber_ids)) & suspended
    return [
        replace(each, period=given.get(each.period.id, each.period), resumed=each.period.subscriber_id in on_again)
        for each in collected
    ]


def pay(tx: Connection, period_id: int, now: datetime) -> FeePeriod:
    """Take what is owed of one period now. Raises `NotFound`, `InvalidValue` and `InsufficientBalance`."""
    was = _find_owed(tx, period_id)
    collected = collect(tx, [period_id], now)
    if not collected:
        raise InsufficientBalance(f"{was.left} is owed of the fee, and less is available")
    return collected[0].period


# -- waiving and undoing -----------------------------------------------------------------------------------------------


def waive(tx: Connection, period_id: int, *, note: str, now: datetime) -> FeePeriod:
    """Waive one period: nothing is owed of it, what was paid is given back, and what it buys is given.

    Waiving it again changes nothing. Raises `NotFound`, and `InvalidValue` for one that is neither owed nor paid.
    """
    was = find(tx, period_id)
    _lock(tx, [was.subscriber_id])
    was = find(tx, period_id)
    if was.state is FeeState.WAIVED:
        return was
    if was.state not in (FeeState.OWED, FeeState.PAID):
        raise InvalidValue(f"the fee is {was.state}: only one that is owed or paid can be waived")
    is_ = _end(replace(was, note=note), FeeState.WAIVED, now)
    _give_back(tx, [was], note=note or "the fee is waived", now=now)
    _write(tx, was, is_)
    if was.state is FeeState.OWED:
        is_ = _give(tx, is_, now)
    lift(tx, [was.subscriber_id])
    return is_


UNDONE_AT_ONCE = 100
"""Periods that one transaction undoes, so that a call request waits for no more."""


def request_undo(tx: Connection, run_id: int, *, note: str, now: datetime) -> Run:
    """Stop a run of a fee and have all that it took given back; `undo_some` does it. Asked again, nothing changes.

    Raises `NotFound`, and `InvalidValue` for a run that gives.
    """
    run = find_run(tx, run_id)
    if run.when_short is None:
        raise InvalidValue("the run gives credit: only one that takes a fee can be undone")
    if run.undone_at is not None:
        return run
    values: dict[str, Any] = {"undone_at": now, "note": note or "undone"}
    if run.state is RunState.OPEN:
        values |= {"state": RunState.DONE, "closed_at": now}
    tx.execute(sa.update(_run).where(_run.c.id == run_id).values(values))
    return find_run(tx, run_id)


def list_undone_runs(tx: Connection, finished: Collection[int] = ()) -> dict[Run, bool]:
    """Return the runs that were undone, and whether anything is left to undo of each. Reads only.

    Those that the caller knows to be ``finished`` are left out: to find nothing, all periods of a run are looked at.
    """
    which = (_run.c.undone_at.is_not(None), _run.c.id.not_in(finished))
    left = sa.exists().where(
        _period.c.schedule_id == _run.c.schedule_id, _period.c.due_on == _run.c.due_on, _CAN_BE_UNDONE
    )
    rows = tx.execute(sa.select(_run, left.label("left")).where(*which).order_by(_run.c.id))
    return {value_from_row(row, Run): bool(row.left) for row in rows}


_CAN_BE_UNDONE = _period.c.state.in_([FeeState.OWED.value, FeeState.PAID.value])


def undo_some(tx: Connection, run: Run, now: datetime, *, limit: int = UNDONE_AT_ONCE) -> int:
    """Undo the next periods of a run, and return how many: each transfer is reversed once, and bundles end."""
    of_run = (_period.c.schedule_id == run.schedule_id, _period.c.due_on == run.due_on, _CAN_BE_UNDONE)
    some = sa.select(_period.c.id, _period.c.subscriber_id).where(*of_run).order_by(_period.c.id).limit(limit)
    rows = tx.execute(some).all()
    subscriber_ids = sorted({row.subscriber_id for row in rows})
    _lock(tx, subscriber_ids)
    periods = _read(tx, _CAN_BE_UNDONE, _period.c.id.in_([row.id for row in rows]), of=subscriber_ids)
    _give_back(tx, periods, note=run.note or "undone", now=now)
    for was in periods:
        _write(tx, was, _end(replace(was, note=run.note), FeeState.UNDONE, now))
        if was.bundle_reference is not None:
            which = sa.select(_bundle.c.account_id).where(_bundle.c.reference == was.bundle_reference)
            bundle_records.end(tx, tx.execute(which).scalar_one(), note=run.note, now=now)
    lift(tx, subscriber_ids)
    return len(rows)


# -- suspension --------------------------------------------------------------------------------------------------------

SUSPENDED_AT_ONCE = 100
"""Periods that one transaction suspends for, so that a call request waits for no more."""


def suspend_some(tx: Connection, now: datetime, *, limit: int = SUSPENDED_AT_ONCE) -> tuple[list[FeePeriod], int]:
    """Suspend the subscribers of the next periods that are unpaid too long.

    Return the periods of those who are switched off by this, and how many periods were looked at.
    """
    which = sa.and_(_IS_OWED, _period.c.suspended_at.is_(None), _period.c.suspend_at <= now)
    some = sa.select(_period.c.id, _period.c.subscriber_id).where(which).order_by(_period.c.id).limit(limit)
    rows = tx.execute(some).all()
    if not rows:
        return [], 0
    subscriber_ids = sorted({row.subscriber_id for row in rows})
    suspended = _lock(tx, subscriber_ids)
    periods = _read(tx, which, _period.c.id.in_([row.id for row in rows]), of=subscriber_ids)
    for was in periods:
        _write(tx, was, replace(was, suspended_at=now))
    first = {each.subscriber_id: each for each in reversed(periods) if each.subscriber_id not in suspended}
    if first:
        tx.execute(sa.update(_subscriber).where(_subscriber.c.id.in_(first)).values(suspended_at=now))
    for subscriber_id in first:
        record_live_change(tx, subscriber_id, now)
    return list(first.values()), len(rows)


def cancel_orphans(tx: Connection, now: datetime, *, limit: int = SUSPENDED_AT_ONCE) -> int:
    """Cancel what is owed to deleted schedules and by deleted subscribers; return how many periods were found."""
    gone = sa.or_(
        sa.exists().where(_schedule.c.id == _period.c.schedule_id, _schedule.c.deleted_at.is_not(None)),
        sa.exists().where(_subscriber.c.id == _period.c.subscriber_id, _subscriber.c.deleted_at.is_not(None)),
    )
    ids = list(tx.execute(sa.select(_period.c.id).where(_IS_OWED, gone).order_by(_period.c.id).limit(limit)).scalars())
    if ids:
        cancel_owed(tx, _period.c.id.in_(ids), note="the schedule or the subscriber was deleted", now=now)
    return len(ids)


def lift(tx: Connection, subscriber_ids: Collection[int]) -> list[int]:
    """Switch those of these locked subscribers on again who owe nothing for which they were suspended; return them."""
    if not subscriber_ids:
        return []
    still = sa.exists().where(
        _period.c.subscriber_id == _subscriber.c.id, _IS_OWED, _period.c.suspended_at.is_not(None)
    )
    which = (_subscriber.c.id.in_(subscriber_ids), _subscriber.c.suspended_at.is_not(None), sa.not_(still))
    on_again = list(tx.execute(sa.select(_subscriber.c.id).where(*which)).scalars())
    if on_again:
        tx.execute(sa.update(_subscriber).where(_subscriber.c.id.in_(on_again)).values(suspended_at=None))
    return on_again


# -- reading -----------------------------------------------------------------------------------------------------------


def find(tx: Connection, period_id: int) -> FeePeriod:
    """Return a fee period. Raise `NotFound` if there is none."""
    row = tx.execute(sa.select(_period).where(_period.c.id == period_id)).first()
    if row is None:
        raise NotFound(f"there is no fee {period_id}")
    return value_from_row(row, FeePeriod)


@dataclass(frozen=True, slots=True)
class ListedFee:
    """A fee period with the name of its subscriber and of its schedule."""

    username: str
    schedule: str
    period: FeePeriod


def list_all(
    tx: Connection,
    *,
    schedule_id: int | None = None,
    subscriber_id: int | None = None,
    state: FeeState | None = None,
    overdue_at: datetime | None = None,
    before_id: int | None = None,
    limit: int,
) -> list[ListedFee]:
    """Return the last fee periods, newest first, filtered by what is set.

    ``overdue_at``: those that are owed, and should have been paid before this time so as not to suspend.
    """
    conditions = [
        *([] if schedule_id is None else [_period.c.schedule_id == schedule_id]),
        *([] if subscriber_id is None else [_period.c.subscriber_id == subscriber_id]),
        *([] if state is None else [_period.c.state == state]),
        *([] if overdue_at is None else [_IS_OWED, _period.c.suspend_at <= overdue_at]),
        *([] if before_id is None else [_period.c.id < before_id]),
    ]
    rows = tx.execute(
        sa.select(_period, _subscriber.c.username, _schedule.c.name.label("schedule"))
        .join(_subscriber, _subscriber.c.id == _period.c.subscriber_id)
        .join(_schedule, _schedule.c.id == _period.c.schedule_id)
        .where(*conditions)
        .order_by(_period.c.id.desc())
        .limit(limit)
    )
    return [ListedFee(row.username, row.schedule, value_from_row(row, FeePeriod)) for row in rows]


# -- parts -------------------------------------------------------------------------------------------------------------


def _lock(tx: Connection, subscriber_ids: Collection[int]) -> set[int]:
    """Lock subscribers, in id order, and return those who are suspended."""
    rows = tx.execute(
        sa.select(_subscriber.c.id, _subscriber.c.suspended_at)
        .where(_subscriber.c.id.in_(subscriber_ids))
        .order_by(_subscriber.c.id)
        .with_for_update(key_share=True)
    )
    return {row.id for row in rows if row.suspended_at is not None}


def _load(tx: Connection, subscriber_ids: Collection[int]) -> tuple[Book, dict[int, int]]:
    """Return a book with the voice accounts of these subscribers, locked, and the account of each."""
    which = (_account.c.subscriber_id.in_(subscriber_ids), _account.c.kind == Kind.VOICE)
    rows = tx.execute(sa.select(_account.c.id, _account.c.subscriber_id).where(*which))
    accounts = {row.subscriber_id: row.id for row in rows}
    book = Book()
    book.load(tx, accounts.values())
    return book, accounts


def _read(tx: Connection, *which: sa.ColumnElement[bool], of: Collection[int]) -> list[FeePeriod]:
    rows = tx.execute(
        sa.select(_period).where(*which, _period.c.subscriber_id.in_(of)).order_by(_period.c.due_on, _period.c.id)
    )
    return [value_from_row(row, FeePeriod) for row in rows]


def _names(tx: Connection) -> dict[int, str]:
    takes = _schedule.c.when_short.is_not(None)
    return {row.id: row.name for row in tx.execute(sa.select(_schedule.c.id, _schedule.c.name).where(takes))}


def _end(period: FeePeriod, state: FeeState, now: datetime) -> FeePeriod:
    return replace(period, state=state, closed_at=now)


def _write(tx: Connection, was: FeePeriod, is_: FeePeriod) -> None:
    """Write a period as it is now. Raise `LedgerRace` when it is not as it was read."""
    before = asdict(was)
    values = {name: value for name, value in asdict(is_).items() if value != before[name]}
    as_read = (_period.c.id == was.id, _period.c.state == was.state, _period.c.paid == was.paid)
    if values and tx.execute(sa.update(_period).where(*as_read).values(values)).rowcount != 1:
        raise bulk.LedgerRace(_period)


def _give(tx: Connection, period: FeePeriod, now: datetime) -> FeePeriod:
    """Give what a period buys, where it is not over yet."""
    if period.offer_id is None or period.bundle_reference is not None:
        return period
    offer = offers.find(tx, period.offer_id, deleted=True)
    until = bundle_end(offer.valid_hours, period.ends_at, now)
    if until is None:
        return period
    reference = bundle_reference_of(period.schedule_id, period.subscriber_id, period.due_on)
    bundle_records.give_paid(tx, period.subscriber_id, offer, reference=reference, origin=ORIGIN, until=until, now=now)
    is_ = replace(period, bundle_reference=reference)
    _write(tx, period, is_)
    return is_


def _give_back(tx: Connection, periods: Iterable[FeePeriod], *, note: str, now: datetime) -> None:
    """Reverse each transfer of these periods that was not reversed yet."""
    owed = {
        reference_of(each.schedule_id, each.subscriber_id, each.due_on, part)
        for each in periods
        for part in range(1, each.parts + 1)
    }
    if not owed:
        return
    rows = tx.execute(sa.select(_transfer).where(_transfer.c.reference.in_(owed)).order_by(_transfer.c.id)).all()
    book = Book()
    book.load(tx, {row.debit_account_id for row in rows})
    book.load_transfers(tx, [f"{REVERSAL}:{row.reference}" for row in rows])
    for row in rows:
        back = f"{REVERSAL}:{row.reference}"
        book.post(back, row.credit_account_id, row.debit_account_id, row.amount, origin=REVERSAL, now=now, note=note)
    book.save(tx)


def _find_owed(tx: Connection, period_id: int) -> FeePeriod:
    found = find(tx, period_id)
    if found.state is not FeeState.OWED:
        raise InvalidValue(f"the fee is {found.state}: nothing is owed")
    return found
