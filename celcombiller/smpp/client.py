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
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.core.sms.carrier import CarrierUnavailable, MessageDeferred, MessageRejected
from celcombiller.core.sms.encoding import DefaultAlphabet, Encoding, split
from celcombiller.core.sms.network_ids import text_of_id
from celcombiller.runtime import tls_trust
from celcombiller.runtime.timers.reconnecting import stay_connected
from celcombiller.smpp.connection import SmppConnection
from celcombiller.smpp.pdu import STATUS_OK
from celcombiller.smpp.session import PAIR, TRANSCEIVER, SmscSession
from celcombiller.smpp.submit_rate import SubmitRate
from celcombiller.smpp.user_data import HAS_HEADER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from twisted.internet.interfaces import IAddress, IStreamClientEndpoint

    from celcombiller.config.tables import Smpp
    from celcombiller.core.model.messages import Message
    from celcombiller.core.sms.outbox_queue import OutboxMessage
    from celcombiller.smpp.inbound import Inbox
    from celcombiller.smpp.pdu import Pdu

PART_TIME = timedelta(minutes=2)
"""The time that a part needs of its message's claim: to wait its turn, for its answer, and for its record."""

SESSION_SECONDS = 1.0
"""The least time between two sessions: some SMSCs accept a bind and end the session at once."""

ADDRESS_CHARACTERS_MAX = 20
"""SMPP 3.4, 4.4.1."""

_THROTTLED = frozenset({consts.SMPP_ESME_RTHROTTLED, consts.SMPP_ESME_RMSGQFUL})


_TRANSIENT = _THROTTLED | {consts.SMPP_ESME_RSYSERR, consts.SMPP_ESME_RINVBNDSTS, consts.SMPP_ESME_RX_T_APPN}


_CODINGS = {Encoding.GSM7: consts.SMPP_ENCODING_DEFAULT, Encoding.UCS2: consts.SMPP_ENCODING_ISO10646}


class SingleConnection(Factory):
    """Return this one connection, and log nothing of it."""

    noisy = False

    def __init__(self, link: SmppConnection) -> None:
        self._link = link

    def buildProtocol(self, addr: IAddress | None) -> SmppConnection:  # noqa: ARG002  Twisted tells it
        """Return the link for its connection."""
        return self._link


def smsc_endpoint(reactor: Any, settings: Smpp) -> IStreamClientEndpoint:
    """Return the endpoint of the SMSC that the settings name, by TLS where they want it."""
    plain = TCP4ClientEndpoint(reactor, settings.host, settings.port, timeout=10)
    if not settings.tls:
        return plain
    return wrapClientTLS(tls_trust.client_tls_options(settings.host, settings.ca_file), plain)


class SmscClient(Service):
    """Keeps one session, submits messages in it, and gives what the SMSC sends to ``inbox``."""

    _log = Logger()

    def __init__(self, clock: Any, settings: Smpp, inbox: Inbox) -> None:
        self.at_once = settings.at_once
        self._clock = clock
        self._settings = settings
        self._alphabet = DefaultAlphabet(settings.default_alphabet)
        self._inbox = inbox
        self._session: SmscSession | None = None
        self._ways: list[Sequence[str]] = [TRANSCEIVER, PAIR]
        """How to bind; what was accepted last is tried first."""
        self._running: Deferred[None] | None = None
        self._rate = SubmitRate(settings.per_second)
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
        if self._session is not None:
            self._session.close()
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
            self._open,
            self._serve,
            log=self._log,
            peer="SMPP",
            explain=lambda error: tls_trust.explain(error, self._settings.host),
        )

    async def _open(self) -> SmscSession:
        """Return a bound session; one that is only half bound is closed."""
        session = SmscSession(self._connect)
        try:
            way = await session.open(self._ways)
        except CancelledError:
            session.drop("the biller stops")
            raise
        except Exception:
            session.close()
            raise
        self._ways.sort(key=lambda each: each != way)
        return session

    async def _serve(self, session: SmscSession) -> None:
        how = "by TLS" if self._settings.tls else "without TLS"
        self._log.info("SMPP: the message centre at {host} is connected {how}", host=self._settings.host, how=how)
        self._session = session
        began = self._clock.seconds()
        try:
            await session.over
        finally:
            self._session = None
        if self.running:
            self._log.warn("SMPP: the message centre is lost; connecting again")
            lasted = self._clock.seconds() - began
            await deferLater(self._clock, max(0.0, SESSION_SECONDS - lasted))

    async def _connect(self) -> SmppConnection:
        connection = SmppConnection(self._clock, self._settings, self._delivered)
        await smsc_endpoint(self._clock, self._settings).connect(SingleConnection(connection))
        return connection

    async def _delivered(self, pdu: Pdu) -> int:
        return await self._inbox.take(pdu, is_submitting=self._unrecorded > 0)

    # -- carrying ----------------------------------------------------------------------------------------------------

    @property
    def is_there(self) -> bool:
        """Whether the link is up, and takes as much as it should."""
        return self._session is not None and self._rate.has_room(self._clock.seconds())

    async def carry(self, due: OutboxMessage, took: Callable[[int, str], Awaitable[object]]) -> None:
        """Submit each part that the centre does not have yet."""
        made = split(due.message.text or "", alphabet=self._alphabet)
        for number, data in enumerate(made.parts, 1):
            if number in due.taken:
                continue
            if datetime.now(UTC) > due.until - PART_TIME:
                raise MessageDeferred("it took too long; the other parts follow")
            several = len(made.parts) > 1
            header = bytes((5, 0, 3, due.id % 256, len(made.parts), number)) if several else b""
            submitted_at = await self._wait_for_turn()
            self._unrecorded += 1
            try:
                network_id = await self._submit(
                    due.message, header + data, made.encoding, is_part=several, submitted_at=submitted_at
                )
                await took(number, network_id)
            finally:
                self._unrecorded -= 1

    async def _submit(
        self, message: Message, data: bytes, encoding: Encoding, *, is_part: bool, submitted_at: float
    ) -> str:
        """Submit a part, and return the SMSC's id of it: empty where it gives none."""
        session = self._session
        if session is None:
            raise CarrierUnavailable("the message centre is not connected")
        connection = session.submitter
        pdu = self._submit_sm(connection, message, data, encoding, is_part=is_part)
        try:
            answer = await connection.ask(pdu)
        except Exception as error:  # noqa: BLE001  how a connection ends has many types, TLS's among them
            raise MessageDeferred(f"the message centre did not say whether it took it: {error}") from None
        if answer.status == STATUS_OK and answer.command == "submit_sm_resp":
            self._rate.recover()
            return text_of_id(answer.message_id)
        if answer.status in _THROTTLED:
            self._rate.reduce(submitted_at, self._clock.seconds())
        why = f"message centre: {answer.reason}"
        if answer.status in _TRANSIENT or answer.status == STATUS_OK:
            raise MessageDeferred(why)
        raise MessageRejected(why)

    def _submit_sm(
        self, connection: SmppConnection, message: Message, data: bytes, encoding: Encoding, *, is_part: bool
    ) -> Any:
        """Return the PDU. Raises `MessageRejected` for a number that does not fit: smpplib would cut it."""
        settings = self._settings
        sender, recipient = (each.removeprefix("+") for each in (message.from_number, message.to_number))
        for each in (sender, recipient):
            if len(each) > ADDRESS_CHARACTERS_MAX or not each.isascii():
                raise MessageRejected(f"SMPP has no room for the number …{each[-4:]}")
        is_name = sender != "" and not sender.isdigit()
        return make_pdu(
            "submit_sm",
            client=connection,
            source_addr_ton=consts.SMPP_TON_ALNUM if is_name else settings.source_ton,
            source_addr_npi=0 if is_name else settings.source_npi,
            source_addr=sender,
            dest_addr_ton=settings.destination_ton,
            dest_addr_npi=settings.destination_npi,
            destination_addr=recipient,
            esm_class=HAS_HEADER if is_part else 0,
            registered_delivery=1,
            data_coding=_CODINGS[encoding],
            short_message=data,
        )

    async def _wait_for_turn(self) -> float:
        """Wait until the next part may go, and return when that is."""
        now = self._clock.seconds()
        if not self._rate.has_room(now):
            raise CarrierUnavailable("the message centre takes less than there is")
        at = self._rate.reserve(now)
        if at > now:
            await deferLater(self._clock, at - now)
        return at
