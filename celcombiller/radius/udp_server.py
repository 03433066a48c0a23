"""The UDP ports of a RADIUS server: any datagram is answered, or is ignored with one log line."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from celcombiller.core.errors import BillerError
from celcombiller.radius import codec
from celcombiller.radius.codec import DiscardPacket
from celcombiller.radius.duplicate_cache import DuplicateCache
from celcombiller.runtime.log.faults import FaultLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from celcombiller.config.tables import RadiusClient
    from celcombiller.radius.throttled_log import ThrottledLog
    from celcombiller.runtime.metrics import Metrics

PENDING_MAX = 2000
"""Requests that may wait for the database: more are ignored, and the NAS repeats them."""


def client_of(clients: Sequence[RadiusClient], host: str) -> RadiusClient | None:
    """Return the client of an address: the one with the smallest network that contains it."""
    address = ipaddress.ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    found = [each for each in clients if address in each.network]
    return max(found, key=lambda each: each.network.prefixlen, default=None)


class RadiusPort(DatagramProtocol):
    """One port: authenticates a request, answers it by ``serve``, and repeats the first answer to a duplicate."""

    _log = Logger()
    noisy = False

    def __init__(
        self,
        clock: Any,
        code: int,
        clients: Sequence[RadiusClient],
        serve: Callable[[Any, RadiusClient, str], Awaitable[tuple[str, bytes]]],
        metrics: Metrics,
        warnings: ThrottledLog,
    ) -> None:
        self._code = code
        self._clients = clients
        self._serve = serve
        self._metrics = metrics
        self._warnings = warnings
        self._duplicates = DuplicateCache(clock.seconds)
        self._faults = FaultLog(self._log)
        self._pending: set[Deferred[None]] = set()
        self._is_draining = False

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Handle a datagram from any address."""
        if self._is_draining:
            return
        host = addr[0]
        client = client_of(self._clients, host)
        if client is None:
            self._ignore(host, "UNKNOWN_CLIENT", "no [[radius.clients]] table has this address")
            return
        who = f"{client.name} ({host})"
        try:
            packet = codec.read(datagram, client, self._code)
        except DiscardPacket as error:
            self._ignore(who, error.result, str(error))
            return
        # The whole datagram: a NAS with poor random numbers may use an id and authenticator for another user.
        key = (addr, hashlib.sha256(datagram).digest())
        if not self._duplicates.add_request(key):
            self._metrics.radius.count_request("REPEATED")
            response = self._duplicates.response_to(key)
            if response is not None:
                self._send(response, addr)
            return
        if len(self._pending) >= PENDING_MAX:
            self._duplicates.forget_request(key)
            self._ignore(who, "BUSY", f"{PENDING_MAX} requests wait already")
            return
        pending = Deferred.fromCoroutine(self._answer(packet, client, addr, key))
        self._pending.add(pending)
        pending.addBoth(lambda _: self._pending.discard(pending))

    async def _answer(self, packet: Any, client: RadiusClient, addr: tuple[str, int], key: Any) -> None:
        who = f"{client.name} ({addr[0]})"
        try:
            result, answer = await self._serve(packet, client, addr[0])
        except DiscardPacket as error:
            self._ignore(who, error.result, str(error))
        except BillerError as error:  # no answer: the NAS repeats it
            self._duplicates.forget_request(key)
            self._ignore(who, "UNAVAILABLE", str(error))
        except Exception as error:  # noqa: BLE001  no answer either: nothing that a NAS reports is lost
            self._duplicates.forget_request(key)
            self._metrics.radius.count_request("FAILED")
            self._faults.report(f"The answer to a RADIUS request of {who}", error)
        else:
            self._duplicates.record_response(key, answer)
            self._metrics.radius.count_request(result)
            self._send(answer, addr)

    def _send(self, answer: bytes, addr: tuple[str, int]) -> None:
        if self.transport is None:  # the port was closed meanwhile
            return
        try:
            self.transport.write(answer, addr)
        except (OSError, ValueError) as error:  # no way there, or an address of another family
            self._ignore(addr[0], "FAILED", f"it cannot be answered: {error}")

    def _ignore(self, who: str, result: str, why: str) -> None:
        self._metrics.radius.count_request(result)
        self._warnings.warn(who, result, f"ignored: {why}")

    def drain(self) -> Deferred[Any]:
        """Ignore further datagrams; the Deferred fires when all earlier requests are answered."""
        self._is_draining = True
        return DeferredList([_after(each) for each in self._pending])


def _after(pending: Deferred[None]) -> Deferred[None]:
    """Return a Deferred that fires after another one, whatever that one's result is."""
    done: Deferred[None] = Deferred()
    pending.addBoth(lambda _: done.callback(None))
    return done
