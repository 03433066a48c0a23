"""SMPP 3.4 (the message centre's protocol) as its client: carries messages, takes receipts and messages for phones.

The PDUs are smpplib's; its own client waits in a socket, so the connection here is Twisted's. With TLS it is never
tried without: whoever cannot prove that he is the centre is told no password and no message. A part is accepted when
the centre gave it an id. One whose answer never came is sent again: the header of a part in several has the message's
own number, by which a phone knows it again.
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from smpplib import consts
from smpplib.smpp import make_pdu, parse_pdu
from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller import trust
from celcombiller.deliveries import arrival_of
from celcombiller.errors import BillerError, StoreUnavailable, UnknownSubscriber
from celcombiller.model import MessageState
from celcombiller.outbox import Away, Later, Refused
from celcombiller.sms import Encoding, split

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from celcombiller.config import Smpp
    from celcombiller.events import Posting
    from celcombiller.messages import Arrival, Due

HEADER = struct.Struct(">LLLL")
PDU_BYTES_MAX = 65_536
"""A deliver_sm has at most 254 bytes of text, and the parameters after it are few."""

LEAST = timedelta(minutes=2)
"""Of its claim's time that a part needs which is begun: to wait its turn and for its answer, and to be recorded."""

_OK: int = consts.SMPP_ESME_ROK
_NOT_NOW: int = consts.SMPP_ESME_RX_T_APPN
_NOT_HERE: int = consts.SMPP_ESME_RX_P_APPN
_NOBODY: int = consts.SMPP_ESME_RINVDSTADR
_TRANSIENT = frozenset(
    {
        *(consts.SMPP_ESME_RTHROTTLED, consts.SMPP_ESME_RMSGQFUL, consts.SMPP_ESME_RSYSERR),
        *(consts.SMPP_ESME_RINVBNDSTS, consts.SMPP_ESME_RX_T_APPN),
    }
)
_IS_UDHI, _RECEIPT, _KIND = consts.SMPP_GSMFEAT_UDHI, 0x04, 0x3C
_CODINGS = {Encoding.GSM7: consts.SMPP_ENCODING_DEFAULT, Encoding.UCS2: consts.SMPP_ENCODING_ISO10646}
_RECEIPT_ID, _RECEIPT_STATE = re.compile(rb"\bid:([^\s]{1,64})"), re.compile(rb"\bstat:([A-Z]{1,16})")
_OUTCOMES = {
    **dict.fromkeys((b"DELIVRD", 2), MessageState.DELIVERED),
    **dict.fromkeys((b"EXPIRED", b"DELETED", b"UNDELIV", b"REJECTD", 3, 4, 5, 8), MessageState.FAILED),
}
"""The states of a receipt that say the end (5.2.28 and appendix B); of the others a later receipt may tell more."""


class Dropped(BillerError):
    """The connection to the message centre is no good any more."""

    code = "SMPP"


class Link(Protocol):
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
        """Number a request, as smpplib asks for it."""
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
        """Tell all who wait."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self.transport = None
        self._give_up(reason.value)
        self.over.callback(None)

    # ---- asking ----

    async def bind(self) -> None:
        """Log in. Raises `Dropped` when the centre does not let us."""
        facts = {"system_id": self._settings.system_id, "password": self._settings.password}
        answer = await self.ask(
            make_pdu("bind_transceiver", client=self, system_type=self._settings.system_type, **facts)
        )
        if answer.status != _OK:
            raise Dropped(f"the message centre does not let us in: {answer.get_status_desc()}")
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
        """Give the connection up at once."""
        if not self._is_closed:
            self._log.warn("SMPP: the connection is dropped: {why}", why=why)
        self._give_up(Dropped(why))
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


class _Once(Factory):
    """Makes this one link, and says nothing of it."""

    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> Link:  # noqa: ARG002  Twisted tells it
        """Give the link to its connection."""
        return self._link


class MessageCentre(Service):
    """Keeps one link, carries messages by it, and takes receipts.

    ``receive`` records a receipt (id, outcome, note) and gives ``None`` where no part of this id is known. ``arrive``
    queues a message from a phone elsewhere; without it they are refused.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        settings: Smpp,
        receive: Callable[[str, MessageState, str, datetime], Awaitable[Any]],
        arrive: Callable[[Arrival, datetime], Awaitable[Posting]] | None = None,
    ) -> None:
        self.at_once = settings.at_once
        self._clock = clock
        self._settings = settings
        self._receive = receive
        self._arrive = arrive
        self._link: Link | None = None
        self._running: Deferred[None] | None = None
        self._next_at = 0.0
        self._carrying = 0

    # -- the link ----------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin to connect, and never stop."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._stay_connected())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None] | None:
        """Close the link."""
        super().stopService()
        if self._link is not None:
            self._link.close()
        elif self._running is not None:
            self._running.cancel()
        return self._running

    def _ended(self, failure: Any) -> None:
        if self.running or not failure.check(CancelledError):
            self._log.failure("The message centre is given up", failure)

    async def _stay_connected(self) -> None:
        delay = backoffPolicy(initialDelay=0.5, maxDelay=60.0, factor=1.6)
        failures, said = 0, ""
        while self.running:
            link = Link(self._clock, self._settings, self._delivered)
            try:
                await self._endpoint().connect(_Once(link))
                await link.bind()
            except CancelledError:
                link.drop("the biller stops")
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, the link is tried again
                link.close()
                reason = trust.explain(error, self._settings.host)
                if reason != said:
                    self._log.error("SMPP: {reason}; it is tried again", reason=reason.rstrip("."))
                seconds = delay(failures)
                failures, said = failures + 1, reason
                await deferLater(self._clock, seconds)
                continue
            failures, said = 0, ""
            how = "by TLS" if self._settings.tls else "without TLS"
            self._log.info("SMPP: the message centre at {host} is connected {how}", host=self._settings.host, how=how)
            self._link = link
            try:
                await link.over
            finally:
                self._link = None
            if self.running:
                self._log.warn("SMPP: the message centre is lost; connecting again")

    def _endpoint(self) -> IStreamClientEndpoint:
        host, port = self._settings.host, self._settings.port
        plain = TCP4ClientEndpoint(self._clock, host, port, timeout=10)
        return wrapClientTLS(trust.only(host, self._settings.ca_file), plain) if self._settings.tls else plain

    # -- carrying ----------------------------------------------------------------------------------------------------

    @property
    def is_there(self) -> bool:
        """Whether the link is up."""
        return self._link is not None

    async def carry(self, due: Due, took: Callable[[int, str], Awaitable[object]]) -> None:
        """Submit each part that the centre does not have yet."""
        made = split(due.message.text or "")
        for number, data in enumerate(made.parts, 1):
            if number in due.taken:
                continue
            if datetime.now(UTC) > due.until - LEAST:
                raise Later("it took too long; the other parts follow")
            several = len(made.parts) > 1
            header = bytes((5, 0, 3, due.id % 256, len(made.parts), number)) if several else b""
            self._carrying += 1  # up to its record: a receipt may be faster
            try:
                network_id = await self._submit(due, header + data, made.encoding, is_part=several)
                await took(number, network_id)
            finally:
                self._carrying -= 1

    async def _submit(self, due: Due, data: bytes, encoding: Encoding, *, is_part: bool) -> str:
        await self._pace()
        link = self._link
        if link is None:
            raise Away("the message centre is not connected")
        message, settings = due.message, self._settings
        named = not message.from_number.isdigit() and message.from_number != ""
        facts = {
            "source_addr_ton": consts.SMPP_TON_ALNUM if named else settings.source_ton,
            "source_addr_npi": 0 if named else settings.source_npi,
            "source_addr": message.from_number,
            "dest_addr_ton": settings.destination_ton,
            "dest_addr_npi": settings.destination_npi,
            "destination_addr": message.to_number.removeprefix("+"),
            "esm_class": _IS_UDHI if is_part else 0,
            "registered_delivery": 1,
            "data_coding": _CODINGS[encoding],
            "short_message": data,
        }
        try:
            answer = await link.ask(make_pdu("submit_sm", client=link, **facts))
        except (ConnectionClosed, Dropped) as error:
            raise Later(f"the message centre did not say whether it took it: {error}") from None
        if answer.status == _OK and getattr(answer, "message_id", None):
            return str(answer.message_id.decode("ascii", "replace"))
        why = f"message centre: {answer.get_status_desc()} (0x{answer.status:x})"
        if answer.status in _TRANSIENT or answer.status == _OK:
            raise Later(why)
        raise Refused(why)

    async def _pace(self) -> None:
        """Wait until the next may go, at most so many a second."""
        now = self._clock.seconds()
        at = max(now, self._next_at)
        self._next_at = at + 1 / self._settings.per_second
        if at > now:
            await deferLater(self._clock, at - now)

    # -- receipts ----------------------------------------------------------------------------------------------------

    async def _delivered(self, pdu: Any) -> int:
        """Take a receipt, or a message from a phone elsewhere; the answer is given when that is durable."""
        kind = (pdu.esm_class or 0) & _KIND
        if kind == 0 and self._arrive is not None:
            return await self._arrived(pdu, self._arrive)
        if kind != _RECEIPT:
            self._log.warn("SMPP: a message that is no receipt is refused")
            return _NOT_HERE
        network_id, outcome, note = receipt_of(pdu)
        if outcome is None:
            return _OK
        try:
            posting = await self._receive(network_id, outcome, note, datetime.now(UTC))
        except StoreUnavailable as error:
            self._log.warn("SMPP: a receipt is asked for again: {error}", error=str(error))
            return _NOT_NOW
        if posting is None and self._carrying:
            return _NOT_NOW  # the answer to its submission may not be recorded yet
        if posting is None:
            self._log.info("SMPP: a receipt for a message that is not known here")
        return _OK

    # -- messages from elsewhere -------------------------------------------------------------------------------------

    async def _arrived(self, pdu: Any, arrive: Callable[[Arrival, datetime], Awaitable[Posting]]) -> int:
        """Have it queued; what the centre brings again is answered again."""
        try:
            arrival = arrival_of(pdu)
            posting = await arrive(arrival, datetime.now(UTC))
        except StoreUnavailable as error:
            self._log.warn("SMPP: a message is asked for again: {error}", error=str(error))
            return _NOT_NOW
        except UnknownSubscriber:
            self._log.info("SMPP: a message to …{last} is refused: nobody here", last=arrival.to_number[-4:])
            return _NOBODY
        except BillerError as error:
            self._log.info("SMPP: a message is refused: {reason}", reason=str(error))
            return _NOT_HERE
        became = "queued" if posting.first else "known already"
        self._log.info("SMPP: a message to …{last} is {became}", last=arrival.to_number[-4:], became=became)
        return _OK


def receipt_of(pdu: Any) -> tuple[str, MessageState | None, str]:
    """Give the id, the outcome (``None``: not the end) and the words of a receipt: its parameters, else its text."""
    text = pdu.short_message or b""
    named, stated = _RECEIPT_ID.search(text), _RECEIPT_STATE.search(text)
    network_id = named[1] if named else pdu.receipted_message_id or b""
    state = stated[1] if stated else pdu.message_state
    shown = state.decode("ascii") if isinstance(state, bytes) else f"message state {state}"
    return network_id.decode("ascii", "replace"), _OUTCOMES.get(state), f"receipt: {shown}"
