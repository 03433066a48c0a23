"""Checks of settings that a type cannot express."""

from __future__ import annotations

import ipaddress
import json
import re
import string
from collections import Counter


class SettingError(ValueError):
    """A value of the right type that cannot be used: its key in the table, and the reason."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason


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


# The biller sets L and S (limits) and U (the answer stamp) itself; G leaves the billed Dial at the answer.
_RESERVED_DIAL_OPTIONS = "LSUG"


_DIAL_OPTIONS = re.compile(r"([A-Za-z])(\([^(),\"\\\x00-\x1f\x7f]*\))?")


def check_port(listen: str) -> None:
    """Raise `SettingError` if a TCP endpoint has a port that does not exist."""
    kind, _, rest = listen.partition(":")
    port = rest.partition(":")[0]
    if kind.startswith("tcp") and int(port) > 65535:  # noqa: PLR2004 - TCP's own
        raise SettingError("listen", f"the port must be from 0 to 65535, not {port}")


def check_networks(allow: tuple[str, ...], key: str = "") -> None:
    """Raise `SettingError` unless each is an IP address or network."""
    for position, each in enumerate(allow, 1):
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            reason = f"must be an IP address or a network such as 10.0.0.0/8, not {show_value(each)}"
            if "host bits" in str(error):
                reason += f" (write {ipaddress.ip_network(each, strict=False)})"
            raise SettingError(key or f"allow item {position}", reason) from None


def check_words(key: str, template: str, allowed: tuple[str, ...]) -> None:
    """Raise `SettingError` if the text of a message is empty or has other placeholders than these."""
    check_placeholders(key, template, allowed)
    if not template.strip():
        raise SettingError(key, "must not be empty")


def check_template(key: str, template: str, allowed: tuple[str, ...], *, required: bool) -> None:
    """Raise `SettingError` unless a dial string has only these placeholders."""
    fields = check_placeholders(key, template, allowed)
    if not template.isprintable() or "," in template or template != template.strip():
        raise SettingError(key, "must be one dial string without commas, newlines or outer spaces")
    if required and not fields:
        raise SettingError(key, f"must use at least one of {show_choices(allowed)}")


def check_placeholders(key: str, template: str, allowed: tuple[str, ...]) -> list[str]:
    """Return the placeholders of a template. Raise `SettingError` if it has others than ``allowed``."""
    choice = show_choices(allowed)
    try:
        fields = [
            (name, conversion, form)
            for _, name, form, conversion in string.Formatter().parse(template)
            if name is not None
        ]
    except ValueError:
        raise SettingError(key, f"has a lone {{ or }}; placeholders are {choice}") from None
    for name, conversion, form in fields:
        if name not in allowed or conversion or form:
            raise SettingError(key, f"{show_value('{' + name + '}')} is no placeholder here; allowed are {choice}")
    return [name for name, _, _ in fields]


def check_dial_options(options: str) -> None:
    """Raise `SettingError` unless these are options of Asterisk's Dial, and none that the biller sets itself."""
    letters = [match.group(1) for match in _DIAL_OPTIONS.finditer(options)]
    if _DIAL_OPTIONS.sub("", options):
        raise SettingError(
            "dial_options", f"must be letters, each with or without (arguments), not {show_value(options)}"
        )
    for letter in letters:
        if letter in _RESERVED_DIAL_OPTIONS:
            raise SettingError("dial_options", f"{letter} is the biller's own; the others may be used, not L, S, U, G")


def check_unique(section: str, key: str, values: list[str]) -> None:
    """Raise `SettingError` if a value occurs twice."""
    for value, times in Counter(values).items():
        if times > 1:
            raise SettingError(section, f"{times} tables have {key} = {show_value(value)}; each needs its own")
