"""``/api/v1/credit-transfers``: credit that subscribers hand to each other."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.credit_transfers import credit_transfers, transfer_records
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.credit_transfers import CreditTransferState
from celcombiller.core.reports.views import make_view
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.fields import Username
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.rest.v1.subscribers import Sought, visible_subscriber
from celcombiller.rest.v1.transfers import Note

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.credit_transfers.credit_transfers import Confirmed
    from celcombiller.core.model.credit_transfers import CreditTransfer
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

To = Annotated[
    str,
    Meta(pattern=r"^[^\x00-\x1f\x7f]{1,64}$(?!\n)", description="1 to 64 characters: the recipient's number"),
]
Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description=f"voice credits, from 1 to {AMOUNT_MAX}")]


class CreditTransferView(msgspec.Struct, kw_only=True):
    """Credit that a subscriber hands to another."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    reference: Annotated[str, Meta(description="the id of the request that it was asked for with")]
    payer: Annotated[str, Meta(description="the username of who gives the credit, and pays the fee")]
    recipient: Annotated[str, Meta(description="the username of who gets it")]
    amount: Annotated[int, Meta(description="voice credits")]
    fee: Annotated[int, Meta(description="voice credits that the payer pays for it")]
    state: Annotated[CreditTransferState, Meta(description="asked: it waits for its confirmation; made; or cancelled")]
    asked_at: Annotated[datetime, Meta(tz=True, description="when it was asked for (RFC 3339, UTC)")]
    expires_at: Annotated[datetime, Meta(tz=True, description="until when it can be confirmed (RFC 3339, UTC)")]
    ended_at: Annotated[datetime, Meta(tz=True, description="when it was made or cancelled (RFC 3339, UTC)")] | None
    made_on: Annotated[date, Meta(description="the operator's day on which it was made")] | None
    note: str


class NewCreditTransfer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Credit to hand to another subscriber."""

    to: To
    amount: Amount


class StaffCreditTransfer(NewCreditTransfer, kw_only=True, forbid_unknown_fields=True):
    """Credit of one subscriber to hand to another, by staff: without confirmation, and beyond the limits."""

    username: Username
    free: Annotated[bool, Meta(description="whether the payer pays no fee")] = False
    note: Note = ""


class CreditTransferPlanView(msgspec.Struct, kw_only=True):
    """What a transfer would do, to be looked at before it is asked for."""

    recipient: Annotated[str, Meta(description="the username of who would get the credit")]
    to_number: Annotated[str, Meta(description="the number of that subscriber")]
    amount: Annotated[int, Meta(description="voice credits")]
    fee: Annotated[int, Meta(description="voice credits that you would pay for it")]
    left: Annotated[int, Meta(description="voice credits of your own that you would have left")]


class Confirmation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The code that the payer's phone got."""

    code: Annotated[str, Meta(pattern=r"^[0-9]{1,20}$(?!\n)", description="1 to 20 digits: the code of the message")]


class CreditTransferQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of transfers between subscribers."""

    username: Sought | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[CreditTransferView]:
    """List transfers between subscribers, newest first; yours are those that you gave or received."""
    query: CreditTransferQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = transfer_records.list_all(
        tx,
        subscriber_id=None if who is None else who.id,
        before_id=decode_cursor(query.cursor, RowId),
        limit=query.limit + 1,
    )
    return make_page(
        rows,
        query.limit,
        lambda each: each[0].id,
        lambda each: make_view(CreditTransferView, each[0], payer=each[1], recipient=each[2]),
    )


def plan(tx: Connection, request: Request) -> CreditTransferPlanView:
    """Show who would get the credit, the fee, and what you would have left. Nothing moves, and no code is sent."""
    body: NewCreditTransfer = request.body
    planned = credit_transfers.plan(
        tx,
        request.config.credit_transfer_terms,
        request.config.message_policy,
        subscriber_records.find_by_id(tx, request.principal.subscriber_id),
        body.to,
        body.amount,
        today=local_date(request.now, request.config.schedules.zone),
    )
    return CreditTransferPlanView(
        recipient=planned.recipient.username,
        to_number=planned.recipient.clid,
        amount=planned.amount,
        fee=planned.fee,
        left=planned.left,
    )


def ask(tx: Connection, request: Request) -> Response:
    """Ask for a transfer from your voice balance; a code goes to your phone, and confirms it."""
    body: NewCreditTransfer = request.body
    who = request.principal
    asked = credit_transfers.ask(
        tx,
        request.config.credit_transfer_terms,
        request.config.message_policy,
        subscriber_records.find_by_id(tx, who.subscriber_id),
        body.to,
        body.amount,
        actor=request.actor,
        reference=f"api:{who.subscriber_id}:{request.key}",
        random=request.fresh,
        today=local_date(request.now, request.config.schedules.zone),
        now=request.now,
    )
    return Response(_view(tx, asked))


async def confirm(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Confirm your transfer with the code that your phone got. The same code again gets the first answer."""
    body: Confirmation = request.body

    def work(tx: Connection, admitted: Request) -> tuple[Confirmed, CreditTransferView | None]:
        confirmed = credit_transfers.confirm(
            tx,
            admitted.config.credit_transfer_terms,
            admitted.config.message_policy,
            subscriber_records.find_by_id(tx, admitted.principal.subscriber_id),
            body.code,
            actor=admitted.actor,
            transfer_id=admitted.path["id"],
            today=local_date(admitted.now, admitted.config.schedules.zone),
            now=admitted.now,
        )
        return confirmed, None if confirmed.transfer is None else _view(tx, confirmed.transfer)

    confirmed, view = await api.transact(request, work)
    confirmed.unwrap()
    return Response(view)


def give(tx: Connection, request: Request) -> Response:
    """Hand credit of one subscriber to another, once for each Idempotency-Key: without code, beyond the limits."""
    body: StaffCreditTransfer = request.body
    made = credit_transfers.give(
        tx,
        request.config.credit_transfer_terms,
        request.config.message_policy,
        request.actor,
        subscriber_records.find(tx, body.username),
        body.to,
        body.amount,
        reference=f"api:{request.principal.subscriber_id}:{request.key}",
        is_free=body.free,
        note=body.note,
        today=local_date(request.now, request.config.schedules.zone),
        now=request.now,
    )
    return Response(_view(tx, made))


def _view(tx: Connection, each: CreditTransfer) -> CreditTransferView:
    payer, recipient = (subscriber_records.find_by_id(tx, who) for who in (each.payer_id, each.recipient_id))
    return make_view(CreditTransferView, each, payer=payer.username, recipient=recipient.username)
