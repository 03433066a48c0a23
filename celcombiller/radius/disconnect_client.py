"""Disconnect-Requests (RFC 5176): ask NASes to end the sessions that may not go on."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from celcombiller.core.data import disconnect_requests
from celcombiller.radius import codec
from celcombiller.radius.udp_server import client_of

if TYPE_CHECKING:
    from celcombiller.config.tables import Radius, RadiusClient
    from celcombiller.core.data.session import DataSession
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.metrics import Metrics

SENDINGS_SECONDS = (0.0, 1.0, 3.0)
"""When a request is sent, and sent again while there is no answer (RFC 5080, 2.2.1: each wait is longer)."""

ANSWER_SECONDS = 6.0

ASKED_MAX = 200
"""Sessions that are asked for together: the id of a request is one octet."""


class DisconnectPort(DatagramProtocol):
    """Sends requests from a port of its own, repeats those without an answer, and receives the answers."""

    _log = Logger()
    noisy = False

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._next = 0
        self._waiting: dict[tuple[str, int, int], tuple[Any, Deferred[str]]] = {}

    def ask(self, session: DataSession, client: RadiusClient) -> Deferred[str]:
        """Ask a NAS to end a session; fires with what it said: ``ACK``, ``NAK`` and why, or nothing."""
        place = (session.nas_address, client.disconnect_port, self._next)
        self._next = (self._next + 1) % 256
        said: Deferred[str] = Deferred()
        if place in self._waiting or self.transport is None:
            said.callback("")
            return said
        packet = codec.disconnect_of(session, client, place[2], datetime.now(UTC))
        datagram = packet.RequestPacket()
        self._waiting[place] = (packet, said)
        calls = [self._clock.callLater(seconds, self._send, datagram, place[:2]) for seconds in SENDINGS_SECONDS]
        calls.append(self._clock.callLater(ANSWER_SECONDS, said.callback, ""))

        def over(outcome: str) -> str:
            del self._waiting[place]
            for call in calls:
                if call.active():
                    call.cancel()
            return outcome

        return said.addBoth(over)

    def _send(self, datagram: bytes, place: tuple[str, int]) -> None:
        if self.transport is None:
            return
        try:
            self.transport.write(datagram, place)
        except (OSError, ValueError) as error:  # no way there, or an address of another family
            self._log.warn("Nothing can be sent to {host}: {error}", host=place[0], error=str(error))

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Handle an answer to a request of ours; ignore anything else."""
        waiting = self._waiting.get((addr[0], addr[1], datagram[1] if len(datagram) > 1 else -1))
        if waiting is None:
            return
        packet, said = waiting
        answer = codec.answer_of(packet, datagram)
        if answer is not None and not said.called:
            said.callback(answer)

    def give_up(self) -> None:
        """Stop waiting for answers."""
        for _, said in list(self._waiting.values()):
            if not said.called:
                said.callback("")


class SessionTerminator:
    """Ends the sessions that may not go on; called periodically."""

    _log = Logger()

    def __init__(
        self,
        settings: Radius,
        store: BatchWriter,
        reader: Reader,
        port: DisconnectPort,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._reader = reader
        self._port = port
        self._metrics = metrics

    async def __call__(self) -> None:
        """Ask the NASes of all sessions that are due; return when each has answered or the wait is over."""
        now = datetime.now(UTC)
        if not await self._reader.read(partial(disconnect_requests.is_due, now=now)):
            return
        await self._store.transact(partial(disconnect_requests.request_disconnects, now=now))
        claimed = await self._store.transact(partial(disconnect_requests.claim, now=now, limit=ASKED_MAX))
        asked = [Deferred.fromCoroutine(self._end(each)) for each in claimed]
        outcomes: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
        for is_done, outcome in outcomes:
            if not is_done:
                outcome.raiseException()

    async def _end(self, session: DataSession) -> None:
        client = client_of(self._settings.clients, session.nas_address) if session.nas_address else None
        if client is None or not client.disconnect_port:
            said = "its NAS takes no Disconnect-Requests (disconnect_port)"
        else:
            said = await self._port.ask(session, client) or "no answer"
            self._metrics.radius.count_disconnect(said.partition(" ")[0])
        settled = said == "ACK" or client is None or not client.disconnect_port
        settled = settled or said == f"NAK {codec.CONTEXT_NOT_FOUND}"
        await self._store.transact(
            partial(disconnect_requests.answered, reference=session.reference, said=said, settled=settled)
        )
        self._log.info(
            "{nas}: session {session!r} is to end, as {why}: {said}",
            nas=session.nas,
            session=session.session_id,
            why=session.disconnect,
            said=said,
        )
