"""The rates of a version as they are read, chunk by chunk, until they are the tariffs of its services. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from celcombiller.core.catalogue.rate_values import rates_from_rows
from celcombiller.core.rating.tariff import Tariff

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celcombiller.core.model.tariffs import Calendar, Rate, Service
    from celcombiller.core.tariffs.rate_row import RateRow


class TariffBuild:
    """Takes the rows of a version in the order of its list, and makes its tariffs."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._rates: dict[Service, list[Rate]] = defaultdict(list)
        self._rows: list[RateRow] = []

    def add(self, rows: Iterable[RateRow]) -> None:
        """Take the next rows. Those of one prefix are made rates when the next prefix comes."""
        for row in rows:
            if self._rows and self._rows[0][:2] != row[:2]:
                self._make_rates()
            self._rows.append(row)

    def finish(self) -> dict[Service, Tariff]:
        """Return the tariff of each service that has rates."""
        self._make_rates()
        return {service: Tariff(rates) for service, rates in self._rates.items()}

    def _make_rates(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self._rates[rows[0].service] += [each.rate for each in rates_from_rows(rows, self.calendar)]
