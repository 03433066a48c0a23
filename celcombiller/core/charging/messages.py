"""Text messages on an open transaction: submit one, accept one from an SMSC, record outcomes and delivery receipts.

Each moves credit by a `ChargingBatch` of its own.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.charging.batch import ChargingBatch
from celcombiller.core.errors import BadNumber, BillerError, UnknownSubscriber
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import ORIGIN, MessageOutcome, MessageResult, MessageSubmission
from celcombiller.core.sms.message_records import message_from_row
from celcombiller.core.sms.receipt_match import find_part
from celcombiller.core.subscribers.directory import Directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

    from sqlalchemy.engine import Connection

    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.core.sms.inbound_message import InboundMessage
    from celcombiller.core.sms.receipt import DeliveryReceipt

REPEATED = timedelta(hours=1)
"""How long an SMSC's message counts as a repeat: an SMSC repeats what was not answered in time."""


_message = tables.message


_part = tables.message_part


def submit(
    tx: Connection,
    policy: MessagePolicy,
    *,
    reference: str,
    to_number: str,
    text: str,
    now: datetime,
    payer: str | None = None,
    origin: MessageOrigin = MessageOrigin.NOTICE,
    catalogue: Catalogue | None = None,
    time_zone: tzinfo = UTC,
) -> MessageResult:
    """Queue a message, once for a ``reference``; its id in the ledger is ``sms:`` and the reference.

    ``payer`` is the username of who pays and is the sender; ``None``: the message is free and the operator's. The same
    request again gets the first answer; a notice is the same by its reference alone, as its text changes with time.
    The payer's tariff in the ``catalogue`` prices it; ``time_zone`` is that of the days of spending limits.

    Raises `TransferConflict`, `BadNumber`, `UnknownSubscriber`, `SubscriberDisabled`, `InvalidValue` (of the text) and
    `InsufficientBalance`.
    """
    request = MessageSubmission(
        reference=reference_of(reference),
        origin=origin,
        account_code=payer or "",
        caller_number="",
        to_number=to_number,
        text=text,
        free=payer is None,
    )
    batch = ChargingBatch.load(
        tx,
        [request],
        sms_account=policy.account,
        catalogue=catalogue,
        today=now.astimezone(time_zone).date(),
        numbering=policy.numbering,
    )
    result = batch.sms.send(policy, request, now, catalogue)
    batch.save(tx)
    return result


def submit_broadcast(
    tx: Connection, policy: MessagePolicy, broadcast_id: int, numbers: Mapping[str, str], text: str, now: datetime
) -> int:
    """Queue a text of the operator to each of the ``numbers``, once for its reference; return how many are queued.

    They are free, as notices are. A number that no message can go to is left out.
    """
    requests = [
        MessageSubmission(
            reference=reference_of(reference),
            origin=MessageOrigin.NOTICE,
            account_code="",
            caller_number="",
            to_number=number,
            text=text,
            free=True,
            broadcast_id=broadcast_id,
        )
        for reference, number in numbers.items()
    ]
    batch, queued = ChargingBatch.load(tx, requests, numbering=policy.numbering), 0
    for each in requests:
        with suppress(BillerError):
            queued += batch.sms.send(policy, each, now).first
    batch.save(tx)
    return queued


def accept_inbound(tx: Connection, policy: MessagePolicy, inbound: InboundMessage, now: datetime) -> MessageResult:
    """Queue a message of another network for a subscriber, who does not pay. Within `REPEATED` it is the same again.

    Its id is its ``key`` and the hour. Raises `UnknownSubscriber` when no subscriber has the number, `BadNumber` when
    there is no route to phones, and `InvalidValue` (of the text).
    """
    _check_route(policy)
    hour = now.timestamp() // REPEATED.total_seconds()
    before, reference = (reference_of(f"smpp:{inbound.key}:{each:.0f}") for each in (hour - 1, hour))
    same = sa.select(_message).where(_message.c.reference == before, _message.c.queued_at > now - REPEATED)
    known = tx.execute(same).first()
    if known is not None:
        return MessageResult(message_from_row(known), first=False)
    request = MessageSubmission(
        reference=reference,
        origin=MessageOrigin.PHONE,
        account_code="",
        caller_number=inbound.from_number,
        to_number=inbound.to_number,
        text=inbound.text,
        free=True,
    )
    batch = ChargingBatch.load(tx, [request], numbering=policy.numbering)
    _check_callee(batch.directory, inbound.to_number)
    result = batch.sms.send(policy, request, now)
    batch.save(tx)
    return result


def check_inbound(tx: Connection, policy: MessagePolicy, to_number: str) -> None:
    """Raise `BadNumber` where there is no route to phones, `UnknownSubscriber` where no subscriber has the number."""
    _check_route(policy)
    _check_callee(Directory.load(tx, [to_number], policy.numbering), to_number)


def _check_route(policy: MessagePolicy) -> None:
    if policy.on_net_route is not Route.ASTERISK:
        raise BadNumber("there is no way for messages to phones ([sms] on_net_route)")


def _check_callee(directory: Directory, to_number: str) -> None:
    if directory.find_callee(to_number) is None:
        raise UnknownSubscriber("no subscriber has the number that a message came for")


def reference_of(reference: str) -> str:
    """Return the id of a message in the ledger."""
    return f"{ORIGIN}:{reference}"


def record_outcome(tx: Connection, outcome: MessageOutcome, now: datetime, time_zone: tzinfo = UTC) -> MessageResult:
    """Record the outcome of one message; `BatchWriter.charge` records many in one transaction.

    ``time_zone`` is that of the days of spending limits. Raises `NotFound`.
    """
    batch = ChargingBatch.load(tx, [outcome], today=now.astimezone(time_zone).date())
    result = batch.sms.apply_outcome(outcome, now)
    batch.save(tx)
    return result


def apply_receipt(
    tx: Connection, receipt: DeliveryReceipt, now: datetime, time_zone: tzinfo = UTC
) -> MessageResult | None:
    """Apply a delivery receipt to the part that it is of. ``None``: it is of no part, or of one of several.

    A message is delivered when all of its parts are, and has failed when one has. It may be charged by its receipt:
    ``time_zone`` is that of the days of spending limits.
    """
    if receipt.outcome is None:
        return None
    row = find_part(tx, receipt, now)
    if row is None:
        return None
    result = None
    if receipt.outcome is MessageState.DELIVERED:
        same = sa.and_(_part.c.reference == row.reference, _part.c.part == row.part, _part.c.delivered_at.is_(None))
        tx.execute(sa.update(_part).where(same).values(delivered_at=now))
        count = sa.select(sa.func.count()).where(_part.c.reference == row.reference, _part.c.delivered_at.is_not(None))
        parts = tx.execute(sa.select(_message.c.parts).where(_message.c.reference == row.reference)).scalar_one()
        if tx.execute(count).scalar_one() < parts:
            found = tx.execute(sa.select(_message).where(_message.c.reference == row.reference)).one()
            result = MessageResult(message_from_row(found), first=False)
    return result or record_outcome(tx, MessageOutcome(row.reference, receipt.outcome, receipt.note), now, time_zone)
