"""Metrics of the time without a ledger: what is exposed, and what waits to be charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class OutageMetrics:
    """The instruments of calls without the ledger. Workers share a journal: each shows the whole of it."""

    ledger_away: Gauge
    live: Gauge
    waiting: Gauge
    exposed_credits: Gauge
    journal_fault: Gauge
    journal_faults: Counter
    lost: Counter
    known_subscribers: Gauge

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            ledger_away=Gauge(
                "celcombiller_ledger_away",
                "1: the ledger did not answer the last call, so [[outage]] and calls.on_failure decide; 0: it decides.",
                registry=registry,
            ),
            live=Gauge(
                "celcombiller_outage_live_calls",
                "Calls that went without the ledger and may still talk; workers of one biller show the same.",
                registry=registry,
            ),
            waiting=Gauge(
                "celcombiller_journal_waiting",
                "Calls in the journal that the ledger has not charged yet; workers of one biller show the same.",
                registry=registry,
            ),
            exposed_credits=Gauge(
                "celcombiller_exposure_credits",
                "Credits that the calls in the journal may cost; workers of one biller show the same.",
                registry=registry,
            ),
            journal_fault=Gauge(
                "celcombiller_journal_fault",
                "1: the journal cannot be written, so no call goes without the ledger; /readyz says why.",
                registry=registry,
            ),
            journal_faults=Counter(
                "celcombiller_journal_refusals",
                "Calls that were refused because the journal could not be written.",
                registry=registry,
            ),
            lost=Counter(
                "celcombiller_journal_lost",
                "Calls without the ledger whose charge it refuses for good, as when the caller was deleted meanwhile.",
                registry=registry,
            ),
            known_subscribers=Gauge(
                "celcombiller_known_subscribers",
                "Subscribers that the biller keeps in memory for the time without a ledger.",
                registry=registry,
            ),
        )

    def watch(
        self,
        *,
        away: Callable[[], float],
        live: Callable[[], float],
        waiting: Callable[[], float],
        exposed_credits: Callable[[], float],
        fault: Callable[[], float],
        known: Callable[[], float],
    ) -> None:
        """Have each scrape ask these."""
        self.ledger_away.set_function(away)
        self.live.set_function(live)
        self.waiting.set_function(waiting)
        self.exposed_credits.set_function(exposed_credits)
        self.journal_fault.set_function(fault)
        self.known_subscribers.set_function(known)
