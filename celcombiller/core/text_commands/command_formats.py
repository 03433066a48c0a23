"""Text messages as commands: which words mean what, by the operator's formats. Pure.

A format is the text of a message with placeholders, such as ``{pin}#{number}#{amount}``. Phones add spaces, write in
other digits and leave capitals to chance; none of that changes a command. What a field means is decided later.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class CommandKind(StrEnum):
    """What a message asks for. Confirm: the code that an answer of ours asked for. Unknown: no format fits."""

    SELL = "sell"
    VOUCHER = "voucher"
    TRANSFER = "transfer"
    CHANGE_PIN = "change_pin"
    CONFIRM = "confirm"
    UNKNOWN = "unknown"


FIELDS: Mapping[CommandKind, tuple[str, ...]] = MappingProxyType(
    {
        CommandKind.SELL: ("pin", "number", "amount"),
        CommandKind.VOUCHER: ("code",),
        CommandKind.TRANSFER: ("number", "amount"),
        CommandKind.CHANGE_PIN: ("old", "new", "again"),
    }
)
"""The placeholders that the format of each command must have."""

CHARACTERS_MAX = 160
"""No command is longer: one part of a message."""

_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
_CONFIRMATION = re.compile(r"[0-9]{4,8}")
_CODE = "[0-9a-z -]+"
_SEPARATORS = str.maketrans("", "", " -.")


@dataclass(frozen=True, slots=True)
class CommandFormat:
    """A format, and the number to which its messages are sent."""

    kind: CommandKind
    service_code: str
    template: str

    @property
    def shape(self) -> str:
        """The template without the names of its fields: two of one shape could not be told apart."""
        return " ".join(_PLACEHOLDER.sub("{}", self.template).casefold().split())


@dataclass(frozen=True, slots=True)
class Command:
    """What a message asks for; its fields are not shown, as there are PINs among them."""

    kind: CommandKind
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


def list_fields(template: str) -> list[str]:
    """Return the names of the placeholders, in their order."""
    return _PLACEHOLDER.findall(template)


def parse_command(formats: Iterable[CommandFormat], service_code: str, text: str) -> Command:
    """Return the command of a message to this number."""
    said = normalise_text(text)
    if len(said) > CHARACTERS_MAX:
        return Command(CommandKind.UNKNOWN)
    confirmation = said.translate(_SEPARATORS)
    if _CONFIRMATION.fullmatch(confirmation):
        return Command(CommandKind.CONFIRM, {"code": confirmation})
    for each in formats:
        if each.service_code == service_code:
            found = _pattern(each.template).fullmatch(said)
            if found is not None:
                return Command(each.kind, {name: value.strip() for name, value in found.groupdict().items()})
    return Command(CommandKind.UNKNOWN)


def normalise_text(text: str) -> str:
    """Return a text with ASCII digits, one space for any, and without what cannot be seen (Unicode NFKC)."""
    plain = unicodedata.normalize("NFKC", text)
    digits = (str(unicodedata.decimal(each)) if each.isdecimal() else each for each in plain)
    seen = (each for each in digits if each.isspace() or unicodedata.category(each)[0] != "C")
    return " ".join("".join(seen).split())


@lru_cache(maxsize=64)
def _pattern(template: str) -> re.Pattern[str]:
    """Return what matches a format: no field has a character that separates fields, a code only letters and digits."""
    literals = _PLACEHOLDER.split(template)[::2]
    separators = "".join(sorted({each for each in "".join(literals) if not each.isalnum()}))
    value = f"[^{re.escape(separators)}]+" if separators else ".+"
    pieces = []
    for place, piece in enumerate(_PLACEHOLDER.split(template)):
        if place % 2:
            pieces.append(f"(?P<{piece}>{_CODE if piece == 'code' else value})")
        else:
            pieces.append(r"\s*".join(map(re.escape, piece.split())) if piece.strip() else r"\s+" if piece else "")
    return re.compile(r"\s*".join(pieces), re.IGNORECASE)
