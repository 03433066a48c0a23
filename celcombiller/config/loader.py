"""Read the file, the environment and the files of secrets into one `Config`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

from celcombiller.config.checks import SettingError
from celcombiller.config.error_messages import (
    ENVIRONMENT_PREFIX,
    FILE_NAME,
    SWITCHES,
    make_config_error,
    raise_config_error,
    show_unknown,
)
from celcombiller.config.tables import LISTS, SECTIONS, Agi, Asterisk, Config, PaymentProvider, RadiusClient, Rest, Smpp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM_FILE = Path("/etc/celcombiller") / FILE_NAME


_Listening = TypeVar("_Listening", Rest, Agi)


_ENDPOINT_PATH = re.compile(r"(^(?:haproxy:)?unix:|:(?:privateKey|certKey|extraCertChain|dhParameters)=)([^/:][^:]*)")
"""A relative path in an endpoint of Twisted: that of a UNIX socket, or of a key."""


_Secretive = TypeVar("_Secretive", Asterisk, RadiusClient, PaymentProvider)


def load(path: Path | None, environ: Mapping[str, str], folder: Path = Path()) -> Config:
    """Return the settings. A value in ``environ`` wins over the file's. Raises `ConfigError`, whose text is one line.

    Without ``path`` the file is ``celcombiller.toml`` in ``folder``, else ``SYSTEM_FILE``, else none is read. Relative
    paths in the settings are relative to the folder of the file, so that all who read it mean the same ledger; without
    a file, to ``folder``.
    """
    file = path if path is not None else find_file(folder)
    tables = parse(file) if file is not None else {}
    from_environment = dict(read_environment(environ))
    for (section, key), value in from_environment.items():
        table = tables.setdefault(section, {})
        if isinstance(table, dict):  # if it is none, the conversion below refuses it
            table[key] = value
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise_config_error(file, tables, from_environment, error)
    servers = _with_secrets("asterisk", config.asterisk, file)
    payments = _with_secrets("payments", config.payments, file)
    clients = _with_secrets("radius.clients", config.radius.clients, file)
    radius = msgspec.structs.replace(config.radius, clients=clients)
    smpp = _with_password(_with_authorities(config.smpp, file, from_environment), file, from_environment)
    place = file.parent if file is not None else folder
    return msgspec.structs.replace(
        config,
        asterisk=servers,
        payments=payments,
        radius=radius,
        smpp=smpp,
        database=config.database.relative_to(place),
        rest=_with_absolute_paths(config.rest, place),
        agi=_with_absolute_paths(config.agi, place),
        calls=config.calls.relative_to(place),
    )


def find_file(folder: Path = Path()) -> Path | None:
    """Return the file that is read when none is named; ``None`` if there is none."""
    for candidate in (folder / FILE_NAME, SYSTEM_FILE):
        try:
            if candidate.exists():
                return candidate
        except OSError as error:
            raise make_config_error(candidate, f"cannot be read: {error.strerror}") from None
    return None


def parse(file: Path) -> dict[str, Any]:
    """Return the tables of a file as they stand there. Raises `ConfigError`."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise make_config_error(file, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise make_config_error(file, "is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise make_config_error(file, f"is not TOML: {error}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or deeply nested lists
        raise make_config_error(
            file, "is not TOML that makes sense: a number too long, or tables nested too deep"
        ) from None


def read_environment(environ: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], object]]:
    """Yield each section and key that the environment sets, with the value. Raises `ConfigError`."""
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section in LISTS:
            advice = (
                "keep the secret out of it with secret_file"
                if section in ("asterisk", "payments")
                else "there may be many"
            )
            raise make_config_error("environment", f"{name}: [[{section}]] tables are set in the file only; {advice}")
        if section not in SECTIONS:
            continue  # another program's variable, or a switch of the tests
        types = {each.name: inspect.type_info(each.type) for each in msgspec.structs.fields(SECTIONS[section])}
        if key not in types:
            known = [f"{ENVIRONMENT_PREFIX}{section}_{each}".upper() for each in types]
            raise make_config_error("environment", f"{name}: {show_unknown(name, known)}")
        yield (section, key), _from_text(environ[name], types[key])


def _from_text(text: str, wanted: inspect.Type) -> object:
    """Return the value of an environment variable as TOML would give it. What does not fit is left to the check."""
    if isinstance(wanted, inspect.VarTupleType):
        return [each.strip() for each in text.split(",") if each.strip()]
    if isinstance(wanted, inspect.BoolType) and text.strip().lower() in SWITCHES:
        return SWITCHES[text.strip().lower()]
    if isinstance(wanted, inspect.IntType) and re.fullmatch(r"-?[0-9]{1,18}", text.strip(), re.ASCII):
        return int(text)
    return text


def _with_absolute_paths(table: _Listening, folder: Path) -> _Listening:
    """Return a table whose endpoint names its socket and its keys by absolute paths."""
    listen = _ENDPOINT_PATH.sub(lambda found: f"{found[1]}{folder.resolve()}/{found[2]}", table.listen)
    return msgspec.structs.replace(table, listen=listen)


def _with_secrets(section: str, tables: tuple[_Secretive, ...], file: Path | None) -> tuple[_Secretive, ...]:
    return tuple(_with_secret(section, each, file, position) for position, each in enumerate(tables, 1))


def _with_secret(section: str, server: _Secretive, file: Path | None, position: int) -> _Secretive:
    if not server.secret_file:
        return server
    secret = _read_secret(file, f"[[{section}]] table {position}: secret_file", server.secret_file, 255)
    try:
        return msgspec.structs.replace(server, secret=secret, secret_file="")
    except SettingError as error:
        here = f"[[{section}]] table {position}: {server.secret_file}"
        raise make_config_error(file or FILE_NAME, f"{here}: {error.reason}") from None


def _with_password(smpp: Smpp, file: Path | None, from_environment: Mapping[tuple[str, str], object]) -> Smpp:
    if not smpp.password_file:
        return smpp
    is_set = ("smpp", "password_file") in from_environment
    here = f"{ENVIRONMENT_PREFIX}SMPP_PASSWORD_FILE" if is_set else "smpp.password_file"
    password = _read_secret(file, here, smpp.password_file, 8)
    return msgspec.structs.replace(smpp, password=password, password_file="")


def _with_authorities(smpp: Smpp, file: Path | None, from_environment: Mapping[tuple[str, str], object]) -> Smpp:
    if not smpp.ca_file:
        return smpp
    from celcombiller.runtime.tls_trust import certificates  # noqa: PLC0415  OpenSSL takes long to load

    is_set = ("smpp", "ca_file") in from_environment
    here = f"{ENVIRONMENT_PREFIX}SMPP_CA_FILE" if is_set else "smpp.ca_file"
    name = ((file or Path(FILE_NAME)).parent / smpp.ca_file).absolute()
    try:
        certificates(name.read_bytes())
    except OSError as error:
        raise make_config_error(file or FILE_NAME, f"{here}: {name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise make_config_error(file or FILE_NAME, f"{here}: {name}: {error}") from None
    return msgspec.structs.replace(smpp, ca_file=str(name))


def _read_secret(file: Path | None, here: str, named: str, characters_max: int) -> str:
    """Return the one line of a file that holds a secret."""
    name = (file or Path(FILE_NAME)).parent / named
    try:
        secret = name.read_bytes().decode("utf-8").strip()
    except OSError as error:
        raise make_config_error(file or FILE_NAME, f"{here}: {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise make_config_error(file or FILE_NAME, f"{here}: {name} is not UTF-8 text") from None
    if not 0 < len(secret) <= characters_max or re.search(r"[\x00-\x1f\x7f]", secret):
        raise make_config_error(
            file or FILE_NAME, f"{here}: {name} must hold one line of 1 to {characters_max} characters"
        )
    return secret
