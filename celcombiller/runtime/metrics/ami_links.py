"""Metrics of the AMI links: whether each is up, and for how long it was not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(slots=True)
class _Link:
    """A link: whether it is up, and how many seconds it was down before ``since``."""

    up: bool
    gap_seconds: float
    since: float


class LinkMetrics:
    """The gaps of each server's AMI link, measured by ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._links: dict[str, _Link] = {}
        self._faults: dict[str, int] = {}

    def record_faults(self, server: str, count: int) -> None:
        """Record how many things this server's link cannot do, such as hear events; ``/readyz`` names them."""
        self._faults[server] = count

    def record_down(self, server: str) -> None:
        """Begin a gap: the link of this server is down, or not up yet."""
        self._links[server] = _Link(up=False, gap_seconds=self._gap_seconds(server), since=self._clock())

    def record_up(self, server: str) -> None:
        """End the gap of this server's link."""
        self._links[server] = _Link(up=True, gap_seconds=self._gap_seconds(server), since=self._clock())

    def families(self, gone: Mapping[str, int], sliced: Mapping[str, bool]) -> Iterator[Any]:
        """Yield the metrics as they are now.

        ``gone`` counts, for each server, the open calls without a channel; ``sliced``: whether new calls get slices.
        """
        up = GaugeMetricFamily(
            "celcombiller_ami_up", "Whether the AMI link to this Asterisk server is up.", labels=("server",)
        )
        gap_seconds = CounterMetricFamily(
            "celcombiller_ami_gap_seconds",
            "How long the AMI link was down since the biller started: it did not hear the ends of calls meanwhile.",
            labels=("server",),
        )
        for server, link in self._links.items():
            up.add_metric((server,), float(link.up))
            gap_seconds.add_metric((server,), self._gap_seconds(server))
        missing = GaugeMetricFamily(
            "celcombiller_gone_calls",
            "Open calls without a channel in the last list of this server.",
            labels=("server",),
        )
        for server, count in gone.items():
            missing.add_metric((server,), count)
        faults = GaugeMetricFamily(
            "celcombiller_ami_faults",
            "What the AMI link to this server cannot do, for lack of a right, an event or a module; /readyz names it.",
            labels=("server",),
        )
        for server in self._links:
            faults.add_metric((server,), self._faults.get(server, 0))
        slices = GaugeMetricFamily(
            "celcombiller_ami_slices",
            "Whether new calls of this server hold their credit in slices (1), or for all they may use (0).",
            labels=("server",),
        )
        for server, are_sliced in sliced.items():
            slices.add_metric((server,), float(are_sliced))
        yield from (up, gap_seconds, missing, faults, slices)

    def _gap_seconds(self, server: str) -> float:
        link = self._links.get(server)
        if link is None:
            return 0.0
        return link.gap_seconds + (0.0 if link.up else self._clock() - link.since)
