"""Metrics of periodic work: schedules, low-balance notices, the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from datetime import datetime

    from prometheus_client import CollectorRegistry

    from celcombiller.core.audit.report import AuditReport


@dataclass(frozen=True, slots=True)
class ScheduleMetrics:
    """The instruments of scheduled credits."""

    lag_seconds: Gauge
    looked_at: Gauge

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            lag_seconds=Gauge(
                "celcombiller_schedule_lag_seconds",
                "How long the oldest scheduled credit that is not done has been due; 0: all are done.",
                registry=registry,
            ),
            looked_at=Gauge(
                "celcombiller_schedules_looked_at_timestamp_seconds",
                "When the biller last looked for due credits; 0: never.",
                registry=registry,
            ),
        )

    def record_lag(self, lag_seconds: float, at: datetime) -> None:
        """Record how long the oldest credit is due that is not done, as it was at ``at``."""
        self.lag_seconds.set(lag_seconds)
        self.looked_at.set(at.timestamp())


@dataclass(frozen=True, slots=True)
class NoticeMetrics:
    """The instruments of low-balance notices."""

    looked_at: Gauge
    _by_queued: dict[bool, Counter]

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        notices = Counter(
            "celcombiller_notices",
            "Low balances that were found: the message was queued, or could not be (the log says why).",
            ("result",),
            registry=registry,
        )
        return cls(
            looked_at=Gauge(
                "celcombiller_notices_looked_at_timestamp_seconds",
                "The time up to which low balances were looked for; 0: notices are off, or another worker looks.",
                registry=registry,
            ),
            _by_queued={True: notices.labels("queued"), False: notices.labels("failed")},
        )

    def count(self, *, queued: bool) -> None:
        """Count a low balance, by whether its message could be queued."""
        self._by_queued[queued].inc()

    def record_progress(self, at: datetime) -> None:
        """Record that all transfers before ``at`` have been looked at."""
        self.looked_at.set(at.timestamp())


@dataclass(frozen=True, slots=True)
class BundleMetrics:
    """The instruments of bundles."""

    ended: Counter
    _by_renewed: dict[bool, Counter]

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        renewals = Counter(
            "celcombiller_bundle_renewals",
            "Bundles whose time was over and that renew themselves: bought again, or not (the log says why).",
            ("result",),
            registry=registry,
        )
        return cls(
            ended=Counter(
                "celcombiller_bundles_ended", "Bundles that ended because their time was over.", registry=registry
            ),
            _by_renewed={True: renewals.labels("renewed"), False: renewals.labels("refused")},
        )

    def count_renewal(self, *, renewed: bool) -> None:
        """Count a bundle that was to be bought again, by whether it was."""
        self._by_renewed[renewed].inc()


@dataclass(frozen=True, slots=True)
class AuditMetrics:
    """The instruments of the ledger's audit."""

    differences: Gauge
    ended_at: Gauge
    seconds: Gauge

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            differences=Gauge(
                "celcombiller_audit_differences",
                "Differences between the ledger and its history that the last audit found; must be 0.",
                registry=registry,
            ),
            ended_at=Gauge(
                "celcombiller_audit_timestamp_seconds", "When the last audit ended; 0: never.", registry=registry
            ),
            seconds=Gauge("celcombiller_audit_duration_seconds", "How long the last audit took.", registry=registry),
        )

    def record(self, report: AuditReport, *, seconds: float, at: datetime) -> None:
        """Record the result of an audit that ended at ``at``."""
        self.differences.set(len(report.differences))
        self.seconds.set(seconds)
        self.ended_at.set(at.timestamp())
