"""What each scrape reads from the database, and the collector of all metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celcombiller.core.reports.open_items import NetworkProgress, OpenItems


class MetricsCollector(Collector):
    """The registry and what was read for one scrape.

    Several workers share one port, and any of them may answer a scrape: the label ``worker`` separates their series,
    and a rate over some minutes is right for each.
    """

    def __init__(self, registry: Collector, read: list[Any], worker: int | None) -> None:
        self._registry = registry
        self._read = read
        self._label = {} if worker is None else {"worker": str(worker)}

    def collect(self) -> Iterator[Any]:
        """Yield all metrics."""
        for family in (*self._registry.collect(), *self._read):
            if self._label:
                family.samples = [each._replace(labels=each.labels | self._label) for each in family.samples]
            yield family


def open_item_families(open_items: OpenItems | None) -> Iterator[Any]:
    """Yield what the database reported; when it did not answer, only that it is down, and no old numbers."""
    yield GaugeMetricFamily(
        "celcombiller_database_up", "Whether the database answered this scrape.", float(open_items is not None)
    )
    if open_items is None:
        return
    yield GaugeMetricFamily("celcombiller_open_holds", "Holds that are open.", open_items.holds)
    yield GaugeMetricFamily("celcombiller_held_credits", "Credits that they set aside.", open_items.held)
    yield GaugeMetricFamily(
        "celcombiller_oldest_open_hold_seconds", "The age of the oldest of them; 0: none.", open_items.oldest_seconds
    )
    yield GaugeMetricFamily(
        "celcombiller_overdue_calls",
        "Open calls that should be settled: the limits of Asterisk must have ended them.",
        open_items.overdue,
    )
    yield GaugeMetricFamily(
        "celcombiller_oldest_overdue_call_seconds",
        "For how long the oldest of them is past its limit; 0: none.",
        open_items.overdue_seconds,
    )
    yield GaugeMetricFamily(
        "celcombiller_queued_messages", "Text messages that wait to be sent.", open_items.queued_messages
    )
    yield GaugeMetricFamily(
        "celcombiller_oldest_queued_message_seconds",
        "The age of the oldest of them; 0: none.",
        open_items.oldest_message_seconds,
    )
    calls = GaugeMetricFamily("celcombiller_open_calls", "Calls in progress on this server.", labels=("server",))
    for server, count in open_items.calls.items():
        calls.add_metric((server,), count)
    yield calls
    yield GaugeMetricFamily(
        "celcombiller_open_data_sessions", "Sessions of data in progress.", open_items.data_sessions
    )
    for name, text, value in _NETWORK_GAUGES:
        gauge = GaugeMetricFamily(f"celcombiller_network_{name}", text, labels=("network",))
        for network, progress in open_items.networks.items():
            gauge.add_metric((network,), float(value(progress)))
        yield gauge
    for name, text, value in _NETWORK_COUNTERS:
        counter = CounterMetricFamily(f"celcombiller_network_{name}", text, labels=("network",))
        for network, progress in open_items.networks.items():
            counter.add_metric((network,), float(value(progress)))
        yield counter


_NETWORK_GAUGES: tuple[tuple[str, str, Callable[[NetworkProgress], float]], ...] = (
    ("up", "Whether this radio network answered when it was asked last.", lambda each: each.up),
    ("waiting", "Changes of subscribers that this radio network does not have yet.", lambda each: each.waiting),
    ("oldest_waiting_seconds", "The age of the oldest of them; 0: none.", lambda each: each.oldest_seconds),
    ("failing", "Those of them that were tried without success.", lambda each: each.failing),
    ("unreadable", "Whether its list of subscribers has rows that cannot be read.", lambda each: each.has_warning),
)


_NETWORK_COUNTERS: tuple[tuple[str, str, Callable[[NetworkProgress], float]], ...] = (
    ("done", "Changes that were brought to this radio network.", lambda each: each.done_total),
    ("failures", "Attempts without success.", lambda each: each.failed_total),
)
