"""What each scrape reads from the database, and the collector of all metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celcombiller.core.reports.open_items import NetworkProgress, OpenItems
    from celcombiller.core.reports.seller_items import SellerItems


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
        "celcombiller_live_granted_seconds",
        "The seconds that answered calls may still talk by what they are granted so far, all together.",
        open_items.granted_seconds,
    )
    yield GaugeMetricFamily(
        "celcombiller_waiting_call_orders",
        "Orders to calls in progress, such as to hang up, that no biller has carried out yet.",
        open_items.waiting_orders,
    )
    yield GaugeMetricFamily(
        "celcombiller_oldest_waiting_call_order_seconds",
        "The age of the oldest of them; 0: none.",
        open_items.oldest_order_seconds,
    )
    yield GaugeMetricFamily("celcombiller_owed_fees", "Fees that are unpaid.", open_items.owed_fees)
    yield GaugeMetricFamily(
        "celcombiller_suspended_subscribers",
        "Subscribers who are switched off because a fee is unpaid too long.",
        open_items.suspended,
    )
    yield GaugeMetricFamily(
        "celcombiller_open_data_sessions", "Sessions of data in progress.", open_items.data_sessions
    )
    yield GaugeMetricFamily(
        "celcombiller_unassigned_payments",
        "Payments of which the recipient is no subscriber: they wait for the staff (`celcombiller payment assign`).",
        open_items.unassigned_payments,
    )
    yield from _seller_families(open_items.sellers)
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


def _seller_families(items: SellerItems) -> Iterator[Any]:
    """Yield what sellers sold in the last 24 hours and have to sell."""
    labels = ("seller_class", "origin")
    count = GaugeMetricFamily(
        "celcombiller_sales", "Sales of sellers in the last 24 hours, without those undone.", labels=labels
    )
    credits_ = GaugeMetricFamily(
        "celcombiller_sold_credits", "Credits that sellers sold in the last 24 hours.", labels=labels
    )
    for key, (number, amount) in sorted(items.sales.items()):
        count.add_metric(key, number)
        credits_.add_metric(key, amount)
    yield count
    yield credits_
    stock = GaugeMetricFamily(
        "celcombiller_seller_stock_credits", "Credits that enabled sellers have to sell.", labels=("seller_class",)
    )
    for name, posted in sorted(items.stocks.items()):
        stock.add_metric((name,), posted)
    yield stock
    yield GaugeMetricFamily(
        "celcombiller_sellers_low",
        "Sellers who have less left to sell than they sold in the last 24 hours.",
        items.low,
    )


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
