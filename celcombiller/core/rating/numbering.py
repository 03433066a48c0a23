"""The numbering plan of an operator: a number as it is dialled to its international form (ITU-T E.164).

Pure. Without a country code nothing is changed. Numbers with ``*`` or ``#``, short ones, those with ``+``, and those
that the operator names stay as they are; so does what would be no number of at most 15 digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

E164_DIGITS_MAX = 15
NUMBERS_KNOWN = 4096
"""Numbers of which the international form is remembered: a call asks for it several times."""

_DIGITS = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class NumberingPlan:
    """How numbers are dialled. Patterns are regular expressions; an empty one matches no number.

    - ``international``: what stands for ``+``.
    - ``trunk``: what stands before a national number, and is left out; where it has groups, and the last one matched,
      ``trunk_replacement`` takes its place (so a carrier's code is left out, too).
    - ``national``: all national numbers, where they are known: a trunk prefix is left out only if a national number is
      left, or there was none; and a number that is none, but is one behind the country code, is international.
    - ``area_code``: put before a number of at most ``local_digits_max`` digits without a trunk prefix.
    - ``short_digits_max``: a number of no more digits is a short code.
    - ``as_is``: numbers that stay as they are.
    """

    country_code: str = ""
    international: str = ""
    trunk: str = ""
    trunk_replacement: str = ""
    national: str = ""
    area_code: str = ""
    local_digits_max: int = E164_DIGITS_MAX
    short_digits_max: int = 6
    as_is: frozenset[str] = frozenset()


AS_DIALLED = NumberingPlan()
"""The plan that changes no number."""


def normalise(plan: NumberingPlan, number: str) -> str:
    """Return ``number`` in its international form, with ``+``; or as it is, where it has none."""
    return _normalise(plan, number) if plan.country_code else number


@lru_cache(maxsize=NUMBERS_KNOWN)
def _normalise(plan: NumberingPlan, number: str) -> str:
    is_plain = _DIGITS.fullmatch(number) and len(number) > plan.short_digits_max
    if not is_plain or number in plan.as_is:
        return number
    found = _expand(plan, number)
    return f"+{found}" if plan.short_digits_max < len(found) <= E164_DIGITS_MAX else number


def _expand(plan: NumberingPlan, number: str) -> str:
    """Return country code and national number of what is dialled."""
    international = _match(plan.international, number)
    if international:
        return number[international.end() :]
    if number.startswith(plan.country_code) and plan.national and not re.fullmatch(plan.national, number):
        behind = number.removeprefix(plan.country_code)
        if re.fullmatch(plan.national, behind):
            return number
    trunk = _match(plan.trunk, number)
    if trunk:
        replacement = ""
        if plan.trunk_replacement and trunk.re.groups and trunk[trunk.re.groups] is not None:
            replacement = trunk.expand(plan.trunk_replacement)
        national = replacement + number[trunk.end() :]
        if not plan.national or re.fullmatch(plan.national, national) or not re.fullmatch(plan.national, number):
            return plan.country_code + national
    elif plan.area_code and len(number) <= plan.local_digits_max:
        return plan.country_code + plan.area_code + number
    return plan.country_code + number


def _match(pattern: str, number: str) -> re.Match[str] | None:
    """Return how a number begins with a pattern; ``None`` where it does not, or nothing would be left out."""
    found = re.match(pattern, number) if pattern else None
    return found if found and found.end() else None
