"""Keeps the catalogue in memory as it is in the ledger: reads it again within a second of a change.

PostgreSQL notifies of a change at its commit. A connection through PgBouncer may never see that, and SQLite has no
such thing: so the number of the last change is looked at too, several times a second.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from celcombiller.core.catalogue.loading import read_in_steps
from celcombiller.core.errors import BillerError
from celcombiller.core.schema.catalogue_change import CHANNEL, last_change
from celcombiller.database.transaction import explain_database_error
from celcombiller.runtime.periodic import PeriodicService
from celcombiller.runtime.process.thread_turns import take_short_turns
from celcombiller.runtime.timers.reconnecting import explain_error, stay_connected

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    import sqlalchemy as sa

    from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.metrics import Metrics

LOOK_SECONDS = 0.25
"""The interval between two looks at the number of the last change."""

CHANGES_MAX = 20_000
"""A version of which more prefixes differ from the one that was read whole is read whole, when it is in use already."""

RETRY_SECONDS = 5.0
"""How long after a failure the same state is read again."""


class CatalogueWatch(Service):
    """Reads the catalogue when it changed, and exchanges it as a whole. A failure keeps the one before.

    ``engine`` is PostgreSQL's, to listen on a connection of its own; ``None``: only look.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, reader: Reader, holder: CatalogueHolder, metrics: Metrics, engine: sa.Engine | None = None
    ) -> None:
        self._reactor = reactor
        self._reader = reader
        self._holder = holder
        self._metrics = metrics.catalogue
        self._metrics.change.set(holder.current.number)
        self._engine = engine
        self._looks = PeriodicService(reactor, LOOK_SECONDS, self.look)
        self._is_reading = self._is_asked = False
        self._tried, self._tried_at = -1, 0.0
        self._listening: Deferred[Any] | None = None

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue that is in use."""
        return self._holder.current

    def startService(self) -> None:
        """Begin to look, and to listen."""
        super().startService()  # type: ignore[no-untyped-call]
        self._looks.startService()
        if self._engine is not None:
            self._listening = Deferred.fromCoroutine(self._stay_listening(self._engine))
            self._listening.addErrback(lambda failure: failure.trap(CancelledError))

    async def _stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await self._listening
        await maybeDeferred(self._looks.stopService)

    def stopService(self) -> Deferred[None]:
        """End after the reading that is going on."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def look(self) -> None:
        """Read the catalogue if it changed; when it is asked meanwhile, once more."""
        self._is_asked = True
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while self._is_asked:
                self._is_asked = False
                await self._read_if_due()
        finally:
            self._is_reading = False

    async def _read_if_due(self) -> None:
        try:
            number = await self._reader.read(last_change)
            if self._is_due(number):
                self._use(await self._read())
                if self._has_many_changes():
                    self._use(await self._read(changes_max=CHANGES_MAX))
        except BillerError as error:
            self._keep(str(error))
        except CancelledError:  # else the listening would go on after it was stopped
            raise
        except Exception as error:  # noqa: BLE001  whatever is wrong with the ledger's content, calls go on
            self._keep(explain_database_error(error) or f"{type(error).__name__}: {error}")

    def _is_due(self, number: int) -> bool:
        """Return whether to read now; what could not be read is tried again when it changes, or after a while."""
        if self._holder.fault and number == self._tried and self._reactor.seconds() < self._tried_at + RETRY_SECONDS:
            return False
        is_due = number != self._holder.current.number or bool(self._holder.fault)
        if is_due:
            self._tried, self._tried_at = number, self._reactor.seconds()
        return is_due

    def _has_many_changes(self) -> bool:
        return any(
            version.changes > CHANGES_MAX
            for tariff in self._holder.current.tariffs.values()
            for version in tariff.versions
        )

    async def _read(self, *, changes_max: int | None = None) -> Catalogue:
        """Read it in steps, each in a thread of the reader."""
        steps = read_in_steps(self._holder.current, lambda: datetime.now(UTC), changes_max=changes_max)
        with take_short_turns():
            try:
                work = next(steps)
                while True:
                    work = steps.send(await self._reader.read(work))
            except StopIteration as end:
                catalogue: Catalogue = end.value
                return catalogue

    def _use(self, catalogue: Catalogue) -> None:
        self._holder.current = catalogue
        self._metrics.change.set(catalogue.number)
        if self._holder.fault:
            self._log.info("Tariffs, groups, trunks, routes and offers are read again")
        self._holder.fault = ""
        self._metrics.stale.set(0)

    def _keep(self, reason: str) -> None:
        self._metrics.stale.set(1)
        if reason != self._holder.fault:
            self._log.error(
                "Tariffs, groups, trunks, routes and offers cannot be read: {reason}; those read before stay in use",
                reason=reason,
            )
        self._holder.fault = reason

    # -- PostgreSQL's notifications ---------------------------------------------------------------------------------

    async def _stay_listening(self, engine: sa.Engine) -> None:
        await stay_connected(
            self._reactor,
            lambda: bool(self.running),
            lambda: deferToThread(_listen, engine),
            partial(self._serve, lost=engine.dialect.loaded_dbapi.OperationalError),
            log=self._log,
            peer="Listening for changes of tariffs",
            explain=lambda error: explain_database_error(error) or explain_error(error),
        )

    async def _serve(self, connection: psycopg.Connection[Any], *, lost: type[Exception]) -> None:
        ended: Deferred[None] = Deferred()
        descriptor = os.dup(connection.fileno())  # libpq closes its own at an error, before the reactor forgets it
        notifications = _Notifications(connection, descriptor, self._look_now, ended, lost)
        self._reactor.addReader(notifications)
        try:
            await self.look()  # for what changed while it was connecting
            await ended
        finally:
            self._reactor.removeReader(notifications)
            os.close(descriptor)
            connection.close()

    def _look_now(self) -> None:
        Deferred.fromCoroutine(self.look())


def _listen(engine: sa.Engine) -> psycopg.Connection[Any]:
    """Return a connection of its own, outside the pool, that listens."""
    made = engine.raw_connection()
    connection = cast("psycopg.Connection[Any]", made.driver_connection)
    made.detach()
    connection.autocommit = True
    connection.execute(f"listen {CHANNEL}", prepare=False)
    return connection


class _Notifications:
    """The connection as the reactor sees it: ready to be read when the server has sent something."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        descriptor: int,
        heard: Callable[[], None],
        ended: Deferred[None],
        lost: type[Exception],
    ) -> None:
        self._connection = connection.pgconn
        self._descriptor = descriptor
        self._heard = heard
        self._ended = ended
        self._lost = lost

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Return the name in Twisted's own log lines."""
        return "catalogue"

    def doRead(self) -> None:
        """Take what the server sent; several notifications are one change to look for."""
        heard = False
        try:
            self._connection.consume_input()
            while self._connection.notifies() is not None:
                heard = True
        except self._lost:
            self.connectionLost(None)
        if heard:
            self._heard()

    def connectionLost(self, _reason: Any) -> None:
        """End the connection."""
        if not self._ended.called:
            self._ended.callback(None)
