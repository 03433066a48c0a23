"""The metrics that Prometheus scrapes: one registry, with the instruments of each subject.

Children with labels are bound once, so counting takes about a microsecond. What is read from the database is given to
each scrape and not kept, so it is never stale.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from celcombiller.core.reconciliation.differences import DifferenceKind
from celcombiller.runtime.metrics.ami_links import LinkMetrics
from celcombiller.runtime.metrics.buckets import LATENCY_SECONDS
from celcombiller.runtime.metrics.calls import CallMetrics
from celcombiller.runtime.metrics.catalogue import CatalogueMetrics
from celcombiller.runtime.metrics.database import DatabaseMetrics
from celcombiller.runtime.metrics.jobs import (
    AuditMetrics,
    BundleMetrics,
    CdrMetrics,
    FeeMetrics,
    NoticeMetrics,
    ScheduleMetrics,
    ValidityMetrics,
)
from celcombiller.runtime.metrics.messages import MessageMetrics
from celcombiller.runtime.metrics.outage import OutageMetrics
from celcombiller.runtime.metrics.requests import PaymentMetrics, RadiusMetrics, RestMetrics
from celcombiller.runtime.metrics.scrape import MetricsCollector, open_item_families
from celcombiller.runtime.metrics.vouchers import VoucherMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celcombiller.core.reports.open_items import OpenItems

# Without this each counter has a second series, the time of its creation, which no dashboard uses.
disable_created_metrics()  # type: ignore[no-untyped-call]

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """All metrics. ``clock`` measures the gaps of AMI links in seconds; ``worker`` is a label of every series."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, worker: int | None = None) -> None:
        self._worker = worker
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        Info("celcombiller_build", "The program that runs.", registry=registry).info(
            {"version": version("celcombiller")}
        )
        self.calls = CallMetrics.register(registry)
        self.outage = OutageMetrics.register(registry)
        self.messages = MessageMetrics.register(registry)
        self.database = DatabaseMetrics.register(registry)
        self.catalogue = CatalogueMetrics.register(registry)
        self.rest = RestMetrics.register(registry)
        self.payments = PaymentMetrics.register(registry)
        self.radius = RadiusMetrics.register(registry)
        self.reactor_delay_seconds = Histogram(
            "celcombiller_reactor_delay_seconds",
            "How late the reactor runs what is due; measured every second.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self.suppressed_log_lines = Counter(
            "celcombiller_suppressed_log_lines",
            "Lines that were left out of the log because an address caused too many (service.log_lines_per_peer).",
            registry=registry,
        )
        self.schedules = ScheduleMetrics.register(registry)
        self.fees = FeeMetrics.register(registry)
        self.notices = NoticeMetrics.register(registry)
        self.bundles = BundleMetrics.register(registry)
        self.validity = ValidityMetrics.register(registry)
        self.vouchers = VoucherMetrics.register(registry)
        self.cdr = CdrMetrics.register(registry, DifferenceKind)
        self.audit = AuditMetrics.register(registry)
        self.links = LinkMetrics(clock)

    def exposition(
        self, open_items: OpenItems | None, gone: Mapping[str, int], sliced: Mapping[str, bool] = MappingProxyType({})
    ) -> bytes:
        """Return all metrics in the text format of Prometheus.

        ``open_items`` is what the database reports now, ``None`` when it did not answer. ``gone`` counts, for each
        server, the open calls without a channel; ``sliced`` says whether its new calls get slices.
        """
        read = [*self.links.families(gone, sliced), *open_item_families(open_items)]
        return generate_latest(MetricsCollector(self.registry, read, self._worker))
