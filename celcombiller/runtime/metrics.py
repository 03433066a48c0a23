"""What operators watch, as Prometheus takes it: every metric of the biller, in one registry that is handed around.

The others say in one line what happened; children with labels are bound here, once, so that this line costs about a
microsecond. What is read from the database comes in as a value at each scrape and is not kept, so it is never stale.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from celcombiller.core import errors
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.model.messages import MessageState, Route
from celcombiller.core.voice.evidence import DISCREPANCY_MS
from celcombiller.runtime.metrics_scrape import MetricsCollector, _read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from celcombiller.core.audit.report import AuditReport
    from celcombiller.core.model.calls import Settlement
    from celcombiller.core.model.messages import Message
    from celcombiller.core.reports.open_items import OpenItems

# Without this each counter has a second series, of when it began, which no dashboard uses.
disable_created_metrics()  # type: ignore[no-untyped-call]

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


GRANTED = "GRANTED"


ALWAYS_ALLOWED = "ALWAYS_ALLOWED"


ALLOWED_ON_FAILURE = "ALLOWED_ON_FAILURE"


RESULTS = (
    GRANTED,
    *(each.code for each in (errors.InsufficientBalance, errors.UnknownSubscriber, errors.SubscriberDisabled)),
    *(each.code for each in (errors.BadNumber, errors.NoRate, errors.BillerError)),
    ALWAYS_ALLOWED,
    ALLOWED_ON_FAILURE,
)
"""What ``CELCOMBILLER_RESULT`` says; the last two are granted there, but not by the ledger."""


LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


BATCH_REQUESTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(slots=True)
class _Link:
    """An AMI link: whether it is up, and how long it was not, up to ``since``."""

    up: bool
    gap_seconds: float
    since: float


class Metrics:
    """Every metric. ``clock`` gives the seconds by which the gaps of AMI links are measured, ``worker`` a label."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, worker: int | None = None) -> None:
        self._clock = clock
        self._worker = worker
        self._links: dict[str, _Link] = {}
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        Info("celcombiller_build", "The program that runs.", registry=registry).info(
            {"version": version("celcombiller")}
        )

        self._authorizations = Counter(
            "celcombiller_authorizations",
            "Calls that asked to be let go, by what was decided (the channel variable CELCOMBILLER_RESULT).",
            ("result",),
            registry=registry,
        )
        self._decided = {each: self._authorizations.labels(each) for each in RESULTS}
        self.authorization_seconds = Histogram(
            "celcombiller_authorization_duration_seconds",
            "How long callers waited for the ledger's decision, durable; those that it came too late for included.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )

        ended = Counter(
            "celcombiller_calls_ended",
            "Calls that were closed: settled (answered and charged), released or expired, and who told first.",
            ("state", "witness"),
            registry=registry,
        )
        confirmations = Counter(
            "celcombiller_confirmations",
            "Ends of closed calls that another witness told as well.",
            ("witness",),
            registry=registry,
        )
        discrepancies = Counter(
            "celcombiller_discrepancies",
            "Of those, the ones that differ by more than a second from what was charged.",
            ("witness",),
            registry=registry,
        )
        self._ended: dict[tuple[CallState, Witness], Counter] = {
            (state, each): ended.labels(state, each)
            for state in (CallState.SETTLED, CallState.RELEASED, CallState.EXPIRED)
            for each in Witness
        }
        self._confirmed = {each: confirmations.labels(each) for each in Witness}
        self._differed = {each: discrepancies.labels(each) for each in Witness}
        self._talk_seconds = Counter(
            "celcombiller_talk_seconds", "Talk of the calls that were settled.", registry=registry
        )
        self._charged_credits = Counter(
            "celcombiller_charged_credits", "Voice credits that calls were charged.", registry=registry
        )

        messages = Counter(
            "celcombiller_messages",
            "Text messages by what became of them: accepted and expired ones, receipts of delivery or failure.",
            ("route", "state"),
            registry=registry,
        )
        self._messages = {
            (route, state): messages.labels(route, state)
            for route in (Route.ASTERISK, Route.SMPP)
            for state in MessageState
            if not state.is_open
        }
        self._message_credits = Counter(
            "celcombiller_message_credits",
            "Credits that messages were charged, of the kind that pays for them (sms.account).",
            registry=registry,
        )

        self.batch_requests = Histogram(
            "celcombiller_batch_requests",
            "How many requests one transaction did together.",
            buckets=BATCH_REQUESTS,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "celcombiller_commit_duration_seconds",
            "How long the database took to make a transaction durable.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )
        self.waiting_requests = Gauge(
            "celcombiller_waiting_requests", "Requests that wait for the next transaction.", registry=registry
        )

        self.agi_sessions = Gauge("celcombiller_agi_sessions", "Open FastAGI sessions.", registry=registry)
        self.agi_sessions_max = Gauge(
            "celcombiller_agi_sessions_max", "How many may be open (agi.connections_max).", registry=registry
        )
        self._rest_requests = Counter(
            "celcombiller_rest_requests",
            "Requests to the REST API, by method and address, and the status of the answer.",
            ("route", "status"),
            registry=registry,
        )
        self._radius_requests = Counter(
            "celcombiller_radius_requests",
            "RADIUS requests, by what became of them: answered, repeated, or ignored and then why.",
            ("result",),
            registry=registry,
        )
        self._disconnects = Counter(
            "celcombiller_radius_disconnects",
            "Disconnect-Requests sent to NASes, by what they said: ACK, NAK or no (answer).",
            ("said",),
            registry=registry,
        )
        self.reactor_delay_seconds = Histogram(
            "celcombiller_reactor_delay_seconds",
            "How late the reactor does what is due; asked every second.",
            buckets=LATENCY_SECONDS,
            registry=registry,
        )

        self._schedule_lag_seconds = Gauge(
            "celcombiller_schedule_lag_seconds",
            "How long ago the oldest scheduled credit came due that is not done; 0: all are.",
            registry=registry,
        )
        self._schedules_looked_at = Gauge(
            "celcombiller_schedules_looked_at_timestamp_seconds",
            "When it was last looked what is due; 0: never.",
            registry=registry,
        )
        notices = Counter(
            "celcombiller_notices",
            "Low balances that were noticed: the message was queued, or could not be (the log says why).",
            ("result",),
            registry=registry,
        )
        self._noticed = {queued: notices.labels(result) for queued, result in ((True, "queued"), (False, "failed"))}
        self._noticed_at = Gauge(
            "celcombiller_notices_looked_at_timestamp_seconds",
            "Up to when low balances have been noticed; 0: notices are off, or left to another.",
            registry=registry,
        )
        self._audit_differences = Gauge(
            "celcombiller_audit_differences",
            "Where the ledger was not as its history says, at the last audit; must be 0.",
            registry=registry,
        )
        self._audit_at = Gauge(
            "celcombiller_audit_timestamp_seconds", "When the last audit ended; 0: never.", registry=registry
        )
        self._audit_seconds = Gauge(
            "celcombiller_audit_duration_seconds", "How long the last audit took.", registry=registry
        )

    # -- what the others tell ----------------------------------------------------------------------------------------

    def decided(self, result: str) -> None:
        """Count a call by what was decided: one of `RESULTS`."""
        (self._decided.get(result) or self._authorizations.labels(result)).inc()

    def told(self, witness: Witness, settlement: Settlement) -> None:
        """Count what a witness told of a call's end."""
        call = settlement.call
        if settlement.first:
            self._ended[call.state, witness].inc()
            self._talk_seconds.inc((call.talk_ms or 0) / 1000)
            self._charged_credits.inc(call.cost or 0)
        elif settlement.difference_ms is not None:
            self._confirmed[witness].inc()
            if abs(settlement.difference_ms) > DISCREPANCY_MS:
                self._differed[witness].inc()

    def message_told(self, message: Message) -> None:
        """Count what became of a message."""
        self._messages[message.route, message.state].inc()
        if message.state is MessageState.ACCEPTED:
            self._message_credits.inc(message.cost)

    def link_down(self, server: str) -> None:
        """Begin a gap: this server's AMI link is not up, or not yet."""
        self._links[server] = _Link(up=False, gap_seconds=self._gap_seconds(server), since=self._clock())

    def link_up(self, server: str) -> None:
        """End the gap of this server's AMI link."""
        self._links[server] = _Link(up=True, gap_seconds=self._gap_seconds(server), since=self._clock())

    def requested(self, route: str, status: int) -> None:
        """Count an answer of the REST API."""
        self._rest_requests.labels(route, status).inc()

    def radius(self, result: str) -> None:
        """Count a RADIUS request by what became of it."""
        self._radius_requests.labels(result).inc()

    def disconnect(self, said: str) -> None:
        """Count a Disconnect-Request by what the NAS said."""
        self._disconnects.labels(said).inc()

    def scheduled(self, lag_seconds: float, at: datetime) -> None:
        """Note that it was looked at ``at`` what schedules owe, and how long the oldest of it is due by now."""
        self._schedule_lag_seconds.set(lag_seconds)
        self._schedules_looked_at.set(at.timestamp())

    def noticed(self, *, queued: bool) -> None:
        """Count a low balance that was noticed, and whether its message could be queued."""
        self._noticed[queued].inc()

    def noticed_at(self, at: datetime) -> None:
        """Note that all transfers before ``at`` have been looked at for low balances."""
        self._noticed_at.set(at.timestamp())

    def audited(self, report: AuditReport, *, seconds: float, at: datetime) -> None:
        """Note what an audit found."""
        self._audit_differences.set(len(report.differences))
        self._audit_seconds.set(seconds)
        self._audit_at.set(at.timestamp())

    # -- the scrape --------------------------------------------------------------------------------------------------

    def exposition(self, in_progress: OpenItems | None, gone: Mapping[str, int]) -> bytes:
        """Return everything in Prometheus' text format.

        ``in_progress`` is what the database just said, ``None`` when it did not answer; ``gone`` is of each AMI link
        how many open calls have no channel any more.
        """
        return generate_latest(
            MetricsCollector(self.registry, [*self._linked(gone), *_read(in_progress)], self._worker)
        )

    def _gap_seconds(self, server: str) -> float:
        link = self._links.get(server)
        if link is None:
            return 0.0
        return link.gap_seconds + (0.0 if link.up else self._clock() - link.since)

    def _linked(self, gone: Mapping[str, int]) -> Iterator[Any]:
        up = GaugeMetricFamily(
            "celcombiller_ami_up", "Whether the AMI link to this Asterisk server is up.", labels=("server",)
        )
        gap_seconds = CounterMetricFamily(
            "celcombiller_ami_gap_seconds",
            "How long no AMI link was up since the biller began: ends of calls that it did not hear.",
            labels=("server",),
        )
        for server, link in self._links.items():
            up.add_metric((server,), float(link.up))
            gap_seconds.add_metric((server,), self._gap_seconds(server))
        missing = GaugeMetricFamily(
            "celcombiller_gone_calls",
            "Open calls that the last list of this server's channels did not have.",
            labels=("server",),
        )
        for server, count in gone.items():
            missing.add_metric((server,), count)
        yield from (up, gap_seconds, missing)
