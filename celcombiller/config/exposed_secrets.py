"""Which files of secrets can be read by every user of this machine."""

from __future__ import annotations

import re
import stat
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.config.error_messages import ENVIRONMENT_PREFIX, FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PRIVATE_KEY = re.compile(r"privateKey=([^:]+)")


def list_exposed_secrets(file: Path | None, environ: Mapping[str, str]) -> list[Path]:
    """Return the files with secrets that everyone can read, of settings that `load` accepts."""
    tables: dict[str, Any] = {} if file is None else tomllib.loads(file.read_text("utf-8"))
    folder = (file or Path(FILE_NAME)).parent
    named = [] if file is None or not _has_secret(tables) else [file]
    named += [folder / each for each in _named_files(tables, environ)]
    return [each for each in named if _is_open_to_all(each)]


def _named_files(tables: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    for table in _tables_with_secrets(tables):
        if table.get("secret_file"):
            yield table["secret_file"]
    smpp = environ.get(f"{ENVIRONMENT_PREFIX}SMPP_PASSWORD_FILE") or tables.get("smpp", {}).get("password_file")
    if smpp:
        yield smpp
    for section in ("rest", "agi"):
        listen = environ.get(f"{ENVIRONMENT_PREFIX}{section.upper()}_LISTEN") or tables.get(section, {}).get("listen")
        yield from _PRIVATE_KEY.findall(listen or "")


def _tables_with_secrets(tables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for listed in (tables.get("asterisk", ()), tables.get("radius", {}).get("clients", ()), tables.get("payments", ())):
        yield from listed


def _has_secret(tables: Mapping[str, Any]) -> bool:
    if tables.get("smpp", {}).get("password") or any(each.get("secret") for each in _tables_with_secrets(tables)):
        return True
    url = sa.make_url(tables.get("database", {}).get("url") or "sqlite://")
    return bool(url.password or "password" in url.query)


def _is_open_to_all(path: Path) -> bool:
    with suppress(OSError):
        return bool(path.stat().st_mode & stat.S_IROTH)
    return False
