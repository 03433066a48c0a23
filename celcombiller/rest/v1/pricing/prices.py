"""``/api/v1/rate``: what a call would cost, and why, by the code that charges calls."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.config.charging_policy import charging_policy
from celcombiller.core.catalogue.catalogue import CatalogueHolder
from celcombiller.core.charging.simulation import SECONDS_MAX, simulate_call
from celcombiller.core.reports.call_price import CallPriceView, call_price_view
from celcombiller.rest.v1.subscribers import Payer, visible_subscriber

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

Number = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,80}$(?!\n)", description="a number as it is dialled, 1 to 80 characters")
]


class CallToRate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A call to be priced. Its payer is ``username``, else who has ``from_number``, else who asks."""

    to_number: Number
    seconds: Annotated[int, Meta(ge=0, le=SECONDS_MAX, description=f"seconds of talk, from 0 to {SECONDS_MAX}")]
    username: Payer | None = None
    from_number: Number | None = None
    at: Annotated[datetime, Meta(tz=True, description="when it is answered (RFC 3339); default: now")] | None = None


def rate(tx: Connection, request: Request) -> CallPriceView:
    """Price a call, piece by piece, with nothing recorded. A subscriber asks for themselves, without trunks."""
    body: CallToRate = request.body
    own = request.principal.username if body.from_number is None else None
    payer = visible_subscriber(tx, request, body.username or own)
    simulated = simulate_call(
        tx,
        charging_policy(request.config, CatalogueHolder(request.catalogue)),
        from_number=body.from_number or "",
        to_number=body.to_number,
        seconds=body.seconds,
        at=body.at or request.now,
        username="" if payer is None else payer.username,
    )
    return call_price_view(simulated, with_trunks=request.only_subscriber_id is None)
