"""``/api/v1/broadcasts``: text messages of the operator to all members of a group."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.model.messages import MessageState
from celcombiller.core.notifications import broadcasts
from celcombiller.core.reports.views import make_view
from celcombiller.core.sms.encoding import Encoding
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page
from celcombiller.http.route import ID_MAX, Response
from celcombiller.rest.v1.messaging.messages import Text

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.notifications.broadcasts import Broadcast
    from celcombiller.http.route import Request

GroupId = Annotated[int, Meta(ge=1, le=ID_MAX, description="the number of the group whose members get it")]
Parts = Annotated[int, Meta(description="the number of short messages (SMS) that each member's message takes")]


class NewBroadcast(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A text to send to all members of a group."""

    group_id: GroupId
    text: Text


class BroadcastPlanView(msgspec.Struct, kw_only=True):
    """What a broadcast would send, to be looked at before it is sent."""

    group_id: Annotated[int, Meta(description="the number of the group")]
    group: Annotated[str, Meta(description="its name")]
    recipients: Annotated[int, Meta(description="number of members who would get it")]
    disabled: Annotated[int, Meta(description="number of members who would not, as they are disabled")]
    characters: Annotated[int, Meta(description="number of characters of the text")]
    encoding: Annotated[Encoding, Meta(description="the alphabet it needs: gsm7 or ucs2")]
    parts: Parts
    parts_total: Annotated[int, Meta(description="number of short messages in all: what the carrier counts")]
    cost: Annotated[int, Meta(description="credits that members pay: 0, as the operator sends it")]


class BroadcastView(msgspec.Struct, kw_only=True):
    """A text to the members of a group, and how far its sending is."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    group_id: Annotated[int, Meta(description="the number of the group")]
    group: Annotated[str, Meta(description="its name")]
    text: str
    parts: Parts
    recipients: Annotated[int, Meta(description="number of members who were to get it when it was made")]
    queued: Annotated[int, Meta(description="number of members whose message was queued so far")]
    left_out: Annotated[int, Meta(description="number of members who were left out so far, as those who are disabled")]
    author: Annotated[str, Meta(description="who sent it")]
    made_at: Annotated[datetime, Meta(tz=True, description="when it was made (RFC 3339, UTC)")]
    cancelled_at: Annotated[datetime, Meta(tz=True, description="when it was cancelled (RFC 3339, UTC)")] | None
    completed_at: (
        Annotated[datetime, Meta(tz=True, description="when all was queued or withdrawn (RFC 3339, UTC)")] | None
    )


class BroadcastWhole(BroadcastView, kw_only=True):
    """A broadcast, and where its messages are."""

    messages: Annotated[dict[MessageState, int], Meta(description="number of its messages in each state")]


class BroadcastQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The size of a page, and the cursor."""

    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[BroadcastView]:
    """List broadcasts, newest first."""
    query: BroadcastQuery = request.query
    rows = broadcasts.list_all(tx, before_id=decode_cursor(query.cursor, RowId), limit=query.limit + 1)
    return make_page(rows, query.limit, lambda each: each.id, lambda each: make_view(BroadcastView, each))


def show(tx: Connection, request: Request) -> BroadcastWhole:
    """Show one broadcast, and how many of its messages are in each state."""
    return _show(tx, broadcasts.find(tx, request.path["id"]))


def plan(tx: Connection, request: Request) -> BroadcastPlanView:
    """Show how many would get a text, and how many short messages that takes. Nothing is sent."""
    body: NewBroadcast = request.body
    planned = broadcasts.plan(tx, request.config.message_policy, body.group_id, body.text)
    return make_view(
        BroadcastPlanView,
        planned,
        group_id=planned.group.id,
        group=planned.group.name,
        characters=len(body.text),
        parts_total=planned.parts * planned.recipients,
        cost=0,
    )


def add(tx: Connection, request: Request) -> Response:
    """Send a text to all members of a group, once for each Idempotency-Key. Its messages are queued after it."""
    body: NewBroadcast = request.body
    policy, key = request.config.message_policy, request.key or request.fresh
    made = broadcasts.add(tx, request.actor, policy, body.group_id, body.text, key=key, now=request.now)
    return Response(_show(tx, made), headers={"Location": f"{request.base_url}/api/v1/broadcasts/{made.id}"})


def cancel(tx: Connection, request: Request) -> BroadcastWhole:
    """Send no more of a broadcast: what was sent stays sent. The same again changes nothing."""
    return _show(tx, broadcasts.cancel(tx, request.actor, request.path["id"], request.now))


def _show(tx: Connection, broadcast: Broadcast) -> BroadcastWhole:
    return make_view(BroadcastWhole, broadcast, messages=broadcasts.count_messages(tx, broadcast.id))
