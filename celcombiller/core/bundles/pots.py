"""The bundles that may pay for a use: read for a whole batch of requests, and chosen in memory.

A bundle pays before the balance: that of the lowest priority first, then the one that ends soonest. How much it has
left is in its account, which the ledger's book loads and locks.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.bundles import ON_NET, SERVICES_OF_KIND
from celcombiller.core.model.tariffs import Service
from celcombiller.core.schema import bulk, driver, tables

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection


class BundlePot(msgspec.Struct, frozen=True):
    """What a bundle is good for. ``services`` is never empty; no ``destinations``: all of them.

    Destinations are prefixes of numbers, and ``on-net`` for the subscribers of this biller. ``valid_until`` itself is
    excluded.
    """

    account_id: int
    kind: BundleKind
    services: frozenset[Service]
    destinations: tuple[str, ...]
    priority: int
    valid_from: datetime
    valid_until: datetime
    call_seconds_max: int | None = None

    def most_of_one_use(self, amount: int) -> int:
        """Return how much of an amount may pay for one use."""
        return amount if self.call_seconds_max is None else min(amount, self.call_seconds_max)

    def is_for(self, service: Service, number: str, *, on_net: bool, at: datetime) -> bool:
        """Return whether it pays for a use of ``service`` towards ``number`` that begins at this time.

        Data goes to no number, so destinations do not matter to it.
        """
        if service not in self.services or not self.valid_from <= at < self.valid_until:
            return False
        if not self.destinations or service is Service.DATA:
            return True
        digits = number.removeprefix("+")
        return any(on_net if each == ON_NET else digits.startswith(each) for each in self.destinations)


def load_pots(tx: Connection, subscriber_ids: Collection[int]) -> dict[int, list[BundlePot]]:
    """Return the living bundles of these subscribers, each one's in the order in which they are spent.

    They include those whose time has not come, or is over: `BundlePot.is_for` decides. A subscriber without bundles has
    no entry.
    """
    (rows,) = bulk.read(tx, query_pots(subscriber_ids))
    return pots_from_rows(rows)


def query_pots(subscriber_ids: Collection[int]) -> bulk.BoundQuery:
    """Return the query for the living bundles of these subscribers."""
    return _LIVING.with_values(subscriber_ids)


def pots_from_rows(rows: bulk.Rows) -> dict[int, list[BundlePot]]:
    """Return the bundles of the rows that answer `query_pots`, by subscriber."""
    pots: dict[int, list[BundlePot]] = {}
    for subscriber_id, account_id, kind, services, destinations, priority, valid_from, valid_until, most in rows:
        pot = BundlePot(
            account_id,
            _KINDS[kind],
            services_of(kind, services),
            tuple(each.removeprefix("+") for each in destinations.split()),
            priority,
            driver.parse_timestamp(valid_from),
            driver.parse_timestamp(valid_until),
            most,
        )
        pots.setdefault(subscriber_id, []).append(pot)
    for each in pots.values():
        each.sort(key=_SPENT_FIRST)
    return pots


@lru_cache
def services_of(kind: str, words: str) -> frozenset[Service]:
    """Return the services that a bundle pays for, of their names in a row; without names those of its kind."""
    return frozenset(map(Service, words.split())) or SERVICES_OF_KIND[_KINDS[kind]]


_KINDS = {str(each): each for each in BundleKind}
_SPENT_FIRST = attrgetter("priority", "valid_until", "account_id")


_LIVING = bulk.BulkQuery(
    "bundle.subscriber_id, bundle.account_id, account.kind, bundle.services, bundle.destinations, bundle.priority,"
    " bundle.valid_from, bundle.valid_until, bundle.call_seconds_max",
    "from bundle join account on account.id = bundle.account_id"
    " where bundle.subscriber_id {among} and bundle.ended_at is null",
    of=tables.bundle.c.subscriber_id,
)
