"""Metrics of requests from outside: the REST API and RADIUS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

REST_LIMITS = (
    *("connections_max", "connections_per_address_max", "requests_max", "head_seconds", "body_seconds"),
    *("upload_seconds", "send_seconds", "event_streams_max", "hashes_waiting_max", "unknown_credentials_max"),
)
"""The settings in ``[rest]`` that refuse or end something when they are reached."""


@dataclass(frozen=True, slots=True)
class RestMetrics:
    """The instruments of the REST API."""

    requests: Counter
    connections: Gauge
    connections_max: Gauge
    requests_in_work: Gauge
    unsent_connections: Gauge
    event_streams: Gauge
    hashes_waiting: Gauge
    _pages: dict[bool, Counter]
    _limited: dict[str, Counter]

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        limited = Counter(
            "celcombiller_rest_limited",
            "How often a limit of the section [rest] refused or ended something, by its setting.",
            ("setting",),
            registry=registry,
        )
        pages = Counter(
            "celcombiller_pages",
            "Pages of the console that only read, by where they were made: in their own process, or in the biller.",
            ("made_by",),
            registry=registry,
        )
        return cls(
            requests=Counter(
                "celcombiller_rest_requests",
                "Requests to the REST API, by method and address, and the status of the answer.",
                ("route", "status"),
                registry=registry,
            ),
            connections=Gauge("celcombiller_rest_connections", "Open connections of the REST API.", registry=registry),
            connections_max=Gauge(
                "celcombiller_rest_connections_max",
                "How many may be open (rest.connections_max, or less where few files may be open).",
                registry=registry,
            ),
            requests_in_work=Gauge(
                "celcombiller_rest_requests_in_work",
                "Requests to the REST API that are being answered.",
                registry=registry,
            ),
            unsent_connections=Gauge(
                "celcombiller_rest_unsent_connections",
                "Connections with rest.unsent_kib_max of answers that the client does not take.",
                registry=registry,
            ),
            event_streams=Gauge(
                "celcombiller_rest_event_streams", "Streams of live calls' events that are open.", registry=registry
            ),
            hashes_waiting=Gauge(
                "celcombiller_hashes_waiting", "Passwords that wait to be checked or hashed.", registry=registry
            ),
            _pages={is_process: pages.labels(by) for is_process, by in ((True, "process"), (False, "biller"))},
            _limited={each: limited.labels(each) for each in REST_LIMITS},
        )

    def count_limit(self, setting: str) -> None:
        """Count that a limit was reached, one of `REST_LIMITS`."""
        self._limited[setting].inc()

    def count_page(self, *, by_process: bool) -> None:
        """Count a page that its own process made, or that the biller made itself."""
        self._pages[by_process].inc()

    def watch_connections(
        self, count: Callable[[], int], working: Callable[[], int], unsent: Callable[[], int], most: int
    ) -> None:
        """Read these counts at each scrape."""
        self.connections.set_function(count)
        self.requests_in_work.set_function(working)
        self.unsent_connections.set_function(unsent)
        self.connections_max.set(most)

    def count(self, route: str, status: int) -> None:
        """Count an answered request."""
        self.requests.labels(route, status).inc()


@dataclass(frozen=True, slots=True)
class RadiusMetrics:
    """The instruments of RADIUS."""

    requests: Counter
    disconnects: Counter

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            requests=Counter(
                "celcombiller_radius_requests",
                "RADIUS requests, by result: answered, repeated, or ignored and why.",
                ("result",),
                registry=registry,
            ),
            disconnects=Counter(
                "celcombiller_radius_disconnects",
                "Disconnect-Requests sent to NASes, by answer: ACK, NAK or no (answer).",
                ("said",),
                registry=registry,
            ),
        )

    def count_request(self, result: str) -> None:
        """Count a request by its result."""
        self.requests.labels(result).inc()

    def count_disconnect(self, answer: str) -> None:
        """Count a Disconnect-Request by the answer of the NAS."""
        self.disconnects.labels(answer).inc()


@dataclass(frozen=True, slots=True)
class PaymentMetrics:
    """The instruments of payments that providers report."""

    wrong_signatures: Counter
    _payments: Counter
    _credits: Counter

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            wrong_signatures=Counter(
                "celcombiller_payment_wrong_signatures",
                "Notices of payments that were refused because their signature, or its time, was wrong.",
                registry=registry,
            ),
            _payments=Counter(
                "celcombiller_payments",
                "Notices of payments by what became of them: credited, unassigned, reversed, repeated or refused.",
                ("provider", "result"),
                registry=registry,
            ),
            _credits=Counter(
                "celcombiller_payment_credits",
                "Credits that payments gave to subscribers as they came in.",
                ("provider",),
                registry=registry,
            ),
        )

    def count(self, provider: str, result: str, amount: int = 0) -> None:
        """Count a notice of a provider, and the credits that it gave."""
        self._payments.labels(provider, result).inc()
        self._credits.labels(provider).inc(amount)
