"""``/api/v1/transfers``: credits, debits and reversals. Transfers are never edited or deleted."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.charging import operator_credit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import InvalidValue, TransferConflict
from celcombiller.core.ledger import reversals
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.reports import history
from celcombiller.core.reports.views import AccountWord, make_view
from celcombiller.core.selling import sales
from celcombiller.core.subscribers.fields import Username
from celcombiller.http.pagination import Cursor, Limit, Page, Place, Since, Until, decode_cursor, make_page
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.reports.history import RecordedTransfer
    from celcombiller.http.route import Request

Value = Annotated[
    int,
    Meta(
        ge=-AMOUNT_MAX,
        le=AMOUNT_MAX,
        description=f"credits to add; negative: to take; not 0, nor beyond {AMOUNT_MAX} either way",
        extra_json_schema={"not": {"const": 0}},
    ),
]
Origin = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{1,64}}$(?!\n)", description="1 to 64 characters: where it came from")
]
Note = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{0,500}}$(?!\n)", description="up to 500 characters on one line")
]
Reason = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{1,500}}$(?!\n)", description="1 to 500 characters on one line: why")
]


class TransferView(msgspec.Struct, kw_only=True):
    """A movement of credit, as the subscriber's account shows it."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    reference: Annotated[str, Meta(description="the id that its sender made: `id:` and the Idempotency-Key, `call:…`")]
    username: Annotated[str, Meta(description="the subscriber whose account it moved")]
    name: Annotated[str, Meta(description="the subscriber's name")]
    kind: AccountWord
    value: Annotated[int, Meta(description="credits added, or (negative) taken")]
    posted: Annotated[int, Meta(description="credits: the account's settled total after it")]
    origin: Annotated[
        str, Meta(description="where it came from: `web`, `call`, `sms`, `schedule`, `reversal` or your own word")
    ]
    note: str
    at: Annotated[datetime, Meta(tz=True, description="when it was recorded (RFC 3339, UTC)")]


class NewTransfer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Credit to add or to take."""

    username: Username
    kind: Annotated[Kind, Meta(description="voice, data or sms")]
    value: Value
    origin: Origin = "web"
    note: Note = ""
    receipt: Annotated[bool, Meta(description="whether the office issues a receipt; only a credit has one")] = False


class TransferDetailView(TransferView, kw_only=True):
    """A movement of credit, and its receipt."""

    receipt: (
        Annotated[str, Meta(description="the number of its receipt, which is undone in its place; null: it has none")]
        | None
    )


class TransferPlanView(msgspec.Struct, kw_only=True):
    """What a credit would do, to be looked at before it is made."""

    username: str
    name: Annotated[str, Meta(description="the name of who would get the credit")]
    clid: Annotated[str, Meta(description="their phone number: digits")]
    kind: AccountWord
    value: Annotated[int, Meta(description="credits to be added, or (negative) taken")]
    posted: Annotated[int, Meta(description="credits: what the account would have after it")]


class Reversal(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The reason for a reversal."""

    note: Reason


class TransferQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of transfers: those that match all given fields."""

    since: Since | None = None
    until: Until | None = None
    reference: (
        Annotated[str, Meta(pattern=r"^[^\x00]{0,1000}$", description="at most 1000 characters: a whole reference")]
        | None
    ) = None
    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[TransferView]:
    """List transfers, newest first."""
    query: TransferQuery = request.query
    rows = history.list_transfers(
        tx,
        limit=query.limit + 1,
        since=query.since,
        until=query.until,
        reference=query.reference,
        after=decode_cursor(query.cursor, Place),
    )
    return make_page(rows, query.limit, lambda each: (each.line.at, each.line.id), to_view)


def show(tx: Connection, request: Request) -> TransferDetailView:
    """Show one transfer."""
    found = history.find_transfer(tx, request.path["id"])
    request.check_own(found.subscriber_id)
    receipt = reversals.find_receipt(tx, found.line.reference)
    return make_view(TransferDetailView, found.line, username=found.username, name=found.name, receipt=receipt)


def add(tx: Connection, request: Request) -> Response:
    """Add or take credit, once for each Idempotency-Key. The same request again gets the first answer."""
    reference = request.find_reference(tx)
    order, issued = _read_order(request.body, reference), None
    if request.body.receipt:
        terms = request.config.selling_terms
        made, issued = sales.credit_with_receipt(tx, terms, order, request.actor, origin="rest", now=request.now)
    else:
        made, _ = operator_credit.credit(tx, order, request.actor, request.now)
    if made.note != order.note:
        raise TransferConflict(f"a transfer with the id {reference} exists and says something else")
    return _answer_made(tx, request, reference, receipt=None if issued is None else issued.label)


def plan(tx: Connection, request: Request) -> TransferPlanView:
    """Show who would get the credit, and what they would have after it. No credit moves."""
    order = _read_order(request.body, request.fresh)
    who, account = operator_credit.plan_credit(tx, order, request.actor, request.now)
    return make_view(TransferPlanView, who, kind=order.kind, value=order.value, posted=account.posted)


def _read_order(body: NewTransfer, reference: str) -> Credit:
    if body.value == 0:
        raise InvalidValue("value: must not be 0", {"value": "must not be 0"})
    return Credit(body.username, body.kind, body.value, body.origin, reference, body.note)


def reverse(tx: Connection, request: Request) -> Response:
    """Undo a transfer by another one, once. The same request again gets the first answer."""
    body: Reversal = request.body
    found = history.find_transfer(tx, request.path["id"])
    made = operator_credit.reverse(tx, found.line.id, request.actor, note=body.note, now=request.now)
    return _answer_made(tx, request, made.reference)


def to_view(each: RecordedTransfer) -> TransferView:
    """Return the view of a transfer, from the subscriber's side."""
    return make_view(TransferView, each.line, username=each.username, name=each.name)


def _answer_made(tx: Connection, request: Request, reference: str, *, receipt: str | None = None) -> Response:
    made = history.find_transfer_by_reference(tx, reference)
    if made is None:
        raise LookupError(reference)
    view = make_view(TransferDetailView, made.line, username=made.username, name=made.name, receipt=receipt)
    return Response(view, headers={"Location": f"{request.base_url}/api/v1/transfers/{made.line.id}"})
