"""The set-wise statements by which a run takes a fee from one chunk of members, as `chunk_sql` credits one.

Each member who is due gets their fee period, once; who has enough available pays at once, and gets what the fee buys.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.bundles import offers
from celcombiller.core.ledger import group_credit
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.schedules import CreditOutcome, FeeState, WhenShort
from celcombiller.core.schedules.chunk_sql import (
    CHUNK,
    FAULT,
    NOW,
    RUN,
    CreditedChunk,
    account_of_member,
    add_bundles,
    count_down,
    is_of_chunk,
    is_of_member,
    lock_members,
    members,
    offer_parameters,
    parameter,
)
from celcombiller.core.schedules.due_dates import comes_at
from celcombiller.core.schedules.fee_terms import ORIGIN, bundle_reference_of, period_end, reference_of, suspension_time
from celcombiller.core.schema import bulk, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, time

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.schedules import Run, Schedule

_membership, _subscriber, _period = tables.membership, tables.subscriber, tables.fee_period

TOO_LOW = "the balance is too low"


def available(account: Any) -> sa.ColumnElement[int]:
    """Return what a fee may take of an account: what is not held, and never more than brings it to 0."""
    left: sa.ColumnElement[int] = account.c.posted - account.c.held
    return left


def outcomes(account: Any, amount: Any) -> Iterator[tuple[sa.ColumnElement[bool], CreditOutcome, str]]:
    """Yield the reasons why a member's fee is not taken, the most important first: condition, outcome, note."""
    yield sa.not_(_subscriber.c.enabled), CreditOutcome.PASSED, "disabled"
    yield account.c.id.is_(None), CreditOutcome.PASSED, f"there is no {Kind.VOICE} account"
    yield available(account) < amount, CreditOutcome.FAILED, TOO_LOW


@dataclass(frozen=True, slots=True)
class FeeChunk:
    """The statements that take a fee from a chunk, which buys a bundle of this kind, or none."""

    locks: tuple[sa.Select[Any], ...]
    write: sa.Insert
    debits: group_credit.GroupDebit
    bundles: tuple[sa.Insert, ...] = ()
    filling: group_credit.GroupCredit | None = None

    @classmethod
    @lru_cache
    def of(cls, kind: BundleKind | None) -> FeeChunk:
        """Return the statements, built once for each kind."""
        account = tables.account
        of_members = account.c.subscriber_id.in_(sa.select(_membership.c.subscriber_id).where(CHUNK))
        accounts = group_credit.lock_accounts(sa.and_(of_members, account.c.kind == Kind.VOICE.value))
        if kind is None:
            return cls((accounts,), _write(), _debits())
        bundles, filling = add_bundles(_period, kind, ORIGIN)
        return cls((lock_members(), accounts), _write(), _debits(), bundles, filling)


def _write() -> sa.Insert:
    source, accounts = members((Kind.VOICE,))
    account = accounts[Kind.VOICE]
    reasons = [(FAULT != "", CreditOutcome.FAILED, FAULT), *outcomes(account, RUN.value)]
    outcome = sa.case(
        *((condition, outcome.value) for condition, outcome, _ in reasons), else_=CreditOutcome.CREDITED.value
    )
    when_short = parameter("run_when_short", sa.Text)
    some = sa.and_(when_short == WhenShort.PART.value, FAULT == "", available(account) > 0)
    due = (
        sa.select(
            _membership.c.id,
            _membership.c.subscriber_id,
            outcome.label("outcome"),
            sa.case(*((condition, note) for condition, _, note in reasons), else_="").label("note"),
            sa.case((some, available(account)), else_=0).label("some"),
        )
        .select_from(source)
        .where(CHUNK, RUN.due(_period), _membership.c.count > 0, _subscriber.c.deleted_at.is_(None))
        .order_by(_membership.c.id)
        .subquery()
    )
    is_paid, is_owed = due.c.outcome == CreditOutcome.CREDITED.value, due.c.outcome == CreditOutcome.FAILED.value
    before, after = parameter("bundle_before", sa.Text), parameter("bundle_after", sa.Text)
    bundle = sa.case(
        (sa.and_(is_paid, before != ""), before + sa.cast(due.c.subscriber_id, sa.Text) + after), else_=None
    )
    state = sa.case((is_paid, FeeState.PAID.value), (is_owed, FeeState.OWED.value), else_=FeeState.PASSED.value)
    row = {
        "schedule_id": RUN.schedule_id,
        "subscriber_id": due.c.subscriber_id,
        "due_on": RUN.due_on,
        "membership_id": due.c.id,
        "outcome": due.c.outcome,
        "state": state,
        "amount": RUN.value,
        "paid": sa.case((is_paid, RUN.value), (is_owed, due.c.some), else_=0),
        "parts": sa.case((is_paid, 1), (sa.and_(is_owed, due.c.some > 0), 1), else_=0),
        "when_short": when_short,
        "offer_id": parameter("run_offer_id", sa.BigInteger),
        "due_at": parameter("run_due_at", tables.Instant),
        "ends_at": parameter("run_ends_at", tables.Instant),
        "suspend_at": parameter("run_suspend_at", tables.Instant),
        "seen_transfer_id": parameter("last_transfer_id", sa.BigInteger),
        "bundle_reference": bundle,
        "closed_at": sa.case((is_owed, None), else_=NOW),
        "note": due.c.note,
    }
    return sa.insert(_period).from_select(list(row), sa.select(*row.values()))


def _debits() -> group_credit.GroupDebit:
    before, after = parameter("reference_before", sa.Text), parameter("reference_after", sa.Text)
    account = tables.account
    paid = sa.select(_period.c.paid).where(is_of_member(_period)).scalar_subquery()
    due = (
        sa.select(
            account.c.id.label("account_id"),
            paid.label("amount"),
            (before + sa.cast(_membership.c.subscriber_id, sa.Text) + after).label("reference"),
        )
        .select_from(_membership.join(account, account_of_member(account, Kind.VOICE)))
        .where(CHUNK)
        .offset(sa.literal_column("0"))  # else what is paid is looked up for each use of it
    )
    return group_credit.GroupDebit.of(due.subquery(), kind=Kind.VOICE, origin=ORIGIN)


_UNPAID = (
    sa.select(_period.c.subscriber_id, _period.c.outcome, _period.c.note, _period.c.paid)
    .where(is_of_chunk(_period), _period.c.outcome != CreditOutcome.CREDITED.value)
    .order_by(_period.c.id)
)
_COUNT_DOWN = count_down(_period)
_LAST_TRANSFER = sa.select(sa.func.coalesce(sa.func.max(tables.transfer.c.id), 0))


def last_transfer_id(tx: Connection) -> int:
    """Return the id of the last transfer; what credits a locked account later has a higher one."""
    return int(tx.execute(_LAST_TRANSFER).scalar_one())


def charge_chunk(
    tx: Connection,
    schedule: Schedule,
    run: Run,
    last_id: int,
    *,
    run_at: time,
    disabled_use_up: bool,
    fault: str,
    now: datetime,
) -> CreditedChunk:
    """Take the fee of a run from the unprocessed members up to ``last_id``; who has too little owes it.

    The fee periods are written first; the statements after them read from these rows what to do.
    """
    before, after = reference_of(run.schedule_id, 0, run.due_on).split(":0:")
    offer = None if run.offer_id is None else offers.find(tx, run.offer_id, deleted=True)
    ends_at = period_end(schedule, run.due_on)
    until = bundle_end(None if offer is None else offer.valid_hours, ends_at, now)
    parameters: dict[str, Any] = {
        "run_schedule_id": run.schedule_id,
        "run_due_on": run.due_on,
        "run_value": run.value,
        "run_after_id": run.last_membership_id,
        "run_last_id": last_id,
        "run_when_short": run.when_short,
        "run_offer_id": run.offer_id,
        "run_due_at": comes_at(run.due_on, run_at, schedule.time_zone),
        "run_ends_at": ends_at,
        "run_suspend_at": suspension_time(schedule, run.due_on, run_at),
        "fault": fault,
        "reference_before": f"{before}:",
        "reference_after": f":{after}",
        "bundle_before": "",
        "bundle_after": "",
        "debit_note": schedule.name,
        "now": now,
    }
    chunk = FeeChunk.of(None)
    if offer is not None and until is not None:
        before, after = bundle_reference_of(run.schedule_id, 0, run.due_on).split(":0:")
        parameters |= offer_parameters(offer, until) | {"bundle_before": f"{before}:", "bundle_after": f":{after}"}
        chunk = FeeChunk.of(offer.kind)
    for lock in chunk.locks:
        tx.execute(lock, parameters)
    parameters["last_transfer_id"] = last_transfer_id(tx)
    written = tx.execute(chunk.write, parameters, execution_options={"preserve_rowcount": True}).rowcount
    moved = chunk.debits.perform(tx, parameters)
    unpaid = [] if moved == written and run.when_short is not WhenShort.PART else tx.execute(_UNPAID, parameters).all()
    paid = written - len(unpaid)
    if moved != paid + sum(row.paid > 0 for row in unpaid):
        raise bulk.LedgerRace(_period)
    for addition in chunk.bundles:
        tx.execute(addition, parameters)
    if chunk.filling is not None and offer is not None and chunk.filling.perform(tx, offer.amount, parameters) != paid:
        raise bulk.LedgerRace(tables.bundle)
    used_up = [CreditOutcome.CREDITED.value, CreditOutcome.FAILED.value]
    used_up += [CreditOutcome.PASSED.value] if disabled_use_up else []
    tx.execute(_COUNT_DOWN, parameters | {"used_up": used_up})
    return CreditedChunk(paid, [(row.subscriber_id, CreditOutcome(row.outcome), row.note) for row in unpaid])


def bundle_end(valid_hours: int | None, ends_at: datetime | None, now: datetime) -> datetime | None:
    """Return when a bundle that a fee buys now ends; ``None``: it buys none, or the period is over."""
    if valid_hours is None:
        return None
    end = now + timedelta(hours=valid_hours) if ends_at is None else ends_at
    return end if end > now else None
