"""A rating plan of CGRateS: tables that refer to each other, as one list of rates.

The tables are those of its tariff plans (Destinations, Timings, Rates, DestinationRates, RatingPlans, as its folder
``data/tariffplans`` has them in 2026 and its documentation describes them). Each file has one, or one file has several,
each behind its header, which begins with ``#``. Of the timings of a destination that hold at a time, the one with the
highest weight counts, then the one that began last on that day.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from celcombiller.core.model.tariffs import DAY_MINUTES, Window
from celcombiller.core.rating.windows import format_window
from celcombiller.core.tariffs.files.cells import AmountReader, CellError, read_name, read_prefixes, shorten
from celcombiller.core.tariffs.files.price_cells import PriceCells, RowPrices
from celcombiller.core.tariffs.files.rate_list import RateList
from celcombiller.core.tariffs.files.rows import FileRows
from celcombiller.core.tariffs.rate_row import RateRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celcombiller.core.tariffs.files.findings import Findings
    from celcombiller.core.tariffs.files.price_cells import FileTerms

ALWAYS = frozenset({"*any", "*always", "always", ""})
EXPANDED_MAX = 1_000_000
"""Combinations of a plan, its destinations and their prefixes that are looked at."""
INTERVALS_MAX = 200
"""Timings of one prefix in one plan."""

TABLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "Destinations": (("id", "tag"), ("prefix",)),
    "Timings": (("tag", "id"), ("years",), ("months",), ("monthdays",), ("weekdays",), ("time", "starttime")),
    "Rates": (
        *(("id", "tag", "ratestag"), ("connectfee",), ("rate",), ("rateunit",), ("rateincrement",)),
        ("groupintervalstart",),
    ),
    "DestinationRates": (
        *(("id", "tag"), ("destinationid", "destinationsid", "destinationstag", "destinationtag")),
        *(("ratestag", "ratesid", "rateid", "ratetag"), ("roundingmethod",), ("roundingdecimals",), ("maxcost",)),
        ("maxcoststrategy",),
    ),
    "RatingPlans": (
        *(("id", "tag"), ("destinationratesid", "destinationratestag", "destratesid", "destratestag")),
        *(("timingtag", "timingid", "timingstag", "timingsid"), ("weight",)),
    ),
}
"""The tables, and the names of their columns in the order that they have without a header."""

_FROM_HERE = {"Rates": 5, "DestinationRates": 3, "RatingPlans": 3, "Timings": 6, "Destinations": 2}
"""How many of the columns of each table must be there."""

_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::00)?")


class _Cells(NamedTuple):
    """A row of a table."""

    file: str
    row: int
    cells: dict[str, str]


class _Interval(NamedTuple):
    """Prices of a prefix from a minute of some days on, until another interval of that day begins."""

    days: frozenset[int]
    start_minute: int
    weight: Fraction
    prices: RowPrices


def read_plan(files: Iterable[tuple[str, Iterable[bytes]]], terms: FileTerms, findings: Findings) -> RateList:
    """Return the rates of a plan, from named files, and add what is wrong in them to ``findings``.

    With several plans ``terms.plan`` names one.
    """
    reader = _PlanReader(terms, findings)
    for name, chunks in files:
        findings.file = name
        reader.read_file(name, chunks)
    findings.file = ""
    return reader.make_rates()


class _PlanReader:
    """Keeps the tables by their ids, then combines them."""

    def __init__(self, terms: FileTerms, findings: Findings) -> None:
        self._terms = terms
        self._findings = findings
        self._amounts = AmountReader()
        self._tables: dict[str, dict[str, list[_Cells]]] = {name: {} for name in TABLES}
        self._known: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        self._prices: dict[str, RowPrices | None] = {}
        self._times: dict[str, tuple[frozenset[int], int] | None] = {}
        self._windows: dict[tuple[_Interval, ...], list[tuple[str, RowPrices]] | None] = {}

    def read_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """Read the tables of a file."""
        stem = name.rpartition("/")[2].partition(".")[0].lower()
        table = next((each for each in TABLES if each.lower() == stem), "")
        columns = [names[0] for names in TABLES.get(table, ())]
        for row, cells in FileRows(chunks, self._findings, ","):
            if cells[0].startswith("#"):
                found = _find_table(cells)
                if found is not None:
                    table, columns = found
                continue
            if not table:
                self._findings.add_fault(row, "is of no table: a header such as #Id,Prefix must stand before it")
                return
            self._keep(name, row, table, dict(zip(columns, cells, strict=False)), len(cells) - len(columns))

    def _keep(self, name: str, row: int, table: str, cells: dict[str, str], more: int) -> None:
        key = cells.get(TABLES[table][0][0], "")
        needed = [names[0] for names in TABLES[table][: _FROM_HERE[table]]]
        missing = [each for each in needed if each not in cells]
        if missing or not key:
            self._findings.add_fault(row, f"{table}: has no {missing[0] if missing else 'id'}")
        elif more > 0 and any(list(cells.values())[-more:]) and table != "Rates":
            self._findings.add_fault(row, f"{table}: has {more} cells more than there are columns")
        elif (content := (table, tuple(cells.items()))) not in self._known:  # a repeated row adds nothing
            self._known.add(content)
            self._tables[table].setdefault(key, []).append(_Cells(name, row, cells))

    def make_rates(self) -> RateList:
        """Return the rates of the plan."""
        rates = RateList(self._findings)
        plans = self._tables["RatingPlans"]
        name = self._terms.plan or (next(iter(plans)) if len(plans) == 1 else "")
        if name not in plans:
            known = ", ".join(shorten(each) for each in list(plans)[:20]) or "none"
            self._findings.add_fault(0, f"name one of the rating plans of the files: {known}")
            return rates
        for prefix, (first, names, intervals) in self._list_intervals(plans[name]).items():
            if len(intervals) > INTERVALS_MAX:
                self._fault(first, f"prefix {prefix}: has more than {INTERVALS_MAX} timings")
                continue
            windows = self._find_windows(tuple(dict.fromkeys(intervals)), prefix, first)
            self._findings.file, service = first.file, self._terms.service
            for window, prices in windows or ():
                rates.add(RateRow(service, prefix, False, names, window, None, None, *prices), first.row)
        self._findings.file = ""
        return rates

    def _list_intervals(self, plan: list[_Cells]) -> dict[str, tuple[_Cells, str, list[_Interval]]]:
        """Return the intervals of each prefix, with the row and the name of its destination."""
        found: dict[str, tuple[_Cells, str, list[_Interval]]] = {}
        looked_at = 0
        for line in plan:
            time = self._find_time(line)
            for link in self._look_up(line, "DestinationRates", "destinationratesid"):
                prices = self._find_prices(link)
                for place, prefix in self._list_prefixes(link):
                    looked_at += 1
                    if looked_at > EXPANDED_MAX:
                        self._fault(line, f"the plan has more than {EXPANDED_MAX} combinations")
                        return {}
                    if time is None or prices is None:
                        continue
                    interval = _Interval(*time, self._weight(line), prices)
                    known = found.setdefault(prefix, (place, self._name(link), []))[2]
                    if len(known) <= INTERVALS_MAX:
                        known.append(interval)
        return found

    def _look_up(self, line: _Cells, table: str, column: str) -> Sequence[_Cells]:
        key = line.cells.get(column, "")
        rows = self._tables[table].get(key, ())
        if not rows:
            self._fault(line, f"there is no {shorten(key)!r} in {table}")
        return rows

    def _list_prefixes(self, link: _Cells) -> Iterable[tuple[_Cells, str]]:
        if link.cells["destinationid"] == "*any":
            yield link, ""
            return
        for place in self._look_up(link, "Destinations", "destinationid"):
            try:
                yield from ((place, prefix) for prefix in read_prefixes(place.cells["prefix"]))
            except CellError as error:
                self._fault(place, f"Prefix {error}")

    def _name(self, link: _Cells) -> str:
        try:
            return "" if link.cells["destinationid"] == "*any" else read_name(link.cells["destinationid"])
        except CellError as error:
            self._fault(link, str(error))
            return ""

    def _weight(self, line: _Cells) -> Fraction:
        try:
            weight = self._amounts.read(line.cells.get("weight", ""), line.row)
        except CellError as error:
            self._fault(line, f"Weight {error}")
            return Fraction(0)
        return Fraction(weight.digits, 10**weight.decimals)

    def _find_time(self, line: _Cells) -> tuple[frozenset[int], int] | None:
        """Return days and first minute of a timing; `None`, after a fault."""
        tag = line.cells["timingtag"]
        if tag.lower() in ALWAYS and tag not in self._tables["Timings"]:
            return frozenset(range(7)), 0
        if tag not in self._times:
            rows = self._look_up(line, "Timings", "timingtag")
            self._times[tag] = self._read_time(rows[0]) if rows else None
        return self._times[tag]

    def _read_time(self, line: _Cells) -> tuple[frozenset[int], int] | None:
        for each in ("years", "months", "monthdays"):
            if line.cells[each].lower() not in ALWAYS:
                self._fault(line, f"{each} {shorten(line.cells[each])}: a window is of days of the week only")
                return None
        text, clock = line.cells["weekdays"], _CLOCK.fullmatch(line.cells["time"])
        days = range(1, 8) if text.lower() in ALWAYS else [int(each) for each in text.split(";") if each in _DAYS]
        if clock is None:
            self._fault(line, f"Time {shorten(line.cells['time'])}: must be hours and minutes, such as 08:00:00")
            return None
        if not days or (text.lower() not in ALWAYS and len(days) != len(text.split(";"))):
            self._fault(line, f"WeekDays {shorten(text)}: must be numbers from 1 (Monday) to 7, or *any")
            return None
        return frozenset((each - 1) % 7 for each in days), int(clock[1]) * 60 + int(clock[2])

    def _find_prices(self, link: _Cells) -> RowPrices | None:
        """Return the prices of a destination; `None`, after a fault."""
        if link.cells.get("maxcost", "").strip("0.,"):
            why = "a rate has no highest cost; make it 0, and limit the cost of calls of the group"
            self._fault(link, f"MaxCost {shorten(link.cells['maxcost'])}: {why}")
        tag = link.cells["ratestag"]
        if tag not in self._prices:
            rows = self._look_up(link, "Rates", "ratestag")
            self._prices[tag] = self._read_prices(rows) if rows else None
        return self._prices[tag]

    def _read_prices(self, rows: Sequence[_Cells]) -> RowPrices | None:
        steps, faults = [], False
        fee, first = 0, None
        for line in rows:
            labels = {"rate": "Rate", "connectfee": "ConnectFee"}
            cells = PriceCells(
                *(line.cells, labels, line.row, self._amounts, self._terms.service), self._terms.credits_per_unit
            )
            start, unit, increment = (
                self._read_duration(cells, each) for each in ("groupintervalstart", "rateunit", "rateincrement")
            )
            price = cells.amount("rate")
            if price.digits and not unit:
                cells.refuse("rateunit", "must not be 0")
            steps.append(cells.step(start, increment or 1, price, unit or 1, "rate"))
            if first is None or start < first:
                fee, first = cells.credits("connectfee"), start
            for each in cells.faults:
                self._fault(line, each)
            faults = faults or bool(cells.faults)
        steps.sort(key=lambda each: each.start)
        whole = PriceCells({}, {}, rows[0].row, self._amounts, self._terms.service, 1)
        prices = whole.prices(fee, 0, 0, steps)
        for each in whole.faults:
            self._fault(rows[0], each)
        return None if faults or whole.faults else prices

    def _read_duration(self, cells: PriceCells, field: str) -> int:
        """Return seconds, or units, of a duration such as ``60s``, ``1m30s`` or ``60``."""
        text = cells.text(field)
        if text.isdecimal():
            return cells.count(field)
        found = _DURATION.fullmatch(text)
        if found is None:
            cells.refuse(field, f"{shorten(text)}: must be whole seconds, such as 60s or 1m")
            return 1
        hours, minutes, seconds = (int(each or 0) for each in found.groups())
        return hours * 3600 + minutes * 60 + seconds

    def _find_windows(
        self, intervals: tuple[_Interval, ...], prefix: str, line: _Cells
    ) -> list[tuple[str, RowPrices]] | None:
        """Return the windows of intervals with their prices, the prices of most of the week without one."""
        if intervals not in self._windows:
            self._windows[intervals] = _make_windows(intervals)
        found = self._windows[intervals]
        if found is None:
            self._fault(line, f"prefix {prefix}: has no price at some times of the week")
        return found

    def _fault(self, line: _Cells, text: str) -> None:
        self._findings.file = line.file
        self._findings.add_fault(line.row, text)


_DAYS = frozenset("1234567")


def _find_table(cells: list[str]) -> tuple[str, list[str]] | None:
    """Return the table that a header is of, and its columns by our names for them."""
    names = [each.lstrip("#").strip().lower() for each in cells]
    for table in sorted(TABLES, key=lambda each: -_FROM_HERE[each]):
        known = {name: of[0] for of in TABLES[table] for name in of}
        needed = {of[0] for of in TABLES[table][: _FROM_HERE[table]]}
        if needed <= {known.get(name) for name in names}:
            return table, [known.get(name, name) for name in names]
    return None


def _make_windows(intervals: tuple[_Interval, ...]) -> list[tuple[str, RowPrices]] | None:
    """Return windows and prices; `None`, if some minutes of the week have no price."""
    minutes: dict[RowPrices, int] = {}
    days: dict[tuple[int, int, RowPrices], set[int]] = {}
    for day in range(7):
        of_day = [each for each in intervals if day in each.days]
        beginnings = sorted({each.start_minute for each in of_day})
        if beginnings[:1] != [0]:
            return None
        spans: list[tuple[int, int, RowPrices]] = []
        for start, end in zip(beginnings, [*beginnings[1:], DAY_MINUTES], strict=True):
            held = [each for each in of_day if each.start_minute <= start]
            prices = max(held, key=lambda each: (each.weight, each.start_minute)).prices
            begin = spans.pop()[0] if spans and spans[-1][2] == prices else start
            spans.append((begin, end, prices))
        for start, end, prices in spans:
            minutes[prices] = minutes.get(prices, 0) + end - start
            days.setdefault((start, end, prices), set()).add(day)
    base = max(minutes, key=lambda each: minutes[each])
    return [
        ("", base),
        *(
            (format_window(Window(frozenset(of), start, end)), prices)
            for (start, end, prices), of in days.items()
            if prices != base
        ),
    ]
