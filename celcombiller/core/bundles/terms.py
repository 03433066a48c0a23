"""What a bundle is made of, checked: the same for an offer and for one that is given by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX, check_line
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.bundles import ON_NET, SERVICES_OF_KIND, UNLIMITED
from celcombiller.core.model.tariffs import Service

NAME_CHARACTERS_MAX = 64

DESTINATIONS_MAX = 500

PRIORITY_MAX = 1000

CALL_SECONDS_MAX = 86_400

HOURS_MAX = 87_600
"""Ten years of 365 days."""

_DESTINATION = re.compile(rf"\+?[0-9*#]{{1,20}}|{ON_NET}")


@dataclass(frozen=True, slots=True)
class BundleTerms:
    """A bundle's content, and what it is good for.

    ``services``: none named, those of its kind. ``destinations`` are prefixes of numbers and ``on-net``; none named:
    all of them. A lower ``priority`` is spent first. ``call_seconds_max``: the seconds of one call that it pays at
    most.
    """

    name: str
    kind: BundleKind
    amount: int
    services: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    priority: int = 0
    call_seconds_max: int | None = None


def check_terms(terms: BundleTerms) -> BundleTerms:
    """Return the terms in their one form. Raise `InvalidValue`, which names the field, where they have none."""
    _require("name", bool(terms.name.strip()) and terms.name == terms.name.strip(), "must not be empty or padded")
    _require("name", not terms.name.isdecimal(), "must not be a number only: it would be taken for an id")
    check_line("name", terms.name, NAME_CHARACTERS_MAX)
    check_whole("amount", terms.amount, 1, AMOUNT_MAX)
    check_whole("priority", terms.priority, -PRIORITY_MAX, PRIORITY_MAX)
    if terms.call_seconds_max is not None:
        check_whole("call_seconds_max", terms.call_seconds_max, 1, CALL_SECONDS_MAX)
        _require("call_seconds_max", terms.kind is BundleKind.SECONDS, "is for bundles of seconds only")
    possible = SERVICES_OF_KIND[terms.kind] | ({Service.DATA} if terms.kind is BundleKind.MONEY else frozenset())
    for service in terms.services:
        names = ", ".join(sorted(possible))
        _require("services", service in possible, f"of a bundle of {terms.kind} are of these: {names}")
    for each in terms.destinations:
        what = f"are prefixes of numbers, or {ON_NET}"
        _require("destinations", _DESTINATION.fullmatch(each) is not None, what)
    _require("destinations", len(terms.destinations) <= DESTINATIONS_MAX, f"are at most {DESTINATIONS_MAX}")
    is_data = terms.kind is BundleKind.OCTETS
    _require("destinations", not (is_data and terms.destinations), "have no meaning for data, which goes to no number")
    return replace(
        terms,
        services=tuple(sorted(set(terms.services))),
        destinations=tuple(dict.fromkeys(each.removeprefix("+") for each in terms.destinations)),
    )


def unlimited_amount(kind: BundleKind) -> int:
    """Return the amount of a bundle without limit. Raise `InvalidValue` for money, which always has one."""
    amount = UNLIMITED.get(kind)
    if amount is None:
        raise InvalidValue(f"a bundle of {kind} cannot be without limit", {"unlimited": f"is not for {kind}"})
    return amount


def check_hours(hours: int) -> int:
    """Return a validity in hours. Raise `InvalidValue` when it is out of bounds."""
    return check_whole("valid_hours", hours, 1, HOURS_MAX)


def check_whole(field: str, value: int, least: int, most: int) -> int:
    """Return the value if it is within the bounds. Raise `InvalidValue` otherwise."""
    _require(field, least <= value <= most, f"must be a whole number from {least} to {most}")
    return value


def _require(field: str, is_right: bool, what: str) -> None:  # noqa: FBT001
    if not is_right:
        raise InvalidValue(f"{field} {what}", {field: what})
