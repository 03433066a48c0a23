"""Prefixes of numbers. Pure; a leading ``+`` counts for nothing, as in a tariff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX_CHARACTERS_MAX = 32
"""No number that may be called is longer."""


def match_length(number: str, prefixes: Iterable[str]) -> int:
    """Return the digits of the longest of these prefixes that the number begins with; -1: it begins with none."""
    digits = number.removeprefix("+")
    lengths = (len(each) for each in (prefix.removeprefix("+") for prefix in prefixes) if digits.startswith(each))
    return max(lengths, default=-1)


def is_barred(number: str, barred: tuple[str, ...], allowed: tuple[str, ...]) -> bool:
    """Return whether a number may not be called.

    The longer match decides; of two equal ones the bar does. A number that no prefix matches may be called, unless
    there are only allowed prefixes.
    """
    if not barred:
        return bool(allowed) and match_length(number, allowed) < 0
    length = match_length(number, barred)
    return length >= 0 and length >= match_length(number, allowed)


def check_prefix(text: str, field: str = "prefix") -> str:
    """Return a prefix without its ``+``. Raise `InvalidValue` unless it is made of digits, ``*`` and ``#``."""
    prefix = text.removeprefix("+")
    if len(prefix) > PREFIX_CHARACTERS_MAX or prefix.strip("0123456789*#"):
        reason = f"must be at most {PREFIX_CHARACTERS_MAX} digits, * and #, with or without a + before them"
        raise InvalidValue(f"{field}: {reason}", {field: reason})
    return prefix
