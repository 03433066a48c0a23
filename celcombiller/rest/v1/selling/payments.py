"""``/api/v1/payments``: what payment providers report, and what the staff sees and does of it.

A provider's notice has no login: it is signed. Whoever cannot sign learns nothing but that.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from twisted.logger import Logger

from celcombiller.core.access.actor import Actor
from celcombiller.core.errors import (
    BillerError,
    InvalidValue,
    NotAuthenticated,
    StoreUnavailable,
    TooLarge,
    TooManyAttempts,
)
from celcombiller.core.model.addresses import network_of
from celcombiller.core.payments import payment_records
from celcombiller.core.payments.payment_amounts import AMOUNT
from celcombiller.core.payments.payment_records import PaymentNotice, PaymentState
from celcombiller.core.payments.signatures import age_seconds, is_signed
from celcombiller.core.reports.views import make_view
from celcombiller.core.subscribers.fields import Username
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import Response
from celcombiller.rest.v1.subscribers import Sought, visible_subscriber
from celcombiller.rest.v1.transfers import Note, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import PaymentProvider
    from celcombiller.core.payments.payment_records import Payment
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

_LOG = Logger()

WRONG_SIGNATURES_MAX = 30
"""Wrong signatures of one address (of IPv6: of one /64) in a minute, after which it is not listened to."""

_NO_SECRET = "x" * 32
"""What is computed for a provider that does not exist, so that it takes as long."""


class NewPayment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A payment, or the reversal of one, as its provider reports it. The body is signed: see the headers."""

    event: Annotated[
        Literal["payment", "reversal"],
        Meta(description="payment: credit it; reversal: take all of the payment with this id back"),
    ] = "payment"
    id: Annotated[
        str,
        Meta(
            pattern=r"^[!-9;-~]{1,100}$(?!\n)",
            description="1 to 100 printable ASCII characters without spaces and colons: the provider's id of it",
        ),
    ]
    to: (
        Annotated[
            str,
            Meta(
                pattern=r"^[^\x00-\x1f\x7f]{1,64}$(?!\n)",
                description="1 to 64 characters: who it is for, by number, username or account code",
            ),
        ]
        | UnsetType
    ) = UNSET
    amount: (
        Annotated[
            str,
            Meta(
                pattern=AMOUNT,
                description='a decimal number in quotes, such as "12.50": up to 15 digits, and 9 behind a point',
            ),
        ]
        | UnsetType
    ) = UNSET
    currency: Annotated[
        str,
        Meta(
            pattern=r"^[^\x00-\x1f\x7f]{0,8}$(?!\n)",
            description="at most 8 characters: must be the provider's, if it is there",
        ),
    ] = ""
    paid_at: Annotated[datetime, Meta(tz=True, description="when it was paid, by the provider (RFC 3339)")] | None = (
        None
    )
    note: Note = ""


class PaymentReceipt(msgspec.Struct, kw_only=True):
    """What became of a payment. The same notice again gets it again."""

    id: Annotated[str, Meta(description="the provider's id")]
    payment: Annotated[int, Meta(description="the number of its row here, for questions")]
    state: Annotated[
        PaymentState,
        Meta(description="credited; unassigned: no subscriber has this number, the staff will look; or reversed"),
    ]
    credits: Annotated[int, Meta(description="the credits that it is worth")]
    taken: Annotated[int, Meta(description="the credits that were taken back")]
    debt: Annotated[int, Meta(description="the credits that were to be taken back, and were spent")]


class PaymentView(msgspec.Struct, kw_only=True):
    """A payment, as the staff sees it."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    provider: Annotated[str, Meta(description="its name in the settings")]
    provider_id: Annotated[str, Meta(description="the provider's id")]
    recipient: Annotated[str, Meta(description="who it is for, as the provider wrote it")]
    username: Annotated[str, Meta(description="the subscriber who got it")] | None
    amount: Annotated[str, Meta(description="a decimal number")]
    currency: str
    credits: Annotated[int, Meta(description="the voice credits that it is worth")]
    state: Annotated[
        PaymentState, Meta(description="credited; unassigned: it waits for the staff to say whose it is; or reversed")
    ]
    reference: Annotated[str, Meta(description="the reference of the transfer that credits it")]
    received_at: Annotated[datetime, Meta(tz=True, description="when it was reported (RFC 3339, UTC)")]
    paid_at: Annotated[datetime, Meta(tz=True, description="when it was paid, by the provider (RFC 3339, UTC)")] | None
    credited_at: Annotated[datetime, Meta(tz=True, description="when it was credited (RFC 3339, UTC)")] | None
    reversed_at: Annotated[datetime, Meta(tz=True, description="when it was reversed (RFC 3339, UTC)")] | None
    taken: Annotated[int, Meta(description="credits that were taken back")]
    debt: Annotated[int, Meta(description="credits that were to be taken back, and were spent")]
    note: Annotated[str, Meta(description="the provider's remark")]
    reversal_note: Annotated[str, Meta(description="why it was reversed")]


class PaymentQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of payments: those that match all given fields."""

    state: PaymentState | None = None
    provider: Annotated[str, Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters")] | None = None
    username: Sought | None = None
    debt: Annotated[bool, Meta(description="true: those that could not all be taken back")] = False
    limit: Limit = 50
    cursor: Cursor | None = None


class Assignment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whose a payment is."""

    username: Username


class PaymentReversal(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The reason for a reversal."""

    note: Reason
    debt: Annotated[
        bool, Meta(description="where its credit is spent: true takes what is there, and records the rest as a debt")
    ] = False


# -- the provider's side -----------------------------------------------------------------------------------------------


def verify(api: Api, http_request: HttpRequest, request: Request, raw: bytes) -> Request:
    """Return a notice with the name of the provider who signed it.

    Raises `TooLarge`, `NotAuthenticated` (for any reason that lies with the signature), and `TooManyAttempts`.
    """
    if http_request.too_large:
        raise TooLarge(f"a body has at most {api.config.rest.body_kib_max} KiB (rest.body_kib_max)")
    network = network_of(request.address)
    if api.wrong_signatures.get(network, 0) >= WRONG_SIGNATURES_MAX:
        raise TooManyAttempts("too many wrong signatures came from this address", 60)
    name, time, signature = (
        _one_header(http_request, each) for each in ("Payment-Provider", "Payment-Time", "Payment-Signature")
    )
    provider = next((each for each in api.config.payments if each.name == name), None)
    is_right = is_signed(_NO_SECRET if provider is None else provider.secret, time, raw, signature)
    late = ""
    if provider is not None and is_right:
        age = age_seconds(time, request.now.timestamp())
        if abs(age) <= provider.clock_seconds:
            return replace(request, provider=provider.name, secrets=(), bearer=None)
        late = f"; its time differs by {age:.0f} s from ours, at most {provider.clock_seconds} s are allowed"
    api.wrong_signatures[network] = api.wrong_signatures.get(network, 0) + 1
    api.metrics.payments.wrong_signatures.inc()
    if api.lines.admits(request.address):
        _LOG.warn(
            "A notice of a payment from {address} was refused: its signature is not that of {provider}{late}",
            address=request.address,
            provider=name[:32] or "any provider",
            late=late,
        )
    raise NotAuthenticated(
        "Payment-Signature must be the HMAC-SHA256 in hexadecimal of Payment-Time (seconds since 1970), a point and the"
        f" body, by the secret of Payment-Provider{late}"
    )


async def receive(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Take a payment, or its reversal, from a payment provider: once for its id."""
    provider = next(each for each in api.config.payments if each.name == request.provider)
    body: NewPayment = request.body
    work = _reversal_of(provider, request) if body.event == "reversal" else _payment_of(provider, request)
    try:
        payment, result = await api.store.transact(work)
    except StoreUnavailable:
        raise
    except BillerError as refusal:
        api.metrics.payments.count(provider.name, "refused")
        if api.lines.admits(request.address):
            _LOG.warn(
                "{event} {id} of {provider} was refused: {why}",
                event=body.event,
                id=body.id,
                provider=provider.name,
                why=str(refusal),
            )
        raise
    api.metrics.payments.count(provider.name, result, payment.credits if result == "credited" else 0)
    _LOG.info(
        "{event} {id} of {provider} is {result}: payment {payment}, {credits} credits",
        event=body.event,
        id=body.id,
        provider=provider.name,
        result=result,
        payment=payment.id,
        credits=payment.credits,
    )
    return Response(
        PaymentReceipt(
            id=payment.provider_id,
            payment=payment.id,
            state=payment.state,
            credits=payment.credits,
            taken=payment.taken,
            debt=payment.debt,
        )
    )


def _payment_of(provider: PaymentProvider, request: Request) -> Callable[[Connection], tuple[Payment, str]]:
    body: NewPayment = request.body
    missing = {name: "is missing" for name in ("to", "amount") if getattr(body, name) is UNSET}
    if missing:
        raise InvalidValue("; ".join(f"{name}: {what}" for name, what in missing.items()), missing)
    notice = PaymentNotice(
        provider=provider.name,
        provider_id=body.id,
        recipient=str(body.to),
        amount=str(body.amount),
        currency=body.currency,
        paid_at=body.paid_at,
        note=body.note,
    )

    def work(tx: Connection) -> tuple[Payment, str]:
        payment, is_new = payment_records.receive(
            tx,
            notice,
            currency=provider.currency,
            actor=_actor(request),
            numbering=request.config.numbering_plan,
            now=request.now,
        )
        return payment, payment.state.value if is_new else "repeated"

    return work


def _reversal_of(provider: PaymentProvider, request: Request) -> Callable[[Connection], tuple[Payment, str]]:
    body: NewPayment = request.body
    extra = {name: "is only of payments" for name in ("to", "amount") if getattr(body, name) is not UNSET}
    if extra:
        raise InvalidValue("; ".join(f"{name}: {what}" for name, what in extra.items()), extra)

    def work(tx: Connection) -> tuple[Payment, str]:
        was = payment_records.find_by_provider(tx, provider.name, body.id)
        if was.state is PaymentState.REVERSED:
            return was, "repeated"
        is_ = payment_records.reverse(
            tx,
            was,
            take_what_is_there=provider.reversal == "debt",
            actor=_actor(request),
            note=body.note or f"by {provider.name}",
            now=request.now,
        )
        return is_, "reversed"

    return work


def _actor(request: Request) -> Actor:
    return Actor(f"payment:{request.provider}", request.address)


def _one_header(http_request: HttpRequest, name: str) -> str:
    """Return a header that came once; else nothing, which no signature is of."""
    lines = http_request.requestHeaders.getRawHeaders(name.encode()) or []
    return lines[0].decode("ascii", "replace").strip() if len(lines) == 1 else ""


# -- the staff's side --------------------------------------------------------------------------------------------------


def list_all(tx: Connection, request: Request) -> Page[PaymentView]:
    """List payments, newest first."""
    query: PaymentQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = payment_records.list_payments(
        tx,
        limit=query.limit + 1,
        before_id=decode_cursor(query.cursor, RowId),
        state=query.state,
        provider=query.provider,
        subscriber_id=None if who is None else who.id,
        in_debt=query.debt,
    )
    return make_page(rows, query.limit, lambda each: each[0].id, lambda each: to_view(*each))


def show(tx: Connection, request: Request) -> PaymentView:
    """Show one payment."""
    return _view(tx, payment_records.find(tx, request.path["id"]))


def assign(tx: Connection, request: Request) -> PaymentView:
    """Credit a payment that waits to a subscriber, once. The same again changes nothing."""
    to = request.body.username
    return _view(tx, payment_records.assign(tx, request.path["id"], to, actor=request.actor, now=request.now))


def reverse(tx: Connection, request: Request) -> PaymentView:
    """Take the credit of a payment back, once; what could not be taken is taken when it is asked for again."""
    body: PaymentReversal = request.body
    payment = payment_records.reverse_by_staff(
        tx,
        request.path["id"],
        take_what_is_there=body.debt,
        actor=request.actor,
        note=body.note,
        now=request.now,
    )
    return _view(tx, payment)


def to_view(payment: Payment, username: str | None) -> PaymentView:
    """Return the view of a payment."""
    return make_view(PaymentView, payment, username=username)


def _view(tx: Connection, payment: Payment) -> PaymentView:
    return to_view(payment, payment_records.username_of(tx, payment))
