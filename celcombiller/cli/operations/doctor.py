"""``celcombiller doctor``, also ``check-config --try``: try what the settings name, and say what to do about faults.

It changes nothing, and works beside a running biller.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import urllib.request
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.asterisk.emergency_numbers import list_numbers_without_way
from celcombiller.asterisk.outage.journal_file import JournalFault
from celcombiller.asterisk.outage.journal_place import read_journal
from celcombiller.cli.common import print_json
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.operations.findings import ANSWER_SECONDS, CLOCK_SKEW, Finding
from celcombiller.cli.terminal import echo
from celcombiller.config import loader
from celcombiller.config.charging_policy import outage_rules
from celcombiller.config.exposed_secrets import list_exposed_secrets
from celcombiller.core.errors import BillerError
from celcombiller.core.schema import migrations, tables
from celcombiller.database.engine import open_engine
from celcombiller.database.health import inspect_database
from celcombiller.database.ledger_file import files_of, path_of
from celcombiller.runtime.database_url import show_url

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from celcombiller.config.tables import Config

SECRET_CHARACTERS_MIN = 16
"""The shortest secret of a RADIUS client that is worth the name (RFC 2865, section 3)."""

_TCP = re.compile(r"(?P<kind>tcp6?|ssl):(?P<port>[0-9]+)(?P<more>.*)")
_INTERFACE = re.compile(r"interface=((?:[^:\\]|\\.)+)")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``doctor``."""
    parser.set_defaults(run=examine)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def examine(arguments: argparse.Namespace, config: Config) -> int:
    """Try everything, print what was found; return `DIFFERS` when something needs a remedy."""
    file = arguments.config or loader.find_file()
    found = [*_settings(file), *_database(config), *_journal(config), *_ports(config), *_radius(config)]
    unreachable = list(_smsc(config))
    found += unreachable
    binds = bool(config.smpp.host) and not unreachable
    if config.asterisk or config.provisioning or binds:
        from celcombiller.cli.operations.doctor_peers import examine_peers  # noqa: PLC0415  loads the reactor

        found += examine_peers(config, binds=binds)
    if arguments.json:
        print_json([asdict(each) for each in found])
    else:
        for each in found:
            echo(f"{'!' if each.remedy else ' '} {each.subject}: {each.found}")
            if each.remedy:
                echo(f"    {each.remedy}")
    return DIFFERS if any(each.remedy for each in found) else DONE


# -- files -------------------------------------------------------------------------------------------------------------


def _settings(file: Path | None) -> Iterator[Finding]:
    yield Finding("settings", "built-in defaults" if file is None else f"{file.resolve()} is right")
    for each in list_exposed_secrets(file, os.environ):
        yield Finding("secrets", f"{each.resolve()} can be read by every user", f"chmod o= {each.resolve()}")


# -- the database ------------------------------------------------------------------------------------------------------


def _database(config: Config) -> Iterator[Finding]:
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds)
    name = show_url(config.database.url)
    try:
        version = inspect_database(engine, migrations.read_version)
        inspect_database(engine, migrations.check)
        yield Finding("database", f"{name} answers, version {version}")
        yield from inspect_database(engine, lambda tx: list(_clock(tx)))
        without_way = inspect_database(engine, lambda tx: list_numbers_without_way(tx, config.calls))
        yield _emergency(config, without_way)
    except BillerError as error:
        yield Finding("database", str(error), "correct database.url, or do what this line says")
    finally:
        engine.dispose()
    path = path_of(config.database.url)
    for each in files_of(path) if path is not None else ():
        if each.stat().st_mode & 0o007:
            yield Finding(
                "database", f"{each} can be opened by every user", f"chmod 600 {each}, or `celcombiller init`"
            )
    if path is not None and path.exists() and path.stat().st_nlink > 1:
        yield Finding("database", f"{path} has another name (a hard link)", "remove it: SQLite may corrupt such a file")


def _clock(tx: sa.Connection) -> Iterator[Finding]:
    """Compare this machine's clock with the database's, and with the newest record."""
    now = datetime.now(UTC)
    if tx.dialect.name == "postgresql":
        theirs = tx.execute(sa.text("select clock_timestamp()")).scalar_one()
        skew = abs(theirs - now)
        remedy = "" if skew < CLOCK_SKEW else "synchronize both clocks by NTP"
        yield Finding("clock", f"{skew.total_seconds():.1f} s from that of PostgreSQL", remedy)
    newest = tx.execute(sa.select(sa.func.max(tables.transfer.c.at))).scalar()
    if newest is not None and newest > now + CLOCK_SKEW:
        yield Finding(
            "clock", f"it is {now:%F %T}, before the newest transfer ({newest:%F %T}, UTC)", "set the clock, use NTP"
        )


def _emergency(config: Config, without_way: list[str]) -> Finding:
    allowed = config.calls.always_allowed
    if without_way:
        return Finding(
            "calls.always_allowed",
            f"there is no way to {', '.join(without_way)}",
            "set calls.always_allowed_dial (or calls.external_dial), or give a subscriber that number",
        )
    return Finding("calls.always_allowed", f"{', '.join(allowed) or 'no number'}: each can be dialled")


# -- the journal -------------------------------------------------------------------------------------------------------


def _journal(config: Config) -> Iterator[Finding]:
    """Show the calls that went without the ledger and that it has not charged yet."""
    subject = "calls.journal"
    try:
        path, entries = read_journal(config)
    except JournalFault as fault:
        yield Finding(subject, str(fault), "do what this line says: until then no call goes without the ledger")
        return
    if entries is None:
        folder = path.parent
        usable = os.access(folder, os.W_OK) or not outage_rules(config).may_allow
        yield Finding(subject, f"{path}: no call waits", "" if usable else f"let the service write in {folder}")
        return
    exposed = sum(each.credits for each in entries.exposures)
    yield Finding(
        subject,
        f"{path}: {len(entries)} calls wait for their charge, {exposed} credits are exposed",
        "they are charged once the ledger answers, by the biller that runs in this folder" if entries else "",
    )
    for each in entries:
        went = each.went
        what = "has ended" if each.ended is not None else f"was seen last at {each.seen_at:%F %T} UTC"
        yield Finding(
            subject,
            f"{went.uniqueid} at {went.server}, from {went.caller_number or went.account_code} to {went.called_number},"
            f" since {went.at:%F %T} UTC: {what}, {each.exposure.credits} credits",
        )


# -- ports -------------------------------------------------------------------------------------------------------------


def _ports(config: Config) -> Iterator[Finding]:
    runs = _biller_answers(config.rest.listen)
    for section, listen in (("rest", config.rest.listen), ("agi", config.agi.listen)):
        endpoint = _TCP.fullmatch(listen)
        if endpoint is not None:
            place = _interface(endpoint["more"], "::" if endpoint["kind"] == "tcp6" else "0.0.0.0")  # noqa: S104
            yield _try_port(f"{section}.listen", socket.SOCK_STREAM, place, int(endpoint["port"]), runs=runs)
        elif listen.startswith("unix:"):
            folder = Path(listen.split(":")[1]).absolute().parent
            usable = os.access(folder, os.W_OK)
            yield Finding(f"{section}.listen", listen, "" if usable else f"make the folder {folder}, writable for it")
    if config.radius.clients:
        for key in ("access_port", "accounting_port"):
            port = getattr(config.radius, key)
            if port:
                yield _try_port(f"radius.{key}", socket.SOCK_DGRAM, config.radius.interface, port, runs=runs)


def _interface(more: str, default: str) -> str:
    found = _INTERFACE.search(more)
    return found[1].replace("\\", "") if found else default


def _biller_answers(listen: str) -> bool:
    """Return whether a biller answers on the port of the REST API."""
    endpoint = _TCP.fullmatch(listen)
    if endpoint is None or endpoint["kind"] == "ssl":
        return False
    host = _interface(endpoint["more"], "127.0.0.1").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    with suppress(OSError, ValueError):
        url = f"http://{shown}:{endpoint['port']}/healthz"
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return b'"status"' in answer.read(1000)
    return False


def _try_port(subject: str, kind: int, host: str, port: int, *, runs: bool) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as tried:
        if kind == socket.SOCK_STREAM:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and runs:
                return Finding(subject, f"port {port} is in use; the biller runs")
            remedies = {
                errno.EADDRINUSE: f"another program has it: find it by `ss -lnp 'sport = :{port}'`, or set {subject}",
                errno.EACCES: "a port below 1024 needs a right: use a higher one",
                errno.EADDRNOTAVAIL: f"this machine has no address {host}",
            }
            remedy = remedies.get(error.errno or 0, f"set {subject}")
            return Finding(subject, f"port {port} of {host}: {error.strerror or error}", remedy)
    return Finding(subject, f"port {port} of {host} is free")


# -- peers that need no reactor ----------------------------------------------------------------------------------------


def _radius(config: Config) -> Iterator[Finding]:
    for each in config.radius.clients:
        subject = f"radius client {each.name}"
        if each.network.prefixlen == 0:
            yield Finding(subject, "its address is the whole world", "name the address of the NAS")
        if len(each.secret) < SECRET_CHARACTERS_MIN:
            yield Finding(
                subject,
                f"its secret has less than {SECRET_CHARACTERS_MIN} characters, which can be guessed",
                "make a long random one, here and in the NAS: openssl rand -hex 24",
            )


def _smsc(config: Config) -> Iterator[Finding]:
    if not config.smpp.host:
        return
    place = f"{config.smpp.host}:{config.smpp.port}"
    try:
        socket.create_connection((config.smpp.host, config.smpp.port), ANSWER_SECONDS).close()
    except OSError as error:
        remedy = "check smpp.host, smpp.port and the firewall"
        yield Finding("smpp", f"{place} cannot be reached: {error.strerror or error}", remedy)
