"""The forms in which a network names a subscriber by number or IMSI: one list for calls, messages, data and networks.

Pure. A number comes as ``2001``, ``+2001`` or ``002001``, with the separators and parameters of a telephone URI
(``20-01;phone-context=…``, RFC 3966) and as a whole URI (``tel:``, ``sip:…@host``, RFC 3261, 19.1). An IMSI comes as
``IMSI724…``, as OpenBTS writes it, or bare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

INTERNATIONAL = "00"
"""The international prefix of ITU-T E.164, which stands for ``+``."""

FORMS_KNOWN = 4096
"""Words of which the forms are remembered: those of one call are asked for half a dozen times."""

NUMBER = re.compile(r"\+?[0-9*#]{1,32}|IMSI[0-9]{6,15}", re.ASCII)
"""What may be called or sent a message: no characters special in a dial string (``& , / @``), no line ends."""

_URI = re.compile(r"(?:sips?|tel):([^@]*+)(?:@.*+)?", re.IGNORECASE | re.DOTALL)
_SEPARATORS = str.maketrans("", "", " \t-.()")
_CONTEXT = re.compile(r"phone-context=\+([0-9]{1,15})", re.IGNORECASE | re.ASCII)
_IMSI = re.compile(r"IMSI:?([0-9]{6,15})", re.IGNORECASE | re.ASCII)
_BARE_IMSI = re.compile(r"(?=[0-9]*[1-9])[0-9]{14,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NumberForms:
    """What a word may mean: ``numbers`` as subscribers have them, the likeliest first, and at most one ``imsi``."""

    numbers: tuple[str, ...]
    imsi: str


@lru_cache(maxsize=FORMS_KNOWN)
def plain_number(word: str) -> str:
    """Return a number without URI scheme, parameters and separators, ``+`` kept; a word that is no number as it is.

    An IMSI keeps its prefix, in capitals.
    """
    if word != word.strip():
        return word
    uri = _URI.fullmatch(word)
    user = (word if uri is None else uri[1]).partition(";")[0].translate(_SEPARATORS)
    imsi = _IMSI.fullmatch(user)
    if imsi is not None:
        return f"IMSI{imsi[1]}"
    return user if NUMBER.fullmatch(user) else word


@lru_cache(maxsize=FORMS_KNOWN)
def forms_of(word: str) -> NumberForms:
    """Return the forms of a word that a network says.

    Bare digits are an IMSI only where they have the length of one (14 or 15 digits, 3GPP TS 23.003, 2.2), and only
    where no subscriber has them as a number; an IMSI of zeros stands for none.
    """
    plain = plain_number(word)
    if plain.startswith("IMSI"):
        return NumberForms((), _IMSI.sub(r"\1", plain) if _IMSI.fullmatch(plain) else "")
    digits = plain.removeprefix("+")
    numbers = [digits]
    context = _CONTEXT.search(word)
    if context is not None and digits == plain:
        numbers.insert(0, context[1] + digits)
    if plain.startswith(INTERNATIONAL) and plain != INTERNATIONAL:
        numbers.append(plain.removeprefix(INTERNATIONAL))
    return NumberForms(tuple(numbers), plain if _BARE_IMSI.fullmatch(plain) else "")
