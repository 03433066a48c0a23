"""Longer validity of a subscriber's credit by an author, who must manage the subscriber, with a row of the trail."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from celcombiller.core.access import audit_trail
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.validity import end_dates

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.accounts import Kind

DAYS_AHEAD_MAX = 36_500


def extend(
    tx: Connection, username: str, kind: Kind, until: date, actor: Actor, *, zone: str, now: datetime
) -> date | None:
    """Keep a subscriber's credit of a kind valid through a day at least; return its last day now, ``None``: no end.

    Raises `UnknownSubscriber`, `Forbidden`, and `InvalidValue` for a day that is over, or far away.
    """
    who = subscriber_records.find(tx, username)
    actor.check_manages(who.level)
    today = local_date(now, zone)
    if not today <= until <= today + timedelta(days=DAYS_AHEAD_MAX):
        what = f"must be a day from today to {today + timedelta(days=DAYS_AHEAD_MAX)}"
        raise InvalidValue(f"valid_until {what}", {"valid_until": what})
    account = balances(tx, who.id)[kind]
    Book().load(tx, [account.id])
    before = end_dates.read_last_day(tx, account, zone)
    end_dates.keep_valid_until(tx, account.id, until, now)
    after = end_dates.read_last_day(tx, account, zone)
    audit_trail.record(
        tx,
        actor,
        f"extend {kind} credit",
        f"subscriber:{who.username}",
        before={"valid_until": before},
        after={"valid_until": after, "asked_for": until},
        now=now,
    )
    return after
