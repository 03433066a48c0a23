"""The languages of people: which one somebody reads, and the texts in it.

The catalogues are GNU gettext's ``.po`` files in ``celcombiller/locale``, one a language; English is the source. They
are compiled when they are first used, so that a translator edits one file and sees it after a restart.
"""

from __future__ import annotations

import io
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from babel import Locale
from babel.dates import format_date, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import NullTranslations, Translations
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from celcombiller.core.languages.language import Language

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

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


class CatalogueLanguage(Language):
    """A language with its catalogue, and with its numbers and dates as Babel writes them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.locale = Locale.parse(name)
        self._translations = _load_translations(name)
        self.format_number("0.0")  # loads what the first of them needs
        self.format_clock(datetime(1, 1, 1))  # noqa: DTZ001  no instant

    def gettext(self, text: str) -> str:
        """Return the translation of an English text, or the text itself where there is none."""
        return self._translations.gettext(text)

    def ngettext(self, one: str, many: str, number: int) -> str:
        """Return the translation of the text for this number of things."""
        return self._translations.ngettext(one, many, number)

    def format_number(self, value: int | str) -> str:
        """Return a number with all the decimals that it comes with."""
        decimals = str(value).partition(".")[2]
        pattern = f"#,##0.{'0' * len(decimals)}" if decimals else "#,##0"
        return format_decimal(Decimal(value), pattern, locale=self.locale)

    def format_day(self, value: date) -> str:
        """Return a date."""
        return format_date(value, "medium", locale=self.locale)

    def format_clock(self, value: datetime) -> str:
        """Return the hour and the minute of a local time, with spaces that every phone has."""
        return " ".join(format_time(value.time(), "short", locale=self.locale).split())


@cache
def load_language(name: str) -> CatalogueLanguage:
    """Return a language; where its name is not known, English."""
    return CatalogueLanguage(name if name in LANGUAGES else "en")


def _load_translations(language: str) -> NullTranslations:
    """Return the texts of a language; those of English are the source's own."""
    file = files("celcombiller") / "locale" / language / "LC_MESSAGES" / "celcombiller.po"
    if language == "en" or not file.is_file():
        return NullTranslations()
    compiled = io.BytesIO()
    with file.open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(compiled)
