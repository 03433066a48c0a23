"""Files of price lists: octets to rates with everything that is wrong in them, and rates to a file of our own.

A file is read row by row, in time and memory that grow with its length. Nothing is guessed: a cell that can be read in
two ways, or that a spreadsheet may have cut, is a fault of its row.
"""

from __future__ import annotations

import csv
import difflib
import re
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.windows import format_window, parse_window
from celcombiller.core.tariffs.files.cells import (
    AmountReader,
    CellError,
    read_name,
    read_prefixes,
    read_time,
    read_yes_or_no,
    shorten,
    unquote,
)
from celcombiller.core.tariffs.files.presets import COLUMNS, OWN, PRESETS, write_cells
from celcombiller.core.tariffs.files.price_cells import PriceCells
from celcombiller.core.tariffs.files.rate_list import RateList
from celcombiller.core.tariffs.files.rows import FileRows
from celcombiller.core.tariffs.rate_row import RateRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from celcombiller.core.tariffs.files.findings import Findings
    from celcombiller.core.tariffs.files.presets import Preset
    from celcombiller.core.tariffs.files.price_cells import FileTerms, RowPrices

T = TypeVar("T")

COLUMNS_MAX = 200
WINDOW_CHARACTERS_MAX = 100
PRICES_KNOWN = 20_000
"""The prices that are remembered with the cells that they were read from: most rows of a price list share theirs."""

_BRACKETS = re.compile(r" {0,9}\([^()]{0,99}\)$")
_INACTIVE = frozenset({"0", "inactive", "inativo", "inactivo", "no"})


def read_tariff_file(chunks: Iterable[bytes], preset: str, terms: FileTerms, findings: Findings) -> RateList:
    """Return the rates of a file, and add what is wrong in it to ``findings``.

    ``preset`` is a name of `PRESETS`; empty: a file of our own columns. With a fault the rates are not complete.
    """
    reader = _TariffReader(PRESETS[preset] if preset else OWN, terms, findings)
    for row, cells in FileRows(chunks, findings):
        if not reader.read_row(row, cells):
            break
    if not reader.has_columns and not findings.fault_count:
        findings.add_fault(0, "has no rows")
    reader.rates.check_windows(may_cover_week=bool(preset))
    return reader.rates


class _TariffReader:
    """Reads rows, the first of which may be the header."""

    def __init__(self, preset: Preset, terms: FileTerms, findings: Findings) -> None:
        self.rates = RateList(findings)
        self._preset = preset
        self._terms = terms
        self._findings = findings
        self._amounts = AmountReader()
        self._credits_per_unit = terms.credits_per_unit if preset.is_money or terms.is_money else 1
        self._is_complete = False
        self._places: dict[str, int] = {}
        self._labels: dict[str, str] = {}
        self._width = 0
        self._price_fields: list[tuple[str, int]] = []
        self._known: dict[tuple[Service, tuple[str, ...]], tuple[RowPrices, list[str]]] = {}
        self._faults: list[str] = []
        if terms.columns:
            self._name_columns(0, terms.columns)

    @property
    def has_columns(self) -> bool:
        """Whether it is known what the columns are."""
        return self._is_complete

    def read_row(self, row: int, cells: list[str]) -> bool:
        """Read one row; return whether further ones can be read."""
        if not self._is_complete:
            is_header = self._find_columns(row, cells)
            if is_header or not self._is_complete:
                return self._is_complete
        elif self._terms.columns and row == 1 and self._is_header(cells):
            return True
        if not cells[0].startswith("#"):
            self._read_rates(row, cells)
        return True

    # -- columns -----------------------------------------------------------------------------------------------------

    def _is_header(self, cells: Sequence[str]) -> bool:
        return any(_simplify(each) in self._preset.fields for each in cells)

    def _find_columns(self, row: int, cells: list[str]) -> bool:
        """Name the columns by the first row, or by the order of a file without a header; return whether it is one."""
        if self._is_header(cells):
            self._name_columns(row, cells)
            return True
        while cells and not cells[-1]:
            cells = cells[:-1]
        for order in self._preset.orders:
            place = next(at for at, name in enumerate(order) if self._preset.fields[name] == "prefix")
            if len(order) == len(cells) and _is_prefix(cells[place]):
                self._name_columns(row, order)
                return False
        names = ", ".join(COLUMNS if self._preset is OWN else [each for each, of in self._preset.fields.items() if of])
        self._findings.add_fault(
            row,
            f"is no header, and these are not the columns of a file without one; name them in its first row or with"
            f" the option for columns: {names}",
        )
        return False

    def _name_columns(self, row: int, cells: Sequence[str]) -> None:
        names = list(cells)
        while names and not names[-1]:
            names.pop()
        self._width = len(names)
        for place, label in enumerate(names[:COLUMNS_MAX]):
            name = _simplify(label)
            field = self._preset.fields.get(name)
            if field is None:
                self._note_unknown(row, label, name)
            elif field in self._places:
                self._findings.add_fault(row, f"has the column {shorten(label)} twice, or another of the same meaning")
            elif field:
                self._places[field] = place
                self._labels[field] = label
        wanted = [each for each in self._preset.needed if each not in self._places]
        if self._preset is OWN and not {"price", "steps"} & self._places.keys():
            wanted.append("price")
        for each in wanted:
            labels = [label for label, field in self._preset.fields.items() if field == each]
            self._findings.add_fault(row, f"has no column {' or '.join(labels[:3])}")
        self._is_complete = not wanted
        self._price_fields = [(name, at) for name, at in self._places.items() if name not in _OF_EACH_ROW]

    def _note_unknown(self, row: int, label: str, name: str) -> None:
        near = difflib.get_close_matches(name[:64], self._preset.fields, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        if self._preset is OWN or near:
            self._findings.add_fault(row, f"has an unknown column {shorten(label)!r}{hint}")
        else:
            self._findings.add_remark(row, f"has a column {shorten(label)!r}, which is not read")

    # -- rows --------------------------------------------------------------------------------------------------------

    def _read_rates(self, row: int, cells: list[str]) -> None:
        if len(cells) > self._width and any(cells[self._width :]):
            self._findings.add_fault(
                row,
                f"has {len(cells)} cells, but there are {self._width} columns: quote cells that contain the delimiter,"
                f" such as a name or an amount with a comma",
            )
            return
        if len(cells) < self._width:
            cells = cells + [""] * (self._width - len(cells))
        if self._cell(cells, "status").lower() in _INACTIVE:
            self._findings.add_remark(row, "is inactive: it was left out")
            return
        self._faults = []
        rates = list(self._convert(row, cells))
        for each in self._faults:
            self._findings.add_fault(row, each)
        if not self._faults:
            for rate in rates:
                self.rates.add(rate, row)

    def _convert(self, row: int, cells: list[str]) -> Iterator[RateRow]:
        terms, preset = self._terms, self._preset
        service = self._read(cells, "service", lambda text: _read_service(text, terms.service), terms.service)
        on_net = self._read(cells, "on_net", read_yes_or_no, default=False)
        prefixes = self._read(cells, "prefix", read_prefixes, [""])
        if on_net and prefixes != [""]:
            self._faults.append("on_net: a rate of calls on-net has no prefix")
        if preset is not OWN and not self._cell(cells, "prefix"):
            self._faults.append(f"{self._labels['prefix']} is empty")
        name = self._read(cells, "name", read_name, "")
        begin = self._read(cells, "valid_from", lambda text: read_time(text, terms.time_zone), None)
        end = self._read(cells, "valid_until", lambda text: read_time(text, terms.time_zone), None)
        if begin is not None and end is not None and begin >= end:
            self._faults.append(f"{self._labels['valid_until']} is not after {self._labels['valid_from']}")
        prices, windows = self._read_prices(row, cells, service)
        for window in windows:
            for prefix in prefixes:
                yield RateRow(service, prefix, on_net, name, window, begin, end, *prices)

    def _read_prices(self, row: int, cells: list[str], service: Service) -> tuple[RowPrices, list[str]]:
        texts = tuple([cells[place] for _, place in self._price_fields])
        found = self._known.get((service, texts))
        if found is not None:
            return found
        given = {name: unquote(text) for (name, _), text in zip(self._price_fields, texts, strict=True)}
        reader = PriceCells(given, self._labels, row, self._amounts, service, self._credits_per_unit)
        prices = self._preset.read_prices(reader)
        windows = self._preset.read_windows(reader)
        if self._preset is OWN:
            windows = [self._read(cells, "window", _read_window, default="")]
        self._faults += reader.faults
        if not reader.faults and not self._faults:
            if len(self._known) >= PRICES_KNOWN:
                self._known.clear()
            self._known[service, texts] = prices, windows
        return prices, windows

    def _cell(self, cells: list[str], field: str) -> str:
        place = self._places.get(field)
        return "" if place is None else cells[place]

    def _read(self, cells: list[str], field: str, read: Callable[[str], T], default: T) -> T:
        """Return what a cell says, or the default and a fault; the default, if there is no such column."""
        place = self._places.get(field)
        if place is None:
            return default
        try:
            return read(cells[place])
        except CellError as error:
            self._faults.append(f"{self._labels[field]} {error}")
            return default


_OF_EACH_ROW = frozenset({"service", "on_net", "prefix", "name", "valid_from", "valid_until", "status"})
"""The fields that most rows have of their own, so what is remembered of prices is not found by them."""


def _simplify(label: str) -> str:
    """Return the name of a column in small letters, without what is in brackets at its end."""
    name = " ".join(label.lstrip("#'").lower().split())
    return _BRACKETS.sub("", name)


def _is_prefix(cell: str) -> bool:
    try:
        return bool(cell) and bool(read_prefixes(cell))
    except CellError:
        return False


def _read_service(cell: str, default: Service) -> Service:
    if not cell:
        return default
    try:
        return Service(cell.lower())
    except ValueError:
        raise CellError(f"{shorten(cell)}: is none of {', '.join(Service)}") from None


def _read_window(cell: str) -> str:
    """Return a window as it is written in our own words."""
    text = unquote(cell)
    if not text:
        return ""
    if len(text) > WINDOW_CHARACTERS_MAX:
        raise CellError(f"{shorten(cell)}: is no window")
    try:
        return format_window(parse_window(text))
    except InvalidValue as error:
        raise CellError(f"{shorten(cell)}: {error}") from None


# -- writing ---------------------------------------------------------------------------------------------------------

_LOOKS_LIKE_FORMULA = re.compile(r"'*[=+\-@]")


def write_tariff_file(rates: Iterable[RateRow], *, header: bool = True) -> Iterator[str]:
    """Yield the lines of a file of our own columns, from which the same rates are read. Names are no formulas."""
    echo = _Echo()
    writer = csv.writer(echo)
    for cells in chain([list(COLUMNS)] if header else [], map(write_cells, rates)):
        writer.writerow([f"'{cell}" if _LOOKS_LIKE_FORMULA.match(cell) else cell for cell in cells])
        yield echo.line


class _Echo:
    """A file that keeps the last line."""

    line = ""

    def write(self, line: str) -> None:
        self.line = line
