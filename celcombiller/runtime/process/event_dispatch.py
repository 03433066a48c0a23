"""The reactor's way from an event to the connection it is for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twisted.python import log

if TYPE_CHECKING:
    from collections.abc import Callable


def dispatch_directly() -> None:
    """Have the epoll reactor call what is ready without the context of Twisted's older log, where it is the reactor.

    That context, made anew for each event, has the name of the connection for messages of ``twisted.python.log``; we
    use none. It is eight function calls in Python an event, and a call has a dozen events.
    """
    try:
        from twisted.internet import epollreactor  # noqa: PLC0415  only Linux has it
    except ImportError:
        return
    setattr(epollreactor, "log", SimpleNamespace(callWithLogger=call_logged))  # noqa: B010  it names no such type


def call_logged(_connection: object, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do the work of an event; log an error, which must not end the reactor's turn for the other events."""
    try:
        return work(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  as Twisted's own `callWithLogger`
        log.err()
        return None
