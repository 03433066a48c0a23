"""Submit messages to an SMSC by SMPP 3.4, and keep the connection to it.

With TLS the connection is never tried without: a server that cannot prove that it is the SMSC gets no password and no
message. A part is accepted when the SMSC gave it an id. A part whose answer never came is sent again: the header of a
part of several has the message's own number, by which a phone recognizes it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from smpplib import consts
from smpplib.smpp import make_pdu
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.core.sms.carrier import CarrierUnavailable, MessageDeferred, MessageRejected
from celcombiller.core.sms.encoding import Encoding, split
from celcombiller.runtime import tls_trust
from celcombiller.runtime.reconnecting import stay_connected
from celcombiller.smpp.connection import STATUS_OK, ConnectionDropped, SmppConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IAddress, IStreamClientEndpoint

    from celcombiller.config.tables import Smpp
    from celcombiller.core.sms.outbox_queue import OutboxMessage
    from celcombiller.smpp.inbound import Inbox

PART_TIME = timedelta(minutes=2)
"""The time that a part needs of its message's claim: to wait its turn, for its answer, and for its record."""

_TRANSIENT = frozenset(
    {
        *(consts.SMPP_ESME_RTHROTTLED, consts.SMPP_ESME_RMSGQFUL, consts.SMPP_ESME_RSYSERR),
        *(consts.SMPP_ESME_RINVBNDSTS, consts.SMPP_ESME_RX_T_APPN),
    }
)


_HAS_HEADER: int = consts.SMPP_GSMFEAT_UDHI


_CODINGS = {Encoding.GSM7: consts.SMPP_ENCODING_DEFAULT, Encoding.UCS2: consts.SMPP_ENCODING_ISO10646}


class _SingleConnection(Factory):
    """Return this one connection, and log nothing of it."""

    noisy = False

    def __init__(self, link: SmppConnection) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> SmppConnection:  # noqa: ARG002  Twisted tells it
        """Return the link for its connection."""
        return self._link


class SmscClient(Service):
    """Keeps one connection, submits messages by it, and gives what the SMSC sends to ``inbox``."""

    _log = Logger()

    def __init__(self, clock: Any, settings: Smpp, inbox: Inbox) -> None:
        self.at_once = settings.at_once
        self._clock = clock
        self._settings = settings
        self._inbox = inbox
        self._link: SmppConnection | None = None
        self._running: Deferred[None] | None = None
        self._next_at = 0.0
        self._unrecorded = 0
        """Submissions whose ids are not recorded yet: a receipt may be faster."""

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
        await stay_connected(
            self._clock,
            lambda: bool(self.running),
            self._connect,
            self._serve,
            log=self._log,
            peer="SMPP",
            explain=lambda error: tls_trust.explain(error, self._settings.host),
        )

    async def _connect(self) -> SmppConnection:
        """Return a bound link; one that is only half bound is closed."""
        link = SmppConnection(self._clock, self._settings, self._delivered)
        try:
            await self._endpoint().connect(_SingleConnection(link))
            await link.bind()
        except CancelledError:
            link.drop("the biller stops")
            raise
        except Exception:
            link.close()
            raise
        return link

    async def _serve(self, link: SmppConnection) -> None:
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

    async def _delivered(self, pdu: Any) -> int:
        return await self._inbox.take(pdu, is_submitting=self._unrecorded > 0)

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
            if datetime.now(UTC) > due.until - PART_TIME:
                raise MessageDeferred("it took too long; the other parts follow")
            several = len(made.parts) > 1
            header = bytes((5, 0, 3, due.id % 256, len(made.parts), number)) if several else b""
            self._unrecorded += 1
            try:
                network_id = await self._submit(due, header + data, made.encoding, is_part=several)
                await took(number, network_id)
            finally:
                self._unrecorded -= 1

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
            "esm_class": _HAS_HEADER if is_part else 0,
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
