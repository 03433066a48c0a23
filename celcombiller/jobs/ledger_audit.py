"""What is measured again and again: how late the reactor is, and whether the ledger is as its history says."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.core.audit.report import audit
from celcombiller.database.transaction import means_not_now, reading_one_snapshot
from celcombiller.runtime.process import cpu_affinity

if TYPE_CHECKING:
    import sqlalchemy as sa
    from twisted.internet.interfaces import IDelayedCall

    from celcombiller.core.audit.report import AuditReport
    from celcombiller.runtime.metrics import Metrics

FIRST_AUDIT_SECONDS = 600.0
"""When after the start the first audit begins: not while the calls of an outage are made good."""


AUDIT_SECONDS_MAX = 6 * 3600.0
"""An audit that takes longer is given up: on SQLite its journal cannot shrink as long as somebody reads."""


DIFFERENCES_TOLD = 10
"""So many lines of the log at most; `celcombiller audit` names them all."""


class LedgerAuditService(Service):
    """Proves the ledger every ``hours``, in a thread of its own that only reads and may take its time.

    A stop does not wait for it: the thread ends with the process, and what it read is worth nothing half.
    """

    _log = Logger()

    def __init__(self, reactor: Any, engine: sa.Engine, hours: float, metrics: Metrics) -> None:
        self._reactor = reactor
        self._engine = engine
        self._seconds = hours * 3600.0
        self._metrics = metrics
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin, after a while."""
        super().startService()
        self._next = self._reactor.callLater(FIRST_AUDIT_SECONDS, self._begin)

    def stopService(self) -> None:
        """End."""
        super().stopService()
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _begin(self) -> None:
        cpu_affinity.UnpinnedThread(target=self._prove, name="audit", daemon=True).start()

    def _prove(self) -> None:
        """Audit, in the thread; tell the reactor what came of it."""
        began = time.monotonic()
        found: AuditReport | Failure
        try:
            with reading_one_snapshot(self._engine).begin() as tx:
                found = audit(tx)
        except Exception:  # noqa: BLE001  whatever it was is told, and the next audit comes all the same
            found = Failure()
        self._reactor.callFromThread(self._over, found, time.monotonic() - began)

    def _over(self, found: AuditReport | Failure, seconds: float) -> None:
        if isinstance(found, Failure):
            self._failed(found)
        else:
            self._metrics.audit.record(found, seconds=seconds, at=datetime.now(UTC))
            self._tell(found, seconds)
        if self.running:
            self._next = self._reactor.callLater(self._seconds, self._begin)

    def _tell(self, report: AuditReport, seconds: float) -> None:
        if report.ok:
            self._log.info(
                "Audited {transfers} transfers and {calls} calls in {seconds} s: all is as recorded",
                transfers=report.transfers,
                calls=report.calls,
                seconds=round(seconds, 1),
            )
        for each in report.differences[:DIFFERENCES_TOLD]:
            self._log.error(
                "Audit: {law}; {subject}: expected {expected}, found {found}",
                law=each.law,
                subject=each.subject,
                expected=each.expected,
                found=each.found,
            )

    def _failed(self, failure: Failure) -> None:
        if means_not_now(failure.value):
            self._log.warn("The ledger could not be audited: {reason}", reason=failure.getErrorMessage())
        else:
            self._log.failure("The audit failed", failure)
