"""A network with prices of its own, as an operator has them: a tariff in the ledger, bundles, and trunks with a cost.

Every call that `Plan.called_prefix` sends outside then has a rate with steps and windows, a bundle of seconds that pays
for it, and two trunks whose providers' prices are compared.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from celcombiller.bench import environment
from celcombiller.bench.environment import CREDIT
from celcombiller.core.bundles import bundle_records
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.routing import RouteTrunk, TrunkChoice
from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.routing import route_records, trunk_records
from celcombiller.core.schema import tables
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.core.tariffs.rate_row import RateRow, encode_steps
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTSIDE = "55"
"""The digits with which the numbers outside begin."""

EXTERNAL_DIAL = 'external_dial = "PJSIP/{number}@outside"'
"""The setting of ``[calls]`` that lets the same calls out without a route."""

DESTINATION_DIGITS = 4
"""The digits behind `OUTSIDE` that name a destination: each of 10,000 has rates."""

_WINDOW_HOURS = 12
_ZONE = ZoneInfo("America/Sao_Paulo")
_BUNDLE_HOURS = 24


def window_around(now: datetime) -> str:
    """Return a time of the week that began one to two hours ago and ends in ten to eleven.

    So no call of a run crosses its end, and a run measures the same at any hour of any day.
    """
    start = now.astimezone(_ZONE).hour - 1
    return f"mon-sun,holiday {start % 24:02}:00-{(start + _WINDOW_HOURS) % 24:02}:00"


def add_prices(url: str, destination_digits: int = DESTINATION_DIGITS) -> None:
    """Add a default tariff, a bundle of seconds for each subscriber, and a route with two trunks."""
    engine = open_engine(url, lock_seconds=60)
    # Written an hour ago, so that everything is in force when the biller starts.
    now = datetime.now(UTC) - timedelta(hours=1)
    transact(engine, lambda tx: _add_tariffs_and_route(tx, destination_digits, now))
    transact(engine, lambda tx: _give_bundles(tx, now))
    environment.look_over(engine)
    engine.dispose()


def _add_tariffs_and_route(tx: sa.Connection, digits: int, now: datetime) -> None:
    tariff_records.set_default(tx, _add_tariff(tx, "network", 30, digits, now))
    trunks = []
    for name, price in (("north", 12), ("south", 15)):
        tariff_id = _add_tariff(tx, name, price, digits, now)
        trunks.append(trunk_records.add(tx, name=name, dial=f"PJSIP/{{number}}@{name}", tariff_id=tariff_id, now=now))
    places = [RouteTrunk(each.id) for each in trunks]
    route_records.add(tx, prefix=OUTSIDE, choose=TrunkChoice.COST, trunks=places, now=now)


def _add_tariff(tx: sa.Connection, name: str, price: int, digits: int, now: datetime) -> int:
    tariff = tariff_records.add(tx, name=name, time_zone=_ZONE.key, now=now)
    versions.write_version(tx, tariff.id, versions.NewVersion([*_list_rates(price, digits)]), now)
    return tariff.id


def _list_rates(price: int, digits: int) -> Iterator[RateRow]:
    """Yield the rates of all destinations: 30/6 with a connect fee, twice as dear in the hours around now."""
    dear = window_around(datetime.now(UTC))
    for number in range(10**digits):
        prefix, name = f"{OUTSIDE}{number:0{digits}}", f"Area {number // 100}"
        for window, times in (("", 1), (dear, 2)):
            cost = (price + number % 50) * times
            steps = encode_steps((Step(0, 30, cost, 60), Step(30, 6, cost, 60)))
            yield RateRow(Service.VOICE, prefix, False, name, window, None, None, 2, 0, 3, steps)


def _give_bundles(tx: sa.Connection, now: datetime) -> None:
    terms = BundleTerms("Seconds", BundleKind.SECONDS, CREDIT, destinations=(OUTSIDE,))
    for subscriber_id in tx.execute(sa.select(tables.subscriber.c.id)).scalars().all():
        bundle_records.give(
            tx, subscriber_id, terms, valid_hours=_BUNDLE_HOURS, reference=f"bench:bundle:{subscriber_id}", now=now
        )
