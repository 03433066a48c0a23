"""Sums of transfers by day, kind of movement, kind of account and direction, in the operator's time zone.

They are added up from a bookmark on, at no cost to the path of calls: what was found is written in one transaction with
the new bookmark, which does nothing if the bookmark has moved. So each transfer is counted once, whatever breaks. The
name of the bookmark has the time zone of the days; in another zone the sums begin again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.ledger.bookmarks import move_bookmark, read_bookmark
from celcombiller.core.model.accounts import SellerKind
from celcombiller.core.model.day_sums import Direction, Movement
from celcombiller.core.schema import tables
from celcombiller.core.schema.expressions import upsert

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from sqlalchemy.engine import Connection

IDS_PER_CHUNK_MAX = 1_000
"""Most transfers that are added up at once: some 10 ms beside the thread that charges, and 1 ms in it."""

_PREFIX = "day_sums:"
_DAY = timedelta(days=1)

_sum, _bookmark, _transfer = tables.day_sum, tables.bookmark, tables.transfer
_debit, _credit = tables.account.alias("debit"), tables.account.alias("credit")

SumKey = tuple[date, str, str, str]
"""What a sum is of: day, movement, kind of account, direction."""

Total = tuple[int, int]
"""The number of transfers, and their credits."""


@dataclass(frozen=True, slots=True)
class FoundSums:
    """The sums of the transfers after one id and up to another."""

    after_id: int
    until_id: int
    totals: Mapping[SumKey, Total]


def bookmark_of(zone: ZoneInfo) -> str:
    """Return the name of the bookmark of the sums in a time zone."""
    return f"{_PREFIX}{zone.key}"


def span_of_day(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the instant at which a day begins, and the one at which the next does."""
    begin, end = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (day, day + _DAY))
    return begin, end


def day_of(at: datetime, zone: ZoneInfo) -> date:
    """Return the day of an instant. Where a clock is set back over midnight, the day does not come twice."""
    day = at.astimezone(zone).date()
    begin, end = span_of_day(day, zone)
    return day - _DAY if at < begin else day + _DAY if at >= end else day


# -- reading -----------------------------------------------------------------------------------------------------------


def find(tx: Connection, zone: ZoneInfo, after_id: int, last_id: int) -> FoundSums:
    """Return the sums of the next transfers after one id, none later than another."""
    until_id = min(last_id, after_id + IDS_PER_CHUNK_MAX)
    transfers: Counter[SumKey] = Counter()
    amounts: Counter[SumKey] = Counter()
    begin = end = datetime.max.replace(tzinfo=UTC)
    day = date.max
    which = (_transfer.c.id > after_id, _transfer.c.id <= until_id)
    for at, amount, *words in tx.execute(_classify(_transfer.c.at, _transfer.c.amount).where(*which)):
        if not begin <= at < end:
            day = day_of(at, zone)
            begin, end = span_of_day(day, zone)
        key = (day, *words)
        transfers[key] += 1
        amounts[key] += amount
    return FoundSums(after_id, until_id, {key: (number, amounts[key]) for key, number in transfers.items()})


def count_uncounted(tx: Connection, zone: ZoneInfo) -> int:
    """Return how many ids of transfers follow the bookmark: of transfers that are in no sum yet."""
    last = tx.execute(sa.select(sa.func.coalesce(sa.func.max(_transfer.c.id), 0))).scalar_one()
    return max(0, int(last) - (read_bookmark(tx, bookmark_of(zone)) or 0))


# -- writing, one transaction each -------------------------------------------------------------------------------------


def begin(tx: Connection, zone: ZoneInfo) -> None:
    """Begin to add up in a time zone, unless only that was begun; the sums of another zone are dropped."""
    name = bookmark_of(zone)
    is_begun = read_bookmark(tx, name) is not None
    is_other = sa.and_(_bookmark.c.name.like(f"{_PREFIX}%"), _bookmark.c.name != name)
    if tx.execute(sa.delete(_bookmark).where(is_other)).rowcount or not is_begun:
        made = upsert(tx, _bookmark).values(name=name, transfer_id=0)
        tx.execute(made.on_conflict_do_update(index_elements=[_bookmark.c.name], set_={"transfer_id": 0}))
        tx.execute(sa.delete(_sum))


def add(tx: Connection, zone: ZoneInfo, found: FoundSums) -> bool:
    """Add what was found, and move the bookmark; return False if another node has moved it first."""
    if not move_bookmark(tx, bookmark_of(zone), after_id=found.after_id, until_id=found.until_id):
        return False
    if found.totals:
        made = upsert(tx, _sum)
        sums = {name: _sum.c[name] + made.excluded[name] for name in ("transfers", "credits")}
        names = [each.name for each in _sum.columns]
        rows = [dict(zip(names, (*key, *total), strict=True)) for key, total in found.totals.items()]
        tx.execute(made.on_conflict_do_update(index_elements=list(_sum.primary_key.columns), set_=sums), rows)
    return True


# -- recounting --------------------------------------------------------------------------------------------------------


def read_sums(tx: Connection) -> tuple[str, int, dict[date, dict[SumKey, Total]]]:
    """Return the zone of the sums, the last transfer that is in them, and all sums by day, as of one moment."""
    columns = [sa.null() for _ in _sum.columns]
    marks = sa.select(_bookmark.c.name, _bookmark.c.transfer_id, *columns).where(_bookmark.c.name.like(f"{_PREFIX}%"))
    zone, last_id, found = "", 0, dict[date, dict[SumKey, Total]]()
    for name, transfer_id, day, *words, transfers, amount in tx.execute(
        sa.union_all(marks, sa.select(sa.null(), sa.null(), *_sum.columns))
    ):
        if name is None:
            of_day = found.setdefault(_as_date(day), {})
            of_day[_as_date(day), *words] = (transfers, amount)
        else:
            zone, last_id = name.removeprefix(_PREFIX), transfer_id
    return zone, last_id, found


def _as_date(value: Any) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value


def recount(tx: Connection, zone: ZoneInfo, day: date, last_id: int) -> dict[SumKey, Total]:
    """Return the sums of a day from the transfers themselves, up to one."""
    begin, end = span_of_day(day, zone)
    columns = (sa.func.count(), sa.func.sum(_transfer.c.amount))
    which = (_transfer.c.at >= begin, _transfer.c.at < end, _transfer.c.id <= last_id)
    rows = tx.execute(_classify(*columns).where(*which).group_by(*_CLASSES))
    return {(day, *words): (transfers, int(amount)) for transfers, amount, *words in rows}


def find_next_day(tx: Connection, zone: ZoneInfo, after: date | None, last_id: int) -> date | None:
    """Return the first day after another that has transfers, up to one."""
    which = [_transfer.c.id <= last_id]
    if after is not None:
        which.append(_transfer.c.at >= span_of_day(after, zone)[1])
    order = (_transfer.c.at, _transfer.c.id)
    at = tx.execute(sa.select(_transfer.c.at).where(*which).order_by(*order).limit(1)).scalar()
    return None if at is None else day_of(at, zone)


_FROM_SUBSCRIBER, _TO_SUBSCRIBER = _debit.c.subscriber_id.is_not(None), _credit.c.subscriber_id.is_not(None)
_IS_BETWEEN = sa.and_(_FROM_SUBSCRIBER, _TO_SUBSCRIBER)
_TO_SELLER = _credit.c.kind == SellerKind.SELLER.value

_MOVEMENT = sa.case(
    (_transfer.c.origin.in_([each.value for each in Movement]), _transfer.c.origin), else_=Movement.OPERATOR.value
)
_ACCOUNT_KIND = sa.case(
    (sa.and_(_IS_BETWEEN, _TO_SELLER), _debit.c.kind), (_TO_SUBSCRIBER, _credit.c.kind), else_=_debit.c.kind
)
_DIRECTION = sa.case(
    (sa.and_(_IS_BETWEEN, _debit.c.kind == _credit.c.kind), Direction.BETWEEN.value),
    (sa.and_(_IS_BETWEEN, _TO_SELLER), Direction.OUT.value),
    (_TO_SUBSCRIBER, Direction.IN.value),
    else_=Direction.OUT.value,
)
_CLASSES = (_MOVEMENT.label("movement"), _ACCOUNT_KIND.label("account_kind"), _DIRECTION.label("direction"))


def _classify(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Return the query of transfers by movement, kind of account and direction, after these columns."""
    return (
        sa.select(*columns, *_CLASSES)
        .select_from(_transfer)
        .join(_debit, _debit.c.id == _transfer.c.debit_account_id)
        .join(_credit, _credit.c.id == _transfer.c.credit_account_id)
    )
