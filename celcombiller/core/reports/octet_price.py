"""What octets of data would cost, as data for programs and as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.rating.pricing import PieceKind
from celcombiller.core.tariffs.price_format import count_credits, format_money

if TYPE_CHECKING:
    from celcombiller.core.charging.octet_simulation import SimulatedOctets
    from celcombiller.core.rating.pricing import Piece


class OctetPieceView(msgspec.Struct, kw_only=True):
    """A part of the price of octets."""

    kind: Annotated[PieceKind, Meta(description="use, connect fee, minimum (what lacks to it) or grace (free)")]
    from_octet: Annotated[int, Meta(description="the octets before it that the balance pays for")]
    octets: Annotated[int, Meta(description="the octets that count: whole increments")]
    price: Annotated[int, Meta(description="credits for each `per` octets")] | None
    per: Annotated[int, Meta(description="the octets that `price` buys")] | None
    exact: Annotated[str, Meta(description="its share before rounding, a fraction of credits")]
    credits: Annotated[int, Meta(description="its whole credits; the sum of all pieces is the price")]


class OctetPriceView(msgspec.Struct, kw_only=True):
    """What octets would cost, and why."""

    username: str
    tariff: str
    version: int | None
    octets: int
    bundled: Annotated[int, Meta(description="octets of them that bundles pay for")]
    cost: Annotated[int, Meta(description="the credits that the balance would pay for the others")]
    money: str
    pieces: list[OctetPieceView]
    available: int
    affordable_octets: int


def octet_price_view(simulated: SimulatedOctets) -> OctetPriceView:
    """Return the view of simulated octets."""
    tariff = simulated.tariff
    money = format_money(simulated.cost, tariff.currency, tariff.credits_per_unit) if tariff.currency else ""
    return OctetPriceView(
        username=simulated.payer.username,
        tariff=tariff.name,
        version=tariff.version,
        octets=simulated.octets,
        bundled=simulated.bundled,
        cost=simulated.cost,
        money=money,
        pieces=[_view_piece(piece) for piece in simulated.pieces],
        available=simulated.available,
        affordable_octets=simulated.affordable_octets,
    )


def describe_octet_price(view: OctetPriceView) -> list[str]:
    """Return the lines that say what octets would cost, and why."""
    version = "" if view.version is None else f", version {view.version}"
    lines = [f"{view.octets} octets of {view.username}, by the tariff {view.tariff}{version}."]
    if view.bundled:
        lines.append(f"  {view.bundled} octets are paid by bundles")
    for piece in view.pieces:
        if piece.kind is PieceKind.USE:
            end = piece.from_octet + piece.octets
            price = f"{count_credits(piece.price or 0)} for each {piece.per}"
            lines.append(f"  octet {piece.from_octet} to {end}, {price}: {piece.exact}, {count_credits(piece.credits)}")
        else:
            lines.append(f"  {piece.kind}: {count_credits(piece.credits)}")
    return [
        *lines,
        f"The balance pays {count_credits(view.cost)}{f' ({view.money})' if view.money else ''}, rounded up once.",
        f"It has {count_credits(view.available)} for it: with bundles {view.affordable_octets} octets could be used.",
    ]


def _view_piece(piece: Piece) -> OctetPieceView:
    return OctetPieceView(
        kind=piece.kind,
        from_octet=piece.start,
        octets=piece.units,
        price=None if piece.step is None else piece.step.price,
        per=None if piece.step is None else piece.step.per,
        exact=str(piece.exact),
        credits=piece.credits,
    )
