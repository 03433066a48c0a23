"""The catalogue in memory: tariffs in their versions, groups, trunks, routes and offers. Pure.

A catalogue never changes. A biller that reads a newer one exchanges the whole (`CatalogueHolder`), so what charges a
call sees one state of everything. Which version of a tariff is in force follows from the time alone: all nodes that
know a version begin to use it at the same moment.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celcombiller.core.model.tariffs import Calendar
from celcombiller.core.rating.tariff import Tariff

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from celcombiller.core.model.bundles import Offer
    from celcombiller.core.model.routing import CallRoute, Trunk
    from celcombiller.core.model.subscribers import Group, Subscriber
    from celcombiller.core.model.tariffs import Service

_NO_RATES = Tariff(())
_NO_CALENDAR = Calendar()


@dataclass(frozen=True, slots=True)
class TariffVersion:
    """A state of a tariff, in force from ``effective_at`` until the next one, with the rates of each service.

    ``base``: the version that was read whole, of which only ``changes`` prefixes were read again; ``None``: itself.
    """

    id: int
    number: int
    effective_at: datetime
    tariffs: Mapping[Service, Tariff]
    calendar: Calendar = _NO_CALENDAR
    base: TariffVersion | None = None
    changes: int = 0


@dataclass(frozen=True, slots=True)
class CatalogueTariff:
    """A tariff of the ledger, with its versions in the order in which they take effect."""

    id: int
    name: str
    currency: str = ""
    credits_per_unit: int = 1
    time_zone: str = "UTC"
    versions: tuple[TariffVersion, ...] = ()

    def version_at(self, at: datetime) -> TariffVersion | None:
        """Return the version in force at this time, or None before the first one."""
        versions = self.versions
        if len(versions) == 1:  # the rule, on the path of every call
            return versions[0] if versions[0].effective_at <= at else None
        place = bisect_right(versions, at, key=lambda each: each.effective_at)
        return versions[place - 1] if place else None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that has a price or a route. ``settings`` are the rates of the settings, by service.

    ``number`` is that of the last change it knows (`catalogue_change`); 0: it was not read from the ledger.
    """

    settings: Mapping[Service, Tariff] = field(default_factory=dict)
    number: int = 0
    tariffs: Mapping[int, CatalogueTariff] = field(default_factory=dict)
    default_tariff_id: int | None = None
    groups: Mapping[int, Group] = field(default_factory=dict)
    trunks: Mapping[int, Trunk] = field(default_factory=dict)
    routes: Mapping[str, CallRoute] = field(default_factory=dict)
    """By their prefixes, without ``+``."""
    offers: Mapping[int, Offer] = field(default_factory=dict)

    def version_at(self, tariff_id: int, at: datetime) -> TariffVersion | None:
        """Return the version of a tariff in force at this time, or None if there is none."""
        tariff = self.tariffs.get(tariff_id)
        return None if tariff is None else tariff.version_at(at)

    def tariff_for(self, subscriber: Subscriber, service: Service, at: datetime) -> tuple[Tariff, int | None]:
        """Return the rates of a service for a subscriber at this time, and the id of their version.

        The first of these that has rates of the service in force: the subscriber's own tariff, their group's, the
        default, else the settings. Of the settings the id is None; there are none of a service that has none there.
        """
        if self.tariffs:
            group = None if subscriber.group_id is None else self.groups.get(subscriber.group_id)
            of_group = None if group is None else group.tariff_id
            for tariff_id in (subscriber.tariff_id, of_group, self.default_tariff_id):
                if tariff_id is None:
                    continue
                version = self.version_at(tariff_id, at)
                if version is not None and (tariff := version.tariffs.get(service)) is not None:
                    return tariff, version.id
        return self.settings.get(service, _NO_RATES), None


class CatalogueHolder:
    """The catalogue that is in use. Setting ``current`` exchanges it as a whole, from any thread.

    ``fault`` says why a newer one could not be read; empty: ``current`` is the newest.
    """

    __slots__ = ("current", "fault")

    def __init__(self, current: Catalogue) -> None:
        self.current = current
        self.fault = ""
