"""The settings in force: what each is, where that comes from, and nothing of what is secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec import inspect

from celcombiller.config import loader
from celcombiller.config.tables import Config
from celcombiller.runtime.database_url import show_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SettingValue = bool | int | str | list[str | int] | None

_URLS = frozenset({"database.url", "cdr.source"})
"""Texts that may have a password in them, and are shown without it."""

_TEXTS = {
    "rest": "listen trusted_proxies cors_origins login_code_text",
    "agi": "listen allow",
    "asterisk": "name host username",
    "provisioning": "name host",
    "calls": "internal_dial external_dial always_allowed always_allowed_dial journal failover_on dial_options"
    " warning_sound hangup_sound",
    "outage": "prefix",
    "credit_transfers": "asked_text pin_text made_text received_text",
    "text_commands": "sell_code sell_format voucher_code voucher_format transfer_code transfer_format pin_code"
    " pin_format sold_text sold_already_text redeemed_text pin_changed_text refused_text unknown_text late_text",
    "keypad": "number amount pin wrong_pin you_entered amount_said balance confirm last_key again code sold cancelled"
    " refused voucher wrong_voucher new_pin new_pin_again pin_changed",
    "sellers": "office tax_percent tax_name sold_text bought_text undone_text taken_back_text refilled_text",
    "numbering": "country country_code trunk_prefix international_prefixes area_code as_is",
    "sms": "on_net_to off_net_to sender balance_code",
    "smpp": "host ca_file system_id system_type",
    "schedules": "run_at time_zone",
    "fees": "suspended_allowed reminder_text unpaid_text suspended_text resumed_text",
    "radius": "interface",
    "radius.clients": "name address",
    "prompts": "no_credit unknown disabled suspended bad_number no_rate barred too_many_calls group_full no_trunk"
    " too_expensive failed",
    "balance": "intro unit text sms_unit sms_text bundles_text valid_until_text bundles_intro",
    "notices": "text spending_text not_renewed",
    "credit_validity": "notice_text",
    "vouchers": "title text qr_text",
    "metrics": "allow",
    "cdr": "table columns server zone contexts",
    "payments": "name currency",
    "rates": "prefix name",
}
_SHOWN = _URLS | {f"{table}.{key}" for table, keys in _TEXTS.items() for key in keys.split()}
"""The settings with free text that are shown. One that is not here, as a new one, is hidden as a secret is."""


class SettingSource(StrEnum):
    """Where a setting comes from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class SettingOrigins:
    """What the file and the environment set, by names such as ``rest.listen`` and ``asterisk.1.host``."""

    file: Path | None = None
    in_file: frozenset[str] = frozenset()
    in_environment: frozenset[str] = frozenset()

    def find(self, name: str) -> SettingSource:
        """Return the source of a setting. A secret comes from where its file is named."""
        names = {name, f"{name}_file"}
        if names & self.in_environment:
            return SettingSource.ENVIRONMENT
        return SettingSource.FILE if names & self.in_file else SettingSource.DEFAULT


NO_ORIGINS = SettingOrigins()


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting. ``position`` is that of its table where there are several; a hidden value is ``None``."""

    table: str
    position: int | None
    key: str
    value: SettingValue
    is_hidden: bool
    source: SettingSource


def read_origins(path: Path | None, environ: Mapping[str, str]) -> SettingOrigins:
    """Return where the settings come from that `loader.load` returns. Raises `ConfigError`."""
    file = path if path is not None else loader.find_file()
    tables = {} if file is None else loader.parse(file)
    in_environment = (f"{section}.{key}" for (section, key), _ in loader.read_environment(environ))
    return SettingOrigins(file, frozenset(_names(tables)), frozenset(in_environment))


def _names(table: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _names(value, f"{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for position, each in enumerate(value, 1):
                yield from _names(each, f"{name}.{position}.")
        else:
            yield name


def list_settings(config: Config, origins: SettingOrigins) -> list[SettingInForce]:
    """Return all settings, in the order of the reference."""
    return [each for field in msgspec.structs.fields(Config) for each in _list(config, origins, field.name, field.name)]


def _list(holder: msgspec.Struct, origins: SettingOrigins, name: str, table: str) -> Iterator[SettingInForce]:
    """Yield the settings of a table, or of each of several, that a field of ``holder`` has."""
    found = getattr(holder, name)
    if not isinstance(found, tuple):
        yield from _list_table(found, origins, table, None)
        return
    for position, each in enumerate(found, 1):
        yield from _list_table(each, origins, table, position)


def _list_table(
    table: msgspec.Struct, origins: SettingOrigins, name: str, position: int | None
) -> Iterator[SettingInForce]:
    fields = msgspec.structs.fields(table)
    known = {each.name for each in fields}
    for each in fields:
        kind = _item_of(inspect.type_info(each.type))
        if isinstance(kind, inspect.StructType):
            yield from _list(table, origins, each.name, f"{name}.{each.name}")
        elif each.name.removesuffix("_file") == each.name or each.name.removesuffix("_file") not in known:
            place = f"{name}.{each.name}"
            is_hidden = isinstance(kind, inspect.StrType) and place not in _SHOWN
            value = None if is_hidden else _show(place, getattr(table, each.name))
            source = origins.find(place if position is None else f"{name}.{position}.{each.name}")
            yield SettingInForce(name, position, each.name, value, is_hidden, source)


def _item_of(kind: inspect.Type) -> inspect.Type:
    while isinstance(kind, inspect.Metadata | inspect.VarTupleType):
        kind = kind.type if isinstance(kind, inspect.Metadata) else kind.item_type
    return kind


def _show(place: str, value: SettingValue | tuple[str | int, ...]) -> SettingValue:
    if place in _URLS and isinstance(value, str) and "://" in value:
        return show_url(value)
    return list(value) if isinstance(value, tuple) else value
