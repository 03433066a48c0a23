"""Who called and which number, as Asterisk sent it, in the column of a call's row. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

CHARACTERS_MAX = 128
"""What is kept of each: no number or account code of a call that is charged is longer."""


class DialledNumbers(NamedTuple):
    """The account code, the caller's number and the dialled number of a call, as Asterisk sent them."""

    account_code: str
    caller_number: str
    called_number: str


def encode_dialled(account_code: str, caller_number: str, called_number: str) -> str:
    """Return them as the text of the column, each cut to `CHARACTERS_MAX`."""
    words = (account_code, caller_number, called_number)
    return msgspec.json.encode([word[:CHARACTERS_MAX] for word in words]).decode()


def decode_dialled(text: str) -> DialledNumbers:
    """Return the numbers of `encode_dialled`."""
    return DialledNumbers(*msgspec.json.decode(text, type=tuple[str, str, str]))
