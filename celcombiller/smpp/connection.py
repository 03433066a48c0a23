"""One bound SMPP link."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from smpplib import consts
from smpplib.smpp import make_pdu, parse_pdu
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.logger import Logger

from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from celcombiller.config.tables import Smpp

HEADER = struct.Struct(">LLLL")


PDU_BYTES_MAX = 65_536
"""A deliver_sm has at most 254 bytes of text, and the parameters after it are few."""


STATUS_OK: int = consts.SMPP_ESME_ROK


class ConnectionDropped(BillerError):
    """The connection to the message centre is no good any more."""

    code = "SMPP"


class SmppConnection(Protocol):
    """One connection to one message centre; ``delivered`` answers its deliver_sm with a status."""

    _log = Logger()

    def __init__(self, clock: Any, settings: Smpp, delivered: Callable[[Any], Awaitable[int]]) -> None:
        self.sequence = 0
        self.over: Deferred[None] = Deferred()
        self._clock = clock
        self._settings = settings
        self._delivered = delivered
        self._rest = b""
        self._waiting: dict[int, tuple[Deferred[Any], IDelayedCall]] = {}
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
        self._rest += data
        while len(self._rest) >= HEADER.size and not self._is_closed:
            length, _, _, sequence = HEADER.unpack_from(self._rest)
            if not HEADER.size <= length <= PDU_BYTES_MAX:
                self.drop(f"a PDU of {length} bytes")
                return
            if len(self._rest) < length:
                return
            raw, self._rest = self._rest[:length], self._rest[length:]
            try:
                pdu = parse_pdu(raw, client=self, allow_unknown_opt_params=True)
            except Exception as error:  # noqa: BLE001  smpplib raises many kinds on bytes that are no PDU
                self._log.warn("SMPP: a PDU that cannot be read: {error!r}", error=error)
                self._write(make_pdu("generic_nack", client=self, status=consts.SMPP_ESME_RINVCMDID), sequence)
                continue
            self._take(pdu)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted's has a default
        """Fail everything that still waits."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self.transport = None
        self._give_up(reason.value)
        self.over.callback(None)

    # ---- asking ----

    async def bind(self) -> None:
        """Log in. Raises `ConnectionDropped` when the centre does not let us."""
        facts = {"system_id": self._settings.system_id, "password": self._settings.password}
        answer = await self.ask(
            make_pdu("bind_transceiver", client=self, system_type=self._settings.system_type, **facts)
        )
        if answer.status != STATUS_OK:
            raise ConnectionDropped(f"the message centre does not let us in: {answer.get_status_desc()}")
        self._enquire_later()

    def ask(self, pdu: Any) -> Deferred[Any]:
        """Send a request; fires with its answer, whatever that says. No answer in time is the end of the connection."""
        answer: Deferred[Any] = Deferred()
        if self._is_closed:
            answer.errback(ConnectionDone("the connection to the message centre is over"))
            return answer
        number = pdu.sequence
        alarm = self._clock.callLater(
            self._settings.answer_seconds, self.drop, f"no answer to {pdu.command} in {self._settings.answer_seconds} s"
        )
        self._waiting[number] = (answer, alarm)
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

    def _take(self, pdu: Any) -> None:
        if pdu.is_response():
            answer, alarm = self._waiting.pop(pdu.sequence, (None, None))
            if answer is not None and alarm is not None:
                alarm.cancel()
                answer.callback(pdu)
        elif pdu.command == "deliver_sm":
            Deferred.fromCoroutine(self._answer_delivery(pdu)).addErrback(self._heed)
        elif pdu.command in ("enquire_link", "unbind"):
            self._write(make_pdu(f"{pdu.command}_resp", client=self), pdu.sequence)
            if pdu.command == "unbind":
                self.close()
        else:
            self._write(make_pdu("generic_nack", client=self, status=consts.SMPP_ESME_RINVCMDID), pdu.sequence)

    async def _answer_delivery(self, pdu: Any) -> None:
        status = await self._delivered(pdu)
        if not self._is_closed:
            self._write(make_pdu("deliver_sm_resp", client=self, status=status), pdu.sequence)

    def _heed(self, failure: Failure) -> None:
        self._log.failure("SMPP: a deliver_sm could not be taken", failure)

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
        for answer, alarm in waiting.values():
            if alarm.active():
                alarm.cancel()
            answer.errback(reason or ConnectionDone())
