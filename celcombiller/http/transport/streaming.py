"""Long lists as one answer, piece by piece: the biller reads no more than the client accepts.

Each piece is read in its own transaction, in a thread of the reader, and written when the connection has room. When the
client stops reading, the database is not read either. The answer ends when the client disconnects, or the
connection is cut because the client accepts too little (``rest.send_seconds``).
"""

from __future__ import annotations

import csv
import io
import re
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from celcombiller.core.model.text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.engine import Connection

    from celcombiller.database.reader import Reader
    from celcombiller.http.transport.http_request import HttpRequest

P = TypeVar("P")


class Piece(Protocol[P]):
    """A function that returns one piece and the place of its last row; ``None``: it was the last piece."""

    def __call__(self, tx: Connection, /, after: P | None) -> tuple[bytes, P | None]:
        """Return the piece after a place; ``None``: the first piece."""


CSV_TYPE = "text/csv; charset=utf-8; header=present"
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"\+?[0-9*#]*")
_log = Logger()


@implementer(IPushProducer)
class ConnectionRoom:
    """A producer that waits while the connection accepts no more."""

    def __init__(self) -> None:
        self._resumed: defer.Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """Note that the connection accepts no more."""
        self._resumed = self._resumed or defer.Deferred()

    def resumeProducing(self) -> None:
        """Continue: the connection accepts more."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: when the client disconnects, Klein cancels the waiting coroutine."""

    async def wait(self) -> None:
        """Wait until the connection accepts more."""
        if self._resumed is not None:
            await self._resumed


async def send(
    http_request: HttpRequest,
    reader: Reader,
    headers: dict[str, str],
    piece: Piece[P],
) -> None:
    """Send the pieces, one after the other.

    An error before the first piece is raised, and answered as any other. A later error cuts the connection, so that the
    client does not take an incomplete answer for the whole.
    """
    part, after = await reader.read(partial(piece, after=None))
    for name, value in headers.items():
        http_request.setHeader(name.encode(), value.encode())
    room = ConnectionRoom()
    with cut_off_on_failure(http_request, room):
        http_request.write(part)
        while after is not None:
            await room.wait()
            part, after = await reader.read(partial(piece, after=after))
            http_request.write(part)


@contextmanager
def cut_off_on_failure(http_request: HttpRequest, room: ConnectionRoom) -> Iterator[None]:
    """Have ``room`` follow the connection while an answer is written; a failure is logged, and cuts the answer off."""
    http_request.registerProducer(room, True)
    try:
        yield
    except defer.CancelledError:
        raise
    except Exception:  # noqa: BLE001  the status was sent already: only a cut connection shows the error
        _log.failure("{path} was cut off", path=http_request.path)
        http_request.channel.forceAbortClient()
    finally:
        if http_request.channel is not None:  # it is None once the client has disconnected
            http_request.unregisterProducer()


def format_csv(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as CSV (RFC 4180). No text in it is a formula to a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(each) for each in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    """Return a text printable, and with an apostrophe before it where a spreadsheet would compute it.

    Phone numbers stay as they are.
    """
    if isinstance(value, str):
        value = escape_unprintable(value)
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
