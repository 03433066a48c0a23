"""``celcombiller reconcile``: compare Asterisk's call detail records with the ledger, and settle what is missing."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from celcombiller.cdr.columns import ZoneCheck
from celcombiller.cdr.source_terms import SourceTerms, open_source
from celcombiller.cdr.staging import Staging
from celcombiller.cli.common import (
    current_operator,
    open_database,
    parse_time,
    print_rows,
    whole_number,
)
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo, print_error, progress_bar
from celcombiller.config.charging_policy import charging_policy
from celcombiller.core.access import audit_trail
from celcombiller.core.catalogue.loading import read_catalogue
from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.text import escape_json, format_count
from celcombiller.core.reconciliation import difference_records
from celcombiller.core.reconciliation.differences import DifferenceKind
from celcombiller.core.reconciliation.settlement import (
    CHUNK_CHANNELS,
    PastCatalogue,
    Reconciled,
    ReconciliationTerms,
    list_charged,
    reconcile_channels,
)
from celcombiller.core.tariffs.price_format import count_credits
from celcombiller.database.transaction import transact
from celcombiller.jobs.cdr_settings import reconciliation_terms

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    import sqlalchemy as sa

    from celcombiller.cdr.source import CdrSource
    from celcombiller.config.tables import Config
    from celcombiller.core.reconciliation.cdr import ChannelCdr

SHOWN_MAX = 50
"""Differences that the table shows of each kind; ``--json`` and ``--csv`` have all."""
ERRORS_SHOWN_MAX = 20
PROGRESS_ROWS = 1000

_COLUMNS = ("kind", "started_at", "from_number", "to_number", "cdr_s", "ledger_s", "cost", "result", "uniqueid", "row")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``reconcile``."""
    parser.set_defaults(run=_reconcile)
    parser.add_argument(
        "--cdr",
        required=True,
        metavar="SOURCE",
        help="a file of CSV (Master.csv, or one with a header), a file of SQLite, or the URL of a database",
    )
    parser.add_argument("--table", metavar="NAME", help="the table of a database (default: cdr.table, cdr)")
    parser.add_argument("--columns", metavar="NAMES", help="the columns of a file of CSV in another order, with commas")
    parser.add_argument("--server", metavar="NAME", help="the Asterisk that wrote it (default: cdr.server)")
    parser.add_argument("--zone", metavar="ZONE", help="the zone of its times; UTC with usegmtime (default: cdr.zone)")
    parser.add_argument("--since", type=parse_time, metavar="TIME", help="only calls that began then or later")
    parser.add_argument("--until", type=parse_time, metavar="TIME", help="and before then")
    parser.add_argument(
        "--ended",
        type=whole_number(0, 86_400),
        default=60,
        metavar="SECONDS",
        help="only calls that ended at least this long ago; the biller may still settle later ones (default 60)",
    )
    parser.add_argument(
        "--context", action="append", metavar="NAME", help="missing calls of this context only; may be repeated"
    )
    parser.add_argument(
        "--tolerance", type=whole_number(0, 3600), metavar="SECONDS", help="durations that differ by more are listed"
    )
    parser.add_argument("--apply", action="store_true", help="settle what is missing or open, and not only show it")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one JSON document, with all differences")
    how.add_argument("--csv", action="store_true", help="all differences as CSV")


@dataclass(slots=True)
class _Sums:
    """What a run adds up to."""

    rows: int = 0
    unreadable: int = 0
    channels: int = 0
    recent: int = 0
    missing: int = 0
    open: int = 0
    duration: int = 0
    no_cdr: int = 0
    refused: int = 0
    settled: int = 0
    credits: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, each: Reconciled) -> None:
        name = each.difference.kind.value
        setattr(self, name, getattr(self, name) + 1)
        self.refused += each.refusal != ""
        self.settled += each.is_settled
        self.credits += each.cost or 0

    def add_unreadable(self, error: str) -> None:
        self.unreadable += 1
        if self.unreadable <= ERRORS_SHOWN_MAX:
            self.errors.append(error)

    @property
    def left(self) -> int:
        """How many differences and rows are left as they are."""
        return self.unreadable + self.missing + self.open + self.duration + self.no_cdr - self.settled


class _Output:
    """Takes differences as they are found. Memory stays small: those of a document wait in a file, CSV is printed."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._csv: bool = arguments.csv
        self._json: bool = arguments.json
        self._shown: list[dict[str, Any]] = []
        self._count = Counter[DifferenceKind]()
        self._items = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  it is gone once it is closed
        if self._csv:
            _print_csv(_FIELDS)

    def add(self, each: Reconciled) -> None:
        """Take a difference."""
        kind = each.difference.kind
        self._count[kind] += 1
        document = _document(each)
        if self._csv:
            _print_csv(document.values())
        elif self._json:
            self._items.write(msgspec.json.encode(document).decode() + "\n")
        elif self._count[kind] <= SHOWN_MAX:
            self._shown.append(_row(document))

    def finish(self, sums: _Sums, facts: dict[str, Any]) -> None:
        """Print the rest."""
        if self._json:
            self._print_document(facts | {each: getattr(sums, each) for each in _Sums.__slots__})
        elif not self._csv:
            if self._shown:
                print_rows(self._shown, _COLUMNS, as_json=False)
            _print_sums(sums, facts)
        self._items.close()

    def _print_document(self, facts: dict[str, Any]) -> None:
        begin = msgspec.json.format(msgspec.json.encode(facts), indent=2).decode().removesuffix("\n}")
        print(f'{escape_json(begin)},\n  "items": [', end="")
        self._items.seek(0)
        for number, line in enumerate(self._items):
            print(f"{',' if number else ''}\n    {escape_json(line.rstrip())}", end="")
        print("\n  ]\n}")


def _reconcile(arguments: argparse.Namespace, config: Config) -> int:
    """Compare, settle if that is wanted, and print; return `DIFFERS` where something is left."""
    terms, zone = _terms(arguments, config)
    columns = arguments.columns or ",".join(config.cdr.columns)
    source = open_source(
        SourceTerms(
            arguments.cdr,
            ZoneInfo(zone),
            arguments.table or config.cdr.table,
            tuple(each.strip() for each in columns.split(",") if each.strip()),
        )
    )
    terms = replace(terms, source=source.label)
    engine, sums, output = open_database(config), _Sums(), _Output(arguments)
    with Staging() as staging:
        _stage(source, staging, sums, arguments)
        try:
            for each in _compare(engine, config, terms, staging, sums, apply=arguments.apply):
                sums.add(each)
                output.add(each)
        finally:
            if sums.settled:
                transact(engine, partial(_record, terms=terms, sums=sums))
    output.finish(sums, {"server": terms.server, "source": terms.source, "zone": zone, "written": arguments.apply})
    return DIFFERS if sums.left else DONE


def _terms(arguments: argparse.Namespace, config: Config) -> tuple[ReconciliationTerms, str]:
    server = arguments.server or config.cdr_server
    if not server:
        raise InvalidValue("say with --server which Asterisk wrote the records; the settings have several, or none")
    zone = arguments.zone or config.cdr.zone or config.schedules.zone
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, LookupError):
        raise InvalidValue(f"there is no time zone {zone}: names are as America/Sao_Paulo, or UTC") from None
    known = reconciliation_terms(config, "")
    return replace(
        known,
        server=server,
        tolerance=known.tolerance if arguments.tolerance is None else timedelta(seconds=arguments.tolerance),
        contexts=frozenset(arguments.context or known.contexts),
    ), zone


def _stage(source: CdrSource, staging: Staging, sums: _Sums, arguments: argparse.Namespace) -> None:
    """Read all records of the wanted time that are old enough. Raises `InvalidValue`."""
    now, check, at = datetime.now(UTC), ZoneCheck(), 0
    since, until = arguments.since or datetime.min.replace(tzinfo=UTC), arguments.until or now
    reading = source.read({}, now)
    with progress_bar("Reading", max(1, reading.total)) as advance:
        for number, each in enumerate(reading.rows):
            if number % PROGRESS_ROWS == 0:
                advance(each.progress - at)
                at = each.progress
            row = each.row
            if row is None:
                sums.add_unreadable(f"row {each.place} {each.error}")
                continue
            sums.rows += 1
            check.add(row)
            if row.ended_at > now - timedelta(seconds=arguments.ended):
                sums.recent += 1
            elif since <= row.started_at < until:
                staging.add(row)
    if sums.unreadable and not sums.rows:
        raise InvalidValue(f"{source.label}: no record can be read; the first: {sums.errors[0]}")
    check.check()
    for error in sums.errors:
        print_error(f"{source.label}: {error}")
    if sums.unreadable > ERRORS_SHOWN_MAX:
        print_error(f"{source.label}: {sums.unreadable - ERRORS_SHOWN_MAX} more rows cannot be read")


def _compare(
    engine: sa.Engine, config: Config, terms: ReconciliationTerms, staging: Staging, sums: _Sums, *, apply: bool
) -> Iterator[Reconciled]:
    """Yield what differs, in short transactions; settle it if that is wanted."""
    policy = charging_policy(config)
    sums.channels = staging.count_channels()
    if not sums.channels:
        return
    policy.catalogue.current = transact(
        engine.execution_options(reading=True),
        lambda tx: read_catalogue(tx, policy.catalogue.current, partial(datetime.now, UTC)),
    )
    past = PastCatalogue(policy)

    def work(tx: sa.Connection, channels: list[ChannelCdr]) -> list[Reconciled]:
        now = datetime.now(UTC)
        found = reconcile_channels(tx, past, terms, channels, now, apply=apply)
        if apply:
            difference_records.record_differences(tx, terms, found, now)
        return found

    with progress_bar("Comparing", sums.channels) as advance:
        for chunk in staging.channels(CHUNK_CHANNELS):
            yield from transact(engine, partial(work, channels=chunk))
            advance(len(chunk))
    yield from _without_cdr(engine.execution_options(reading=True), terms, staging)


def _without_cdr(engine: sa.Engine, terms: ReconciliationTerms, staging: Staging) -> Iterator[Reconciled]:
    """Yield the calls that were charged in the time that the records cover, and that have none."""
    covered = staging.covered()
    if covered is None:
        return
    after_id: int | None = 0
    while after_id is not None:
        some = partial(list_charged, server=terms.server, since=covered[0], until=covered[1], after_id=after_id)
        after_id, charged = transact(engine, some)
        unknown = staging.unknown([each.uniqueid for each in charged])
        yield from (Reconciled(each) for each in charged if each.uniqueid in unknown)


def _record(tx: sa.Connection, terms: ReconciliationTerms, sums: _Sums) -> None:
    facts = {"source": terms.source, "settled": sums.settled, "credits": sums.credits}
    subject = f"server:{terms.server}"
    audit_trail.record(tx, current_operator(), "reconcile", subject, after=facts, now=datetime.now(UTC))


# -- what is printed -------------------------------------------------------------------------------------------------

_FIELDS = (
    *("kind", "row", "uniqueid", "channel", "context", "from_number", "to_number", "started_at", "ended_at"),
    *("cdr_ms", "ledger_ms", "reference", "cost", "settled", "refusal"),
)


def _document(each: Reconciled) -> dict[str, Any]:
    difference = each.difference
    facts: dict[str, Any] = {name: getattr(difference, name, None) for name in _FIELDS}
    return facts | {
        "row": difference.place,
        "reference": each.reference or difference.reference,
        "cost": each.cost,
        "settled": each.is_settled,
        "refusal": each.refusal,
    }


def _row(document: dict[str, Any]) -> dict[str, Any]:
    result = "settled" if document["settled"] else document["refusal"]
    return document | {
        "result": result,
        "cdr_s": _seconds(document["cdr_ms"]),
        "ledger_s": _seconds(document["ledger_ms"]),
    }


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _print_csv(values: Iterable[Any]) -> None:
    from celcombiller.http.transport.streaming import format_csv  # noqa: PLC0415  loads the web server

    cells = [each.isoformat() if isinstance(each, datetime) else each for each in values]
    sys.stdout.write(format_csv([cells]).decode())


def _print_sums(sums: _Sums, facts: dict[str, Any]) -> None:
    echo(f"{sums.rows} records of {facts['source']}, of {sums.channels} channels of {facts['server']}.")
    for kind, what in _WHAT.items():
        count = getattr(sums, kind)
        if count:
            more = f" (the table shows {SHOWN_MAX})" if count > SHOWN_MAX else ""
            echo(f"{count} {what}{more}.")
    if sums.recent:
        echo(f"{sums.recent} records ended a moment ago (--ended): they are left to the biller.")
    if sums.unreadable:
        echo(f"{sums.unreadable} records cannot be read.")
    if sums.refused:
        echo(f"{sums.refused} cannot be charged; the table says why.")
    if facts["written"]:
        echo(f"Settled {format_count(sums.settled, 'call')} for {count_credits(sums.credits)}.")
    elif sums.missing or sums.open:
        echo(f"Settling them would charge {sums.credits} credits. Nothing was written: add --apply to settle them.")


_WHAT = {
    DifferenceKind.MISSING: "calls are missing in the ledger",
    DifferenceKind.OPEN: "calls are open in the ledger, and over",
    DifferenceKind.DURATION: "calls have another duration",
    DifferenceKind.NO_CDR: "calls were charged, and have no record",
}
