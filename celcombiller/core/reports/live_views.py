"""Views of calls in progress and of orders to them: what the API and the command show."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.reports.views import AccountWord, make_view
from celcombiller.core.voice.call_orders import OrderKind

if TYPE_CHECKING:
    from celcombiller.core.reports.live_calls import LiveCall
    from celcombiller.core.voice.call_orders import CallOrder

_TIME = "(RFC 3339, UTC)"


class CallOrderView(msgspec.Struct, kw_only=True):
    """An order to a call in progress."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    kind: Annotated[OrderKind, Meta(description="hangup: end the call; say: say something to its caller")]
    reason: Annotated[str, Meta(description="why, in the words of who ordered it; shown to staff")]
    actor: Annotated[str, Meta(description="who ordered it; shown to staff")]
    made_at: Annotated[datetime, Meta(tz=True, description=f"when it was ordered {_TIME}")]
    done_at: (
        Annotated[datetime, Meta(tz=True, description=f"when a biller did it, or gave it up {_TIME}; null: it waits")]
        | None
    )
    result: Annotated[str, Meta(description="done, or why it was not done; empty: it waits")]


class LiveBundleView(msgspec.Struct, kw_only=True):
    """What a call in progress takes from a bundle."""

    name: str
    kind: Annotated[AccountWord, Meta(description="seconds, or money (credits)")]
    taken: Annotated[int, Meta(description="what it has taken so far: seconds, or credits of a bundle of money")]
    held: Annotated[int, Meta(description="seconds or credits of the bundle that are set aside for the granted time")]


class LiveCallView(msgspec.Struct, kw_only=True):
    """A call in progress."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    reference: Annotated[str, Meta(description="the id of its hold and of its charge in the ledger")]
    server: Annotated[str, Meta(description="the Asterisk server of the call")]
    uniqueid: Annotated[str, Meta(description="Asterisk's id of the caller's channel")]
    leg: Annotated[int, Meta(description="which dial of that channel, counted from 0")]
    username: Annotated[str, Meta(description="the caller, who pays")]
    name: Annotated[str, Meta(description="the subscriber's name")]
    number: Annotated[str, Meta(description="the subscriber's own number")]
    from_number: Annotated[str, Meta(description="the number of the caller: digits")]
    to_number: Annotated[str, Meta(description="the number that was called")]
    callee: Annotated[str, Meta(description="the subscriber who was called; null: a number outside")] | None
    trunk: Annotated[str, Meta(description="the trunk that it goes by; null: none; shown to staff")] | None
    destination: Annotated[str, Meta(description="the destination of its rate")]
    started_at: Annotated[datetime, Meta(tz=True, description=f"when it was authorized {_TIME}")]
    answered_at: Annotated[datetime, Meta(tz=True, description=f"when the callee answered {_TIME}; null: rings")] | None
    used_seconds: Annotated[int, Meta(description="seconds of talk so far; one that has begun counts")]
    granted_seconds: Annotated[
        int, Meta(description="seconds from the answer on that are granted so far: the end of the present slice")
    ]
    granted_until: (
        Annotated[datetime, Meta(tz=True, description=f"when that time is over {_TIME}; null: not answered yet")] | None
    )
    cost: Annotated[int, Meta(description="credits: what the balance would pay if the call ended now")]
    held: Annotated[int, Meta(description="credits of the balance that are set aside for the granted seconds")]
    bundles: Annotated[list[LiveBundleView], Meta(description="the bundles that it takes from, before the balance")]
    order: Annotated[CallOrderView, Meta(description="the last order to it; null: none")] | None


def view_live_call(each: LiveCall, *, to_staff: bool = True) -> LiveCallView:
    """Return the view of a call in progress. Who pays for it does not see its trunk, nor who ordered what."""
    return make_view(
        LiveCallView,
        each.call,
        id=each.id,
        username=each.username,
        name=each.name,
        number=each.number,
        callee=each.callee or None,
        trunk=(each.trunk or None) if to_staff else None,
        destination=each.call.rate.name,
        used_seconds=each.used_seconds,
        granted_until=each.granted_until,
        cost=each.cost,
        held=each.held,
        bundles=[make_view(LiveBundleView, use) for use in each.bundles],
        order=None if each.order is None else view_order(each.order, to_staff=to_staff),
    )


def view_order(order: CallOrder, *, to_staff: bool = True) -> CallOrderView:
    """Return the view of an order."""
    return make_view(CallOrderView, order, **({} if to_staff else {"actor": "", "reason": ""}))
