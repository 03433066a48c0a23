"""Changes of tariffs and their versions by an author, who must be allowed to, with their rows of the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail
from celcombiller.core.tariffs import tariff_records, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.tariffs.tariff_records import TariffRecord
    from celcombiller.core.tariffs.versions import NewVersion, VersionRecord, VersionWritten

RATES_SHOWN = 20
"""The rates of each kind that a row of the trail shows; it counts all."""


def add(tx: Connection, actor: Actor, *, now: datetime, **fields: Any) -> TariffRecord:
    """Create a tariff. Raises as `tariff_records.add` does, and `Forbidden`."""
    actor.check_administers()
    made = tariff_records.add(tx, now=now, **fields)
    audit_trail.record(tx, actor, "add", _subject(made), after=made, now=now)
    return made


def change(tx: Connection, actor: Actor, tariff_id: int, changes: Mapping[str, Any], now: datetime) -> TariffRecord:
    """Change fields of a tariff. Raises as `tariff_records.change` does, and `Forbidden`."""
    actor.check_administers()
    was = tariff_records.find_by_id(tx, tariff_id)
    is_ = tariff_records.change(tx, tariff_id, changes)
    audit_trail.record(tx, actor, "change", _subject(was), before=was, after=is_, now=now)
    return is_


def set_default(tx: Connection, actor: Actor, tariff_id: int | None, now: datetime) -> TariffRecord | None:
    """Make a tariff the default; ``None``: none is. Raises `UnknownTariff` and `Forbidden`."""
    actor.check_administers()
    was = next((each for each in tariff_records.list_all(tx) if each.is_default), None)
    tariff_records.set_default(tx, tariff_id)
    is_ = None if tariff_id is None else tariff_records.find_by_id(tx, tariff_id)
    names = [None if each is None else each.name for each in (was, is_)]
    audit_trail.record(tx, actor, "change", "tariff default", before=names[0], after=names[1], now=now)
    return is_


def delete(tx: Connection, actor: Actor, tariff_id: int, now: datetime) -> TariffRecord:
    """Delete a tariff. Raises as `tariff_records.delete` does, and `Forbidden`."""
    actor.check_administers()
    was = tariff_records.delete(tx, tariff_id, now)
    audit_trail.record(tx, actor, "delete", _subject(was), before=was, now=now)
    return was


def write_version(tx: Connection, actor: Actor, tariff_id: int, new: NewVersion, now: datetime) -> VersionWritten:
    """Write a version in this transaction. Raises as `versions.write_version` does, and `Forbidden`."""
    actor.check_administers()
    written = versions.write_version(tx, tariff_id, new, now)
    _record_version(tx, actor, tariff_id, written, now)
    return written


def write_version_in_steps(
    actor: Actor, tariff_id: int, new: NewVersion, clock: Callable[[], datetime]
) -> Generator[Callable[[Connection], Any], Any, VersionWritten]:
    """Yield the transactions that write a version, as `versions.write_in_steps` does, the trail's row in the last."""
    actor.check_administers()
    written = yield from versions.write_in_steps(
        tariff_id, new, clock, lambda tx, made, now: _record_version(tx, actor, tariff_id, made, now)
    )
    return written


def withdraw(tx: Connection, actor: Actor, tariff_id: int, number: int, now: datetime) -> VersionRecord:
    """Withdraw a version that waits. Raises as `versions.withdraw` does, and `Forbidden`."""
    actor.check_administers()
    tariff = tariff_records.find_by_id(tx, tariff_id)
    was = versions.withdraw(tx, tariff_id, number, now)
    audit_trail.record(tx, actor, f"withdraw version {number}", _subject(tariff), before=was, now=now)
    return was


def _record_version(tx: Connection, actor: Actor, tariff_id: int, written: VersionWritten, now: datetime) -> None:
    """Record a version with the number of rates that it changes, and the first of them."""
    if written.version is None:
        return
    changes = written.changes
    tariff = tariff_records.find_by_id(tx, tariff_id)
    before = {
        "changed": [was for was, _ in changes.changed[:RATES_SHOWN]],
        "removed": changes.removed[:RATES_SHOWN],
    }
    after = {
        "version": written.version,
        "rates": {"added": len(changes.added), "changed": len(changes.changed), "removed": len(changes.removed)},
        "added": changes.added[:RATES_SHOWN],
        "changed": [is_ for _, is_ in changes.changed[:RATES_SHOWN]],
    }
    action = f"write version {written.version.number}"
    audit_trail.record(tx, actor, action, _subject(tariff), before=before, after=after, now=now)


def _subject(tariff: TariffRecord) -> str:
    return f"tariff:{tariff.id}"
