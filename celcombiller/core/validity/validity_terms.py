"""When credit ends: days after the last top-up, counted in days of the operator's time zone. Pure.

Credit of which the last top-up was on a day is valid through the day that is so many days later, to its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from celcombiller.core.languages.built_in_texts import BUILT_IN_TEXTS
from celcombiller.core.schedules.due_dates import local_date, zone_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.core.model.accounts import Kind


class TopUp(StrEnum):
    """What may count as a top-up, which gives all credit of an account its full time again."""

    OPERATOR = "operator"
    SALE = "sale"
    VOUCHER = "voucher"
    PAYMENT = "payment"
    SCHEDULE = "schedule"
    CREDIT_TRANSFER = "credit_transfer"


DEFAULT_TOP_UPS = (TopUp.OPERATOR, TopUp.SALE, TopUp.VOUCHER, TopUp.PAYMENT, TopUp.SCHEDULE)

NO_TOP_UPS = frozenset(
    ("call", "sms", "data", "offer", "bundle", "reversal", "rerate", "expiry", "fee", "refill", "commission", "undo")
) | {"transfer_fee"}
"""The origins of transfers that give credit back, or move it, and are no top-up. Of an operator's own credits the
origin is their own word."""


@dataclass(frozen=True, slots=True)
class ValidityTerms:
    """The days that credit of each kind is valid (a kind without days is valid for ever), and what counts as a top-up.

    ``notice_days``: so many days before the last one the subscriber gets a message; 0: none.
    """

    days: Mapping[Kind, int] = field(default_factory=dict)
    top_ups: frozenset[TopUp] = frozenset(DEFAULT_TOP_UPS)
    zone: str = "UTC"
    notice_days: int = 0
    notice_text: str = BUILT_IN_TEXTS["credit_validity.notice_text"]


@dataclass(frozen=True, slots=True)
class KindTerms:
    """The terms of one kind as the ledger has them: ``days`` after the last top-up, or after ``since`` if it is later.

    Nothing ends before ``paused_until``.
    """

    days: int
    since: datetime
    paused_until: datetime | None = None


def last_day(terms: KindTerms, topped_up_at: datetime, extended_until: date | None, zone: str) -> date:
    """Return the last day on which credit is valid: ``extended_until`` if it is later."""
    counted = local_date(max(topped_up_at, terms.since), zone)
    if terms.days >= (date.max - counted).days:
        return date.max
    last = counted + timedelta(days=terms.days)
    return last if extended_until is None else max(last, extended_until)


def start_of(day: date, zone: str) -> datetime:
    """Return the instant (UTC) at which a day begins."""
    return datetime.combine(day, time(), zone_of(zone)).astimezone(UTC)


def topped_up_before(today: date, days: int, zone: str) -> datetime | None:
    """Return the instant before which the last top-up was, of credit that has ended by ``today``; ``None``: none has.

    A top-up on a day is one of credit that is valid ``days`` more days.
    """
    if days >= today.toordinal():
        return None
    return start_of(today - timedelta(days=days), zone)
