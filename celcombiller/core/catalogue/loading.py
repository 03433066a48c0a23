"""The catalogue, read from the ledger in many short transactions, and only as far as it changed.

The rates of a version never change once it has its moment. So they need not be read in one transaction, and those of a
version that is known are kept. Of a new version only the prefixes are read that changed since a known one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.bundles.offers import offer_from_row
from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueTariff, TariffVersion
from celcombiller.core.catalogue.tariff_build import TariffBuild, TariffChange
from celcombiller.core.model.routing import CallRoute, RouteTrunk, Trunk, TrunkChoice
from celcombiller.core.model.tariffs import Calendar
from celcombiller.core.rating.windows import parse_holidays
from celcombiller.core.schema import tables
from celcombiller.core.schema.catalogue_change import last_change
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.subscribers.group_records import group_from_row
from celcombiller.core.tariffs.rate_records import (
    CHUNK,
    list_changed_prefixes,
    list_destination_rates,
    list_rates,
    list_services,
    place_of,
)
from celcombiller.core.tariffs.tariff_records import list_all
from celcombiller.core.tariffs.versions import VersionRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.bundles import Offer
    from celcombiller.core.model.subscribers import Group
    from celcombiller.core.model.tariffs import Service
    from celcombiller.core.rating.tariff import Tariff
    from celcombiller.core.tariffs.rate_records import RatePlace
    from celcombiller.core.tariffs.tariff_records import TariffRecord

KEPT = timedelta(minutes=10)
"""How long a version that is no longer in force is kept: for what began before, and clocks that differ."""

CHANGED_PREFIXES_MAX = 200_000
"""A version with more changed prefixes is read whole: its moment leaves the time for that."""


@dataclass(frozen=True, slots=True)
class CatalogueHead:
    """What is read in one transaction: everything but the rates."""

    number: int
    tariffs: Sequence[TariffRecord]
    versions: dict[int, list[VersionRecord]]
    groups: dict[int, Group]
    trunks: dict[int, Trunk]
    routes: dict[str, CallRoute]
    offers: dict[int, Offer]


def read_in_steps(
    known: Catalogue, clock: Callable[[], datetime], *, changes_max: int | None = None
) -> Generator[Callable[[Connection], Any], Any, Catalogue]:
    """Yield the transactions that read the catalogue of now; send each one's result back.

    ``known`` is the catalogue before, of which the settings' rates and all versions that are known are kept. Of a new
    version only the prefixes are read that differ from a known one. With ``changes_max`` what has more of these changes
    is read whole: that takes long, but then it needs less time for each look-up, and less memory.
    """
    head: CatalogueHead = yield _read_head
    found: dict[int, CatalogueTariff] = {}
    for tariff in head.tariffs:
        before = known.tariffs.get(tariff.id)
        versions = {} if before is None else {each.id: each for each in before.versions}
        made: list[TariffVersion] = []
        for version in list_needed(head.versions.get(tariff.id, ()), clock()):
            have = versions.get(version.id)
            is_whole = have is not None and changes_max is not None and have.changes > changes_max
            if have is None or is_whole:
                earlier = [] if is_whole else [*versions.values(), *made]
                have = yield from _read_version(tariff, version, earlier)
            made.append(have)
        found[tariff.id] = CatalogueTariff(
            tariff.id, tariff.name, tariff.currency, tariff.credits_per_unit, tariff.time_zone, tuple(made)
        )
    return Catalogue(
        settings=known.settings,
        number=head.number,
        tariffs=found,
        default_tariff_id=next((each.id for each in head.tariffs if each.is_default), None),
        groups=head.groups,
        trunks=head.trunks,
        routes=head.routes,
        offers=head.offers,
    )


def read_catalogue(tx: Connection, known: Catalogue, clock: Callable[[], datetime]) -> Catalogue:
    """Return the catalogue of now, read in this transaction."""
    steps = read_in_steps(known, clock)
    try:
        work = next(steps)
        while True:
            work = steps.send(work(tx))
    except StopIteration as end:
        catalogue: Catalogue = end.value
        return catalogue


def read_version(tx: Connection, tariff: TariffRecord, version: VersionRecord) -> TariffVersion:
    """Return any version of a tariff with its rates: for what a catalogue does not keep."""
    steps = _read_version(tariff, version, ())
    try:
        work = next(steps)
        while True:
            work = steps.send(work(tx))
    except StopIteration as end:
        made: TariffVersion = end.value
        return made


def list_needed(versions: Sequence[VersionRecord], now: datetime) -> list[VersionRecord]:
    """Return the versions, in their order, that are in force, wait for their moment, or were in force until lately.

    ``versions`` are those with a moment, in the order of their numbers.
    """
    ended = {
        each.number
        for each, following in pairwise(versions)
        if following.effective_at is not None and following.effective_at <= now - KEPT
    }
    return [each for each in versions if each.number not in ended]


# -- the steps of reading --------------------------------------------------------------------------------------------


def _read_head(tx: Connection) -> CatalogueHead:
    number = last_change(tx)  # first: what is committed while the others are read has a higher number
    version = tables.tariff_version
    versions = defaultdict(list)
    for row in tx.execute(sa.select(version).where(version.c.effective_at.is_not(None)).order_by(version.c.number)):
        versions[row.tariff_id].append(value_from_row(row, VersionRecord))
    return CatalogueHead(
        number,
        list_all(tx),
        dict(versions),
        {each.id: each for each in map(group_from_row, _living(tx, tables.subscriber_group))},
        {row.id: value_from_row(row, Trunk) for row in _living(tx, tables.trunk)},
        _read_routes(tx),
        {each.id: each for each in map(offer_from_row, _living(tx, tables.offer))},
    )


def _living(tx: Connection, table: sa.Table) -> Iterable[sa.Row[Any]]:
    return tx.execute(sa.select(table).where(table.c.deleted_at.is_(None)).order_by(table.c.id))


def _read_routes(tx: Connection) -> dict[str, CallRoute]:
    of_route = defaultdict(list)
    trunk = tables.route_trunk
    for row in tx.execute(sa.select(trunk).order_by(trunk.c.route_id, trunk.c.position)):
        of_route[row.route_id].append(RouteTrunk(row.trunk_id, row.weight))
    return {
        row.prefix: CallRoute(row.id, row.prefix, TrunkChoice(row.choose), tuple(of_route[row.id]))
        for row in _living(tx, tables.route)
    }


def _read_version(
    tariff: TariffRecord, version: VersionRecord, known: Iterable[TariffVersion]
) -> Generator[Callable[[Connection], Any], Any, TariffVersion]:
    """Yield the transactions that read a version: what changed since a known one, or else all its rates."""
    calendar = Calendar(tariff.time_zone, parse_holidays(version.holidays))
    nearest = max((each for each in known if each.number < version.number), key=lambda each: each.number, default=None)
    base = None if nearest is None else nearest.base or nearest
    if base is not None and base.calendar == calendar:
        prefixes: list[str] = yield partial(
            list_changed_prefixes, tariff_id=tariff.id, after=base.number, until=version.number
        )
        if len(prefixes) <= CHANGED_PREFIXES_MAX:
            change = TariffChange(calendar)
            for start in range(0, len(prefixes), CHUNK):
                part = prefixes[start : start + CHUNK]
                yield partial(_read_prefixes, change=change, tariff_id=tariff.id, number=version.number, prefixes=part)
            services: set[Service] = yield partial(list_services, tariff_id=tariff.id, number=version.number)
            made: TariffVersion = yield lambda _tx: _make_version(
                version, change.finish(base.tariffs, services), calendar, base, len(prefixes)
            )
            return made
    build, place = TariffBuild(calendar), None
    while True:
        place = yield partial(_read_chunk, build=build, tariff_id=tariff.id, number=version.number, after=place)
        if place is None:
            made = yield lambda _tx: _make_version(version, build.finish(), calendar)
            return made


def _read_prefixes(tx: Connection, *, change: TariffChange, tariff_id: int, number: int, prefixes: list[str]) -> None:
    change.add(prefixes, (each.row for each in list_destination_rates(tx, tariff_id, number, prefixes)))


def _read_chunk(
    tx: Connection, *, build: TariffBuild, tariff_id: int, number: int, after: RatePlace | None
) -> RatePlace | None:
    """Read the next rates in order; return the place of the last one, None at the end."""
    rates = list_rates(tx, tariff_id, number, after=after, limit=CHUNK)
    if build.place == after:  # else it was taken already
        build.add(each.row for each in rates)
        build.place = place_of(rates[-1]) if rates else None
    return build.place if len(rates) == CHUNK else None


def _make_version(
    version: VersionRecord,
    tariffs: Mapping[Service, Tariff],
    calendar: Calendar,
    base: TariffVersion | None = None,
    changes: int = 0,
) -> TariffVersion:
    if version.effective_at is None:
        raise ValueError("a version without a moment is in no catalogue")
    return TariffVersion(version.id, version.number, version.effective_at, tariffs, calendar, base, changes)
