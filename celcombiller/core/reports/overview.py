"""What happens now, and what needs a person. Read only; the cost grows with what is open, not with the history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.ledger.day_sums import count_uncounted, day_of
from celcombiller.core.model.accounts import Kind
from celcombiller.core.payments.payment_records import count_unassigned
from celcombiller.core.provisioning import status
from celcombiller.core.reports.day_report import Heading, Period, PeriodSums, sum_up
from celcombiller.core.reports.open_items import calls_statement, fees_statement
from celcombiller.core.reports.seller_items import count_seller_items
from celcombiller.core.schedules import runs
from celcombiller.core.schema import tables
from celcombiller.core.sms.outbox_queue import IS_QUEUED
from celcombiller.core.voice import call_queries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from sqlalchemy.engine import Connection

    from celcombiller.core.schedules.runs import ScheduleRules

PATIENCE = timedelta(minutes=15)
"""What waits for longer needs a person; the biller does the rest by itself."""

CDR_DAYS = timedelta(days=7)
"""How old a difference to Asterisk's records may be to be counted."""


class Need(StrEnum):
    """What needs a person."""

    OVERDUE_CALLS = "overdue_calls"
    NETWORKS_BEHIND = "networks_behind"
    MESSAGES_STUCK = "messages_stuck"
    CDR_DIFFERENCES = "cdr_differences"
    SCHEDULES_WAITING = "schedules_waiting"
    SELLERS_LOW = "sellers_low"
    FEES_UNPAID = "fees_unpaid"
    PAYMENTS_UNASSIGNED = "payments_unassigned"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was sold and used of one kind of credit, today and in this month."""

    account: str
    sold_today: int
    used_today: int
    sold_month: int
    used_month: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What happens now. ``needs`` has no zeros. ``uncounted``: transfers that the figures do not have yet."""

    calls: int
    today: date
    figures: list[Figures]
    needs: dict[Need, int]
    uncounted: int


def look_over(tx: Connection, rules: ScheduleRules, zone: ZoneInfo, now: datetime) -> Overview:
    """Return the overview."""
    today = day_of(now, zone)
    until = today + timedelta(days=1)
    days, months = (
        {each.account: each for each in sum_up(tx, first, until, by=by)}
        for first, by in ((today, Period.DAY), (today.replace(day=1), Period.MONTH))
    )
    accounts = [each.value for each in Kind if each is Kind.VOICE or each.value in months]
    return Overview(
        calls=sum(each.calls for each in tx.execute(calls_statement())),
        today=today,
        figures=[Figures(each, *_of(days.get(each)), *_of(months.get(each))) for each in accounts],
        needs={need: count for need, count in _count_needs(tx, rules, now) if count},
        uncounted=count_uncounted(tx, zone),
    )


def _of(sums: PeriodSums | None) -> tuple[int, int]:
    return (0, 0) if sums is None else (sums.total(Heading.SOLD), sums.used)


def _count_needs(tx: Connection, rules: ScheduleRules, now: datetime) -> Iterator[tuple[Need, int]]:
    since = now - PATIENCE
    yield Need.OVERDUE_CALLS, sum(call_queries.count_overdue(tx, since).values())
    yield Need.NETWORKS_BEHIND, sum(_is_behind(each, since) for each in status.backlog(tx))
    yield Need.MESSAGES_STUCK, _count(tx, tables.message, IS_QUEUED, tables.message.c.queued_at <= since)
    differs = tables.cdr_difference.c
    yield (
        Need.CDR_DIFFERENCES,
        _count(tx, tables.cdr_difference, differs.state != "settled", differs.found_at > now - CDR_DAYS),
    )
    yield Need.SCHEDULES_WAITING, sum(each <= since for each in runs.list_owed(tx, rules, now))
    yield Need.SELLERS_LOW, count_seller_items(tx, now).low
    yield Need.FEES_UNPAID, tx.execute(fees_statement()).one().owed
    yield Need.PAYMENTS_UNASSIGNED, count_unassigned(tx)


def _count(tx: Connection, table: sa.Table, *which: sa.ColumnElement[bool]) -> int:
    return int(tx.execute(sa.select(sa.func.count()).select_from(table).where(*which)).scalar_one())


def _is_behind(network: status.Backlog, since: datetime) -> bool:
    """Return whether a network does not answer, or has a change that waits for long, or a list that is wrong."""
    is_late = network.oldest_at is not None and network.oldest_at <= since
    return is_late or network.next_try_at is not None or network.warning != ""
