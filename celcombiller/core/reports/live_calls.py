"""The calls in progress, as an operator sees them. Read only.

What a call has cost so far is what it would be charged if it ended now: the same bill, over the talk until now.
A page costs two statements, however many calls are open; the partial index of open calls has no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from celcombiller.core.errors import UnknownCall
from celcombiller.core.model.accounts import ACCOUNT_KINDS
from celcombiller.core.model.calls import CallState
from celcombiller.core.rating.bill import Bill, Pot, make_bill
from celcombiller.core.rating.pricing import charged_ms, seconds_of
from celcombiller.core.schema import driver, tables
from celcombiller.core.schema.expressions import inline_literal, without_index
from celcombiller.core.voice import call_orders
from celcombiller.core.voice.call_records import call_from_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, Row

    from celcombiller.core.model.accounts import AccountKind
    from celcombiller.core.model.calls import Call
    from celcombiller.core.voice.call_orders import CallOrder

_call, _hold, _account, _bundle = tables.call, tables.hold, tables.account, tables.bundle
_payer, _callee, _trunk = tables.subscriber, tables.subscriber.alias("callee"), tables.trunk

_IS_OPEN = _call.c.state == inline_literal(CallState.OPEN)

_REFERENCES_AT_ONCE = 500
"""Values in one question: SQLite before 3.32 takes 999 parameters."""


@dataclass(frozen=True, slots=True)
class BundleUse:
    """What a call takes from a bundle: how much it has taken so far, and how much it holds."""

    account_id: int
    name: str
    kind: AccountKind
    taken: int
    held: int


@dataclass(frozen=True, slots=True)
class LiveCall:
    """An open call at a moment.

    ``number`` is the payer's own, ``callee`` the username of an on-net callee. ``used_seconds`` is the talk so far, a
    begun second included; ``granted_until`` is `None` until the answer, from which the grant counts. ``cost`` is what
    the balance pays of the talk so far, ``held`` what is set aside for the whole grant. ``order``: the last one to it.
    """

    id: int
    username: str
    name: str
    number: str
    callee: str
    trunk: str
    call: Call
    used_seconds: int
    granted_until: datetime | None
    cost: int
    held: int
    bundles: tuple[BundleUse, ...]
    order: CallOrder | None


def list_live_calls(
    tx: Connection,
    now: datetime,
    *,
    limit: int,
    subscriber_id: int | None = None,
    server: str | None = None,
    after: tuple[datetime, int] | None = None,
) -> list[LiveCall]:
    """Return the oldest ``limit`` open calls, or those that follow the place ``after``: the order never changes."""
    conditions = _filter(subscriber_id, server)
    if after is not None:
        place = sa.tuple_(sa.literal(after[0], _call.c.started_at.type), sa.literal(after[1], _call.c.id.type))
        conditions.append(sa.tuple_(_call.c.started_at, _call.c.id) > place)
    rows = tx.execute(_LIVE.where(*conditions).order_by(_call.c.started_at, _call.c.id).limit(limit)).all()
    return _live_calls_from_rows(tx, rows, now)


def find_live_call(tx: Connection, call_id: int, now: datetime) -> LiveCall:
    """Return one open call. Raises `UnknownCall` if it is not open."""
    found = find_live_calls(tx, [call_id], now)
    if not found:
        raise UnknownCall(f"no call in progress has the number {call_id}: it has ended, or never was")
    return found[0]


def find_live_calls(tx: Connection, call_ids: Sequence[int], now: datetime) -> list[LiveCall]:
    """Return those of these calls that are open, oldest first."""
    found: list[LiveCall] = []
    for start in range(0, len(call_ids), _REFERENCES_AT_ONCE):
        some = call_ids[start : start + _REFERENCES_AT_ONCE]
        rows = tx.execute(_LIVE.where(_call.c.id.in_(some)).order_by(_call.c.started_at, _call.c.id)).all()
        found += _live_calls_from_rows(tx, rows, now)
    return found


_LIVE = (
    sa.select(
        _call,
        _payer.c.username,
        _payer.c.name,
        _payer.c.clid,
        _callee.c.username.label("callee"),
        _trunk.c.name.label("trunk"),
        _hold.c.amount.label("held"),
        sa.exists().where(tables.call_order.c.reference == _call.c.reference).label("has_order"),
    )
    .join(_payer, _payer.c.id == _call.c.subscriber_id)
    .outerjoin(_callee, _callee.c.id == _call.c.callee_id)
    .outerjoin(_trunk, _trunk.c.id == _call.c.trunk_id)
    .outerjoin(_hold, _hold.c.reference == _call.c.reference)
    .where(_IS_OPEN)
)


_SHARES = (
    sa.select(_hold.c.reference, _hold.c.account_id, _hold.c.amount, _account.c.kind, _bundle.c.name)
    .join(_account, _account.c.id == _hold.c.account_id)
    .join(_bundle, _bundle.c.account_id == _hold.c.account_id)
)


def _live_calls_from_rows(tx: Connection, rows: Sequence[Row[Any]], now: datetime) -> list[LiveCall]:
    calls = [call_from_row(row) for row in rows]
    shares = _read_shares(tx, [each for call in calls for each in call.hold_references[1:]])
    ordered = [row.reference for row in rows if row.has_order]
    orders = call_orders.find_last(tx, ordered) if ordered else {}
    return [
        _live_call(row, call, [shares[each] for each in call.hold_references[1:] if each in shares], orders, now)
        for row, call in zip(rows, calls, strict=True)
    ]


def _read_shares(tx: Connection, references: Sequence[str]) -> dict[str, Row[Any]]:
    """Return what open calls hold of bundles, by the references of the holds."""
    found: dict[str, Row[Any]] = {}
    for start in range(0, len(references), _REFERENCES_AT_ONCE):
        some = references[start : start + _REFERENCES_AT_ONCE]
        found |= {row.reference: row for row in tx.execute(_SHARES.where(_hold.c.reference.in_(some)))}
    return found


def _live_call(
    row: Row[Any], call: Call, shares: Sequence[Row[Any]], orders: dict[str, CallOrder], now: datetime
) -> LiveCall:
    pots = [Pot(each.account_id, ACCOUNT_KINDS[each.kind], each.amount) for each in shares]
    used_ms, bill = bill_so_far(call, pots, now)
    bundles = tuple(
        BundleUse(pot.account_id, share.name, pot.kind, bill.takes.get(pot.account_id, 0), pot.amount)
        for pot, share in zip(pots, shares, strict=True)
    )
    until = None if call.answered_at is None else call.answered_at + timedelta(seconds=call.granted_seconds)
    return LiveCall(
        id=row.id,
        username=row.username,
        name=row.name,
        number=row.clid,
        callee=row.callee or "",
        trunk=row.trunk or "",
        call=call,
        used_seconds=seconds_of(used_ms),
        granted_until=until,
        cost=bill.balance_amount,
        held=row.held or 0,
        bundles=bundles,
        order=orders.get(call.reference),
    )


def bill_so_far(call: Call, pots: Sequence[Pot], now: datetime) -> tuple[int, Bill]:
    """Return the milliseconds of talk of an open call until now, and who would pay for them if it ended now."""
    if call.answered_at is None:
        return 0, Bill(0)
    used_ms = max(0, (now - call.answered_at) // timedelta(milliseconds=1))
    return used_ms, make_bill(call.rate, seconds_of(charged_ms(used_ms, call.granted_seconds)), call.answered_at, pots)


def count_live_calls(tx: Connection, *, subscriber_id: int | None = None, server: str | None = None) -> int:
    """Count the open calls, of a subscriber or of a server where one is named."""
    counted = sa.select(sa.func.count()).select_from(_call).where(_IS_OPEN, *_filter(subscriber_id, server))
    return int(tx.execute(counted).scalar_one())


def _filter(subscriber_id: int | None, server: str | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a filter, such that the open calls are found by a partial index."""
    conditions: list[sa.ColumnElement[bool]] = []
    if subscriber_id is not None:
        other = _call.alias("own")  # apart: SQLite would read all calls of a subscriber, in the order of the page
        is_open = other.c.state == inline_literal(CallState.OPEN)
        conditions.append(_call.c.id.in_(sa.select(other.c.id).where(is_open, other.c.subscriber_id == subscriber_id)))
    if server is not None:
        conditions.append(without_index(_call.c.server) == server)
    return conditions


LIVE_STATES = sa.select(
    *(_call.c[name] for name in ("id", "granted_seconds", "answered_at", "subscriber_id", "server"))
).where(sa.text("state = 'open'"))  # as the partial index has it
"""The query of `LiveState`."""


_STATES = driver.PreparedQuery(LIVE_STATES)


class LiveState(NamedTuple):
    """What of an open call can change while it lasts, and whose it is; ``answered_at`` is as the driver gives it."""

    granted_seconds: int
    answered_at: Any
    subscriber_id: int
    server: str


def read_live_states(tx: Connection) -> dict[int, LiveState]:
    """Return the state of every open call by its number: no more of each than shows whether it changed."""
    return {row[0]: LiveState._make(row[1:]) for row in _STATES.rows(tx)}
