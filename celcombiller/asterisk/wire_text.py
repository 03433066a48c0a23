r"""Bytes of Asterisk as text, and back without a loss.

A channel's name is bytes: an endpoint may be called ``jos\xe9`` in Latin-1, and only these bytes find its channel.
So a byte that is no UTF-8 becomes a character of the private use area, U+EF80 to U+EFFF, which a database and JSON can
hold where a surrogate cannot. NUL becomes U+FFFD: PostgreSQL refuses it, and it is in no name that is looked for.
"""

from __future__ import annotations

import re

_FIRST = 0xEF00
_PRIVATE = re.compile("[\uef80-\uefff]")
_TO_PRIVATE = {0xDC00 + byte: _FIRST + byte for byte in range(0x80, 0x100)} | {0: 0xFFFD}
_TO_BYTES = {private: surrogate for surrogate, private in _TO_PRIVATE.items() if surrogate}


def is_plain(data: bytes) -> bool:
    """Return whether `decode` would take these bytes as the ASCII that they are."""
    return data.isascii() and 0 not in data


def decode(data: bytes) -> str:
    """Return the text of a line; never fails."""
    if data.isascii() and 0 not in data:
        return data.decode("ascii")
    text = data.decode("utf-8", "surrogateescape")
    text = _PRIVATE.sub(lambda found: found[0].encode().decode("ascii", "surrogateescape"), text)
    return text.translate(_TO_PRIVATE)


def encode(text: str) -> bytes:
    """Return the bytes that `decode` made the text of. Raises `UnicodeEncodeError` on a lone surrogate."""
    if text.isascii() or _PRIVATE.search(text) is None:
        return text.encode()
    return text.translate(_TO_BYTES).encode("utf-8", "surrogateescape")
