"""What a call would cost, as data for programs and as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.rating.pricing import PieceKind
from celcombiller.core.rating.windows import format_window
from celcombiller.core.tariffs.price_format import count_credits, format_money

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.core.charging.simulation import SimulatedCall, UsedTariff
    from celcombiller.core.rating.pricing import Piece


class PricePieceView(msgspec.Struct, kw_only=True):
    """A part of a price: a stretch of talk at one price, the connect fee, the minimum, or the grace."""

    kind: Annotated[PieceKind, Meta(description="use, connect fee, minimum (what lacks to it) or grace (free)")]
    from_second: Annotated[int, Meta(description="the seconds of talk before it")]
    seconds: Annotated[int, Meta(description="the seconds that count: whole increments")]
    price: Annotated[int, Meta(description="credits for each `per` seconds")] | None = None
    per: Annotated[int, Meta(description="the seconds that `price` buys")] | None = None
    increment: Annotated[int, Meta(description="the seconds of one increment")] | None = None
    window: Annotated[str, Meta(description="the time of the week whose prices apply; empty: all other times")] = ""
    exact: Annotated[str, Meta(description="its share before rounding, a fraction of credits")]
    credits: Annotated[int, Meta(description="its whole credits; the sum of all pieces is the price")]
    bundle: Annotated[str, Meta(description="the bundle whose units pay for it; empty: credit does")] = ""


class BundleShareView(msgspec.Struct, kw_only=True):
    """What a bundle would pay."""

    name: str
    kind: Annotated[str, Meta(description="seconds, or money (credits)")]
    amount: Annotated[int, Meta(description="seconds, or credits of a bundle of money")]


class TrunkCostView(msgspec.Struct, kw_only=True):
    """A trunk by which the call would go."""

    name: str
    dial: Annotated[str, Meta(description="its dial string")]
    cost: Annotated[int, Meta(description="credits that it would cost the operator; null: not known")] | None
    margin: Annotated[int, Meta(description="credits: what the balance pays less the cost; null: not known")] | None


class RefusalView(msgspec.Struct, kw_only=True):
    """Why the call would not be granted."""

    code: str
    detail: str


class CallPriceView(msgspec.Struct, kw_only=True):
    """What a call would cost, and why."""

    username: Annotated[str, Meta(description="the subscriber who would pay")]
    number: Annotated[str, Meta(description="the number as it is priced")]
    on_net: Annotated[bool, Meta(description="whether it is a subscriber's")]
    tariff: Annotated[str, Meta(description="the tariff; `settings`: the rates of the settings file")]
    version: Annotated[int, Meta(description="the number of the tariff's version; null: the settings have none")] | None
    prefix: Annotated[str, Meta(description="the prefix of the rate")]
    destination: Annotated[str, Meta(description="the destination of the rate")]
    seconds: Annotated[int, Meta(description="the seconds of talk that were asked for")]
    cost: Annotated[int, Meta(description="the credits that the balance would pay")]
    money: Annotated[str, Meta(description="the same in the currency of the tariff; empty: it has none")]
    bundles: Annotated[list[BundleShareView], Meta(description="what bundles would pay")]
    pieces: list[PricePieceView]
    available: Annotated[int, Meta(description="the credits that the balance has for it")]
    affordable_seconds: Annotated[int, Meta(description="the seconds of talk that would be granted, whenever answered")]
    trunks: Annotated[
        list[TrunkCostView], Meta(description="by which it would go, in order; none: on-net, or no route")
    ]
    refusal: Annotated[RefusalView, Meta(description="why it would be refused now; null: it would not")] | None


def call_price_view(simulated: SimulatedCall, *, with_trunks: bool = True) -> CallPriceView:
    """Return the view of a simulated call. Subscribers get it without trunks: costs are for staff only."""
    call, bill = simulated.call, simulated.bill
    refusal = simulated.refusal
    return CallPriceView(
        username=simulated.payer.username,
        number=call.to_number,
        on_net=simulated.is_on_net,
        tariff=simulated.tariff.name,
        version=simulated.tariff.version,
        prefix=call.rate.prefix,
        destination=call.rate.name,
        seconds=simulated.seconds,
        cost=bill.balance_amount,
        money=_money(bill.balance_amount, simulated.tariff),
        bundles=[
            BundleShareView(name=simulated.bundle_names[pot.account_id], kind=pot.kind.value, amount=amount)
            for pot in simulated.pots
            if (amount := bill.takes.get(pot.account_id, 0))
        ],
        pieces=[view_piece(piece, simulated.bundle_names) for piece in simulated.pieces],
        available=simulated.available,
        affordable_seconds=simulated.affordable_seconds,
        trunks=[
            TrunkCostView(
                name=each.name,
                dial=each.dial,
                cost=each.cost,
                margin=None if each.cost is None else bill.balance_amount - each.cost,
            )
            for each in (simulated.trunks if with_trunks else ())
        ],
        refusal=None if refusal is None else RefusalView(code=refusal.code, detail=str(refusal)),
    )


def describe_call_price(view: CallPriceView) -> list[str]:
    """Return the lines that say what a call would cost, and why."""
    way = "to a subscriber (on-net)" if view.on_net else "to another network"
    version = "" if view.version is None else f", version {view.version}"
    name = f" {view.destination}" if view.destination else ""
    lines = [
        f"Call of {view.username} to {view.number}, {way}, {view.seconds} s of talk.",
        f"Tariff {view.tariff}{version}: prefix {view.prefix or 'of all numbers'}{name}.",
        *(f"  {describe_piece(each)}" for each in view.pieces),
        *(
            f"  The bundle {each.name} pays {count_credits(each.amount)}."
            for each in view.bundles
            if each.kind == _MONEY
        ),
        f"The balance pays {count_credits(view.cost)}{f' ({view.money})' if view.money else ''}, rounded up once.",
        f"It has {count_credits(view.available)} for it: {view.affordable_seconds} s would be granted.",
    ]
    for place, trunk in enumerate(view.trunks, 1):
        cost = "cost not known" if trunk.cost is None else f"costs {count_credits(trunk.cost)}, margin {trunk.margin}"
        lines.append(f"Trunk {place}: {trunk.name}, {cost}.")
    if view.refusal is not None:
        lines.append(f"It would be refused now: {view.refusal.code}, {view.refusal.detail}.")
    return lines


_MONEY = BundleKind.MONEY.value


def _money(amount: int, tariff: UsedTariff) -> str:
    return format_money(amount, tariff.currency, tariff.credits_per_unit) if tariff.currency else ""


def view_piece(piece: Piece, bundle_names: Mapping[int, str]) -> PricePieceView:
    """Return the view of a piece; ``bundle_names`` is by account."""
    step = piece.step
    return PricePieceView(
        kind=piece.kind,
        from_second=piece.start,
        seconds=piece.units,
        price=None if step is None else step.price,
        per=None if step is None else step.per,
        increment=None if step is None else step.increment,
        window="" if piece.window is None else format_window(piece.window),
        exact=str(piece.exact),
        credits=piece.credits,
        bundle="" if piece.account_id is None else bundle_names[piece.account_id],
    )


def describe_piece(piece: PricePieceView) -> str:
    """Return the line of a piece."""
    if piece.kind is PieceKind.CONNECT_FEE:
        return f"connect fee: {count_credits(piece.credits)}"
    if piece.kind is PieceKind.MINIMUM:
        return f"up to the minimum charge: {count_credits(piece.credits)}"
    if piece.kind is PieceKind.GRACE:
        return f"{piece.seconds} s are within the grace: free"
    end = piece.from_second + piece.seconds
    window = f" in {piece.window}" if piece.window else ""
    stretch = f"second {piece.from_second} to {end}{window}: {piece.seconds} s in increments of {piece.increment} s"
    if piece.bundle:
        return f"{stretch}, paid by the bundle {piece.bundle}"
    price = f"{count_credits(piece.price or 0)} for each {piece.per} s"
    return f"{stretch}, {price}: {piece.exact}, {count_credits(piece.credits)}"
