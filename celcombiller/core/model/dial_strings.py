"""Dial strings with placeholders: what is wrong with one, said before anything is dialled by it."""

from __future__ import annotations

import json
import string


def show_value(value: object) -> str:
    """Return a wrong value as messages show it: short, and on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"  # noqa: PLR2004  a line stays a line


def show_choices(allowed: tuple[str, ...]) -> str:
    """Return placeholders as messages list them."""
    return ", ".join(f"{{{each}}}" for each in allowed)


def list_placeholders(template: str, allowed: tuple[str, ...]) -> list[str]:
    """Return the placeholders of a template. Raise `ValueError` if it has others than ``allowed``, or a lone brace."""
    choice = show_choices(allowed)
    try:
        fields = [
            (name, conversion, form)
            for _, name, form, conversion in string.Formatter().parse(template)
            if name is not None
        ]
    except ValueError:
        raise ValueError(f"has a lone {{ or }}; placeholders are {choice}") from None
    for name, conversion, form in fields:
        if name not in allowed or conversion or form:
            raise ValueError(f"{show_value('{' + name + '}')} is no placeholder here; allowed are {choice}")
    return [name for name, _, _ in fields]


def check_dial_string(template: str, allowed: tuple[str, ...], *, required: bool) -> None:
    """Raise `ValueError`, with the reason, unless a dial string has only these placeholders."""
    fields = list_placeholders(template, allowed)
    if not template.isprintable() or "," in template or template != template.strip():
        raise ValueError("must be one dial string without commas, newlines or outer spaces")
    if required and not fields:
        raise ValueError(f"must use at least one of {show_choices(allowed)}")
