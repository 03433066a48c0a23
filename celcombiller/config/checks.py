"""Checks of settings that a type cannot express."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter

from celcombiller.core.languages.built_in_texts import BUILT_IN
from celcombiller.core.model.dial_strings import check_dial_string, list_placeholders, show_value


class SettingError(ValueError):
    """A value of the right type that cannot be used: its key in the table, and the reason."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason


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


def check_words(key: str, template: str, allowed: tuple[str, ...], *, needed: tuple[str, ...] = ()) -> None:
    """Raise `SettingError` if a message is empty, has other placeholders than these, or lacks one that is needed."""
    check_placeholders(key, template, allowed)
    if not template.strip():
        raise SettingError(key, "must not be empty")
    for each in needed:
        if template != BUILT_IN and f"{{{each}}}" not in template:
            raise SettingError(key, f"must have {{{each}}}")


def check_template(key: str, template: str, allowed: tuple[str, ...], *, required: bool) -> None:
    """Raise `SettingError` unless a dial string has only these placeholders."""
    try:
        check_dial_string(template, allowed, required=required)
    except ValueError as error:
        raise SettingError(key, str(error)) from None


def check_placeholders(key: str, template: str, allowed: tuple[str, ...]) -> None:
    """Raise `SettingError` if a template has other placeholders than ``allowed``."""
    try:
        list_placeholders(template, allowed)
    except ValueError as error:
        raise SettingError(key, str(error)) from None


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


PAYMENT_SECRET_CHARACTERS_MIN = 16


def check_payment_secret(secret: str) -> None:
    """Raise `SettingError` if a secret that proves who reports money is short enough to be guessed."""
    if len(secret) < PAYMENT_SECRET_CHARACTERS_MIN:
        raise SettingError("secret", f"must have at least {PAYMENT_SECRET_CHARACTERS_MIN} characters")


def check_unique(section: str, key: str, values: list[str]) -> None:
    """Raise `SettingError` if a value occurs twice."""
    for value, times in Counter(values).items():
        if times > 1:
            raise SettingError(section, f"{times} tables have {key} = {show_value(value)}; each needs its own")
