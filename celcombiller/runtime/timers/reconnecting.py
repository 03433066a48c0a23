"""The loop that keeps one connection of the biller's own up: connect, serve, and after its end again.

Twisted's ``ClientService`` does not serve here. It says nothing of a failed attempt, its retry policy does not see why
the attempt failed, and it must build the protocol itself, which starpy does on its own. Its back-off is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.logger import Logger

FAULT_SECONDS = 1.0
"""The wait after a fault of the biller's own while it served a connection."""

_Connection = TypeVar("_Connection")


def explain_error(error: Exception) -> str:
    """Return what an error says, or its name if it says nothing."""
    return str(error) or type(error).__name__


async def stay_connected(
    clock: Any,
    is_wanted: Callable[[], bool],
    connect: Callable[[], Awaitable[_Connection]],
    serve: Callable[[_Connection], Awaitable[object]],
    *,
    log: Logger,
    peer: str,
    explain: Callable[[Exception], str] = explain_error,
    least_seconds: Callable[[Exception], float] = lambda _error: 0.0,
) -> None:
    """Connect, serve each connection to its end, and connect again while ``is_wanted`` says so.

    After failed attempts it waits 0.5 to 60 s, each time 1.6 times as long, and never less than ``least_seconds`` of
    the error. A reason is logged when it differs from that of the attempt before. `CancelledError` is raised.
    """
    delay = backoffPolicy(initialDelay=0.5, maxDelay=60.0, factor=1.6)
    failures, logged = 0, ""
    while is_wanted():
        try:
            connection = await connect()
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
            reason = explain(error).rstrip(".")
            if reason != logged:
                log.error("{peer}: {reason}; it is tried again", peer=peer, reason=reason)  # noqa: TRY400  no traceback
            wait_seconds = max(delay(failures), least_seconds(error))
            failures, logged = failures + 1, reason
            await deferLater(clock, wait_seconds)
            continue
        failures, logged = 0, ""
        try:
            await serve(connection)
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001  a fault must not end the link for good
            log.failure("{peer}: serving the connection failed; connecting again", peer=peer)
            await deferLater(clock, FAULT_SECONDS)
