"""The rates of a version as they are read, chunk by chunk, until they are the tariffs of its services. Pure."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, groupby
from typing import TYPE_CHECKING

from celcombiller.core.catalogue.changed_tariff import ChangedTariff
from celcombiller.core.catalogue.rate_values import rates_from_rows
from celcombiller.core.rating.tariff import Tariff, TariffBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from celcombiller.core.model.tariffs import Calendar, Service
    from celcombiller.core.tariffs.rate_records import RatePlace
    from celcombiller.core.tariffs.rate_row import RateRow


class TariffBuild:
    """Takes the rows of a version in the order of its list, and makes its tariffs.

    A transaction that is repeated gives the same rows again: ``place`` says which were taken.
    """

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.place: RatePlace | None = None
        self._made: dict[Service, Tariff] | None = None
        self._builders: dict[Service, TariffBuilder] = defaultdict(TariffBuilder)
        self._rows: list[RateRow] = []

    def add(self, rows: Iterable[RateRow]) -> None:
        """Take the next rows. Those of one prefix are made rates when the next prefix comes."""
        for row in rows:
            if self._rows and self._rows[0][:2] != row[:2]:
                self._make_rates()
            self._rows.append(row)

    def finish(self) -> dict[Service, Tariff]:
        """Return the tariff of each service that has rates. The build takes no more."""
        if self._made is None:
            self._make_rates()
            self._made = {service: builder.finish() for service, builder in self._builders.items()}
        return self._made

    def _make_rates(self) -> None:
        """Add the rates of one service and prefix; the empty prefix has on-net rates beside the others."""
        rows, self._rows = self._rows, []
        if len(rows) > 1:
            rows.sort(key=lambda each: each.on_net)
        for on_net, of_one in groupby(rows, lambda each: each.on_net):
            for valid in rates_from_rows([*of_one], self.calendar):
                builder = self._builders[rows[0].service]
                builder.add(valid.rate, valid.valid_from, valid.valid_until, on_net=on_net)


class TariffChange:
    """Takes the rates of the prefixes that differ from those of a tariff before, and makes the tariffs of now."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._rows: dict[tuple[str, ...], list[RateRow]] = {}

    def add(self, prefixes: Iterable[str], rows: Iterable[RateRow]) -> None:
        """Take all rates of these prefixes, in any order; the same prefixes again count once."""
        self._rows[tuple(prefixes)] = [*rows]

    def finish(self, base: Mapping[Service, Tariff], services: Iterable[Service]) -> dict[Service, Tariff]:
        """Return the tariffs of these services, which have rates now."""
        build = TariffBuild(self.calendar)
        build.add(sorted(chain.from_iterable(self._rows.values()), key=lambda each: each[:2]))
        changed, prefixes = build.finish(), frozenset(chain.from_iterable(self._rows))
        return {
            service: ChangedTariff(base.get(service, _NO_RATES), changed.get(service, _NO_RATES), prefixes)
            for service in services
        }


_NO_RATES = Tariff()
