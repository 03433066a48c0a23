"""Field types and their validation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.text import UNPRINTABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

# `$(?!\n)` and not `$`, which lets a newline follow; unlike `\Z` it is valid in JSON Schema.
Username = Annotated[
    str,
    Meta(
        pattern=r"^(?!\.{1,2}$)[!-.0-~\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f]{1,64}$(?!\n)",
        description="1 to 64 Latin letters, digits and signs, without spaces or slashes",
    ),
]


Clid = Annotated[
    str, Meta(pattern=r"^[0-9]{1,15}$(?!\n)", description="the number: 1 to 15 digits (E.164 has at most 15)")
]


Imsi = Annotated[str, Meta(pattern=r"^[0-9]{6,15}$(?!\n)", description="6 to 15 digits (3GPP TS 23.003, 2.2)")]


Cpf = Annotated[str, Meta(pattern=r"^[0-9]{1,14}$(?!\n)", description="1 to 14 digits")]


Name = Annotated[
    str, Meta(pattern=rf"^[^{UNPRINTABLE}]{{1,200}}$(?!\n)", description="1 to 200 characters on one line")
]


Address = Annotated[str, Meta(pattern=rf"^(?:[\t\n]|[^{UNPRINTABLE}]){{0,500}}$", description="up to 500 characters")]


Language = Annotated[
    str, Meta(pattern=r"^(?:en|pt_BR|es)?$(?!\n)", description="en, pt_BR or es; empty: as their browser asks")
]


FIELD_TYPES = {
    "username": Username,
    "clid": Clid,
    "imsi": Imsi,
    "cpf": Cpf,
    "name": Name,
    "address": Address,
    "language": Language,
}


IDENTITIES = ("username", "clid", "imsi", "cpf")


def check(field: str, value: str) -> str:
    """Return ``value`` if the field allows it. Raise `InvalidValue`, which says what is allowed, otherwise."""
    shape: Any = FIELD_TYPES[field]
    try:
        checked: str = msgspec.convert(value, shape)
    except msgspec.ValidationError:
        allowed = shape.__metadata__[0].description
        raise InvalidValue(f"{field} must be {allowed}", {field: f"must be {allowed}"}) from None
    return checked


PREFIXES_MAX = 500


LIMIT_MAX = 2**31 - 1


_PREFIX = re.compile(r"\+?([0-9*#]{1,32})", re.ASCII)


def check_prefixes(field: str, prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return a list of prefixes without their ``+``, each once. Raise `InvalidValue` for what is no prefix."""
    found = [_PREFIX.fullmatch(each) for each in prefixes]
    if len(found) > PREFIXES_MAX or None in found:
        what = f"must be at most {PREFIXES_MAX} prefixes of up to 32 digits, * or #"
        raise InvalidValue(f"{field} {what}", {field: what})
    return tuple(dict.fromkeys(each[1] for each in found if each is not None))


def check_limit(field: str, value: int | None) -> None:
    """Raise `InvalidValue` for a limit that is neither a whole number from 0 on nor ``None``, which is no limit."""
    if value is not None and not 0 <= value <= LIMIT_MAX:
        what = f"must be a whole number from 0 to {LIMIT_MAX}, or nothing: no limit"
        raise InvalidValue(f"{field} {what}", {field: what})
