"""Recorded calls, data sessions, transfers and holds, in pages, newest first. Read only.

A page begins after the last row of the page before, by a comparison of rows on an index. So the thousandth page of a
million rows costs as much as the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.data.session import DataSession, DataState
from celcombiller.core.data.session_records import session_from_row
from celcombiller.core.errors import NotFound
from celcombiller.core.ledger.statement import StatementLine
from celcombiller.core.model.accounts import ACCOUNT_KINDS, Hold, HoldState
from celcombiller.core.model.calls import Call, CallState
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.schema.expressions import inline_literal, without_index
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.voice.call_records import call_from_row
from celcombiller.core.voice.evidence import WitnessReport

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection, Row

    from celcombiller.core.model.accounts import AccountKind

Place = tuple["datetime", int]
"""The place of a row in a list by time: its time and its number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCriteria:
    """A filter of calls: those that match all given conditions. ``until`` itself is excluded."""

    subscriber_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: CallState | None = None
    server: str | None = None
    number: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call with the number of its row, and the username and the name of the payer."""

    id: int
    username: str
    name: str
    call: Call


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A data session with the number of its row, and the username and the name of the payer."""

    id: int
    username: str
    name: str
    session: DataSession


@dataclass(frozen=True, slots=True)
class RecordedTransfer:
    """A transfer as the subscriber's account shows it: the subscriber, and the line of the statement."""

    subscriber_id: int
    username: str
    name: str
    level: Level
    line: StatementLine


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold of a call in progress: whose credit it is, and the number of the call."""

    username: str
    name: str
    kind: AccountKind
    call_id: int | None
    hold: Hold


# -- calls -----------------------------------------------------------------------------------------------------------


def list_calls(tx: Connection, criteria: CallCriteria, *, limit: int, after: Place | None = None) -> list[RecordedCall]:
    """Return the newest ``limit`` calls that match, or those that follow the place ``after``."""
    table = tables.call
    conditions = _between(table, criteria.since, criteria.until, after)
    if criteria.subscriber_id is not None:
        conditions.append(table.c.subscriber_id == criteria.subscriber_id)
    if criteria.state is not None:
        conditions.append(table.c.state == inline_literal(criteria.state))
    if criteria.server is not None:
        is_narrow = criteria.subscriber_id is not None or criteria.state in (CallState.OPEN, CallState.EXPIRED)
        conditions.append((without_index(table.c.server) if is_narrow else table.c.server) == criteria.server)
    if criteria.number is not None:
        conditions.append(sa.or_(table.c.from_number == criteria.number, table.c.to_number == criteria.number))
    rows = tx.execute(_CALLS.where(*conditions).order_by(table.c.started_at.desc(), table.c.id.desc()).limit(limit))
    return list(map(_recorded_call_from_row, rows))


def find_call(tx: Connection, call_id: int) -> RecordedCall:
    """Return one call, or raise `NotFound`."""
    row = tx.execute(_CALLS.where(tables.call.c.id == call_id)).first()
    if row is None:
        raise NotFound(f"there is no call {call_id}")
    return _recorded_call_from_row(row)


def find_call_by_reference(tx: Connection, reference: str) -> RecordedCall:
    """Return the call of a reference, or raise `NotFound`."""
    row = tx.execute(_CALLS.where(tables.call.c.reference == reference)).first()
    if row is None:
        raise NotFound(f"there is no call {reference}")
    return _recorded_call_from_row(row)


def list_calls_of_channel(tx: Connection, uniqueid: str) -> list[RecordedCall]:
    """Return the billed legs of the channels that have this id on their server, the oldest first."""
    rows = tx.execute(_CALLS.where(tables.call.c.uniqueid == uniqueid).order_by(tables.call.c.id))
    return list(map(_recorded_call_from_row, rows))


def find_trunk_names(tx: Connection, calls: Iterable[Call]) -> dict[int, str]:
    """Return the names of the trunks that calls went by or tried, deleted ones too, by their ids."""
    ids = {each for call in calls if call.trunk_id is not None for each in (call.trunk_id, *call.trunks_tried)}
    if not ids:
        return {}
    table = tables.trunk
    return {row.id: row.name for row in tx.execute(sa.select(table.c.id, table.c.name).where(table.c.id.in_(ids)))}


def find_hold(tx: Connection, reference: str) -> Hold | None:
    """Return the hold of a call, however it ended."""
    row = tx.execute(sa.select(tables.hold).where(tables.hold.c.reference == reference)).first()
    return None if row is None else value_from_row(row, Hold)


def list_witness_reports(tx: Connection, reference: str) -> list[WitnessReport]:
    """Return the reports of a call's end, in the order in which they were received."""
    table = tables.testimony
    rows = tx.execute(sa.select(table).where(table.c.reference == reference).order_by(table.c.at, table.c.witness))
    return [value_from_row(row, WitnessReport) for row in rows]


# -- sessions of data ------------------------------------------------------------------------------------------------


def list_data_sessions(
    tx: Connection,
    *,
    limit: int,
    subscriber_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    state: DataState | None = None,
    nas: str | None = None,
    after: Place | None = None,
) -> list[RecordedSession]:
    """Return the last ``limit`` sessions of data, or those that come ``after`` a place."""
    table = tables.data_session
    conditions = _between(table, since, until, after)
    if subscriber_id is not None:
        conditions.append(table.c.subscriber_id == subscriber_id)
    if state is not None:
        conditions.append(table.c.state == inline_literal(state))
    if nas is not None:
        conditions.append((without_index(table.c.nas) if state is DataState.OPEN else table.c.nas) == nas)
    order = (table.c.started_at.desc(), table.c.id.desc())
    return list(map(_recorded_session_from_row, tx.execute(_SESSIONS.where(*conditions).order_by(*order).limit(limit))))


def find_data_session(tx: Connection, row_id: int) -> RecordedSession:
    """Return one session of data, or raise `NotFound`."""
    row = tx.execute(_SESSIONS.where(tables.data_session.c.id == row_id)).first()
    if row is None:
        raise NotFound(f"there is no session of data {row_id}")
    return _recorded_session_from_row(row)


# -- transfers -------------------------------------------------------------------------------------------------------


def list_transfers(
    tx: Connection,
    *,
    limit: int,
    since: datetime | None = None,
    until: datetime | None = None,
    reference: str | None = None,
    after: Place | None = None,
) -> list[RecordedTransfer]:
    """Return the last ``limit`` transfers, or those that come ``after`` a place."""
    table = tables.transfer
    conditions = _between(table, since, until, after)
    if reference is not None:
        conditions.append(table.c.reference == reference)
    page = sa.select(table).where(*conditions).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit).subquery()
    rows = tx.execute(_from_subscribers_side(page).order_by(page.c.at.desc(), page.c.id.desc()))
    return list(map(_recorded_transfer_from_row, rows))


def find_transfer(tx: Connection, transfer_id: int) -> RecordedTransfer:
    """Return one transfer, or raise `NotFound`."""
    page = sa.select(tables.transfer).where(tables.transfer.c.id == transfer_id).subquery()
    row = tx.execute(_from_subscribers_side(page)).first()
    if row is None:
        raise NotFound(f"there is no transfer {transfer_id}")
    return _recorded_transfer_from_row(row)


def find_transfer_by_reference(tx: Connection, reference: str) -> RecordedTransfer | None:
    """Return the transfer of a reference; ``None`` if there is none."""
    found = list_transfers(tx, limit=1, reference=reference)
    return found[0] if found else None


# -- holds -----------------------------------------------------------------------------------------------------------


def list_open_holds(
    tx: Connection, *, limit: int, subscriber_id: int | None = None, after: tuple[datetime, str] | None = None
) -> list[OpenHold]:
    """Return the newest ``limit`` open holds. There are as many as calls in progress."""
    table, account, subscriber = tables.hold, tables.account, tables.subscriber
    conditions: list[sa.ColumnElement[bool]] = [table.c.state == inline_literal(HoldState.OPEN)]
    if subscriber_id is not None:
        mine = sa.select(account.c.id).where(account.c.subscriber_id == subscriber_id)
        conditions.append(table.c.account_id.in_(mine))
    if after is not None:
        conditions.append(_comes_after(table.c.opened_at, table.c.reference, after))
    rows = tx.execute(
        sa.select(table, subscriber.c.username, subscriber.c.name, account.c.kind, tables.call.c.id.label("call_id"))
        .join(account, account.c.id == table.c.account_id)
        .join(subscriber, subscriber.c.id == account.c.subscriber_id)
        .outerjoin(tables.call, tables.call.c.reference == table.c.reference)
        .where(*conditions)
        .order_by(table.c.opened_at.desc(), table.c.reference.desc())
        .limit(limit)
    )
    return [
        OpenHold(row.username, row.name, ACCOUNT_KINDS[row.kind], row.call_id, value_from_row(row, Hold))
        for row in rows
    ]


# -- conditions and rows ---------------------------------------------------------------------------------------------


def _between(
    table: sa.Table, since: datetime | None, until: datetime | None, after: Place | None
) -> list[sa.ColumnElement[bool]]:
    at = table.c["at" if table is tables.transfer else "started_at"]
    conditions = []
    if since is not None:
        conditions.append(at >= since)
    if until is not None:
        conditions.append(at < until)
    if after is not None:
        conditions.append(_comes_after(at, table.c.id, after))
    return conditions


def _comes_after(at: sa.Column[Any], key: sa.Column[Any], place: tuple[datetime, Any]) -> sa.ColumnElement[bool]:
    """Return a comparison of rows, which an index on (at, key) serves."""
    return sa.tuple_(at, key) < sa.tuple_(sa.literal(place[0], at.type), sa.literal(place[1], key.type))


_CALLS = sa.select(tables.call, tables.subscriber.c.username, tables.subscriber.c.name).join(
    tables.subscriber, tables.subscriber.c.id == tables.call.c.subscriber_id
)


_SESSIONS = sa.select(tables.data_session, tables.subscriber.c.username.label("payer"), tables.subscriber.c.name).join(
    tables.subscriber, tables.subscriber.c.id == tables.data_session.c.subscriber_id
)


def _recorded_session_from_row(row: Row[Any]) -> RecordedSession:
    return RecordedSession(row.id, row.payer, row.name, session_from_row(row))


def _recorded_call_from_row(row: Row[Any]) -> RecordedCall:
    return RecordedCall(row.id, row.username, row.name, call_from_row(row))


def _from_subscribers_side(page: sa.Subquery) -> sa.Select[Any]:
    """Return transfers from the side of the subscriber; the other side is the operator's."""
    account, subscriber = tables.account, tables.subscriber
    is_debit = page.c.debit_account_id.not_in(tables.OPERATOR_ACCOUNT_IDS.values())
    mine = sa.case((is_debit, page.c.debit_account_id), else_=page.c.credit_account_id)
    return (
        sa.select(
            *(page.c[name] for name in ("id", "at", "origin", "reference", "note")),
            sa.case((is_debit, -page.c.amount), else_=page.c.amount).label("value"),
            sa.case((is_debit, page.c.debit_posted), else_=page.c.credit_posted).label("posted"),
            account.c.kind,
            account.c.subscriber_id,
            subscriber.c.username,
            subscriber.c.name,
            subscriber.c.level,
        )
        .join(account, account.c.id == mine)
        .join(subscriber, subscriber.c.id == account.c.subscriber_id)
    )


def _recorded_transfer_from_row(row: Row[Any]) -> RecordedTransfer:
    kind = ACCOUNT_KINDS[row.kind]
    line = StatementLine(row.id, kind, row.at, row.value, row.posted, row.origin, row.reference, row.note)
    return RecordedTransfer(row.subscriber_id, row.username, row.name, Level(row.level), line)
