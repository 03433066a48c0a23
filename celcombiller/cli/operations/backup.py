"""``celcombiller backup``: a proved copy of the ledger, while the biller works."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.cli.common import open_database, print_json, whole_number
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo
from celcombiller.core.audit import report as audit_report
from celcombiller.core.errors import InvalidValue, StoreUnavailable
from celcombiller.core.model.text import format_count
from celcombiller.database.ledger_file import copy_ledger_file, create_ledger_file, path_of
from celcombiller.database.transaction import reading_one_snapshot, transact

if TYPE_CHECKING:
    import argparse

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config
    from celcombiller.core.audit.report import AuditReport

_OWN_NAME = re.compile(r"celcombiller-[0-9]{8}T[0-9]{6}Z\.(sqlite|dump)")
_SECRETS = ("password", "sslpassword")
"""What is not on the command line of pg_dump."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``backup``."""
    parser.set_defaults(run=_back_up)
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="the new file; or a folder, for a file named by the time in it"
    )
    parser.add_argument(
        "--keep",
        type=whole_number(1, 10_000),
        metavar="NUMBER",
        help="in a folder: delete all but so many of the newest that this command made",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _back_up(arguments: argparse.Namespace, config: Config) -> int:
    """Copy the ledger and recompute the copy; return `DIFFERS` when it does not prove itself."""
    engine = open_database(config)
    path = path_of(config.database.url)
    target = _target(arguments.file, "sqlite" if path is not None else "dump")
    if arguments.keep is not None and target == arguments.file:
        raise InvalidValue("--keep is for a folder")
    if path is not None:
        copy_ledger_file(path, target)
        report = _audit_copy(target)
    else:
        report = _dump(engine, target)
    removed = _remove_older(target.parent, arguments.keep) if report.ok and arguments.keep is not None else []
    if arguments.json:
        print_json(
            {"file": str(target.absolute()), "bytes": target.stat().st_size, "removed": [*map(str, removed)]}
            | {"ok": report.ok}
            | asdict(report)
        )
    else:
        echo(f"{target.absolute()}: {target.stat().st_size} bytes, {format_count(report.transfers, 'transfer')}.")
        differ = format_count(len(report.differences), "difference")
        echo("Recomputed: all as recorded." if report.ok else f"! {differ}: see `audit`.")
        for each in removed:
            echo(f"Removed {each}.")
    return DONE if report.ok else DIFFERS


def _target(file: Path, suffix: str) -> Path:
    return file / f"celcombiller-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{suffix}" if file.is_dir() else file


def _audit_copy(copy: Path) -> AuditReport:
    """Recompute a copy, which nothing else writes, without a file beside it."""
    name = f"{copy.absolute().as_uri()}?mode=ro&immutable=1"
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(name, uri=True))
    try:
        return transact(engine, audit_report.audit)
    finally:
        engine.dispose()


def _dump(engine: sa.Engine, target: Path) -> AuditReport:
    """Write the dump of one snapshot of a PostgreSQL database, and recompute the same snapshot."""
    program = shutil.which("pg_dump")
    if program is None:
        raise StoreUnavailable("pg_dump is not installed: install the client programs of PostgreSQL")
    unfinished = target.with_name(f"{target.name}.unfinished")
    if target.exists() or not create_ledger_file(unfinished):
        raise StoreUnavailable(f"{target if target.exists() else unfinished}: exists already: name another file")

    def work(tx: Connection) -> AuditReport:
        snapshot = tx.execute(sa.text("select pg_export_snapshot()")).scalar_one()
        _run_dump(program, engine.url, str(snapshot), unfinished)
        return audit_report.audit(tx)

    try:
        report = transact(reading_one_snapshot(engine), work)
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return report


def _run_dump(program: str, url: sa.URL, snapshot: str, file: Path) -> None:
    """Run pg_dump. Passwords go by its environment: all users can read the arguments of a program."""
    secret = url.password or url.query.get("password")
    environment = os.environ | ({} if secret is None else {"PGPASSWORD": str(secret)})
    shown = url.set(drivername="postgresql", password=None).difference_update_query(_SECRETS)
    command = [program, "--format=custom", f"--snapshot={snapshot}", f"--file={file}", "--no-password"]
    done = subprocess.run(  # noqa: S603  the program of the PATH, and our own arguments
        [*command, f"--dbname={shown.render_as_string()}"],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise StoreUnavailable(f"pg_dump failed: {(done.stderr.strip().splitlines() or ['without a word'])[0]}")


def _remove_older(folder: Path, keep: int) -> list[Path]:
    """Remove all but the newest copies that this command named by itself."""
    own = sorted(each for each in folder.iterdir() if _OWN_NAME.fullmatch(each.name))
    for each in own[:-keep]:
        each.unlink()
    return own[:-keep]
