"""A long list as one answer, piece by piece: no more is read than the client takes.

Each piece is read in a transaction of its own, in a reading thread, and written when the connection has room. A client
that stops reading stops the reading; one that goes away ends it, and so does one that takes nothing for a minute.
"""

from __future__ import annotations

import csv
import io
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

    from celcombiller.database.reader import Reader
    from celcombiller.http.http_request import HttpRequest

P = TypeVar("P")


class Piece(Protocol[P]):
    """What makes one piece, and says where the next one begins: ``None`` is nowhere."""

    def __call__(self, tx: Connection, /, after: P | None) -> tuple[bytes, P | None]:
        """Make the piece that comes after a place; ``None`` is the beginning."""


STALLED_SECONDS = 60
CSV_TYPE = "text/csv; charset=utf-8; header=present"
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"\+?[0-9*#]*")
_log = Logger()


@implementer(IPushProducer)
class Room:
    """Whether the connection takes more: it pauses and resumes this producer."""

    def __init__(self) -> None:
        self._resumed: defer.Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """Note that what was written waits."""
        self._resumed = self._resumed or defer.Deferred()

    def resumeProducing(self) -> None:
        """Note that it was taken."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """Nothing: that the client is gone cancels who waits here."""

    async def wait(self, clock: Any) -> None:
        """Wait until there is room. Raises `TimeoutError` when there is none for too long."""
        if self._resumed is not None:
            await self._resumed.addTimeout(STALLED_SECONDS, clock)


async def send(
    http_request: HttpRequest,
    reader: Reader,
    headers: dict[str, str],
    piece: Piece[P],
) -> None:
    """Send the pieces, one after the other.

    What goes wrong before the first is raised, to be told as any error. Later it cuts the connection: the client must
    not take what came for all there is.
    """
    part, after = await reader.read(partial(piece, after=None))
    for name, value in headers.items():
        http_request.setHeader(name.encode(), value.encode())
    room = Room()
    http_request.registerProducer(room, True)
    try:
        http_request.write(part)
        while after is not None:
            await room.wait(reader.reactor)
            part, after = await reader.read(partial(piece, after=after))
            http_request.write(part)
    except defer.CancelledError:
        raise
    except defer.TimeoutError:
        _log.info("A client took nothing of {path} for {seconds} s", path=http_request.path, seconds=STALLED_SECONDS)
        http_request.channel.forceAbortClient()
    except Exception:  # noqa: BLE001  its beginning was sent, so there is no other way to tell
        _log.failure("{path} was cut off", path=http_request.path)
        http_request.channel.forceAbortClient()
    finally:
        if http_request.channel is not None:  # it has none once the client is gone
            http_request.unregisterProducer()


def csv_of(rows: Iterable[Iterable[object]]) -> bytes:
    """Write rows as CSV (RFC 4180); no text in it is a formula for a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(each) for each in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    """Make a text that a spreadsheet would compute plain, by the apostrophe it knows; a phone number stays."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
