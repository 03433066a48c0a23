"""Text on one line that is safe to show: at a terminal, in a log, in a table. And text as it is searched.

A control character in a name could move the cursor, colour what follows or forge a line; a character of direction could
change the order in which a line is read. So both are refused in names, origins and notes, and escaped where a text is
shown, whoever wrote it.
"""

from __future__ import annotations

import re
import unicodedata

UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""C0, DEL and C1 (ECMA-48), the separators of lines, and the controls of direction (Unicode UAX 9), for a class."""

_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}\ud800-\udfff]")
_UNPRINTABLE_IN_LINES = re.compile(f"(?!\n|(?<=\n)\t)[{UNPRINTABLE}\ud800-\udfff]")
_UNESCAPED_BY_JSON = re.compile(f"(?![\x00-\x1f])[{UNPRINTABLE}]")


def escape_unprintable(text: str) -> str:
    """Return the text with its unprintable characters written as escapes of a backslash, so that it is one line."""
    return text if text.isprintable() else _UNPRINTABLE.sub(_escape, text)


def escape_lines(text: str) -> str:
    """Return a text of several lines likewise; its line feeds stay, with a tab behind each."""
    return text if text.isprintable() else _UNPRINTABLE_IN_LINES.sub(_escape, text)


def escape_json(text: str) -> str:
    """Return a JSON text that a terminal can show; JSON itself escapes only the first 32 characters."""
    return text if text.isprintable() else _UNESCAPED_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def fold_text(text: str) -> str:
    """Return a text as it is searched: without regard to case, accents and width.

    It is the compatibility caseless form of Unicode (The Unicode Standard, 3.13, D146), without combining marks.
    """
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFD", text)
    for _ in range(2):
        folded = unicodedata.normalize("NFKD", folded.casefold())
    return "".join(each for each in folded if not unicodedata.combining(each))


def format_count(number: int, noun: str) -> str:
    """Return a number of things in English: ``1 call``, ``2 calls``."""
    return f"{number} {noun}{'' if abs(number) == 1 else 's'}"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
