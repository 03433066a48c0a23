"""Server-sent events: one look at the database for all who listen, and a bounded stream to each.

What happened is kept for a while, so that a client that comes back is sent what it missed (Last-Event-ID). A client
that accepts too little is not written to; its connection is cut by the deadline of all answers (``rest.send_seconds``),
and if what it missed is no longer kept, it is sent everything again. So a listener costs its place in the list only.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from celcombiller.core.errors import BillerError, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection
    from twisted.internet.interfaces import IReactorTime

    from celcombiller.database.reader import Reader

S = TypeVar("S")
E = TypeVar("E")

EVENT_STREAM_TYPE = "text/event-stream"
LOOK_SECONDS = 0.5
"""The interval between two looks."""
LOOK_SHARE = 0.02
"""The share of the time that looks may take: where one takes long, the next comes later."""
FAILED_SECONDS = 5.0
"""The interval after a look that failed."""
LINGER_SECONDS = 30.0
"""For how long it goes on looking when nobody listens, so that who comes back is sent what they missed."""
EVENTS_KEPT = 5_000
HEARTBEAT_SECONDS = 15.0
"""The longest silence: proxies cut a silent connection after a minute, and one whose client is gone is noticed."""
ONE_PRINCIPALS_SHARE = 10
"""Of all streams one principal may have a tenth."""


class EventFeed(Generic[S, E]):
    """What happened, for all who listen. It looks only while somebody does, and for `LINGER_SECONDS` after.

    ``look`` is called with a transaction and what it returned at the last look (``None``: this is the first), and
    returns what it needs at the next look, and the events since the last.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        reader: Reader,
        look: Callable[[Connection, S | None], tuple[S, list[E]]],
        make_epoch: Callable[[], str],
        streams_max: int,
    ) -> None:
        self.clock = clock
        self._reader = reader
        self._look = look
        self._make_epoch = make_epoch
        self._epoch = ""
        self._streams_max = streams_max
        self._streams: Counter[int] = Counter()
        self._state: S | None = None
        self._events: deque[E] = deque(maxlen=EVENTS_KEPT)
        self._count = 0
        self._waiting: set[Deferred[None]] = set()
        self._loop: Deferred[None] | None = None
        self.is_stopped = False

    def __len__(self) -> int:
        return self._streams.total()

    def join(self, principal_id: int) -> None:
        """Count a stream of a principal. Raises `Overloaded` where there are too many, in all or of theirs."""
        of_one_max = max(1, self._streams_max // ONE_PRINCIPALS_SHARE)
        if self.is_stopped or len(self) >= self._streams_max or self._streams[principal_id] >= of_one_max:
            raise Overloaded(f"too many event streams are open: {self._streams_max} in all, {of_one_max} of one user")
        self._streams[principal_id] += 1
        if self._loop is None:
            self._loop = Deferred.fromCoroutine(self._run())

    def leave(self, principal_id: int) -> None:
        """Forget a stream."""
        self._streams[principal_id] -= 1
        if not self._streams[principal_id]:
            del self._streams[principal_id]

    async def wait(self) -> None:
        """Wait for the next look, whether or not anything happened."""
        if self.is_stopped:
            return
        looked: Deferred[None] = Deferred(self._waiting.discard)
        self._waiting.add(looked)
        await looked

    @property
    def position(self) -> int | None:
        """The place after the last event; ``None`` before the first look."""
        return None if self._state is None else self._count

    def id_of(self, position: int) -> str:
        """Return the id of the event before a place, for clients that come back."""
        return f"{self._epoch}-{position}"

    def position_of(self, event_id: str) -> int | None:
        """Return the place after the event of this id; ``None``: it is not known here, or no longer."""
        epoch, _, number = event_id.partition("-")
        if self._state is None or epoch != self._epoch or not (number.isdecimal() and len(number) <= len(str(2**53))):
            return None
        return int(number) if self._count - len(self._events) <= int(number) <= self._count else None

    def since(self, position: int, limit: int) -> list[E] | None:
        """Return the events after a place, at most ``limit``; ``None``: they are no longer kept."""
        first = self._count - len(self._events)
        if position < first:
            return None
        return list(islice(self._events, position - first, position - first + limit))

    def stop(self) -> None:
        """End all streams, and look no more."""
        self.is_stopped = True
        self._wake()
        if self._loop is not None:
            self._loop.cancel()

    async def _run(self) -> None:
        try:
            silent_since = self.clock.seconds()
            while self._streams or self.clock.seconds() - silent_since < LINGER_SECONDS:
                silent_since = self.clock.seconds() if self._streams else silent_since
                seconds = await self._look_once()
                self._wake()
                await self._sleep(seconds)
        except CancelledError:
            pass
        finally:
            self._loop, self._state = None, None
            self._events.clear()
            self._wake()

    async def _look_once(self) -> float:
        """Look, and return after how many seconds to look again."""
        state, began = self._state, self.clock.seconds()
        try:
            self._state, happened = await self._reader.read(lambda tx: self._look(tx, state))
        except BillerError as error:  # the database is away: the streams go on when it is back
            self._log.warn("Live calls cannot be read: {error}", error=error)
            return FAILED_SECONDS
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001  a fault of the program must not end the looks
            self._log.failure("Live calls could not be read")
            return FAILED_SECONDS
        if state is None:
            self._epoch, self._count = self._make_epoch(), 0
        self._events.extend(happened)
        self._count += len(happened)
        return max(LOOK_SECONDS, (self.clock.seconds() - began) / LOOK_SHARE)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            each.callback(None)

    async def _sleep(self, seconds: float) -> None:
        over: Deferred[None] = Deferred(lambda _cancelled: timer.cancel())
        timer = self.clock.callLater(seconds, over.callback, None)
        await over


def format_event(kind: str, data: object, event_id: str = "") -> bytes:
    """Return an event as it is sent. JSON has no line feeds, so its data is one line."""
    identified = b"id: %b\n" % event_id.encode() if event_id else b""
    return b"%bevent: %b\ndata: %b\n\n" % (identified, kind.encode(), msgspec.json.encode(data))


def format_comment(text: str) -> bytes:
    """Return a comment, which clients leave out: it shows that the connection lives."""
    return b": %b\n\n" % text.encode()
