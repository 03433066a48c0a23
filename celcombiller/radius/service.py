"""All of RADIUS as one service: its ports, and what is done again and again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pyrad import packet as pyrad
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from celcombiller.datareports import Conditions
from celcombiller.periodic import PeriodicService
from celcombiller.radius.access import Access
from celcombiller.radius.accounting import Accounting
from celcombiller.radius.complaints import Complaints
from celcombiller.radius.disconnecting import DisconnectPort, Ends
from celcombiller.radius.ports import RadiusPort

if TYPE_CHECKING:
    from celcombiller.config import Radius
    from celcombiller.metrics import Metrics
    from celcombiller.passwords import Passwords
    from celcombiller.reading import Reader
    from celcombiller.store import Store

ENDS_SECONDS = 2.0
"""How often it is looked which sessions are to end; where there is none, that is two reads by index."""


def conditions_of(settings: Radius) -> Conditions:
    """Give the conditions of sessions."""
    silence = timedelta(minutes=settings.silent_minutes)
    return Conditions(settings.octets_per_credit, settings.quota_octets, silence)


class RadiusService(MultiService):
    """Listens, answers, and has sessions ended."""

    _log = Logger()

    def __init__(
        self, reactor: Any, settings: Radius, store: Store, reader: Reader, passwords: Passwords, metrics: Metrics
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        conditions = conditions_of(settings)
        complaints = Complaints(reactor.seconds)
        access = Access(settings, store, reader, passwords, complaints)
        accounting = Accounting(conditions, store, complaints)
        self._disconnects = DisconnectPort(reactor)
        self._answering = [
            (port, RadiusPort(reactor, code, settings.clients, serve, metrics, complaints))
            for port, code, serve in (
                (settings.access_port, pyrad.AccessRequest, access),
                (settings.accounting_port, pyrad.AccountingRequest, accounting),
            )
            if port
        ]
        self._open: list[Any] = []
        ends = Ends(settings, store, reader, self._disconnects, metrics)
        PeriodicService(reactor, ENDS_SECONDS, ends).setServiceParent(self)

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
        """Answer what was asked, and hear nothing more."""
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
