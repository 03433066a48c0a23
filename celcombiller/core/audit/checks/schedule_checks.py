"""Checks of scheduled credits against the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import CreditOutcome, ScheduleKind
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

account = tables.account


transfer = tables.transfer


credit = tables.schedule_credit


run = tables.schedule_run


bundle = tables.bundle


def check_schedule_credits(tx: Connection) -> Iterator[Difference]:
    """Check law 6: a credited member got the run's value of each of its kinds; any other member got nothing."""
    for kind in Kind:
        kinds = [each for each in ScheduleKind if kind in each.kinds]
        owed = sa.and_(credit.c.outcome == CreditOutcome.CREDITED, run.c.offer_id.is_(None), run.c.kind.in_(kinds))
        expected = sa.case((owed, run.c.value), else_=None)
        is_credit = sa.and_(
            transfer.c.reference == credit.c[f"{kind}_reference"],
            transfer.c.credit_account_id == account.c.id,
            transfer.c.debit_account_id == tables.OPERATOR_ACCOUNT_IDS[kind],
            transfer.c.origin == "schedule",
        )
        of_member = sa.and_(account.c.subscriber_id == credit.c.subscriber_id, account.c.kind == kind)
        of_run = sa.and_(run.c.schedule_id == credit.c.schedule_id, run.c.due_on == credit.c.due_on)
        rows = tx.execute(
            sa.select(credit, expected.label("expected"), transfer.c.amount)
            .select_from(credit.outerjoin(run, of_run).outerjoin(account, of_member).outerjoin(transfer, is_credit))
            .where(sa.or_(run.c.id.is_(None), expected.is_distinct_from(transfer.c.amount)))
            .order_by(credit.c.id)
        )
        for row in rows:
            subject = f"schedule {row.schedule_id}, due on {row.due_on}, subscriber {row.subscriber_id}, {kind}"
            yield Difference("a due date gives what its run says", subject, row.expected, row.amount)


def check_schedule_bundles(tx: Connection) -> Iterator[Difference]:
    """Check law 6: a credited member of a run of an offer got a bundle of it, filled with the run's value."""
    owed = sa.and_(credit.c.outcome == CreditOutcome.CREDITED, run.c.offer_id.is_not(None))
    expected = sa.case((owed, run.c.value), else_=None)
    of_run = sa.and_(run.c.schedule_id == credit.c.schedule_id, run.c.due_on == credit.c.due_on)
    of_member = sa.and_(
        bundle.c.reference == credit.c.bundle_reference,
        bundle.c.subscriber_id == credit.c.subscriber_id,
        bundle.c.offer_id == run.c.offer_id,
    )
    is_filling = sa.and_(
        transfer.c.reference == bundle.c.reference,
        transfer.c.credit_account_id == bundle.c.account_id,
        transfer.c.origin == "schedule",
    )
    rows = tx.execute(
        sa.select(credit, expected.label("expected"), transfer.c.amount)
        .select_from(credit.join(run, of_run).outerjoin(bundle, of_member).outerjoin(transfer, is_filling))
        .where(
            sa.or_(
                expected.is_distinct_from(transfer.c.amount),
                sa.and_(sa.not_(owed), credit.c.bundle_reference.is_not(None)),
            )
        )
        .order_by(credit.c.id)
    )
    for row in rows:
        subject = f"schedule {row.schedule_id}, due on {row.due_on}, subscriber {row.subscriber_id}, bundle"
        yield Difference("a due date gives what its run says", subject, row.expected, row.amount)


def check_schedule_transfers(tx: Connection) -> Iterator[Difference]:
    """Check law 6: each transfer of a schedule belongs to one member's due date."""
    references = [credit.c[f"{each}_reference"] for each in (*Kind, "bundle")]
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


def check_runs(tx: Connection) -> Iterator[Difference]:
    """Check law 6: a run counts the members that it credited (or charged), passed over, and failed to."""
    counts = sa.union_all(
        *(
            sa.select(each.c.schedule_id, each.c.due_on, each.c.outcome, sa.func.count().label("members"))
            .where(each.c.outcome.is_not(None))
            .group_by(each.c.schedule_id, each.c.due_on, each.c.outcome)
            for each in (credit, tables.fee_period)
        )
    ).subquery()
    for outcome in CreditOutcome:
        counted = counts.alias()
        expected = sa.func.coalesce(counted.c.members, 0)
        of_run = sa.and_(
            counted.c.schedule_id == run.c.schedule_id,
            counted.c.due_on == run.c.due_on,
            counted.c.outcome == outcome,
        )
        rows = tx.execute(
            sa.select(run.c.schedule_id, run.c.due_on, run.c[outcome].label("found"), expected.label("expected"))
            .outerjoin(counted, of_run)
            .where(run.c[outcome] != expected)
            .order_by(run.c.id)
        )
        for row in rows:
            subject = f"schedule {row.schedule_id}, due on {row.due_on}"
            yield Difference(f"a run counts whom it {outcome}", subject, row.expected, row.found)
