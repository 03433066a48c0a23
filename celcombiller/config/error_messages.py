"""Errors of msgspec in the operator's words: where the wrong value stands, and what it may be."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from msgspec import inspect

from celcombiller.config.checks import SettingError
from celcombiller.config.tables import TABLES, Config
from celcombiller.core.errors import ConfigError
from celcombiller.core.model.dial_strings import show_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FILE_NAME = "celcombiller.toml"


ENVIRONMENT_PREFIX = "CELCOMBILLER_"
SWITCHES = {"true": True, "false": False}


_NEVER_SHOWN = frozenset({"secret", "url", "password"})
"""Keys whose values no message shows."""


def raise_config_error(
    file: Path | None,
    tables: dict[str, Any],
    from_environment: Mapping[tuple[str, str], object],
    error: msgspec.ValidationError,
) -> NoReturn:
    """Return in the operator's words what msgspec found, from where it found it."""
    found = re.search(r" - at `\$([^`]*)`$", str(error))
    steps: list[str | int] = [
        int(index) if index else name
        for name, index in re.findall(r"\.([a-z_]+)|\[([0-9]+)\]", found.group(1) if found else "")
    ]
    wrong = error.__cause__
    involved: list[str] = []
    if isinstance(wrong, SettingError):
        # What contradicts may be another key of the table, or of any table where several were checked.
        involved = [_variable(key) for key in from_environment if not steps or key[0] == steps[0]]
        steps += wrong.key.split(".")  # a check of several tables names the table too
        reason = wrong.reason
    else:
        reason = _reason(tables, steps)
    key = tuple(str(each).partition(" ")[0] for each in steps[:2])
    if key in from_environment:
        raise make_config_error("environment", f"{_variable(key)}: {reason}")
    if involved:
        reason += f" (the environment sets {', '.join(involved)})"
    raise make_config_error(file or FILE_NAME, f"{show_place(steps)}: {reason}" if steps else reason)


def _variable(key: tuple[str, ...]) -> str:
    return ENVIRONMENT_PREFIX + "_".join(key).upper()


def _reason(tables: dict[str, Any], steps: list[str | int]) -> str:
    """Return why the value at ``steps`` does not fit its type. Append a key that is unknown or missing to ``steps``."""
    value: Any = tables
    wanted = _describe_settings()
    for step in steps:
        value = value[step]
        bare = bare_type(wanted)
        if isinstance(step, int):
            wanted = bare.item_type if isinstance(bare, inspect.VarTupleType) else wanted
        elif isinstance(bare, inspect.StructType):
            wanted = next(each.type for each in bare.fields if each.name == step)
    bare = bare_type(wanted)
    if isinstance(bare, inspect.StructType) and isinstance(value, dict):
        known = {each.name: each for each in bare.fields}
        for key in value:
            if key not in known:
                steps.append(key)
                return show_unknown(key, known)
        missing = next(each for each in bare.fields if each.required and each.name not in value)
        steps.append(missing.name)
        return f"is missing; must be {show_allowed(missing.type)}"
    shown = "" if steps and steps[-1] in _NEVER_SHOWN else f", not {show_value(value)}"
    return f"must be {show_allowed(wanted)}{shown}"


@functools.cache
def _describe_settings() -> inspect.Type:
    return inspect.type_info(Config)


def bare_type(wanted: inspect.Type) -> inspect.Type:
    """Return the type without its metadata."""
    return wanted.type if isinstance(wanted, inspect.Metadata) else wanted


def show_allowed(wanted: inspect.Type) -> str:
    """Return what a type allows, in the operator's words."""
    if isinstance(wanted, inspect.Metadata):
        described = (wanted.extra_json_schema or {}).get("description")
        return str(described) if described else show_allowed(wanted.type)
    if isinstance(wanted, inspect.IntType):
        return f"a whole number from {wanted.ge} to {wanted.le}"
    if isinstance(wanted, inspect.BoolType):
        return " or ".join(SWITCHES)
    if isinstance(wanted, inspect.LiteralType):
        return " or ".join(show_value(each) for each in wanted.values)
    if isinstance(wanted, inspect.VarTupleType):
        return f"a list, each item {show_allowed(wanted.item_type)}"
    return "a table" if isinstance(wanted, inspect.StructType) else "text in quotes"


def show_unknown(name: str, known: Iterable[str]) -> str:
    """Return that a name is unknown, with the nearest known one."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"unknown; did you mean {close[0]}?" if close else f"unknown; known are {', '.join(names)}"


def show_place(steps: list[str | int]) -> str:
    """Return a key as the file spells it. Tables and items are counted from 1."""
    for depth in (1, 2):
        names, number = steps[:depth], steps[depth] if len(steps) > depth else None
        if isinstance(number, int) and ".".join(map(str, names)) in TABLES:
            table = f"[[{'.'.join(map(str, names))}]] table {number + 1}"
            return ": ".join([table, *(str(each) for each in steps[depth + 1 :])])
    return ".".join(str(each) for each in steps if isinstance(each, str)) + "".join(
        f" item {each + 1}" for each in steps if isinstance(each, int)
    )


def make_config_error(where: Path | str, text: str) -> ConfigError:
    """Return the error, on one line and without control characters, whatever the file or a name contains."""
    line = f"{where}: {text}"
    return ConfigError("".join(each if each.isprintable() else repr(each)[1:-1] for each in line))
