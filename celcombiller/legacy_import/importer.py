"""Write a converted file into the ledger, in one transaction: all or nothing, and each row once.

Each row of the file has a reference, made from its id. The transfer of a movement has it; for subscribers, schedules,
members and contracts it is in the table ``imported``. So a second import of a file changes nothing, and the import of a
file that has grown adds what is new.
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

    from celcombiller.core.access.actor import Actor
    from celcombiller.legacy_import.conversion import ConvertedFile, Progress
    from celcombiller.legacy_import.convert_users import NewSubscriber


def list_new_users(tx: Connection, converted: ConvertedFile) -> list[NewSubscriber]:
    """Return the users that `import_original` will make, and for which it needs password hashes."""
    return SubscriberWriter(tx, converted, References.load(tx, converted.terms.prefix), ImportReport()).new


def import_original(
    tx: Connection, converted: ConvertedFile, password_hashes: Mapping[int, str], actor: Actor, progress: Progress
) -> ImportReport:
    """Write what was not imported yet, and return the report. ``actor`` is recorded in the audit trail.

    Raises `InvalidValue` if another file was imported under this source before.
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
        _record_import(tx, converted, report, actor)
    return report


def _record_import(tx: Connection, converted: ConvertedFile, report: ImportReport, actor: Actor) -> None:
    """Record the import in the audit trail: the imported records themselves have the dates of the original."""
    facts = {
        "generation": converted.original.generation.name,
        "made": {table: count for table, count in report.made.items() if count},
        "credits": report.credits,
    }
    audit_trail.record(tx, actor, "import", converted.terms.prefix.rstrip(":"), after=facts, now=converted.now)
