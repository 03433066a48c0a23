"""``celcombiller tariff import`` and ``export``: price lists as CSV files, our own and those of other billers.

Without ``--yes`` an import only reads: it shows what is wrong in the file, and what it would change.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from celcombiller.cli.common import (
    add_command,
    current_operator,
    open_database,
    parse_time,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.exit_status import DONE, REFUSED
from celcombiller.cli.terminal import echo, print_error, progress_bar
from celcombiller.core.access.changes import tariff_changes, tariff_imports
from celcombiller.core.access.changes.tariff_imports import PriceList
from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.tariffs import Service
from celcombiller.core.model.text import format_count
from celcombiller.core.reports.import_views import view_of_import
from celcombiller.core.tariffs.files.cgrates_plan import TABLES, read_plan
from celcombiller.core.tariffs.files.findings import Findings
from celcombiller.core.tariffs.files.presets import CGRATES, PRESET_NAMES
from celcombiller.core.tariffs.files.price_cells import FileTerms
from celcombiller.core.tariffs.files.tariff_file import read_tariff_file, write_tariff_file
from celcombiller.core.tariffs.versions import ROWS_IN_ONE_TRANSACTION
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa
    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config
    from celcombiller.core.tariffs.differences import Differences
    from celcombiller.core.tariffs.files.rate_list import RateList
    from celcombiller.core.tariffs.tariff_records import TariffRecord
    from celcombiller.core.tariffs.versions import NewVersion, VersionRecord

CHUNK_BYTES = 64 * 1024
SHOWN_MAX = 20
"""Lines that a preview shows of each kind of difference; ``--json`` has up to a thousand."""


def configure(kinds: Any) -> None:
    """Add ``import`` and ``export`` to the commands of ``tariff``."""
    from_file = add_command(kinds, "import", _import, "Make a CSV file the next version of a tariff, all or nothing.")
    from_file.add_argument("file", type=Path, metavar="FILE", help="a CSV file; of CGRateS, the folder of its files")
    from_file.add_argument("--tariff", metavar="NAME", help="the tariff, made before (default: the default tariff)")
    from_file.add_argument("--preset", choices=PRESET_NAMES, help="whose columns the file has (default: our own)")
    from_file.add_argument("--at", type=parse_time, metavar="TIME", help="when it takes effect (default: now)")
    how = from_file.add_mutually_exclusive_group()
    how.add_argument("--replace", action="store_true", help="the file is the whole list: all else is gone (default)")
    how.add_argument("--merge", action="store_true", help="prefixes that the file does not have stay as they are")
    from_file.add_argument("--money", action="store_true", help="amounts of our own columns are money, not credits")
    from_file.add_argument("--columns", metavar="NAMES", help="the columns of a file without a header, with commas")
    from_file.add_argument(
        "--service", type=Service, choices=list(Service), default=Service.VOICE, help="the default of rows"
    )
    from_file.add_argument("--plan", default="", metavar="ID", help="the rating plan, where CGRateS has several")
    from_file.add_argument("--note", default="", metavar="TEXT", help="why, for the list of versions")
    from_file.add_argument("--yes", action="store_true", help="write it; without it nothing is written, only shown")
    from_file.add_argument("--json", action="store_true", help="one JSON document")
    to_file = add_command(kinds, "export", _export, "Print a version of a tariff as a CSV file, which can be imported.")
    to_file.add_argument("name", metavar="NAME", help="the tariff")
    to_file.add_argument("--version", type=whole_number(1, 2**31 - 1), metavar="N", help="this version")
    to_file.add_argument("--at", type=parse_time, metavar="TIME", help="the version in force then (default: now)")


def _import(arguments: argparse.Namespace, config: Config) -> int:
    """Show what the file changes, or write it; return `REFUSED` when it has a fault."""
    engine, actor = open_database(config), current_operator()
    reading = engine.execution_options(reading=True)
    tariff = transact(reading, lambda tx: tariff_imports.find_tariff(tx, arguments.tariff))
    findings = Findings()
    rates = _read(arguments, tariff, findings)
    if findings.fault_count:
        _print(arguments, tariff, findings)
        return REFUSED
    prices = PriceList(rates.rows, not arguments.merge, arguments.at, arguments.note)
    now = datetime.now(UTC)
    new, found = transact(reading, lambda tx: tariff_imports.find_import(tx, tariff, prices, actor, now))
    version = _write(engine, tariff, new, found) if arguments.yes else None
    _print(arguments, tariff, findings, found, version)
    return DONE


def _read(arguments: argparse.Namespace, tariff: TariffRecord, findings: Findings) -> RateList:
    terms = FileTerms(
        time_zone=ZoneInfo(tariff.time_zone),
        credits_per_unit=tariff.credits_per_unit,
        service=arguments.service,
        columns=tuple(each.strip() for each in (arguments.columns or "").split(",") if each.strip()),
        is_money=arguments.money,
        plan=arguments.plan,
    )
    file: Path = arguments.file
    if arguments.preset != CGRATES:
        with _chunks(file) as chunks:
            return read_tariff_file(chunks, arguments.preset or "", terms, findings)
    if not file.is_dir():
        with _chunks(file) as chunks:
            return read_plan([("", chunks)], terms, findings)
    known = {f"{each}.csv".lower() for each in TABLES}
    files = sorted(each for each in file.iterdir() if each.name.lower() in known)
    return read_plan(((each.name, _all_chunks(each)) for each in files), terms, findings)


@contextmanager
def _chunks(file: Path) -> Iterator[Iterator[bytes]]:
    """Open a file, and show how far it is read. Raises `InvalidValue`."""
    try:
        with file.open("rb") as opened, progress_bar("Reading", max(1, file.stat().st_size)) as advance:

            def read() -> Iterator[bytes]:
                while chunk := opened.read(CHUNK_BYTES):
                    yield chunk
                    advance(len(chunk))

            yield read()
    except OSError as error:
        raise InvalidValue(f"{file}: cannot be read: {error.strerror or error}") from None


def _all_chunks(file: Path) -> Iterator[bytes]:
    with _chunks(file) as chunks:
        yield from chunks


def _write(engine: sa.Engine, tariff: TariffRecord, new: NewVersion, found: Differences) -> VersionRecord | None:
    """Write the version in several short transactions, between which calls go on; show how far it is."""
    rows = sum(found.counts[each] for each in ("new", "changed", "gone"))
    steps = tariff_changes.write_version_in_steps(current_operator(), tariff.id, new, lambda: datetime.now(UTC))
    with progress_bar("Writing", 4 + rows // ROWS_IN_ONE_TRANSACTION) as advance:
        try:
            work: Callable[[Connection], Any] = next(steps)
            while True:
                work = steps.send(transact(engine, work))
                advance(1)
        except StopIteration as end:
            version: VersionRecord | None = end.value.version
            return version


def _export(arguments: argparse.Namespace, config: Config) -> int:
    """Print a version; return `DONE`."""
    engine = open_database(config)
    now = arguments.at or datetime.now(UTC)

    def work(tx: Connection) -> None:
        tariff = tariff_imports.find_tariff(tx, arguments.name)
        version = tariff_imports.find_version(tx, tariff, arguments.version, now)
        for line in write_tariff_file(tariff_imports.list_exported(tx, tariff, version.number)):
            sys.stdout.write(line)

    sys.stdout.reconfigure(newline="")  # type: ignore[union-attr]
    transact(engine.execution_options(reading=True), work)
    return DONE


def _print(
    arguments: argparse.Namespace,
    tariff: TariffRecord,
    findings: Findings,
    found: Differences | None = None,
    version: VersionRecord | None = None,
) -> None:
    view = view_of_import(tariff, findings, found, version)
    if arguments.json:
        print_json(view)
        return
    for each in findings.remarks[:SHOWN_MAX]:
        print_error(str(each))
    _print_more(findings.remark_count, "remarks")
    for each in findings.faults:
        echo(str(each))
    if found is None:
        if findings.fault_count > len(findings.faults):
            echo(f"... and {findings.fault_count - len(findings.faults)} more")
        echo(f"{format_count(findings.fault_count, 'fault')} in the file; nothing was written.")
        return
    for kind, count in view.counts.items():
        rows = [_row_of(each) for each in getattr(view, kind, ())[:SHOWN_MAX]]
        echo(f"{kind}: {count}")
        if rows:
            print_rows(rows, tuple(rows[0]), as_json=False)
            _print_more(count, "rates")
    if version is not None:
        at = version.effective_at.astimezone().isoformat(" ", "seconds") if version.effective_at else "never"
        echo(f"Version {version.number} of {tariff.name} takes effect at {at}.")
    elif not sum(found.counts[each] for each in ("new", "changed", "gone")):
        echo(f"{tariff.name} has these prices already; there is nothing to write.")
    else:
        echo("Nothing was written: to write it, run it again with --yes.")


def _print_more(count: int, what: str) -> None:
    if count > SHOWN_MAX:
        echo(f"... and {count - SHOWN_MAX} more {what}; --json has more of them")


def _row_of(item: Any) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__struct_fields__}
