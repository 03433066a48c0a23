"""A session of starpy's FastAGI as our scripts need it (``agi.library = "starpy"``).

starpy 1.1 takes each line for the answer to the oldest command. But Asterisk writes ``HANGUP`` unasked before an
answer, and a 520 answer has several lines; from then on every answer would go to the wrong command. So the lines are
read here first, and only answers reach starpy. Its failures become ours: a refused command ends no script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from celcombiller.asterisk import wire_text
from celcombiller.asterisk.agi.codec import AgiCommandRefused
from celcombiller.asterisk.agi.commands import AgiCommands

if TYPE_CHECKING:
    from twisted.python.failure import Failure

_HANGUP = b"HANGUP"
_USAGE, _END_OF_USAGE = b"520-", b"520 "


def is_starpy(agi: Any) -> bool:
    """Return whether a session is starpy's own."""
    return type(agi).__module__.partition(".")[0] == "starpy"


class StarpySession(AgiCommands):
    """A session that starpy has begun."""

    def __init__(self, agi: Any) -> None:
        self.variables: dict[str, str] = agi.variables
        self.transport = agi.transport
        self.hungup = False
        self._agi = agi
        self._receive = agi.lineReceived
        self._usage = b""
        self._hangup: Deferred[None] | None = None
        agi.lineReceived = self._line_received

    def sendCommand(self, commandString: str) -> Deferred[str]:
        """Ask one command; fires with what follows ``200 result=``."""
        answer: Deferred[str] = self._agi.sendCommand(commandString)
        return answer.addErrback(_translate)

    def finish(self) -> None:
        """End the session; the dialplan goes on."""
        self._agi.finish()

    def onClose(self) -> Deferred[None]:
        """Wait for the end of the connection; it always fires with a failure, which says how."""
        closed: Deferred[None] = self._agi.onClose()
        return closed

    def whenHungUp(self) -> Deferred[None]:
        """Wait for the caller's hangup."""
        self._hangup = Deferred()
        if self.hungup:
            self._hangup.callback(None)
        return self._hangup

    def _line_received(self, line: bytes) -> None:
        if line == _HANGUP:
            self.hungup = True
            waiting, self._hangup = self._hangup, None
            if waiting is not None and not waiting.called:
                waiting.callback(None)
        elif self._usage:
            if line.startswith(_END_OF_USAGE):
                line, self._usage = self._usage, b""
                self._receive(line)
        elif line.startswith(_USAGE):
            self._usage = _END_OF_USAGE + line.removeprefix(_USAGE)
        else:
            self._receive(wire_text.decode(line).encode())


def _translate(failure: Failure) -> Failure:
    if type(failure.value).__name__ != "AGICommandFailure":
        return failure
    arguments: tuple[Any, ...] = getattr(failure.value, "args", ())
    status, text, *_ = (*arguments, "", "")
    raise AgiCommandRefused(int(status or 0), str(text))
