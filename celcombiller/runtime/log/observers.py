"""What writes the log: text for people, or one line of JSON for each event, for programs that collect logs.

It goes where twistd would have written its text: standard output, or ``--logfile`` with its rotation.
"""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.logger import FileLogObserver, ILogObserver, LogLevel, eventAsText
from twisted.python.logfile import LogFile
from zope.interface import implementer

from celcombiller.core.model.text import escape_lines, escape_unprintable
from celcombiller.runtime.log.fast_text import PlainText

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.logger import LogEvent
    from twisted.python.failure import Failure

_LEGACY = {"failure", "format", "isError", "message", "printed", "system", "time", "why"}
"""What Twisted adds to an event for its older log's sake; the newer one's words say it already."""


class Logged:
    """A service that brings what writes the log in place of twistd's own text, from the first line on."""

    log_observer: Any = None

    def setServiceParent(self, parent: Any) -> None:
        """Join twistd's application, and have it log through the observer."""
        super().setServiceParent(parent)  # type: ignore[misc]  # Service's, beside which this stands
        if self.log_observer is not None:
            parent.setComponent(ILogObserver, self.log_observer)


def observer(twistd: Mapping[str, Any], *, as_json: bool, worker: int | None) -> ILogObserver:
    """Make what writes the log, where these options of twistd's say.

    A ``worker`` has its parent's standard output, and its number in each line.
    """
    if worker is not None:
        return _Numbered(worker, as_json=as_json)
    if twistd.get("syslog"):
        return _Syslog(str(twistd.get("prefix") or "celcombiller"))
    form = json_line if as_json else PlainText()
    name = twistd.get("logfile")
    if name == "-" or (twistd.get("nodaemon") and not name):
        return FileLogObserver(sys.stdout, form)
    return FileLogObserver(LogFile.fromFullPath(name or "twistd.log"), form)


@implementer(ILogObserver)
class _Numbered:
    """Writes a worker's lines to standard output."""

    def __init__(self, worker: int, *, as_json: bool) -> None:
        self._write = FileLogObserver(sys.stdout, json_line if as_json else PlainText())
        self._worker, self._as_json = worker, as_json

    def __call__(self, event: LogEvent) -> None:
        """Write it, with the number where the form has a place for it."""
        namespace = f"worker {self._worker} {event.get('log_namespace', '-')}"
        self._write(event | ({"worker": self._worker} if self._as_json else {"log_namespace": namespace}))


@implementer(ILogObserver)
class _Syslog:
    """Writes to syslog as twistd does, a line for each line of text, with unprintable characters escaped."""

    def __init__(self, prefix: str) -> None:
        from twisted.python.syslog import SyslogObserver  # noqa: PLC0415  not on every system

        self._emit: Any = SyslogObserver(prefix).emit

    def __call__(self, event: LogEvent) -> None:
        """Write it; an event without a text is none."""
        text = eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)
        level, failure = event.get("log_level"), event.get("log_failure")
        if not text and failure is None:
            return
        text = escape_unprintable(text)
        if failure is not None:
            text = f"{text}\n{escape_lines(_traceback(failure))}"
        is_error = failure is not None or level in (LogLevel.error, LogLevel.critical)
        system = f"{event.get('log_namespace', '-')}#{'info' if level is None else level.name}"
        lines = {"message": (text,), "system": escape_unprintable(system), "isError": int(is_error)}
        self._emit(lines)


def json_line(event: LogEvent) -> str:
    """Write an event: ``time``, ``level``, ``namespace``, ``message``, its own fields, and a failure's ``traceback``.

    No text in it, whoever wrote it, can begin a line.
    """
    level, failure = event.get("log_level"), event.get("log_failure")
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(event.get("log_time") or 0.0, UTC).isoformat(timespec="microseconds"),
        "level": "info" if level is None else level.name,
        "namespace": event.get("log_namespace", ""),
        "message": eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False),
    }
    if failure is not None:
        line["traceback"] = _traceback(failure)
    for name, value in event.items():
        if not name.startswith("log_") and name not in _LEGACY and name not in line:
            line[name] = _plain(value)
    return json.dumps(line) + "\n"


def _plain(value: object) -> Any:
    """Return what JSON has a word for as it is, all else as its text."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001  a log line must not fail for what it tells of
        return f"({type(value).__name__} without a text)"


def _traceback(failure: Failure) -> str:
    try:
        return failure.getTraceback()
    except Exception as error:  # noqa: BLE001  as above
        return f"(no traceback: {type(error).__name__})"
