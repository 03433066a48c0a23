"""``/api/v1/live``: the calls in progress, as a list and as a stream of events, and hanging one up."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import msgspec
from msgspec import Meta
from twisted.internet.task import deferLater

from celcombiller.core.access.changes import call_order_changes
from celcombiller.core.errors import BillerError, Forbidden, InvalidValue, NotAuthenticated, Overloaded, UnknownCall
from celcombiller.core.reports import live_calls, live_events
from celcombiller.core.reports.live_views import LiveCallView, view_live_call, view_order
from celcombiller.core.voice import call_orders, call_queries
from celcombiller.core.voice.call_orders import OrderKind
from celcombiller.http.pagination import Cursor, Limit, Page, Place, decode_cursor, make_page
from celcombiller.http.problem_details import make_problem
from celcombiller.http.route import Response
from celcombiller.http.transport.event_stream import (
    EVENT_STREAM_TYPE,
    HEARTBEAT_SECONDS,
    EventFeed,
    format_comment,
    format_event,
)
from celcombiller.http.transport.streaming import ConnectionRoom, cut_off_on_failure
from celcombiller.rest.v1.subscribers import Payer, visible_subscriber
from celcombiller.rest.v1.transfers import Reason

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.reports.live_calls import LiveCall
    from celcombiller.core.reports.live_events import LiveEvent, LiveLook
    from celcombiller.core.voice.call_orders import CallOrder
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

WAIT_SECONDS = 2.0
"""How long a request to hang up waits for the biller that does it."""
LOOK_SECONDS = 0.1
ADMIT_SECONDS = 5.0
"""How often it is looked again, while a stream is open, whether its login or its token is good."""
SNAPSHOT_CALLS = 100
EVENTS_AT_ONCE = 100
_FEED = "live"

Server = Annotated[
    str, Meta(pattern=r"^[^\x00]{0,64}$", description="at most 64 characters: an Asterisk server's name")
]


class LiveFilter(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of calls in progress: those that match all given fields."""

    username: Payer | None = None
    server: Server | None = None


class LiveQuery(LiveFilter, kw_only=True, forbid_unknown_fields=True):
    """A filter of calls in progress, and the size of a page."""

    limit: Limit = 50
    cursor: Cursor | None = None


class HangupQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a call is hung up; here, or in the body."""

    reason: Reason | None = None


class Hangup(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a call is hung up."""

    reason: Reason


def list_all(tx: Connection, request: Request) -> Page[LiveCallView]:
    """List the calls in progress, oldest first."""
    query: LiveQuery = request.query
    who = visible_subscriber(tx, request, query.username)
    rows = live_calls.list_live_calls(
        tx,
        request.now,
        limit=query.limit + 1,
        subscriber_id=None if who is None else who.id,
        server=query.server,
        after=decode_cursor(query.cursor, Place),
    )
    return make_page(rows, query.limit, _place, partial(view_live_call, to_staff=request.principal.is_staff))


def show(tx: Connection, request: Request) -> LiveCallView:
    """Show one call in progress."""
    found = live_calls.find_live_call(tx, request.path["id"], request.now)
    _check_visible(request, found.call.subscriber_id)
    return view_live_call(found, to_staff=request.principal.is_staff)


async def hang_up(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Hang up a call in progress. 200: it is done, or `result` says why not; 202: the order waits for a biller."""
    reason = request.query.reason if request.body is None else request.body.reason
    if reason is None:
        what = "is needed, in the query or in the body: it stands in the audit trail"
        raise InvalidValue(f"reason {what}", {"reason": what})

    def work(tx: Connection, admitted: Request) -> CallOrder:
        call = call_queries.find_open(tx, admitted.path["id"])
        _check_visible(admitted, call.subscriber_id)
        kind, call_id = OrderKind.HANGUP, admitted.path["id"]
        return call_order_changes.order(tx, admitted.actor, call_id, kind, reason, admitted.now)

    order = await api.transact(request, work)
    order_id, clock = order.id, api.reader.reactor
    until = clock.seconds() + WAIT_SECONDS
    while order.waits and clock.seconds() < until:
        await deferLater(clock, LOOK_SECONDS)
        found = await api.reader.read(partial(call_orders.find, order_id=order_id))
        order = found or order
    return Response(view_order(order, to_staff=request.principal.is_staff), status=202 if order.waits else 200)


def _check_visible(request: Request, subscriber_id: int) -> None:
    """Raise `UnknownCall` for another's call, as if it were not there."""
    if request.only_subscriber_id not in (None, subscriber_id):
        raise UnknownCall(f"no call in progress has the number {request.path['id']}: it has ended, or never was")


def _place(each: LiveCall) -> tuple[datetime, int]:
    return each.call.started_at, each.id


# -- events ----------------------------------------------------------------------------------------------------------


class LiveSnapshot(msgspec.Struct, kw_only=True):
    """A part of the calls in progress at the beginning of a stream; `more`: another part follows."""

    items: list[LiveCallView]
    more: bool


async def events(api: Api, http_request: HttpRequest, request: Request) -> Response | None:
    """Stream what happens to calls in progress, as server-sent events: snapshot, then begin, answer, grant and end."""
    headers = {"Content-Type": EVENT_STREAM_TYPE, "X-Accel-Buffering": "no"}
    if http_request.method == b"HEAD":
        return Response(headers=headers)
    feed = _feed_of(api)
    principal_id = request.principal.subscriber_id
    try:
        feed.join(principal_id)
    except Overloaded:
        api.metrics.rest.count_limit("event_streams_max")
        raise
    try:
        scope = await api.reader.read(lambda tx: _scope(tx, api.readmit(tx, request)))
        for name, value in headers.items():
            http_request.setHeader(name.encode(), value.encode())
        await _LiveStream(api, feed, http_request, request, scope).run()
    finally:
        feed.leave(principal_id)
    return None


def _feed_of(api: Api) -> EventFeed[LiveLook, LiveEvent]:
    """Return the feed of live calls, which all streams of this biller share."""
    if _FEED not in api.feeds:
        api.feeds[_FEED] = EventFeed(
            api.reader.reactor,
            api.reader,
            lambda tx, before: live_events.look(tx, before, datetime.now(UTC)),
            lambda: uuid4().hex[:12],
            api.config.rest.event_streams_max,
        )
        api.metrics.rest.event_streams.set_function(api.feeds[_FEED].__len__)
    return api.feeds[_FEED]


class _Scope(msgspec.Struct, frozen=True):
    """Which calls a stream has, and as whom it shows them."""

    subscriber_id: int | None
    server: str | None
    to_staff: bool

    def includes(self, event: LiveEvent) -> bool:
        return self.subscriber_id in (None, event.subscriber_id) and self.server in (None, event.server)


def _scope(tx: Connection, request: Request) -> _Scope:
    query: LiveFilter = request.query
    who = visible_subscriber(tx, request, query.username)
    return _Scope(None if who is None else who.id, query.server, request.principal.is_staff)


class _LiveStream:
    """One stream of events, and how far its client is."""

    def __init__(
        self,
        api: Api,
        feed: EventFeed[LiveLook, LiveEvent],
        http_request: HttpRequest,
        request: Request,
        scope: _Scope,
    ) -> None:
        self._api, self._feed, self._http_request, self._request = api, feed, http_request, request
        self._scope = scope
        self._room = ConnectionRoom()
        now = feed.clock.seconds()
        self._admitted_at = self._written_at = now

    async def run(self) -> None:
        """Write until the client disconnects, its login or token is no longer good, or the biller stops."""
        http_request = self._http_request
        channel: Any = http_request.channel
        channel.connections.note_stream(channel)
        with cut_off_on_failure(http_request, self._room):
            try:
                await self._write_all()
            except BillerError as error:
                self._write(format_event("refused", make_problem(error)))

    async def _write_all(self) -> None:
        self._write(format_comment("calls in progress"))
        await self._wait_for_feed()
        last = self._http_request.getHeader("last-event-id")
        position = None if last is None else self._feed.position_of(last)
        while not self._feed.is_stopped:
            happened = None if position is None else self._feed.since(position, EVENTS_AT_ONCE)
            if position is None or happened is None:
                position = await self._write_snapshot()
                continue
            position += len(happened)
            shown = [each for each in happened if self._scope.includes(each)]
            self._write(b"".join(self._format(each) for each in shown[:-1]))
            if shown:
                self._write(self._format(shown[-1], self._feed.id_of(position)))
            await self._room.wait()
            if not happened:
                self._keep_alive()
                await self._feed.wait()
                await self._check_admitted()
                position = None if self._feed.position is None else position

    async def _write_snapshot(self) -> int:
        """Write all calls in progress, part by part, and return the place after which events follow."""
        position, after = await self._wait_for_feed(), None
        while True:
            found = await self._api.reader.read(partial(self._read_calls, after=after))
            items = [view_live_call(each, to_staff=self._scope.to_staff) for each in found]
            more = len(found) == SNAPSHOT_CALLS
            event_id = "" if more else self._feed.id_of(position)
            self._write(format_event("snapshot", LiveSnapshot(items=items, more=more), event_id))
            await self._room.wait()
            if not more:
                return position
            after = _place(found[-1])

    async def _wait_for_feed(self) -> int:
        """Return the place after the last event, once the feed has looked."""
        while self._feed.position is None and not self._feed.is_stopped:
            self._keep_alive()
            await self._feed.wait()
            await self._check_admitted()
        return self._feed.position or 0

    def _read_calls(self, tx: Connection, after: tuple[datetime, int] | None) -> list[LiveCall]:
        self._readmit(tx)
        which: dict[str, Any] = {"subscriber_id": self._scope.subscriber_id, "server": self._scope.server}
        return live_calls.list_live_calls(tx, datetime.now(UTC), limit=SNAPSHOT_CALLS, after=after, **which)

    def _format(self, event: LiveEvent, event_id: str = "") -> bytes:
        return format_event(event.kind, event.to_staff if self._scope.to_staff else event.to_payer, event_id)

    def _write(self, text: bytes) -> None:
        if text:
            self._written_at = self._feed.clock.seconds()
            self._http_request.write(text)

    def _keep_alive(self) -> None:
        if self._feed.clock.seconds() - self._written_at >= HEARTBEAT_SECONDS:
            self._write(format_comment("still here"))

    async def _check_admitted(self) -> None:
        """Look, every few seconds, whether the login or the token is still good. Raises as `Api.readmit` does."""
        now = self._feed.clock.seconds()
        if now - self._admitted_at < ADMIT_SECONDS:
            return
        self._admitted_at = now
        try:
            await self._api.reader.read(self._readmit)
        except (NotAuthenticated, Forbidden):
            raise
        except BillerError:  # the database is away, and so is what could be seen
            return

    def _readmit(self, tx: Connection) -> None:
        admitted = self._api.readmit(tx, self._request)
        if admitted.principal.is_staff != self._scope.to_staff:
            raise Forbidden("your level has changed: connect again")
