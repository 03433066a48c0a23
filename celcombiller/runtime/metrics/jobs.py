"""Metrics of periodic work: schedules, low-balance notices, CDRs, the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter, Gauge

from celcombiller.core.model.accounts import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable
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
class FeeMetrics:
    """The instruments of fees."""

    looked_at: Gauge
    suspended: Counter
    _fees: Counter
    _credits: Counter

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        fees = Counter(
            "celcombiller_fees",
            "Fees of members: taken on their due date (taken), not, as the balance was too low (unpaid), or taken, "
            "wholly or in part, when credit came (later).",
            ("result",),
            registry=registry,
        )
        for each in ("taken", "unpaid", "later"):
            fees.labels(each)
        return cls(
            looked_at=Gauge(
                "celcombiller_fees_looked_at_timestamp_seconds",
                "When the biller last looked for unpaid fees that can be paid now; 0: never.",
                registry=registry,
            ),
            suspended=Counter(
                "celcombiller_suspensions",
                "Subscribers who were switched off because a fee was unpaid too long.",
                registry=registry,
            ),
            _fees=fees,
            _credits=Counter("celcombiller_fee_credits", "Credits that were taken as fees.", registry=registry),
        )

    def count_run(self, *, taken: int, unpaid: int, value: int) -> None:
        """Count the members of a chunk of a run, whose fee is ``value`` credits each."""
        self._fees.labels("taken").inc(taken)
        self._fees.labels("unpaid").inc(unpaid)
        self._credits.inc(taken * value)

    def count_collected(self, taken: int) -> None:
        """Count a fee that was taken later, wholly or in part."""
        self._fees.labels("later").inc()
        self._credits.inc(taken)


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
class ValidityMetrics:
    """The instruments of credit whose time is over."""

    looked_at: Gauge
    _accounts: dict[Kind, Counter]
    _credits: dict[Kind, Counter]
    _by_queued: dict[bool, Counter]

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        notices = Counter(
            "celcombiller_credit_validity_notices",
            "Subscribers whose credit will end soon: the message was queued, or could not be (the log says why).",
            ("result",),
            registry=registry,
        )
        accounts = Counter(
            "celcombiller_credit_expired_accounts",
            "Accounts of which credit was taken because its time was over.",
            ("kind",),
            registry=registry,
        )
        amounts = Counter(
            "celcombiller_credit_expired_credits",
            "Credits that were taken because their time was over.",
            ("kind",),
            registry=registry,
        )
        return cls(
            looked_at=Gauge(
                "celcombiller_credit_validity_looked_at_timestamp_seconds",
                "When the biller last looked for credit whose time is over; 0: credit has no end, or another looks.",
                registry=registry,
            ),
            _accounts={kind: accounts.labels(kind) for kind in Kind},
            _credits={kind: amounts.labels(kind) for kind in Kind},
            _by_queued={True: notices.labels("queued"), False: notices.labels("failed")},
        )

    def count_expired(self, kind: Kind, amount: int) -> None:
        """Count the credit that was taken of one account."""
        self._accounts[kind].inc()
        self._credits[kind].inc(amount)

    def count_notice(self, *, queued: bool) -> None:
        """Count a subscriber whose credit will end soon, by whether their message could be queued."""
        self._by_queued[queued].inc()


@dataclass(frozen=True, slots=True)
class CdrMetrics:
    """The instruments of the comparison with Asterisk's call detail records."""

    looked_at: Gauge
    channels: Counter
    unreadable: Counter
    _differences: Counter
    _settled: Counter

    @classmethod
    def register(cls, registry: CollectorRegistry, kinds: Iterable[str]) -> Self:
        """Make the instruments in a registry."""
        differences = Counter(
            "celcombiller_cdr_differences",
            "Differences between Asterisk's CDRs and the ledger that were found, each once, by what differs.",
            ("kind",),
            registry=registry,
        )
        for each in kinds:
            differences.labels(each)
        return cls(
            looked_at=Gauge(
                "celcombiller_cdr_looked_at_timestamp_seconds",
                "When new CDRs were last read to their end; 0: never, or another process reads them.",
                registry=registry,
            ),
            channels=Counter(
                "celcombiller_cdr_channels", "Channels whose CDRs were compared with the ledger.", registry=registry
            ),
            unreadable=Counter("celcombiller_cdr_unreadable", "CDRs that could not be read.", registry=registry),
            _differences=differences,
            _settled=Counter(
                "celcombiller_cdr_settled", "Calls that were settled by a CDR as they were compared.", registry=registry
            ),
        )

    def count(self, kind: str, *, settled: bool) -> None:
        """Count a difference that was found."""
        self._differences.labels(kind).inc()
        if settled:
            self._settled.inc()

    def count_unreadable(self, rows: int) -> None:
        """Count records that could not be read."""
        self.unreadable.inc(rows)


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
