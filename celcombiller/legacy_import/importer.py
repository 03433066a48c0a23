"""Write a converted original into the ledger, on an open transaction: all of it or nothing, and each row of it once.

Each row of the file has a reference made from its own id. A movement's transfer bears it; for subscribers, schedules,
members and contracts it stands in the table ``imported``. So a second import of a file finds everything here and
changes nothing, and one of a file that has grown since brings what is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.access import audit_trail
from celcombiller.core.provisioning import desired_state
from celcombiller.legacy_import.imported_rows import ImportReport, References
from celcombiller.legacy_import.write_schedules import write_schedules
from celcombiller.legacy_import.write_subscribers import SubscriberWriter
from celcombiller.legacy_import.write_transfers import TransferWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.audit_trail import Actor
    from celcombiller.legacy_import.conversion import ConvertedFile, Progress
    from celcombiller.legacy_import.convert_users import NewSubscriber


def list_new_users(tx: Connection, converted: ConvertedFile) -> list[NewSubscriber]:
    """Return those whom `write` will make subscribers, and whose password hashes it wants."""
    return SubscriberWriter(tx, converted, References.load(tx, converted.terms.prefix), ImportReport()).new


def import_original(
    tx: Connection, converted: ConvertedFile, password_hashes: Mapping[int, str], actor: Actor, progress: Progress
) -> ImportReport:
    """Write what is not here yet, in the name of ``actor``.

    Raises `InvalidValue` for another file than the one that was imported under this source before.
    """
    report = ImportReport(findings=converted.findings.copy())
    references = References.load(tx, converted.terms.prefix)
    subscribers = SubscriberWriter(tx, converted, references, report)
    subscribers.write(tx, password_hashes, progress)
    desired_state.enqueue_missing(tx, converted.now)
    TransferWriter(tx, converted, subscribers, report).write(progress)
    write_schedules(tx, converted, subscribers.ids, references, report)
    references.save(tx)
    if report.made.total():
        _leave_trail(tx, converted, report, actor)
    return report


def _leave_trail(tx: Connection, converted: ConvertedFile, report: ImportReport, actor: Actor) -> None:
    """Say in the trail that and when this came in: the dates of what came are the original's."""
    facts = {
        "generation": converted.original.generation.name,
        "made": {table: count for table, count in report.made.items() if count},
        "credits": report.credits,
    }
    audit_trail.record(tx, actor, "import", converted.terms.prefix.rstrip(":"), after=facts, now=converted.now)
