"""``/api/v1/voucher-batches`` and ``/api/v1/vouchers``: cards with a code, which subscribers redeem once."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from celcombiller.core.bundles import offers
from celcombiller.core.errors import BillerError
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.model.vouchers import VoucherState, reference_of
from celcombiller.core.reports.views import AccountWord, make_view
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.selling import sellers
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.fields import Username
from celcombiller.core.vouchers import voucher_batches
from celcombiller.core.vouchers.card_sheet import COLUMNS, card_rows
from celcombiller.core.vouchers.redemption import RedemptionTry, redeem_all
from celcombiller.core.vouchers.voucher_batches import (
    CARDS_MAX,
    CREDIT_DAYS_MAX,
    NAME_CHARACTERS_MAX,
    RedeemedCard,
    Voucher,
    VoucherOrder,
)
from celcombiller.core.vouchers.voucher_codes import ENTROPY_BYTES, TYPED_CHARACTERS_MAX, make_codes
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.http.transport.streaming import CSV_TYPE, ConnectionRoom, cut_off_on_failure, format_csv
from celcombiller.rest.v1.subscribers import Sought, visible_subscriber
from celcombiller.rest.v1.transfers import Note

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.vouchers import Redemption, VoucherBatch, VoucherRange
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

Serial = Annotated[int, Meta(ge=1, le=CARDS_MAX, description="a serial number of the batch, from 1 on")]
Code = Annotated[
    str,
    Meta(
        pattern=rf"^[^\x00]{{1,{TYPED_CHARACTERS_MAX}}}\Z",
        description="1 to 200 characters: the code as it is typed; spaces, hyphens, O for 0 and l for 1 are read too",
    ),
]
When = Annotated[datetime, Meta(tz=True, description="an RFC 3339 time with its zone")]


class VoucherRangeView(msgspec.Struct, kw_only=True):
    """Cards that were activated, or revoked, together."""

    first_serial: Annotated[int, Meta(description="the number of the first card")]
    last_serial: Annotated[int, Meta(description="the number of the last card")]
    state: Annotated[Literal["active", "revoked"], Meta(description="what was done with them")]
    at: Annotated[datetime, Meta(tz=True, description="when (RFC 3339, UTC)")]
    author: Annotated[str, Meta(description="by whom")]
    seller: Annotated[str | None, Meta(description="the username of the seller that they were handed to")]
    price: Annotated[int, Meta(description="voice credits that the seller paid for them")]
    note: str


class VoucherBatchView(msgspec.Struct, kw_only=True):
    """Cards that were made together. Their codes are not stored."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    name: str
    cards: Annotated[int, Meta(description="number of cards")]
    kind: AccountWord
    value: Annotated[int, Meta(description="credits, seconds, messages or octets that a card gives")]
    credit_days: Annotated[
        int | None, Meta(description="number of days that its credit stays valid at least; null: as any credit")
    ]
    offer_id: Annotated[
        int | None, Meta(description="the number of the offer that a card gives a bundle of; null: it gives credit")
    ]
    bundle_name: Annotated[str, Meta(description="the name of the bundle; empty: it gives credit")]
    valid_hours: Annotated[int | None, Meta(description="number of hours that the bundle is valid")]
    valid_until: (
        Annotated[
            datetime, Meta(tz=True, description="a card is redeemed before it (RFC 3339, UTC); null: at any time")
        ]
        | None
    )
    note: str
    author: Annotated[str, Meta(description="who made it")]
    made_at: Annotated[datetime, Meta(tz=True, description="when it was made (RFC 3339, UTC)")]


class VoucherBatchWhole(VoucherBatchView, kw_only=True):
    """A batch, with how many of its cards are in each state, and what was activated and revoked."""

    counts: Annotated[dict[str, int], Meta(description="number of cards in each state: made, active, redeemed, ...")]
    ranges: list[VoucherRangeView]


class NewVoucherBatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Cards to make: with credit of a kind, or with a bundle of an offer."""

    name: Annotated[
        str,
        Meta(
            pattern=rf"^[^{UNPRINTABLE}]{{1,{NAME_CHARACTERS_MAX}}}$(?!\n)",
            description=f"1 to {NAME_CHARACTERS_MAX} characters on one line, not a number only",
        ),
    ]
    cards: Annotated[int, Meta(ge=1, le=CARDS_MAX, description=f"number of cards, from 1 to {CARDS_MAX}")]
    kind: Kind | None = None
    value: Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description="credits that a card gives, from 1 on")] | None = None
    credit_days: (
        Annotated[
            int,
            Meta(ge=1, le=CREDIT_DAYS_MAX, description="number of days that its credit stays valid, from 1 on"),
        ]
        | None
    ) = None
    offer_id: Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description="the number of an offer, from 1 on")] | None = None
    valid_until: When | None = None
    note: Note = ""


class Activation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Cards to activate; without serial numbers, all."""

    first_serial: Serial | None = None
    last_serial: Serial | None = None
    seller: Username | None = None
    price: Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description="voice credits for all of them, from 0 on")] = 0
    note: Note = ""


class Revocation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Cards to revoke; without serial numbers, all."""

    first_serial: Serial | None = None
    last_serial: Serial | None = None
    note: Note = ""


class VoucherView(msgspec.Struct, kw_only=True):
    """A card."""

    batch_id: Annotated[int, Meta(description="the number of its batch")]
    batch: Annotated[str, Meta(description="the name of its batch")]
    serial: Annotated[int, Meta(description="the serial number of the card")]
    kind: AccountWord
    value: Annotated[int, Meta(description="credits, seconds, messages or octets that it gives")]
    state: VoucherState
    redeemed_by: Annotated[str | None, Meta(description="the username of who redeemed it")]
    redeemed_at: Annotated[datetime, Meta(tz=True, description="when it was redeemed (RFC 3339, UTC)")] | None
    seller: Annotated[str | None, Meta(description="the username of the seller that it was handed to")]


class RedemptionView(msgspec.Struct, kw_only=True):
    """A card that was redeemed, and what it gave."""

    batch_id: Annotated[int, Meta(description="the number of its batch")]
    serial: Annotated[int, Meta(description="the serial number of the card")]
    username: Annotated[str, Meta(description="the subscriber who got it")]
    kind: AccountWord
    value: Annotated[int, Meta(description="credits, seconds, messages or octets that it gave")]
    bundle_name: Annotated[str, Meta(description="the name of the bundle; empty: it gave credit")]
    reference: Annotated[str, Meta(description="the id of its transfer")]
    at: Annotated[datetime, Meta(tz=True, description="when it was redeemed (RFC 3339, UTC)")]


class HandedVouchersView(msgspec.Struct, kw_only=True):
    """Cards that were handed to a seller together."""

    batch_id: Annotated[int, Meta(description="the number of their batch")]
    batch: Annotated[str, Meta(description="the name of their batch")]
    first_serial: Annotated[int, Meta(description="the number of the first card")]
    last_serial: Annotated[int, Meta(description="the number of the last card")]
    kind: AccountWord
    value: Annotated[int, Meta(description="credits, seconds, messages or octets that a card gives")]
    bundle_name: Annotated[str, Meta(description="the name of the bundle; empty: it gives credit")]
    valid_until: (
        Annotated[
            datetime, Meta(tz=True, description="a card is redeemed before it (RFC 3339, UTC); null: at any time")
        ]
        | None
    )
    price: Annotated[int, Meta(description="voice credits that the seller paid for them")]
    at: Annotated[datetime, Meta(tz=True, description="when they were handed over (RFC 3339, UTC)")]
    counts: Annotated[dict[str, int], Meta(description="number of cards in each state: active, redeemed, ...")]


class TypedCode(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The code of a card."""

    code: Code


class VoucherBatchQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A page of batches, or of cards."""

    limit: Limit = 50
    cursor: Cursor | None = None


class RedeemedQuery(VoucherBatchQuery, kw_only=True, forbid_unknown_fields=True):
    """A filter of redeemed cards."""

    username: Sought | None = None


# -- batches ---------------------------------------------------------------------------------------------------------


def list_batches(tx: Connection, request: Request) -> Page[VoucherBatchView]:
    """List the batches of vouchers, newest first."""
    query: VoucherBatchQuery = request.query
    before_id = decode_cursor(query.cursor, RowId)
    rows = voucher_batches.list_all(tx, before_id=before_id, limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.id, lambda each: make_view(VoucherBatchView, each))


def show_batch(tx: Connection, request: Request) -> VoucherBatchWhole:
    """Show a batch, with how many of its cards are in each state."""
    found = voucher_batches.find(tx, request.path["id"])
    counts = _counts(tx, found, request.now, 1, found.cards)
    ranges = voucher_batches.ranges_of(tx, found.id)
    names = _usernames(tx, ranges)
    return make_view(VoucherBatchWhole, found, counts=counts, ranges=[_range_view(each, names) for each in ranges])


def list_cards(tx: Connection, request: Request) -> Page[VoucherView]:
    """List the cards of a batch, by their serial numbers."""
    query: VoucherBatchQuery = request.query
    after = decode_cursor(query.cursor, RowId) or 0
    batch = voucher_batches.find(tx, request.path["id"])
    rows = voucher_batches.list_cards(tx, batch, request.now, after=after, limit=query.limit + 1)
    names = _usernames(tx, [own for each in rows for own in each.ranges])
    return make_page(rows, query.limit, lambda each: each.serial, lambda each: _card_view(each, names))


async def make(api: Api, http_request: HttpRequest, request: Request) -> Response | None:
    """Make a batch of vouchers, and return their codes as CSV, this one time.

    Until the answer is complete, the batch does not exist: an answer that is cut off is of no use, so ask again. A
    batch of the same Idempotency-Key that is complete is refused, as its codes cannot be shown again.
    """
    room, pieces = ConnectionRoom(), make_pieces(api, request)
    batch, written = await anext(pieces)
    http_request.setResponseCode(201)
    for name, value in _headers(request, batch).items():
        http_request.setHeader(name.encode(), value.encode())
    with cut_off_on_failure(http_request, room):
        http_request.write(written)
        await room.wait()
        async for _, piece in pieces:
            http_request.write(piece)
            await room.wait()
    return None


async def make_pieces(api: Api, request: Request) -> AsyncIterator[tuple[VoucherBatch, bytes]]:
    """Make a batch piece by piece, and yield it with the CSV of each; the last one completes it.

    Raises as `voucher_batches.begin` and `complete` do.
    """
    body: NewVoucherBatch = request.body

    def begin(tx: Connection, admitted: Request) -> VoucherBatch:
        order = VoucherOrder(
            name=body.name,
            cards=body.cards,
            kind=body.kind,
            value=body.value,
            offer=None if body.offer_id is None else offers.find(tx, body.offer_id),
            credit_days=body.credit_days,
            valid_until=None if body.valid_until is None else body.valid_until.astimezone(UTC),
            note=body.note,
        )
        reference = admitted.find_reference(tx)
        return voucher_batches.begin(tx, admitted.actor, order, reference=reference, now=admitted.now)

    while await api.transact(request, lambda tx, admitted: voucher_batches.discard_unfinished(tx, admitted.now)):
        pass
    batch = await api.transact(request, begin)
    for first, count in voucher_batches.pieces(batch.cards):
        codes = make_codes(secrets.token_bytes(ENTROPY_BYTES * count))

        def add(tx: Connection, admitted: Request, first: int = first, codes: list[str] = codes) -> None:
            voucher_batches.add_piece(tx, admitted.actor, batch, first, codes, now=admitted.now)

        await api.transact(request, add)
        heading = [COLUMNS] if first == 1 else []
        yield batch, format_csv([*heading, *card_rows(batch, first, codes, request.config.balance.style)])


def _headers(request: Request, batch: VoucherBatch) -> dict[str, str]:
    return {
        "Content-Type": CSV_TYPE,
        "Content-Disposition": 'attachment; filename="vouchers.csv"',
        "Cache-Control": "no-store",
        "Location": f"{request.base_url}/api/v1/voucher-batches/{batch.id}",
    }


def activate(tx: Connection, request: Request) -> VoucherRangeView:
    """Activate cards: all of a batch, or a range of serial numbers; the same again changes nothing."""
    body: Activation = request.body
    made, _ = voucher_batches.activate(
        tx,
        request.actor,
        request.path["id"],
        body.first_serial,
        body.last_serial,
        seller=body.seller,
        price=body.price,
        note=body.note,
        today=local_date(request.now, request.config.schedules.zone),
        now=request.now,
    )
    return _range_view(made, _usernames(tx, [made]))


def revoke(tx: Connection, request: Request) -> VoucherRangeView:
    """Revoke cards for good: all of a batch, or a range of serial numbers. What was redeemed stays so."""
    body: Revocation = request.body
    made, _ = voucher_batches.revoke(
        tx, request.actor, request.path["id"], body.first_serial, body.last_serial, note=body.note, now=request.now
    )
    return _range_view(made, _usernames(tx, [made]))


# -- cards -----------------------------------------------------------------------------------------------------------


def find(tx: Connection, request: Request) -> VoucherView:
    """Show the card of a code: its state, and who redeemed it."""
    body: TypedCode = request.body
    found = voucher_batches.find_by_code(tx, body.code, request.now)
    return _card_view(found, _usernames(tx, found.ranges))


def list_redeemed(tx: Connection, request: Request) -> Page[RedemptionView]:
    """List cards that were redeemed, newest first; yours are those that you redeemed."""
    query: RedeemedQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    before = decode_cursor(query.cursor, tuple[When, RowId, RowId])
    rows = voucher_batches.list_redeemed(
        tx, subscriber_id=None if who is None else who.id, before=before, limit=query.limit + 1
    )
    return make_page(rows, query.limit, lambda each: (each.at, each.batch.id, each.serial), _redeemed_view)


def list_handed(tx: Connection, request: Request) -> Page[HandedVouchersView]:
    """List the cards that were handed to a seller, newest first; you see your own."""
    query: VoucherBatchQuery = request.query
    seller = sellers.find_by_name(tx, request.path["username"])
    before_id = decode_cursor(query.cursor, RowId)
    rows = voucher_batches.list_handed(tx, seller.subscriber_id, before_id=before_id, limit=query.limit + 1)

    def view(each: tuple[VoucherBatch, VoucherRange]) -> HandedVouchersView:
        batch, handed = each
        return make_view(
            HandedVouchersView,
            batch,
            batch_id=batch.id,
            batch=batch.name,
            first_serial=handed.first_serial,
            last_serial=handed.last_serial,
            price=handed.price,
            at=handed.at,
            counts=_counts(tx, batch, request.now, handed.first_serial, handed.last_serial),
        )

    return make_page(rows, query.limit, lambda each: each[1].id, view)


async def redeem_own(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Redeem a card; the same code again gets the first answer."""
    principal = request.principal
    return await _redeem(api, request, principal.subscriber_id, principal.username)


async def redeem_for(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Redeem a card for a subscriber, who may do so themselves; the same code again gets the first answer."""
    who = await api.reader.read(lambda tx: subscriber_records.find(tx, request.path["username"]))
    if who.id != request.principal.subscriber_id:
        request.actor.check_manages(who.level)
    return await _redeem(api, request, who.id, who.username)


async def _redeem(api: Api, request: Request, subscriber_id: int, username: str) -> Response:
    """Redeem a card together with all who wait for the database, each for themselves."""
    body: TypedCode = request.body
    zone = request.config.schedules.zone
    is_own = subscriber_id == request.principal.subscriber_id
    tried = RedemptionTry(
        subscriber_id,
        body.code,
        address=request.address,
        actor=None if is_own else request.actor,
        today=local_date(request.now, zone),
    )
    try:
        outcome = await api.store.share(_redeem_all, (api, request, tried))
    except BillerError as refusal:
        api.metrics.vouchers.count(refusal)
        raise
    api.metrics.vouchers.count(outcome)
    view = make_view(
        RedemptionView,
        outcome.batch,
        batch_id=outcome.batch.id,
        serial=outcome.serial,
        username=username,
        reference=outcome.reference,
        at=outcome.at,
    )
    return Response(view, status=201 if outcome.is_new else 200)


def _redeem_all(
    tx: Connection, asked: Sequence[tuple[Api, Request, RedemptionTry]]
) -> Sequence[Redemption | BillerError]:
    """Redeem for those who may still do so, in one transaction."""
    outcomes: dict[int, Redemption | BillerError] = {}
    admitted: dict[int, RedemptionTry] = {}
    for place, (api, request, tried) in enumerate(asked):
        try:
            api.readmit(tx, request)
        except BillerError as refusal:
            outcomes[place] = refusal
        else:
            admitted[place] = tried
    outcomes |= zip(admitted, redeem_all(tx, list(admitted.values()), datetime.now(UTC)), strict=True)
    return [outcomes[place] for place in range(len(asked))]


# -- views -----------------------------------------------------------------------------------------------------------


def _usernames(tx: Connection, ranges: Iterable[VoucherRange]) -> dict[int, str]:
    """Return the names of the sellers of these ranges."""
    return subscriber_records.usernames_of(tx, {each.seller_id for each in ranges if each.seller_id is not None})


def _counts(tx: Connection, batch: VoucherBatch, now: datetime, first: int, last: int) -> dict[str, int]:
    counts = voucher_batches.count_states(tx, batch, now, first, last)
    return {state.value: count for state, count in counts.items()}


def _range_view(made: VoucherRange, names: dict[int, str]) -> VoucherRangeView:
    seller = None if made.seller_id is None else names[made.seller_id]
    return make_view(VoucherRangeView, made, state=made.state.value, seller=seller)


def _card_view(card: Voucher, names: dict[int, str]) -> VoucherView:
    sellers = [names[each.seller_id] for each in card.ranges if each.seller_id is not None]
    return make_view(
        VoucherView,
        card,
        batch_id=card.batch.id,
        batch=card.batch.name,
        kind=card.batch.kind.value,
        value=card.batch.value,
        seller=sellers[0] if sellers else None,
    )


def _redeemed_view(card: RedeemedCard) -> RedemptionView:
    return make_view(
        RedemptionView,
        card.batch,
        batch_id=card.batch.id,
        serial=card.serial,
        username=card.username,
        reference=reference_of(card.batch.id, card.serial),
        at=card.at,
    )
