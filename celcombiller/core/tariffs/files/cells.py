"""Cells of price lists as values: prefixes, exact amounts, whole numbers, times. All raise `CellError`.

Price lists pass through spreadsheets, which drop digits and add signs. What may have lost something is refused; what is
only written otherwise is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from celcombiller.core.model.text import UNPRINTABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX_DIGITS_MAX = 20
PREFIXES_MAX = 2000
"""Prefixes that one cell may stand for."""
NAME_CHARACTERS_MAX = 200
DECIMALS_MAX = 12
"""Digits after the point of an amount: the price of a unit of use is exact, and stays within 64 bits."""
AMOUNT_MAX = 2**53 - 1
"""The highest amount, in credits, and the highest number of units; as of a rate in the ledger."""
SHOWN_CHARACTERS = 40


class CellError(Exception):
    """A cell has not the form of its column; the message says what it should have."""


@dataclass(frozen=True, slots=True)
class Amount:
    """An exact amount: ``digits`` / 10 to the power of ``decimals``."""

    digits: int
    decimals: int

    def scaled(self, decimals: int) -> int:
        """Return the digits of the amount written with so many decimals, no fewer than it has."""
        return self.digits * int("1".ljust(decimals - self.decimals + 1, "0"))

    def __str__(self) -> str:
        text = str(self.digits).rjust(self.decimals + 1, "0")
        whole, fraction = text[: len(text) - self.decimals], text[len(text) - self.decimals :].rstrip("0")
        return f"{whole}.{fraction}" if fraction else whole


ZERO = Amount(0, 0)

_EXPONENT = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]*)?[eE][+-]?[0-9]+")
_ALL_NUMBERS = frozenset({"defaultprefix", "*any", "default", "any"})
_PREFIX = re.compile(r"[0-9*#]{1,20}")
_SHORT_CODE = re.compile(r"[*#][0-9*#]{0,19}")
_ENDS_OF_PATTERNS = (".*", "*", "%", ".")
_BETWEEN_PREFIXES = re.compile(r"[\s,;|/]+")
_RANGE = re.compile(r"([0-9]+)-([0-9]+)")
_AROUND_DASH = re.compile("[ \t\xa0]{0,9}[-\u2013\u2014][ \t\xa0]{0,9}")
_WITHOUT_FRACTION = re.compile(r"([0-9]+)[.,]0+")
_THOUSANDS = re.compile(r"[0-9]{1,2}(?:,[0-9]{3})+")
_GROUPED = {sign: re.compile(f"[0-9]{{1,3}}(?:\\{sign}[0-9]{{3}})+") for sign in ",."}
_SPACE_IN_NUMBER = re.compile("(?<=[0-9])[ \xa0\u202f'\u2019](?=[0-9]{3}(?![0-9]))")
_CURRENCY = re.compile(r"[A-Za-z]{0,3}[$\u20ac\xa3\xa5\u20b9]?")
_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")
_FORMULA = re.compile(r"'+[=+\-@]")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].*)?")
_NO_DATE = frozenset({"", "0", "0000-00-00", "0000-00-00 00:00:00", "null", "\\n", "--"})


def shorten(text: str) -> str:
    """Return a cell as a message shows it."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


# -- prefixes --------------------------------------------------------------------------------------------------------


def read_prefixes(cell: str) -> list[str]:
    """Return the prefixes that a cell lists: ``5511``, ``5511-5519``, ``5511, 5512``; an empty one: all numbers."""
    text = unquote(cell)
    if text.isdecimal() and text.isascii() and len(text) <= PREFIX_DIGITS_MAX:
        return [text]
    if not text or text.lower() in _ALL_NUMBERS:
        return [""]
    if _SHORT_CODE.fullmatch(text) or (text is not cell and _PREFIX.fullmatch(text)):
        return [text]
    if _THOUSANDS.fullmatch(text):
        raise CellError(f"{shorten(text)}: write a list of prefixes with spaces, a prefix without a comma")
    found: dict[str, None] = {}
    for part in _BETWEEN_PREFIXES.split(_AROUND_DASH.sub("-", text)):
        if part:
            found.update(dict.fromkeys(_read_prefix(part)))
            if len(found) > PREFIXES_MAX:
                raise CellError(f"{shorten(text)}: is a list of more than {PREFIXES_MAX} prefixes")
    if not found:
        raise CellError(f"{shorten(text)}: is no prefix; a prefix is digits")
    return list(found)


def _read_prefix(text: str) -> list[str]:
    if _EXPONENT.fullmatch(text):
        raise CellError(f"{shorten(text)}: a spreadsheet has cut this number; make the column text, and save it again")
    exact = _WITHOUT_FRACTION.fullmatch(text)
    digits = (exact[1] if exact else text).removeprefix("^").removeprefix("+")
    for end in _ENDS_OF_PATTERNS:
        if digits.endswith(end):
            digits = digits.removesuffix(end)
            break
    bounds = _RANGE.fullmatch(digits)
    if bounds:
        return list(_cover(bounds[1], bounds[2]))
    if not (digits.isdecimal() and digits.isascii()):
        raise CellError(f"{shorten(text)}: is no prefix; a prefix is digits, a range 5511-5519, or a list of them")
    _check_length(digits)
    return [digits]


def _check_length(digits: str) -> None:
    if len(digits) > PREFIX_DIGITS_MAX:
        raise CellError(f"{shorten(digits)}: has {len(digits)} digits; a prefix has at most {PREFIX_DIGITS_MAX}")


def _cover(first: str, last: str) -> Iterator[str]:
    """Yield the fewest prefixes that all numbers of a range begin with; ``5511-9`` is ``5511-5519``."""
    _check_length(first)
    _check_length(last)
    if len(last) < len(first):
        last = first[: len(first) - len(last)] + last
    if len(last) > len(first) or last < first:
        raise CellError(f"{shorten(f'{first}-{last}')}: is no range; its end has as many digits, and is not lower")
    low, high, length = int(first), int(last), len(first)
    while low <= high:
        zeros, size = 0, 1
        while zeros < length - 1 and low % (size * 10) == 0 and low + size * 10 - 1 <= high:
            zeros, size = zeros + 1, size * 10
        yield str(low).rjust(length, "0")[: length - zeros]
        low += size


def write_prefix(prefix: str) -> str:
    """Return a prefix as a cell from which it is read; one that looks like a pattern is a text of a spreadsheet."""
    return prefix if not prefix or prefix.isdecimal() or _SHORT_CODE.fullmatch(prefix) else f'="{prefix}"'


# -- numbers ---------------------------------------------------------------------------------------------------------


class AmountReader:
    """Reads the amounts of one file, which all have the same decimal sign."""

    def __init__(self) -> None:
        self._sign = ""
        self._sign_row = 0

    def read(self, cell: str, row: int) -> Amount:
        """Return an exact amount from 0 on: ``0.70``, ``0,70``, ``1.234,56``, ``R$ 0,70``; an empty cell is 0."""
        text = unquote(cell)
        if text.isdecimal() and text.isascii() and len(text) <= DECIMALS_MAX:
            return Amount(int(text), 0)
        text = _strip_currency(_SPACE_IN_NUMBER.sub("", text))
        if not text:
            if cell.strip("'\" \xa0"):
                raise CellError(f"{shorten(cell)}: is no amount")
            return ZERO
        if _EXPONENT.fullmatch(text):
            raise CellError(f"{shorten(cell)}: has an exponent: a spreadsheet may have cut digits; write it in full")
        if text.startswith("-"):
            raise CellError(f"{shorten(cell)}: is negative")
        whole, fraction = self._split(text, cell, row)
        digits = f"{whole}{fraction}".removeprefix("+")
        if not (digits.isdecimal() and digits.isascii()):
            raise CellError(f"{shorten(cell)}: is no amount")
        fraction = fraction.rstrip("0")
        if len(fraction) > DECIMALS_MAX:
            cut = shorten(fraction[DECIMALS_MAX:])
            raise CellError(
                f"{shorten(cell)}: its digits {cut} after the {DECIMALS_MAX}th of the fraction are too many"
            )
        whole = whole.lstrip("+0")
        if len(whole) > len(str(AMOUNT_MAX)):
            raise CellError(f"{shorten(cell)}: is too large")
        return Amount(int(whole + fraction or "0"), len(fraction))

    def _split(self, text: str, cell: str, row: int) -> tuple[str, str]:
        """Return the whole number and the fraction, without the signs between groups of digits."""
        points, commas = text.count("."), text.count(",")
        if not points and not commas:
            return text, ""
        sign = "." if text.rfind(".") > text.rfind(",") else ","
        other = "," if sign == "." else "."
        if text.count(sign) > 1:  # of groups only: 1.234.567
            if text.count(other) or not _GROUPED[sign].fullmatch(text):
                raise CellError(f"{shorten(cell)}: is no amount")
            self._note_sign(other, cell, row)
            return text.replace(sign, ""), ""
        whole, _, fraction = text.partition(sign)
        if text.count(other):
            if not _GROUPED[other].fullmatch(whole):
                raise CellError(f"{shorten(cell)}: is no amount")
            whole = whole.replace(other, "")
        self._note_sign(sign, cell, row)
        return whole, fraction

    def _note_sign(self, sign: str, cell: str, row: int) -> None:
        if not self._sign:
            self._sign, self._sign_row = sign, row
        elif self._sign != sign:
            names = {".": "point", ",": "comma"}
            raise CellError(
                f"{shorten(cell)}: a decimal {names[sign]}, but row {self._sign_row} has a decimal {names[self._sign]}"
            )


def _strip_currency(text: str) -> str:
    """Return an amount without the sign or the code of a currency before or behind it."""
    text = text.strip(" \xa0")
    before = _CURRENCY.match(text)
    if before and before[0]:
        text = text[before.end() :].strip(" \xa0")
    for length in range(4, 0, -1):
        if len(text) > length and text[-length - 1] in " \xa00123456789" and _CURRENCY.fullmatch(text[-length:]):
            return text[:-length].strip(" \xa0")
    return text


def read_whole_number(cell: str, most: int = AMOUNT_MAX) -> int:
    """Return a whole number from 0 on; an empty cell is 0."""
    text = unquote(cell)
    exact = _WITHOUT_FRACTION.fullmatch(text)
    digits = exact[1] if exact else text
    if not digits:
        return 0
    if not (digits.isdecimal() and digits.isascii()):
        raise CellError(f"{shorten(cell)}: is no whole number")
    value = int(digits) if len(digits) <= PREFIX_DIGITS_MAX else most + 1
    if value > most:
        raise CellError(f"{shorten(cell)}: is too large; at most {most}")
    return value


# -- text and time ---------------------------------------------------------------------------------------------------


def unquote(cell: str) -> str:
    """Return a cell without what keeps a spreadsheet from computing it: an apostrophe before it, or ``="…"``."""
    text = cell.lstrip("'").strip(" \xa0") if cell[:1] == "'" else cell
    return text[2:-1].strip() if text.startswith('="') and text.endswith('"') and len(text) > len('="') else text


def read_name(cell: str) -> str:
    """Return the name of a destination, on one line."""
    text = cell[1:] if _FORMULA.match(cell) else cell
    name = text if text.isprintable() and "  " not in text else " ".join(text.split())
    if _UNPRINTABLE.search(name):
        raise CellError(f"{shorten(ascii(name))}: has a control character")
    if len(name) > NAME_CHARACTERS_MAX:
        raise CellError(f"{shorten(name)}: has {len(name)} characters; a name has at most {NAME_CHARACTERS_MAX}")
    return name


def read_time(cell: str, zone: tzinfo) -> datetime | None:
    """Return a time in UTC; one without a zone is in ``zone``, a date its midnight. Empty, 0: none."""
    text = unquote(cell).strip()
    if text.lower() in _NO_DATE:
        return None
    if not _DATE.fullmatch(text):
        raise CellError(f"{shorten(cell)}: is no time; write it as 2026-12-01 or 2026-12-01T18:00:00Z")
    try:
        written = datetime.fromisoformat(text)
        return (written if written.tzinfo else written.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise CellError(f"{shorten(cell)}: is no time; write it as 2026-12-01 or 2026-12-01T18:00:00Z") from None


def read_yes_or_no(cell: str) -> bool:
    """Return a boolean; an empty cell is no."""
    text = cell.lower()
    if text in ("", "0", "false", "no", "n"):
        return False
    if text in ("1", "true", "yes", "y"):
        return True
    raise CellError(f"{shorten(cell)}: is neither yes nor no")
