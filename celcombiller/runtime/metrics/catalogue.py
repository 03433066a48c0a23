"""Metrics of the catalogue in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True)
class CatalogueMetrics:
    """The instruments of reading tariffs, groups, trunks, routes and offers."""

    stale: Gauge
    change: Gauge

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        return cls(
            stale=Gauge(
                "celcombiller_catalogue_stale",
                "1: the last change of tariffs, groups, trunks, routes or offers could not be read, and the state"
                " before is in use; 0: the newest is.",
                registry=registry,
            ),
            change=Gauge(
                "celcombiller_catalogue_change",
                "The number of the change of the catalogue that is in use; all nodes must show the same.",
                registry=registry,
            ),
        )
