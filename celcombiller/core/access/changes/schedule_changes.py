"""Changes of schedules, memberships and fees by an author, who must be allowed to, with their rows of the audit trail.

What a schedule credits is credit for its members. So a schedule with staff in it, and the membership of one of them,
are the administrator's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail
from celcombiller.core.ledger.rows import check_line
from celcombiller.core.model.schedules import FeeState
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schedules import fee_periods, memberships, schedule_records
from celcombiller.core.schedules.runs import find_run
from celcombiller.core.subscribers import subscriber_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.schedules import FeePeriod, Membership, Run, Schedule
    from celcombiller.core.model.subscribers import Subscriber

NOTE_CHARACTERS_MAX = 200


def add(
    tx: Connection, actor: Actor, *, name: str, names_repeat: bool = False, now: datetime, **fields: Any
) -> Schedule:
    """Create a schedule without members, with a name of its own unless ``names_repeat``, as in the original's API.

    Raises as `schedule_records.add` does, `AlreadyTaken` and `Forbidden`.
    """
    actor.check_manages(Level.SUBSCRIBER)
    actor.check_amount(fields.get("value") or 0)
    if not names_repeat:
        schedule_records.refuse_taken(tx, name)
    made = schedule_records.add(tx, name=name, now=now, **fields)
    audit_trail.record(tx, actor, "add", _subject(made.id), after=made, now=now)
    return made


def change(
    tx: Connection,
    actor: Actor,
    schedule_id: int,
    changes: Mapping[str, Any],
    now: datetime,
    *,
    names_repeat: bool = False,
) -> Schedule:
    """Change fields of a schedule. Raises as `schedule_records.change` does, `AlreadyTaken` and `Forbidden`."""
    was = _find_managed(tx, actor, schedule_id)
    actor.check_amount(changes.get("value") or 0)
    if changes.get("name", was.name) != was.name and not names_repeat:
        schedule_records.refuse_taken(tx, changes["name"])
    is_ = schedule_records.change(tx, was.id, **changes)
    audit_trail.record(tx, actor, "change", _subject(was.id), before=was, after=is_, now=now)
    return is_


def delete(tx: Connection, actor: Actor, schedule_id: int, now: datetime) -> Schedule:
    """Delete a schedule and end its memberships. Raises `UnknownSchedule` and `Forbidden`."""
    was = _find_managed(tx, actor, schedule_id)
    deleted = schedule_records.delete(tx, was.id, now)
    audit_trail.record(tx, actor, "delete", _subject(was.id), before=was, now=now)
    return deleted


def join(
    tx: Connection,
    actor: Actor,
    schedule: Schedule,
    who: Subscriber,
    *,
    count: int | None = None,
    joined_on: date | None = None,
    now: datetime,
) -> Membership:
    """Add a subscriber to a schedule. Raises as `memberships.join` does, and `Forbidden`."""
    actor.check_manages(who.level)
    made = memberships.join(tx, schedule, who.id, count=count, joined_on=joined_on, now=now)
    audit_trail.record(tx, actor, "join", _subject(schedule.id), after=made, now=now)
    return made


def set_count(tx: Connection, actor: Actor, was: Membership, count: int, now: datetime) -> Membership:
    """Set the runs left. Raises as `memberships.set_count` does, and `Forbidden`."""
    _check_member(tx, actor, was)
    is_ = memberships.set_count(tx, was, count)
    audit_trail.record(tx, actor, "change member", _subject(was.schedule_id), before=was, after=is_, now=now)
    return is_


def renew(tx: Connection, actor: Actor, was: Membership, *, count: int, months: int, now: datetime) -> Membership:
    """Set the runs left, and record a contract. Raises as `memberships.renew` does, and `Forbidden`."""
    _check_member(tx, actor, was)
    is_ = memberships.renew(tx, was, count=count, months=months, now=now)
    action = f"renew for {months} months"
    audit_trail.record(tx, actor, action, _subject(was.schedule_id), before=was, after=is_, now=now)
    return is_


def leave(tx: Connection, actor: Actor, was: Membership, now: datetime) -> None:
    """End a membership. Raises `UnknownMembership` when it has ended, and `Forbidden`."""
    _check_member(tx, actor, was)
    memberships.leave(tx, was, now)
    audit_trail.record(tx, actor, "leave", _subject(was.schedule_id), before=was, now=now)


def waive_fee(tx: Connection, actor: Actor, period_id: int, *, note: str, now: datetime) -> FeePeriod:
    """Waive a fee. Raises as `fee_periods.waive` does, and `Forbidden`."""
    check_line("note", note, NOTE_CHARACTERS_MAX)
    was = fee_periods.find(tx, period_id)
    actor.check_manages(subscriber_records.level_of(tx, was.subscriber_id))
    is_ = fee_periods.waive(tx, period_id, note=note, now=now)
    if was.state is not FeeState.WAIVED:
        audit_trail.record(tx, actor, "waive", f"fee:{period_id}", before=was, after=is_, now=now)
    return is_


def pay_fee(tx: Connection, actor: Actor, period_id: int, now: datetime) -> FeePeriod:
    """Take what is owed of a fee now; a subscriber may pay their own. Raises as `fee_periods.pay`, and `Forbidden`."""
    was = fee_periods.find(tx, period_id)
    if actor.subscriber_id != was.subscriber_id:
        actor.check_manages(subscriber_records.level_of(tx, was.subscriber_id))
    is_ = fee_periods.pay(tx, period_id, now)
    audit_trail.record(tx, actor, "pay", f"fee:{period_id}", before=was, after=is_, now=now)
    return is_


def undo_run(tx: Connection, actor: Actor, run_id: int, *, note: str, now: datetime) -> Run:
    """Have a whole run of a fee given back. Raises as `fee_periods.request_undo` does, and `Forbidden`."""
    check_line("note", note, NOTE_CHARACTERS_MAX)
    was = find_run(tx, run_id)
    _find_managed(tx, actor, was.schedule_id)
    is_ = fee_periods.request_undo(tx, run_id, note=note, now=now)
    if was.undone_at is None:
        audit_trail.record(tx, actor, "undo", f"run:{run_id}", before=was, after=is_, now=now)
    return is_


def _find_managed(tx: Connection, actor: Actor, schedule_id: int) -> Schedule:
    """Return the schedule, locked, so that no member joins between the check and the change."""
    schedule = schedule_records.find(tx, schedule_id, lock=True)
    actor.check_manages(Level.SUBSCRIBER)
    if not actor.administers and memberships.has_staff(tx, schedule.id):
        actor.check_administers()
    return schedule


def _check_member(tx: Connection, actor: Actor, membership: Membership) -> None:
    actor.check_manages(subscriber_records.find_by_id(tx, membership.subscriber_id).level)


def _subject(schedule_id: int) -> str:
    return f"schedule:{schedule_id}"
