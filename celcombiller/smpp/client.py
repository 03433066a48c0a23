"""SMPP 3.4 (the message centre's protocol) as its client: carries messages, takes receipts and messages for phones.

The PDUs are smpplib's; its own client waits in a socket, so the connection here is Twisted's. With TLS it is never
tried without: a server that cannot prove that it is the centre gets no password and no message. A part is accepted when
the centre gave it an id. One whose answer never came is sent again: the header of a part in several has the message's
own number, by which a phone knows it again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from smpplib import consts
from smpplib.smpp import make_pdu
from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.core.errors import BillerError, StoreUnavailable, UnknownSubscriber
from celcombiller.core.sms.carrier import CarrierUnavailable, MessageDeferred, MessageRejected
from celcombiller.core.sms.encoding import Encoding, split
from celcombiller.runtime import tls_trust
from celcombiller.smpp.connection import STATUS_OK, ConnectionDropped, SmppConnection
from celcombiller.smpp.deliver_sm import inbound_from_pdu
from celcombiller.smpp.receipts import parse_receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IAddress, IStreamClientEndpoint

    from celcombiller.config.tables import Smpp
    from celcombiller.core.model.messages import MessageState
    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.core.sms.inbound_message import InboundMessage
    from celcombiller.core.sms.outbox_queue import OutboxMessage

LEAST = timedelta(minutes=2)
"""Of its claim's time that a part needs which is begun: to wait its turn and for its answer, and to be recorded."""


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


class _Once(Factory):
    """Makes this one link, and says nothing of it."""

    noisy = False

    def __init__(self, link: SmppConnection) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> SmppConnection:  # noqa: ARG002  Twisted tells it
        """Return the link for its connection."""
        return self._link


class SmscClient(Service):
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
        arrive: Callable[[InboundMessage, datetime], Awaitable[MessageResult]] | None = None,
    ) -> None:
        self.at_once = settings.at_once
        self._clock = clock
        self._settings = settings
        self._receive = receive
        self._arrive = arrive
        self._link: SmppConnection | None = None
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
            link = SmppConnection(self._clock, self._settings, self._delivered)
            try:
                await self._endpoint().connect(_Once(link))
                await link.bind()
            except CancelledError:
                link.drop("the biller stops")
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, the link is tried again
                link.close()
                reason = tls_trust.explain(error, self._settings.host)
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
        return (
            wrapClientTLS(tls_trust.client_tls_options(host, self._settings.ca_file), plain)
            if self._settings.tls
            else plain
        )

    # -- carrying ----------------------------------------------------------------------------------------------------

    @property
    def is_there(self) -> bool:
        """Whether the link is up."""
        return self._link is not None

    async def carry(self, due: OutboxMessage, took: Callable[[int, str], Awaitable[object]]) -> None:
        """Submit each part that the centre does not have yet."""
        made = split(due.message.text or "")
        for number, data in enumerate(made.parts, 1):
            if number in due.taken:
                continue
            if datetime.now(UTC) > due.until - LEAST:
                raise MessageDeferred("it took too long; the other parts follow")
            several = len(made.parts) > 1
            header = bytes((5, 0, 3, due.id % 256, len(made.parts), number)) if several else b""
            self._carrying += 1  # up to its record: a receipt may be faster
            try:
                network_id = await self._submit(due, header + data, made.encoding, is_part=several)
                await took(number, network_id)
            finally:
                self._carrying -= 1

    async def _submit(self, due: OutboxMessage, data: bytes, encoding: Encoding, *, is_part: bool) -> str:
        await self._pace()
        link = self._link
        if link is None:
            raise CarrierUnavailable("the message centre is not connected")
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
        except (ConnectionClosed, ConnectionDropped) as error:
            raise MessageDeferred(f"the message centre did not say whether it took it: {error}") from None
        if answer.status == STATUS_OK and getattr(answer, "message_id", None):
            return str(answer.message_id.decode("ascii", "replace"))
        why = f"message centre: {answer.get_status_desc()} (0x{answer.status:x})"
        if answer.status in _TRANSIENT or answer.status == STATUS_OK:
            raise MessageDeferred(why)
        raise MessageRejected(why)

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
        network_id, outcome, note = parse_receipt(pdu)
        if outcome is None:
            return STATUS_OK
        try:
            posting = await self._receive(network_id, outcome, note, datetime.now(UTC))
        except StoreUnavailable as error:
            self._log.warn("SMPP: a receipt is asked for again: {error}", error=str(error))
            return _NOT_NOW
        if posting is None and self._carrying:
            return _NOT_NOW  # the answer to its submission may not be recorded yet
        if posting is None:
            self._log.info("SMPP: a receipt for a message that is not known here")
        return STATUS_OK

    # -- messages from elsewhere -------------------------------------------------------------------------------------

    async def _arrived(self, pdu: Any, arrive: Callable[[InboundMessage, datetime], Awaitable[MessageResult]]) -> int:
        """Queue a message that the centre brings; a repeat gets the same answer again."""
        try:
            arrival = inbound_from_pdu(pdu)
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
        return STATUS_OK
