"""What a trunk makes of a call: the number that is dialled, and the caller's number that is shown. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.dial_strings import check_dial_string, list_placeholders
from celcombiller.core.model.routing import TrunkDial

if TYPE_CHECKING:
    from celcombiller.core.model.routing import Trunk

DIALLED = re.compile(r"\+?[0-9*#]{1,48}", re.ASCII)
"""What may stand for ``{number}`` in a dial string: nothing that is special there (``& , / @``)."""

_NUMBER_PART = re.compile(r"\+?[0-9*#]{0,16}", re.ASCII)
_CALLER_ID = re.compile(r"\+?[0-9*#]{0,32}", re.ASCII)

DIAL_CHARACTERS_MAX = 200


def rewrite_number(number: str, strip: str, prepend: str) -> str:
    """Return a number as a trunk wants it: without ``strip`` where it begins so, and behind ``prepend``."""
    return f"{prepend}{number.removeprefix(strip)}"


def make_trunk_dial(trunk: Trunk, number: str, caller: str) -> TrunkDial | None:
    """Return how a trunk dials a number for a caller; None where nothing is left of the number to be dialled."""
    dialled = rewrite_number(number, trunk.strip, trunk.prepend)
    if not DIALLED.fullmatch(dialled):
        return None
    caller_id = trunk.caller_id.format(number=caller) if trunk.caller_id else ""
    return TrunkDial(trunk.id, trunk.name, trunk.dial.format(number=dialled), caller_id)


def check_dial(template: str) -> str:
    """Return a trunk's dial string; it is checked as ``calls.external_dial`` is. Raise `InvalidValue`."""
    try:
        check_dial_string(template, ("number",), required=True)
    except ValueError as error:
        raise _refusal("dial", str(error)) from None
    if len(template) > DIAL_CHARACTERS_MAX:
        raise _refusal("dial", f"must be at most {DIAL_CHARACTERS_MAX} characters")
    return template


def check_number_part(text: str, field: str) -> str:
    """Return what is stripped from numbers or put before them. Raise `InvalidValue`."""
    if not _NUMBER_PART.fullmatch(text):
        raise _refusal(field, "must be at most 16 digits, * and #, with or without a + before them")
    return text


def check_caller_id(template: str) -> str:
    """Return the rule of the caller's number that is shown: digits, with ``{number}`` for the caller's own.

    Raise `InvalidValue`. Empty: the caller's number as it is.
    """
    try:
        list_placeholders(template, ("number",))
    except ValueError as error:
        raise _refusal("caller_id", str(error)) from None
    if not _CALLER_ID.fullmatch(template.replace("{number}", "", 1)):
        raise _refusal("caller_id", "must be digits, with or without a + before them, and {number} at most once")
    return template


def _refusal(field: str, reason: str) -> InvalidValue:
    return InvalidValue(f"{field}: {reason}", {field: reason})
