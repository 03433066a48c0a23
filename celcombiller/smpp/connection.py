"""One bound SMPP connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smpplib import consts
from smpplib.smpp import make_pdu
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

from celcombiller.core.errors import BillerError
from celcombiller.smpp.pdu import STATUS_OK, BrokenStream, take_pdus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from celcombiller.config.tables import Smpp
    from celcombiller.smpp.pdu import Pdu

_DELIVERIES = frozenset({"deliver_sm", "data_sm"})
_UNANSWERED = frozenset({"alert_notification", "outbind"})
"""Commands that have no response (SMPP 3.4, 4.1.7 and 4.12.1)."""


class ConnectionDropped(BillerError):
    """The connection to the message centre is no good any more."""

    code = "SMPP"


class BindRefused(ConnectionDropped):
    """The SMSC does not let us in; ``status`` is its reason."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that waits for its response."""

    command: str
    response: Deferred[Pdu]
    alarm: IDelayedCall

    def is_answered_by(self, pdu: Pdu) -> bool:
        """Return whether a PDU is the response: the command's own, or generic_nack."""
        return pdu.command in (f"{self.command}_resp", "generic_nack")


class SmppConnection(Protocol):
    """One connection to one SMSC; ``delivered`` answers what it delivers with a status."""

    _log = Logger()

    def __init__(self, clock: Any, settings: Smpp, delivered: Callable[[Pdu], Awaitable[int]]) -> None:
        self.sequence = 0
        self.over: Deferred[None] = Deferred()
        self._clock = clock
        self._settings = settings
        self._delivered = delivered
        self._received = bytearray()
        self._waiting: dict[int, _Request] = {}
        self._enquiry: IDelayedCall | None = None
        self._is_closed = False
        self._closing: IDelayedCall | None = None

    def next_sequence(self) -> int:
        """Return the next sequence number, as smpplib asks for it."""
        self.sequence = self.sequence % 0x7FFFFFFF + 1
        return self.sequence

    # ---- what Twisted calls ----

    def dataReceived(self, data: bytes) -> None:
        """Act on each PDU that is whole."""
        self._received += data
        try:
            for pdu in take_pdus(self._received):
                if self._is_closed:
                    return
                self._take(pdu)
        except BrokenStream as error:
            self.drop(str(error))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's has a default
        """Fail everything that still waits."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self.transport = None
        self._give_up(reason.value)
        self.over.callback(None)

    # ---- asking ----

    async def bind(self, command: str) -> None:
        """Log in. Raises `BindRefused`, or why the connection is over."""
        answer = await self.ask(
            make_pdu(
                command,
                client=self,
                system_id=self._settings.system_id,
                password=self._settings.password,
                system_type=self._settings.system_type,
            )
        )
        if answer.status != STATUS_OK or answer.command == "generic_nack":
            raise BindRefused(f"the message centre does not let us in: {answer.reason}", answer.status)
        self._enquire_later()

    def ask(self, pdu: Any) -> Deferred[Pdu]:
        """Send a request; fires with its answer, whatever that says. No answer in time is the end of the connection."""
        answer: Deferred[Pdu] = Deferred()
        if self._is_closed:
            answer.errback(ConnectionDone("the connection to the message centre is over"))
            return answer
        number = pdu.sequence
        alarm = self._clock.callLater(
            self._settings.answer_seconds, self.drop, f"no answer to {pdu.command} in {self._settings.answer_seconds} s"
        )
        self._waiting[number] = _Request(pdu.command, answer, alarm)
        self._write(pdu, number)
        return answer

    def _write(self, pdu: Any, number: int) -> None:
        pdu.sequence = number
        if self.transport is not None:
            self.transport.write(pdu.generate())

    def _enquire_later(self) -> None:
        if not self._is_closed:
            self._enquiry = self._clock.callLater(self._settings.enquire_seconds, self._enquire)

    def _enquire(self) -> None:
        asked = self.ask(make_pdu("enquire_link", client=self))
        asked.addCallbacks(lambda _: self._enquire_later(), lambda _: None)

    # ---- answering ----

    def _take(self, pdu: Pdu) -> None:
        if pdu.is_response:
            self._take_response(pdu)
        elif pdu.command in _DELIVERIES:
            Deferred.fromCoroutine(self._answer_delivery(pdu)).addErrback(self._log_fault)
        elif pdu.command in ("enquire_link", "unbind"):
            self._respond(pdu, STATUS_OK)
            if pdu.command == "unbind":
                self.close()
        elif pdu.command not in _UNANSWERED:
            self._log.info("SMPP: {command} is refused: it is not known here", command=pdu.command)
            self._write(make_pdu("generic_nack", client=self, status=consts.SMPP_ESME_RINVCMDID), pdu.sequence)

    def _take_response(self, pdu: Pdu) -> None:
        request = self._waiting.get(pdu.sequence)
        if request is None or not request.is_answered_by(pdu):
            self._log.info("SMPP: {command} answers nothing that was asked", command=pdu.command)
            return
        del self._waiting[pdu.sequence]
        request.alarm.cancel()
        request.response.callback(pdu)

    def _respond(self, pdu: Pdu, status: int) -> None:
        self._write(make_pdu(f"{pdu.command}_resp", client=self, status=status), pdu.sequence)

    async def _answer_delivery(self, pdu: Pdu) -> None:
        status = await self._delivered(pdu)
        if not self._is_closed:
            self._respond(pdu, status)

    def _log_fault(self, failure: Failure) -> None:
        self._log.failure("SMPP: a delivery could not be answered", failure)

    # ---- the end ----

    def close(self) -> None:
        """Close it in order; with TLS the other side has to agree, so it is waited for no longer than for an answer."""
        if self.transport is None:
            return
        self.transport.loseConnection()
        if self._closing is None:
            self._closing = self._clock.callLater(self._settings.answer_seconds, self._abort)

    def drop(self, why: str) -> None:
        """Abort the connection at once."""
        if not self._is_closed:
            self._log.warn("SMPP: the connection is dropped: {why}", why=why)
        self._give_up(ConnectionDropped(why))
        self._abort()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]  # ITransport does not name it

    def _give_up(self, reason: BaseException | None) -> None:
        self._is_closed = True
        if self._enquiry is not None and self._enquiry.active():
            self._enquiry.cancel()
        waiting, self._waiting = self._waiting, {}
        for request in waiting.values():
            if request.alarm.active():
                request.alarm.cancel()
            request.response.errback(reason or ConnectionDone())
