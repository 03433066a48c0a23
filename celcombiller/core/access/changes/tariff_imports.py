"""A price list from a file, as the next version of a tariff: what it would change. On an open transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.core.tariffs.differences import find_differences
from celcombiller.core.tariffs.rate_records import list_all_rates, list_destination_rates
from celcombiller.core.tariffs.versions import NewVersion, find_last_version, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.tariffs.differences import Differences
    from celcombiller.core.tariffs.rate_row import RateRow
    from celcombiller.core.tariffs.tariff_records import TariffRecord
    from celcombiller.core.tariffs.versions import VersionRecord


@dataclass(frozen=True, slots=True)
class PriceList:
    """Rates that a tariff is to have from ``effective_at`` on; ``None``: as soon as all nodes can have them.

    ``is_whole``: prefixes that are not in it are no longer in the tariff; otherwise they stay as they are.
    """

    rates: Sequence[RateRow]
    is_whole: bool
    effective_at: datetime | None
    note: str = ""


def find_tariff(tx: Connection, name: str | None) -> TariffRecord:
    """Return a tariff by its name; without a name the default one, or the only one. Raises `UnknownTariff`."""
    if name is not None:
        return tariff_records.find(tx, name)
    tariffs = tariff_records.list_all(tx)
    found = [each for each in tariffs if each.is_default] or (tariffs if len(tariffs) == 1 else [])
    if not found:
        raise InvalidValue("there is no default tariff: name the tariff")
    return found[0]


def find_import(
    tx: Connection, tariff: TariffRecord, prices: PriceList, actor: Actor, now: datetime
) -> tuple[NewVersion, Differences]:
    """Return the version that a price list makes, and what it would change.

    Raises as `versions.write_version` does, and `Forbidden`.
    """
    actor.check_administers()
    removed: list[versions.RateKey] = []
    last = find_last_version(tx, tariff.id)
    if not prices.is_whole and last is not None:
        given, kept = {each[:3] for each in prices.rates}, {key_of(each) for each in prices.rates}
        before = list_destination_rates(tx, tariff.id, last.number, {each.prefix for each in prices.rates})
        removed = [key for each in before if each.row[:3] in given and (key := key_of(each.row)) not in kept]
    new = NewVersion(
        rates=prices.rates,
        removed=removed,
        whole=prices.is_whole,
        effective_at=prices.effective_at,
        author=actor.name,
        note=prices.note,
    )
    return new, find_differences(versions.find_changes(tx, tariff.id, new, now), prices.rates)


def find_version(tx: Connection, tariff: TariffRecord, number: int | None, at: datetime) -> VersionRecord:
    """Return a version by its number, or the one in force at a time. Raises `UnknownTariff` and `InvalidValue`."""
    if number is not None:
        return versions.find_version(tx, tariff.id, number)
    found = versions.find_version_at(tx, tariff.id, at)
    if found is None:
        raise InvalidValue(f"the tariff {tariff.name} has no version in force at this time; name a version")
    return found


def list_exported(tx: Connection, tariff: TariffRecord, number: int) -> Iterator[RateRow]:
    """Yield the rates of a version in the order of its list."""
    return (each.row for each in list_all_rates(tx, tariff.id, number))
