"""``celcombiller import-legacy``: import the database of the original program.

Without ``--yes`` it does the whole import, proves it, and rolls it back: so a dry run reports what will happen.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from argon2 import PasswordHasher

from celcombiller.cli.common import current_operator, open_database, parse_date, print_json, print_rows
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo, track
from celcombiller.core.audit.report import audit
from celcombiller.core.errors import BillerError, InvalidValue
from celcombiller.database.transaction import transact
from celcombiller.legacy_import import importer, source_database
from celcombiller.legacy_import.conversion import ImportTerms, convert_original
from celcombiller.legacy_import.findings import SERIOUS, Oddity
from celcombiller.legacy_import.source_rows import KINDS

if TYPE_CHECKING:
    import argparse

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config
    from celcombiller.core.model.accounts import Kind
    from celcombiller.legacy_import.conversion import ConvertedFile
    from celcombiller.legacy_import.convert_users import NewSubscriber
    from celcombiller.legacy_import.imported_rows import ImportReport

EXAMPLES = 5
"""How many rows of each oddity are printed; ``--json`` has all."""

_SOURCE = re.compile(r"[A-Za-z0-9_-]{1,32}")

# The minimum of OWASP for argon2id (Password Storage Cheat Sheet): a fifth of the usual cost, because there may be
# 200,000 passwords. The first login hashes again at the usual cost.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import-legacy``."""
    parser.set_defaults(run=_import)
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="the database of the original (alph.db); it is not changed"
    )
    parser.add_argument("--yes", action="store_true", help="import; without it nothing is written, only reported")
    parser.add_argument("--zone", help="the time zone of its dates, such as America/Belem (default: the settings')")
    parser.add_argument(
        "--plans-from",
        type=parse_date,
        metavar="DATE",
        help="the first day that the original does not credit itself any more (default: tomorrow)",
    )
    parser.add_argument(
        "--source", default="", metavar="NAME", help="the name of this file, when several are imported into one ledger"
    )
    parser.add_argument(
        "--no-passwords", action="store_true", help="import no passwords: each subscriber needs a new one"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document, with every row that is odd")


def _import(arguments: argparse.Namespace, config: Config) -> int:
    """Import, or do a dry run; return 1 when some credit or plan was left out."""
    now = datetime.now(UTC)
    terms = _terms(arguments, config, now)
    engine = open_database(config)
    with source_database.open_original(arguments.file) as old:
        converted = convert_original(old, terms, now, track)
        hashes: dict[int, str] = {}
        if arguments.yes:
            reading = engine.execution_options(reading=True)
            hashes = _hashed(transact(reading, lambda tx: importer.list_new_users(tx, converted)))

        def work(tx: Connection) -> ImportReport:
            report = importer.import_original(tx, converted, hashes, current_operator(), track)
            _prove(tx)
            if not arguments.yes:
                tx.rollback()
            return report

        report = transact(engine, work)
    outcome = _Outcome(converted, report, dry=not arguments.yes)
    outcome.print_json() if arguments.json else outcome.print_text()
    return DIFFERS if report.findings.serious else DONE


def _terms(arguments: argparse.Namespace, config: Config, now: datetime) -> ImportTerms:
    if arguments.source and not _SOURCE.fullmatch(arguments.source):
        raise InvalidValue("--source must be 1 to 32 letters, digits, _ or -")
    try:
        zone = ZoneInfo(arguments.zone or config.schedules.zone)
    except (OSError, ValueError, LookupError):  # a folder of zones, a path, no zone
        raise InvalidValue("--zone must be a name of the IANA list, such as America/Belem") from None
    begin = arguments.plans_from or now.astimezone(zone).date() + timedelta(days=1)
    return ImportTerms(zone, begin, arguments.source, passwords=not arguments.no_passwords)


def _hashed(newcomers: list[NewSubscriber]) -> dict[int, str]:
    """Hash the passwords on all processors."""
    clear = [(each.old_id, each.password) for each in newcomers if each.password]
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        hashes = pool.map(_HASHER.hash, (password for _, password in clear))
        numbered = zip((old_id for old_id, _ in clear), hashes, strict=True)
        return dict(track(numbered, "Passwords", len(clear)))
    finally:
        pool.shutdown(cancel_futures=True)


def _prove(tx: Connection) -> None:
    report = audit(tx)
    for each in report.differences[:1]:
        raise BillerError(
            f"nothing was imported, the proof failed: {each.subject}: {each.law};"
            f" expected {each.expected}, found {each.found}"
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The report of an import."""

    converted: ConvertedFile
    report: ImportReport
    dry: bool

    def print_text(self) -> None:
        """Print it for people."""
        zone = self.converted.terms.zone.key
        echo(f"{self.converted.original.generation.name}. Its dates are by the clocks of {zone}.")
        print_rows(self._tables(), ("table", "in_the_file", "imported", "here_already", "left_out"), as_json=False)
        for kind, sums in self._credits().items():
            echo(f"{kind} credits: {sums['file']} in the file, {sums['imported']} imported.")
        if self.converted.plans:
            echo(f"Plans go on from {self.converted.terms.begin}; what was due before was the original's to give.")
        found = self.report.findings.found
        for oddity in sorted(found, key=lambda oddity: (oddity not in SERIOUS, list(Oddity).index(oddity))):
            echo(f"{'! ' if oddity in SERIOUS else ''}{len(found[oddity])} {oddity}")
            for each in found[oddity][:EXAMPLES]:
                echo(f"    {each}")
            if len(found[oddity]) > EXAMPLES:
                echo(f"    ... and {len(found[oddity]) - EXAMPLES} more; --json names them all")
        echo("Proved: every balance is the sum of its transfers.")
        if self.dry:
            echo("Nothing was written. To import, run it again with --yes, while no biller runs on an SQLite database.")

    def print_json(self) -> None:
        """Print it as JSON."""
        found = self.report.findings.found
        document = {
            "generation": self.converted.original.generation.name,
            "written": not self.dry,
            "zone": self.converted.terms.zone.key,
            "plans_from": self.converted.terms.begin,
            "tables": self._tables(),
            "credits": self._credits(),
            "findings": [
                {"code": oddity.name, "serious": oddity in SERIOUS, "says": oddity, "rows": rows}
                for oddity, rows in found.items()
            ],
        }
        print_json(document)

    def _tables(self) -> list[dict[str, Any]]:
        """Count the rows of each table. Tables that are only looked up for others have no counts of imported rows."""
        made, known = self.report.made, self.report.known
        return [
            {
                "table": table,
                "in_the_file": read,
                "imported": made[table] if table in self.converted.own_tables else None,
                "here_already": known[table] if table in self.converted.own_tables else None,
                "left_out": read - made[table] - known[table] if table in self.converted.own_tables else None,
            }
            for table, read in self.converted.read.items()
        ]

    def _credits(self) -> dict[Kind, dict[str, int]]:
        users = self.converted.users.values()
        return {
            kind: {"file": sum(user.balances[kind] for user in users), "imported": self.report.credits[kind]}
            for kind in KINDS
        }
