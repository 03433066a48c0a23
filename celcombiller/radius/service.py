"""All of RADIUS as one service: its ports, and the periodic Disconnect-Requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrad import packet as pyrad
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from celcombiller.radius.access_requests import AccessRequests
from celcombiller.radius.accounting_requests import AccountingRequests
from celcombiller.radius.disconnect_client import DisconnectPort, SessionTerminator
from celcombiller.radius.throttled_log import ThrottledLog
from celcombiller.radius.udp_server import RadiusPort
from celcombiller.runtime.periodic import PeriodicService

if TYPE_CHECKING:
    from celcombiller.config.tables import Radius
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.credentials.password_hasher import Passwords
    from celcombiller.runtime.metrics import Metrics

DISCONNECT_SECONDS = 2.0
"""The seconds between two looks for sessions that must end; each costs two reads by index."""


class RadiusService(MultiService):
    """Listens, answers, and ends sessions that may not go on."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Radius,
        store: BatchWriter,
        reader: Reader,
        passwords: Passwords,
        catalogue: CatalogueHolder,
        metrics: Metrics,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        conditions = settings.conditions
        warnings = ThrottledLog(reactor.seconds)
        access = AccessRequests(settings, store, reader, passwords, catalogue, warnings)
        accounting = AccountingRequests(conditions, store, warnings)
        self._disconnects = DisconnectPort(reactor)
        self._answering = [
            (port, RadiusPort(reactor, code, settings.clients, serve, metrics, warnings))
            for port, code, serve in (
                (settings.access_port, pyrad.AccessRequest, access),
                (settings.accounting_port, pyrad.AccountingRequest, accounting),
            )
            if port
        ]
        self._open: list[Any] = []
        terminator = SessionTerminator(settings, store, reader, self._disconnects, metrics)
        PeriodicService(reactor, DISCONNECT_SECONDS, terminator).setServiceParent(self)

    def privilegedStartService(self) -> None:
        """Open the ports."""
        super().privilegedStartService()
        for port, protocol in (*self._answering, (0, self._disconnects)):
            self._open.append(self._reactor.listenUDP(port, protocol, self._settings.interface, maxPacketSize=8192))
        self._log.info(
            "RADIUS on {interface}: Access-Requests on {access}, accounting on {accounting}, of {clients}",
            interface=self._settings.interface,
            access=self._settings.access_port or "no port",
            accounting=self._settings.accounting_port or "no port",
            clients=", ".join(f"{each.name} ({each.address})" for each in self._settings.clients),
        )

    def stopService(self) -> Deferred[None]:
        """Answer the requests that came before, and close the ports."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await DeferredList([protocol.drain() for _, protocol in self._answering])
        self._disconnects.give_up()
        stopped = super().stopService()
        if stopped is not None:
            await stopped
        for port in self._open:
            closed = port.stopListening()
            if closed is not None:
                await closed
        self._open = []
