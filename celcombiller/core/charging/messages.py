"""Text messages: give one to the biller, find them, and work what waits to be sent, on an open transaction.

Any node may work the queue: who takes rows has them claimed for a while, as `networks` does it. A row that was given
to the network and whose taker died before he recorded it is given again when the claim has lapsed: at least once, and
charged once. Parts that are recorded as taken are not given again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.charging.batch import ChargingBatch
from celcombiller.core.errors import BadNumber, UnknownSubscriber
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import ORIGIN, MessageOutcome, MessageResult, MessageSubmission
from celcombiller.core.sms.message_records import message_from_row

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.core.sms.inbound_message import InboundMessage

REPEATED = timedelta(hours=1)
"""How long a message that a centre brings again is taken for the same: it repeats what was not answered in its time."""


_message = tables.message


_part = tables.message_part


def submit(
    tx: Connection,
    terms: MessagePolicy,
    *,
    reference: str,
    to_number: str,
    text: str,
    now: datetime,
    payer: str | None = None,
    origin: MessageOrigin = MessageOrigin.NOTICE,
) -> MessageResult:
    """Have a message sent, once for a ``reference``; it stands in the ledger under ``sms:`` and that.

    ``payer`` is the username of who pays and in whose name it goes; ``None``: it is free and the operator's. The same
    again gives the first answer; of a notice only the reference counts, as its text says what was true at the time.

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
    state = ChargingBatch.load(tx, [request], sms_from=terms.account)
    posting = state.desk.send(terms, request, now)
    state.save(tx)
    return posting


def accept_inbound(tx: Connection, terms: MessagePolicy, arrival: InboundMessage, now: datetime) -> MessageResult:
    """Queue what came from a phone elsewhere for a subscriber's, free for him. Within `REPEATED` it is the same again.

    It stands under its ``key`` and the hour. Raises `UnknownSubscriber` when the number is nobody's, `BadNumber` when
    the biller has no way to phones, and `InvalidValue` (of the text).
    """
    if terms.on_net_route is not Route.ASTERISK:
        raise BadNumber("there is no way for messages to phones ([sms] on_net_route)")
    hour = now.timestamp() // REPEATED.total_seconds()
    before, reference = (reference_of(f"smpp:{arrival.key}:{each:.0f}") for each in (hour - 1, hour))
    same = sa.select(_message).where(_message.c.reference == before, _message.c.queued_at > now - REPEATED)
    known = tx.execute(same).first()
    if known is not None:
        return MessageResult(message_from_row(known), first=False)
    request = MessageSubmission(
        reference=reference,
        origin=MessageOrigin.PHONE,
        account_code="",
        caller_number=arrival.from_number,
        to_number=arrival.to_number,
        text=arrival.text,
        free=True,
    )
    state = ChargingBatch.load(tx, [request])
    if state.desk.directory.callee(arrival.to_number) is None:
        raise UnknownSubscriber("nobody here has the number that a message came for")
    posting = state.desk.send(terms, request, now)
    state.save(tx)
    return posting


def reference_of(reference: str) -> str:
    """Give the id under which a message stands in the ledger."""
    return f"{ORIGIN}:{reference}"


def record_outcome(tx: Connection, told: MessageOutcome, now: datetime) -> MessageResult:
    """Record what became of a message, in a transaction of its own; `Store.charge` does many in one."""
    state = ChargingBatch.load(tx, [told])
    posting = state.desk.apply_outcome(told, now)
    state.save(tx)
    return posting


def apply_receipt(
    tx: Connection, network_id: str, outcome: MessageState, note: str, now: datetime
) -> MessageResult | None:
    """Take a receipt for the part of this id: ``DELIVERED`` or ``FAILED``. ``None``: no such part is known here.

    A message is delivered when all of its parts are, and has failed when one has.
    """
    row = tx.execute(
        sa.select(_part).where(_part.c.network_id == network_id).order_by(_part.c.accepted_at.desc())
    ).first()
    if row is None:
        return None
    posting = None
    if outcome is MessageState.DELIVERED:
        same = sa.and_(_part.c.reference == row.reference, _part.c.part == row.part, _part.c.delivered_at.is_(None))
        tx.execute(sa.update(_part).where(same).values(delivered_at=now))
        count = sa.select(sa.func.count()).where(_part.c.reference == row.reference, _part.c.delivered_at.is_not(None))
        parts = tx.execute(sa.select(_message.c.parts).where(_message.c.reference == row.reference)).scalar_one()
        if tx.execute(count).scalar_one() < parts:
            found = tx.execute(sa.select(_message).where(_message.c.reference == row.reference)).one()
            posting = MessageResult(message_from_row(found), first=False)
    return posting or record_outcome(tx, MessageOutcome(row.reference, outcome, note), now)
