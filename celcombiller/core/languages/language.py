"""Texts of ours with the values in them, and the languages that write them. The catalogues are read elsewhere.

A `Text` is English and knows what it was made of, so that another language can write it. It is marked for translators
by the name ``_`` under which modules import it. A text that is none is the operator's own: no language changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self


class Text(str):
    """An English text of ours; ``template`` and ``values`` are what it was made of. Without values it is a template."""

    __slots__ = ("template", "values")

    template: str
    values: dict[str, Value]

    def __new__(cls, template: str, **values: Value) -> Self:
        """Return the text in English, with the values in it."""
        made = super().__new__(cls, PLAIN.fill(template, values) if values else template)
        made.template, made.values = template, values
        return made


class Language:
    """A language. This one writes English, and values as records have them; those with a catalogue follow it."""

    name = "en"

    def gettext(self, text: str) -> str:
        """Return the translation of an English text, or the text itself where there is none."""
        return text

    def ngettext(self, one: str, many: str, number: int) -> str:
        """Return the translation of the text for this number of things."""
        return one if number == 1 else many

    def format_number(self, value: int | str) -> str:
        """Return a number with all the decimals that it comes with."""
        return str(value)

    def format_day(self, value: date) -> str:
        """Return a date."""
        return value.isoformat()

    def format_clock(self, value: datetime) -> str:
        """Return the hour and the minute of a local time."""
        return value.strftime("%H:%M")

    def write(self, text: str, **values: Value) -> str:
        """Return a text with its values. One that is no `Text` keeps its words."""
        if not isinstance(text, Text):
            return self.fill(text, values)
        return self.fill(self.gettext(text.template), text.values | values)

    def fill(self, template: str, values: dict[str, Value]) -> str:
        """Return a template with values, written as this language writes them."""
        return template.format(**{name: self._format(value) for name, value in values.items()})

    def _format(self, value: Value) -> str:
        if isinstance(value, Text):
            return self.write(value)
        if isinstance(value, str):
            return value
        if isinstance(value, int):
            return self.format_number(value)
        if isinstance(value, datetime):
            return self.format_clock(value)
        return self.format_day(value) if isinstance(value, date) else value(self)


Value = str | int | date | Callable[[Language], str]
"""A value in a text. A ``str`` stands as it is, such as a name or the number of a phone."""

PLAIN = Language()


def _load_plain(_name: str) -> Language:
    return PLAIN


@dataclass(frozen=True, slots=True)
class Languages:
    """The languages of subscribers, by their names; ``default`` is that of who has chosen none."""

    default: str = "en"
    load: Callable[[str], Language] = _load_plain

    def write(self, text: str, language: str, **values: Value) -> str:
        """Return a text for somebody with this language (empty: none).

        One of the operator's is the same for all, and its values are written in the default language.
        """
        own = language if isinstance(text, Text) else ""
        return self.load(own or self.default).write(text, **values)
