"""Metrics of requests from outside: the REST API and RADIUS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class RestMetrics:
    """The instruments of the REST API."""

    requests: Counter

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            Counter(
                "celcombiller_rest_requests",
                "Requests to the REST API, by method and address, and the status of the answer.",
                ("route", "status"),
                registry=registry,
            )
        )

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
