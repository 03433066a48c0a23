"""The languages of people: which one somebody reads, and the texts in it.

The catalogues are GNU gettext's ``.po`` files in ``celcombiller/locale``, one a language; English is the source. They
are compiled when they are first used, so that a translator edits one file and sees it after a restart.
"""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

if TYPE_CHECKING:
    from collections.abc import Iterable

LANGUAGES = {"en": "English", "pt_BR": "Português (Brasil)", "es": "Español"}
"""Each language by the name of its locale, and how its readers call it."""
_BY_PRIMARY = {name.partition("_")[0]: name for name in LANGUAGES}
"""By the first part of a tag: who reads the Portuguese of Portugal reads Brazil's rather than English."""


def mark_text(text: str) -> str:
    """Return a text as it is. Imported as ``_``, it marks the text for the catalogues; it is translated where shown."""
    return text


def choose_language(own: Iterable[str], accepted: str) -> str:
    """Return the first known of somebody's ``own`` languages, else the best of an Accept-Language header.

    Empty: neither names a known one. The header is that of RFC 9110, section 12.5.4.
    """
    for each in own:
        if each in LANGUAGES:
            return each
    for tag, quality in parse_accept_header(accepted, LanguageAccept):
        primary = tag.lower().partition("-")[0]
        if quality > 0 and primary in _BY_PRIMARY:
            return _BY_PRIMARY[primary]
    return ""


@cache
def load_translations(language: str) -> NullTranslations:
    """Return the texts of a language; those of English are the source's own."""
    file = files("celcombiller") / "locale" / language / "LC_MESSAGES" / "celcombiller.po"
    if language == "en" or not file.is_file():
        return NullTranslations()
    compiled = io.BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(compiled)
