"""The root service: start and stop in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from celcombiller.runtime.log import observers as log_observers
from celcombiller.runtime.process import open_files

if TYPE_CHECKING:
    from celcombiller.asterisk.outage.journal import Journal
    from celcombiller.asterisk.scripts import Scripts
    from celcombiller.config.tables import Config
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.credentials.password_hasher import Passwords
    from celcombiller.runtime.metrics import Metrics


class Root(log_observers.Logged, MultiService):
    """All services. To stop, it first accepts nothing new, then lets calls in work end, then closes the database."""

    _log = Logger()
    store: BatchWriter
    scripts: Scripts
    config: Config
    metrics: Metrics
    threads: tuple[Reader, Passwords]
    journal: Journal

    def __init__(self, lock: Any) -> None:
        super().__init__()
        self._lock = lock

    def privilegedStartService(self) -> None:
        """Listen; exit with one line when a port is taken."""
        try:
            super().privilegedStartService()
        except CannotListenError as error:
            raise SystemExit(f"celcombiller: {error}") from None

    def startService(self) -> None:
        """Start the batch writer, then the services that use it."""
        self._allow_open_files()
        self.store.start()
        for each in self.threads:
            each.start()
        super().startService()
        self._log.info(
            "REST on {rest}, FastAGI on {agi}, AMI of {ami}",
            rest=self.config.rest.listen,
            agi=self.config.agi.listen,
            ami=", ".join(f"{each.name} ({each.host}:{each.port})" for each in self.config.asterisk)
            or "no server: add [[asterisk]] tables, or an end that no script reports is missed",
        )

    def _allow_open_files(self) -> None:
        """Raise the limit of open files as far as the system allows: each call needs one."""
        was, most = open_files.raise_limit(), open_files.find_limit()
        agi, rest = self.config.agi.connections_max, self.config.rest.connections_max
        shares = open_files.share_files(most, rest=rest, agi=agi)
        if shares == open_files.OpenFiles(rest, agi):
            self._log.info("{most} open files are allowed ({was} before)", most=most or "any number of", was=was)
        else:
            self._log.warn(
                "{most} open files are allowed, so {agi} AGI sessions and {rest} connections of the API may be open:"
                " raise LimitNOFILE to {wanted} for agi.connections_max and rest.connections_max",
                most=most,
                agi=shares.agi,
                rest=shares.rest,
                wanted=agi + rest + open_files.OWN_FILES,
            )

    def stopService(self) -> Deferred[None]:
        """Stop; the result fires when the last answer is durable."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.running = 0
        for service in reversed(list(self)):
            stopped = service.stopService()
            if isinstance(stopped, Deferred):
                await stopped
        await self.scripts.updates.drain()
        await self.store.close()
        await self.journal.close()
        for each in self.threads:
            each.stop()
        if self._lock is not None:
            self._lock.close()
