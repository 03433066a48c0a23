"""Credit, reversals and credit limits by an author, who must manage the subscriber, with rows of the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.access import audit_trail
from celcombiller.core.charging.batch import ChargingBatch
from celcombiller.core.errors import InsufficientBalance
from celcombiller.core.ledger import accounts, reversals
from celcombiller.core.ledger.book import REVERSAL
from celcombiller.core.ledger.rows import check_line
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.charging.requests import Credit
    from celcombiller.core.ledger.spending import Spending
    from celcombiller.core.model.accounts import Account, Kind, Transfer
    from celcombiller.core.model.subscribers import Subscriber

ORIGIN_CHARACTERS_MAX = 64
NOTE_CHARACTERS_MAX = 500


def credit(tx: Connection, request: Credit, actor: Actor, now: datetime) -> tuple[Transfer, bool]:
    """Credit a subscriber for an operator, with an audit-trail row; return the transfer and whether it is new.

    Raises `UnknownSubscriber`, `Forbidden`, `InsufficientBalance` (which says how much is held), `TransferConflict`,
    `InvalidValue`.
    """
    batch, made, is_new = _credit(tx, request, actor, now)
    if is_new:
        actor.check_amount(request.value)
        audit_trail.record(tx, actor, "credit", f"subscriber:{request.username}", after=made, now=now)
    batch.save(tx)
    return made, is_new


def plan_credit(tx: Connection, request: Credit, actor: Actor, now: datetime) -> tuple[Subscriber, Account]:
    """Return who would be credited, and their account after it. Raises as `credit` does, and writes nothing."""
    batch, _, _ = _credit(tx, request, actor, now)
    who = subscriber_records.find(tx, request.username)
    return who, batch.book.accounts[batch.directory.account_ids[who.id, request.kind]]


def _credit(tx: Connection, request: Credit, actor: Actor, now: datetime) -> tuple[ChargingBatch, Transfer, bool]:
    """Credit a subscriber in a batch, which is not saved; return the transfer and whether it is new."""
    who = subscriber_records.find(tx, request.username)
    actor.check_manages(who.level)
    check_line("origin", request.origin, ORIGIN_CHARACTERS_MAX)
    check_line("note", request.note, NOTE_CHARACTERS_MAX)
    batch = ChargingBatch.load(tx, [request])
    is_new = request.reference not in batch.book.transfers
    try:
        made = batch.credit(request, now)
    except InsufficientBalance as refusal:
        held = batch.book.accounts[batch.directory.account_ids[who.id, request.kind]].held
        if held == 0:
            raise
        what = f"calls and other uses in progress hold {held} more, which is free when they have ended"
        raise InsufficientBalance(f"{refusal}; {what}") from None
    return batch, made, is_new


def reverse(tx: Connection, transfer_id: int, actor: Actor, *, note: str, now: datetime) -> Transfer:
    """Reverse a transfer, once, with an audit-trail row. Raises as `reversals.reverse` does, and `Forbidden`."""
    transfer, account, subscriber = tables.transfer, tables.account, tables.subscriber
    sides = sa.or_(account.c.id == transfer.c.debit_account_id, account.c.id == transfer.c.credit_account_id)
    rows = tx.execute(
        sa.select(transfer.c.reference, subscriber.c.level)
        .join(account, sides)
        .join(subscriber, subscriber.c.id == account.c.subscriber_id)
        .where(transfer.c.id == transfer_id)
    ).all()
    actor.check_manages(*(Level(row.level) for row in rows))
    check_line("note", note, NOTE_CHARACTERS_MAX)
    reference = rows[0].reference
    back = f"{REVERSAL}:{reference}"
    is_new = tx.execute(sa.select(transfer.c.id).where(transfer.c.reference == back)).first() is None
    made = reversals.reverse(tx, reference, note=note, now=now)
    if is_new:
        actor.check_amount(made.amount)
        audit_trail.record(tx, actor, "reverse", f"transfer:{transfer_id}", after=made, now=now)
    return made


def set_credit_limit(tx: Connection, username: str, kind: Kind, limit: int, actor: Actor, now: datetime) -> Account:
    """Set how far the balance of an account may fall below 0. Raises `UnknownSubscriber` and `Forbidden`."""
    actor.check_administers()
    actor.check_amount(limit)
    who = subscriber_records.find(tx, username)
    was = accounts.balances(tx, who.id)[kind]
    is_ = accounts.set_credit_limit(tx, was.id, -limit, now)
    action = f"change {kind} credit limit"
    audit_trail.record(tx, actor, action, f"subscriber:{who.username}", before=was, after=is_, now=now)
    return is_


def set_spending_limits(
    tx: Connection,
    username: str,
    kind: Kind,
    changes: Mapping[str, int | None],
    actor: Actor,
    *,
    zone: tzinfo,
    now: datetime,
) -> Spending:
    """Change the limits of what an account may spend: ``day_limit`` and ``month_limit``, where they are named.

    Raises `UnknownSubscriber`, `InvalidValue` and `Forbidden`.
    """
    actor.check_administers()
    who = subscriber_records.find(tx, username)
    today = now.astimezone(zone).date()
    account_id = accounts.balances(tx, who.id)[kind].id
    was = accounts.spendings(tx, who.id, today)[kind]
    limits = {"day_limit": was.day_limit, "month_limit": was.month_limit} | dict(changes)
    is_ = accounts.set_spending_limits(tx, account_id, **limits, zone=zone, now=now)
    action = f"change {kind} spending limits"
    audit_trail.record(tx, actor, action, f"subscriber:{who.username}", before=was, after=is_, now=now)
    return is_
