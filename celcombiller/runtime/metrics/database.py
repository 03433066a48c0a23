"""Metrics of the database and of the batches written to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Gauge, Histogram

from celcombiller.runtime.metrics.buckets import BATCH_REQUESTS, LATENCY_SECONDS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class DatabaseMetrics:
    """The instruments of the batch writer."""

    batch_requests: Histogram
    commit_seconds: Histogram
    waiting_requests: Gauge

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            batch_requests=Histogram(
                "celcombiller_batch_requests",
                "How many requests one transaction handled together.",
                buckets=BATCH_REQUESTS,
                registry=registry,
            ),
            commit_seconds=Histogram(
                "celcombiller_commit_duration_seconds",
                "How long the database took to make a transaction durable; on PostgreSQL with the rows of a batch.",
                buckets=LATENCY_SECONDS,
                registry=registry,
            ),
            waiting_requests=Gauge(
                "celcombiller_waiting_requests", "Requests that wait for the next transaction.", registry=registry
            ),
        )
