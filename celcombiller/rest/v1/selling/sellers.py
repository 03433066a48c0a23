"""``/api/v1/sellers``, ``/receipts`` and ``/settlements``: who sells credit, what they sold, and what they owe."""

from __future__ import annotations

from dataclasses import astuple, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from celcombiller.core.errors import InvalidValue, NotFound
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.selling import RATE_WHOLE, Commission, ReceiptKind
from celcombiller.core.reports.views import make_view
from celcombiller.core.selling import receipts, sales, sellers
from celcombiller.core.selling.amounts import format_amount, read_money
from celcombiller.core.selling.settlements import Settlement, settle
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.fields import Username
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, Since, Until, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.http.transport.streaming import CSV_TYPE, format_csv, send
from celcombiller.rest.v1.selling.credit_transfers import To
from celcombiller.rest.v1.subscribers import Sought, visible_subscriber
from celcombiller.rest.v1.transfers import Note

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.selling import Receipt, Seller
    from celcombiller.core.selling.sales import Sold
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description=f"voice credits, from 1 to {AMOUNT_MAX}")]
Refilled = Annotated[
    int,
    Meta(
        ge=-AMOUNT_MAX,
        le=AMOUNT_MAX,
        description="voice credits to give; negative: to take back; not 0",
        extra_json_schema={"not": {"const": 0}},
    ),
]
Paid = Annotated[
    int, Meta(ge=0, le=AMOUNT_MAX, description="what was paid for it, in credits; null: less the discount")
]
Most = Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description="most credits of one sale; null: no limit")]
DayLimit = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description="most credits sold on a day; null: no limit")]
CreditLine = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description="credits that the stock may fall below 0")]
Rate = Annotated[int, Meta(ge=0, le=RATE_WHOLE, description="hundredths of a percent, from 0 to 10000")]
Earns = Annotated[
    Commission, Meta(description="none; discount: less to pay for a refill; bonus: credit with each sale")
]
SellerClass = Annotated[
    str, Meta(pattern=r"^[a-z0-9_]{0,32}$(?!\n)", description="up to 32 small letters, digits and _: your own word")
]
When = Annotated[datetime, Meta(tz=True, description="when (RFC 3339, UTC)")]


class SellerView(msgspec.Struct, kw_only=True):
    """A subscriber who sells voice credit from a stock of their own."""

    username: str
    name: str
    clid: Annotated[str, Meta(description="their phone number: digits")]
    parent: Annotated[str, Meta(description="the username of the seller who may refill them")] | None
    seller_class: Annotated[str, Meta(description="the operator's own word for sellers of this kind")]
    commission: Earns
    commission_rate: Annotated[int, Meta(description="hundredths of a percent")]
    posted: Annotated[int, Meta(description="credits: what they have to sell")]
    available: Annotated[int, Meta(description="credits that they may still sell, with the credit line")]
    credit_line: Annotated[int, Meta(description="credits that the stock may fall below 0")]
    sale_max: Annotated[int, Meta(description="most credits of one sale; null: no limit")] | None
    day_limit: Annotated[int, Meta(description="most credits sold on a day; null: no limit")] | None
    enabled: Annotated[bool, Meta(description="whether they may sell")]


class NewSeller(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A subscriber who becomes a seller."""

    username: Username
    parent: Username | None = None
    seller_class: SellerClass = ""
    commission: Earns = Commission.NONE
    commission_rate: Rate = 0
    credit_line: CreditLine = 0
    sale_max: Most | None = None
    day_limit: DayLimit | None = None


class SellerChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A change of a seller. Fields that are not named stay as they are."""

    parent: Username | UnsetType | None = UNSET
    seller_class: SellerClass | UnsetType = UNSET
    commission: Earns | UnsetType = UNSET
    commission_rate: Rate | UnsetType = UNSET
    credit_line: CreditLine | UnsetType = UNSET
    sale_max: Most | UnsetType | None = UNSET
    day_limit: DayLimit | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class SellerQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of sellers."""

    parent: Sought | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class ReceiptView(msgspec.Struct, kw_only=True):
    """A receipt. One that was undone is void, and keeps its number."""

    receipt: Annotated[str, Meta(description="its number: the series and at least six digits")]
    kind: Annotated[ReceiptKind, Meta(description="sale, refill of a seller, return of stock, credit by the operator")]
    reference: Annotated[str, Meta(description="the id of its transfer in the ledger")]
    seller: Annotated[str, Meta(description="the username of the seller who gave; null: the operator")] | None
    username: Annotated[str, Meta(description="the username of who got the credit; of a return: who gave it back")]
    to_number: Annotated[str, Meta(description="the number of that subscriber then")]
    amount: Annotated[int, Meta(description="credits")]
    commission: Annotated[int, Meta(description="credits that the operator gave the seller for the sale")]
    paid: Annotated[int, Meta(description="credits that were paid for a refill; null: no refill")] | None
    tax_rate: Annotated[int, Meta(description="rate of the tax in the price, in hundredths of a percent; 0: none")]
    origin: Annotated[str, Meta(description="the way by which it came: `sms`, `keypad`, `rest`, `command`")]
    at: When
    voided_at: When | None


class ReceiptWhole(ReceiptView, kw_only=True):
    """A receipt with its text, as it is printed."""

    text: Annotated[str, Meta(description="lines of text")]


class SoldView(ReceiptView, kw_only=True):
    """A receipt, and what the seller has after it."""

    stock: Annotated[int, Meta(description="credits that the seller has to sell now")]


class NewSale(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Credit to sell to the subscriber of a number."""

    to: To
    amount: Amount


class SalePlanView(msgspec.Struct, kw_only=True):
    """What a sale would do, to be looked at before it is made."""

    name: Annotated[str, Meta(description="the name of who would get the credit")]
    to_number: Annotated[str, Meta(description="the number of that subscriber")]
    amount: Annotated[int, Meta(description="credits")]
    commission: Annotated[int, Meta(description="credits that the operator would give the seller for it")]
    stock: Annotated[int, Meta(description="credits that the seller would have left")]


class NewRefill(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Credit for a seller, from the operator."""

    amount: Refilled
    paid: Paid | None = None
    note: Note = ""


class RefillPlanView(msgspec.Struct, kw_only=True):
    """What a refill would do, to be looked at before it is made."""

    username: str
    name: Annotated[str, Meta(description="the seller's name")]
    clid: Annotated[str, Meta(description="their phone number: digits")]
    amount: Annotated[int, Meta(description="credits to be given, or (negative) taken back")]
    paid: Annotated[int, Meta(description="credits that are paid for it, or paid back")]
    stock: Annotated[int, Meta(description="credits that the seller would have to sell")]


class DenominationView(msgspec.Struct, kw_only=True):
    """An amount of voice credit that is sold often."""

    amount: Annotated[int, Meta(description="voice credits")]
    text: Annotated[str, Meta(description="how people say it: in money, where the default tariff has a currency")]


class DenominationList(msgspec.Struct, kw_only=True):
    """The amounts of `sellers.denominations`, in their order."""

    items: list[DenominationView]


class ParentRefill(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Credit for a seller below you, from your own stock."""

    username: Username
    amount: Amount
    paid: Paid | None = None
    note: Note = ""


class ReceiptQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of receipts: those that match all given fields."""

    username: Annotated[str, Meta(pattern=r"^[^\x00]{0,64}$", description="a seller, who gave or got")] | None = None
    kind: Annotated[ReceiptKind, Meta(description="sale, refill, return or credit")] | None = None
    since: Since | None = None
    until: Until | None = None
    limit: Limit = 50
    cursor: Cursor | None = None


class SettlementQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A period, from the first sale until now where it is not given, and a seller: without one, all you may see."""

    since: Since | None = None
    until: Until | None = None
    username: Sought | None = None


class SettlementView(msgspec.Struct, kw_only=True):
    """One seller in a period, in credits.

    closing = opening + refilled - returned - given - sold - cards + commission + undone.
    """

    username: str
    name: str
    seller_class: str
    opening: Annotated[int, Meta(description="credits to sell at the beginning")]
    refilled: Annotated[int, Meta(description="credits of refills")]
    paid: Annotated[int, Meta(description="credits that were paid for refills, less what was paid back")]
    returned: Annotated[int, Meta(description="credits that the operator took back")]
    given: Annotated[int, Meta(description="credits for sellers below")]
    sales: Annotated[int, Meta(description="number of sales")]
    sold: Annotated[int, Meta(description="credits that were sold")]
    cards: Annotated[int, Meta(description="credits that were paid for vouchers")]
    commission: Annotated[int, Meta(description="credits of bonuses")]
    undone: Annotated[int, Meta(description="credits by which undoing changed the stock")]
    closing: Annotated[int, Meta(description="credits to sell at the end")]


class SettlementList(msgspec.Struct, kw_only=True):
    """The settlement sheet of a period, by username."""

    items: list[SettlementView]


# -- sellers ---------------------------------------------------------------------------------------------------------


def list_all(tx: Connection, request: Request) -> Page[SellerView]:
    """List sellers, by username."""
    query: SellerQuery = request.query
    parent = None if query.parent is None else subscriber_records.find(tx, query.parent).id
    after = decode_cursor(query.cursor, str)
    rows = sellers.list_sellers(tx, parent_id=parent, after=after, limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.username, lambda each: _view(tx, each))


def show(tx: Connection, request: Request) -> SellerView:
    """Show a seller; you see yourself."""
    return _view(tx, sellers.find_by_name(tx, request.path["username"]))


def add(tx: Connection, request: Request) -> Response:
    """Make a subscriber a seller, with an empty stock."""
    body: NewSeller = request.body
    terms = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("username", "parent")}
    if body.parent is not None:
        terms["parent_id"] = sellers.find_by_name(tx, body.parent).subscriber_id
    zone = request.config.selling_terms.zone
    made = sellers.add(tx, request.actor, body.username, terms=terms, zone=zone, now=request.now)
    return Response(_view(tx, made), headers={"Location": f"{request.base_url}/api/v1/sellers/{made.username}"})


def change(tx: Connection, request: Request) -> SellerView:
    """Change a seller."""
    body: SellerChange = request.body
    changes: dict[str, Any] = {
        name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET
    }
    if "parent" in changes:
        parent = changes.pop("parent")
        changes["parent_id"] = None if parent is None else sellers.find_by_name(tx, parent).subscriber_id
    zone = request.config.selling_terms.zone
    changed = sellers.change(tx, request.actor, request.path["username"], changes, zone=zone, now=request.now)
    return _view(tx, changed)


def _view(tx: Connection, each: Seller) -> SellerView:
    parent = None if each.parent_id is None else sellers.find(tx, each.parent_id).username
    return make_view(SellerView, each, parent=parent, credit_line=-each.floor)


# -- sales and refills -----------------------------------------------------------------------------------------------


def sell(tx: Connection, request: Request) -> Response:
    """Sell credit to the subscriber of a number, once for each Idempotency-Key; you sell your own."""
    body: NewSale = request.body
    seller = sellers.find_by_name(tx, request.path["username"])
    sold = sales.sell(
        tx,
        request.config.selling_terms,
        request.actor,
        seller.subscriber_id,
        body.to,
        body.amount,
        key=request.key or request.fresh,
        origin="rest",
        now=request.now,
    )
    return _answer_sold(tx, request, sold, sold.stock)


def plan_sale(tx: Connection, request: Request) -> SalePlanView:
    """Show who would get the credit of a sale, and what the seller would have left. Nothing is sold."""
    body: NewSale = request.body
    seller = sellers.find_by_name(tx, request.path["username"])
    plan = sales.plan_sale(
        tx, request.config.selling_terms, seller.subscriber_id, body.to, body.amount, now=request.now
    )
    return SalePlanView(
        name=plan.buyer.name,
        to_number=plan.buyer.clid,
        amount=plan.amount,
        commission=plan.bonus,
        stock=plan.stock,
    )


def refill(tx: Connection, request: Request) -> Response:
    """Give a seller credit to sell, or take some back, once for each Idempotency-Key."""
    body: NewRefill = request.body
    if body.amount == 0:
        raise InvalidValue("amount: must not be 0", {"amount": "must not be 0"})
    return _refill(tx, request, request.path["username"], body, from_parent=False)


def plan_refill(tx: Connection, request: Request) -> RefillPlanView:
    """Show what is to be paid for a refill, and what the seller would have after it. No credit moves."""
    body: NewRefill = request.body
    if body.amount == 0:
        raise InvalidValue("amount: must not be 0", {"amount": "must not be 0"})
    plan = sales.plan_refill(tx, request.actor, request.path["username"], body.amount, paid=body.paid)
    return make_view(RefillPlanView, plan.seller, amount=body.amount, paid=plan.paid, stock=plan.stock)


def list_denominations(tx: Connection, request: Request) -> DenominationList:
    """List the amounts of credit that are sold often."""
    money, style = read_money(tx), request.config.selling_terms.style
    amounts = request.config.sellers.denominations
    return DenominationList(
        items=[DenominationView(amount=each, text=format_amount(each, money, style)) for each in amounts]
    )


def refill_below(tx: Connection, request: Request) -> Response:
    """Give a seller below you credit of your own stock, once for each Idempotency-Key."""
    body: ParentRefill = request.body
    return _refill(tx, request, body.username, body, from_parent=True)


def _refill(
    tx: Connection, request: Request, username: str, body: NewRefill | ParentRefill, *, from_parent: bool
) -> Response:
    if from_parent:
        _find_below(tx, request, username)
    made = sales.refill(
        tx,
        request.config.selling_terms,
        request.actor,
        username,
        body.amount,
        paid=body.paid,
        from_parent=from_parent,
        key=request.key or request.fresh,
        note=body.note,
        origin="rest",
        now=request.now,
    )
    return _answer_sold(tx, request, made, made.stock if from_parent else made.balance)


def _find_below(tx: Connection, request: Request, username: str) -> None:
    """Raise `NotFound` unless the seller is below the principal: of others they learn nothing."""
    me = request.principal.subscriber_id
    below = {each.username for each in sellers.list_sellers(tx, parent_id=me)}
    if username not in below:
        raise NotFound("there is no such seller below you")


def _answer_sold(tx: Connection, request: Request, sold: Sold, stock: int | None) -> Response:
    view = make_view(SoldView, sold.receipt, **_facts(tx, sold.receipt), stock=stock or 0)
    return Response(view, headers={"Location": f"{request.base_url}/api/v1/receipts/{view.receipt}"})


# -- receipts --------------------------------------------------------------------------------------------------------


def list_receipts(tx: Connection, request: Request) -> Page[ReceiptView]:
    """List receipts, newest first; yours are those of your sales and refills."""
    query: ReceiptQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = receipts.list_receipts(
        tx,
        seller_id=None if who is None else who.id,
        kinds=() if query.kind is None else (query.kind,),
        since=query.since,
        until=query.until,
        before_id=decode_cursor(query.cursor, RowId),
        limit=query.limit + 1,
    )
    return make_page(
        rows, query.limit, lambda each: each.id, lambda each: make_view(ReceiptView, each, **_facts(tx, each))
    )


def show_receipt(tx: Connection, request: Request) -> ReceiptWhole:
    """Show a receipt, with its text; yours are those in which you gave or got credit."""
    found = _find_receipt(tx, request)
    text = receipts.write_receipt(found, request.config.selling_terms, read_money(tx))
    return make_view(ReceiptWhole, found, **_facts(tx, found), text=text)


def undo(tx: Connection, request: Request) -> ReceiptView:
    """Undo what a receipt is for, while the credit is still there. The same request again gets the first answer."""
    found = _find_receipt(tx, request)
    undone = sales.undo(tx, request.config.selling_terms, request.actor, found.label, now=request.now)
    return make_view(ReceiptView, undone.receipt, **_facts(tx, undone.receipt))


def _find_receipt(tx: Connection, request: Request) -> Receipt:
    found = receipts.find(tx, request.path["receipt"])
    if request.only_subscriber_id not in (None, found.giver_id, found.taker_id):
        raise NotFound("there is no receipt of this number")
    return found


def _facts(tx: Connection, each: Receipt) -> dict[str, Any]:
    names = subscriber_records.usernames_of(tx, [each.taker_id, *([] if each.giver_id is None else [each.giver_id])])
    seller = None if each.giver_id is None else names[each.giver_id]
    return {"receipt": each.label, "seller": seller, "username": names[each.taker_id]}


# -- settlement ------------------------------------------------------------------------------------------------------


def settlement(tx: Connection, request: Request) -> SettlementList:
    """Show what each seller got, paid, sold and has, in a period."""
    return SettlementList(items=[make_view(SettlementView, each) for each in _settle(tx, request)])


async def download_settlement(api: Api, http_request: HttpRequest, request: Request) -> Response | None:
    """Download the settlement sheet of a period as CSV."""
    request.check_export()
    headers = {"Content-Type": CSV_TYPE, "Content-Disposition": 'attachment; filename="settlement.csv"'}
    if http_request.method == b"HEAD":
        return Response(headers=headers)

    def piece(tx: Connection, after: None) -> tuple[bytes, None]:
        columns = [each.name for each in fields(Settlement)]
        return format_csv([columns, *map(astuple, _settle(tx, api.readmit(tx, request)))]), after

    await send(http_request, api.reader, headers, piece)
    return None


def _settle(tx: Connection, request: Request) -> list[Settlement]:
    query: SettlementQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    seller_id = None if who is None else sellers.find(tx, who.id).subscriber_id
    since, until = query.since or datetime.min.replace(tzinfo=UTC), query.until or request.now + timedelta(seconds=1)
    return settle(tx, since, until, seller_id=seller_id)
