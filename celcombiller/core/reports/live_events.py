"""What happened to calls in progress between two looks: begun, answered, granted another time, ended. Read only.

A look reads a few columns of each open call; only of what changed it reads more. A call that began and ended between
two looks is seen by its end alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from celcombiller.core.model.calls import CallState
from celcombiller.core.reports.live_calls import find_live_calls, read_live_states
from celcombiller.core.reports.live_views import LiveCallView, view_live_call
from celcombiller.core.reports.views import make_view
from celcombiller.core.schema import driver, tables
from celcombiller.core.voice.call_records import call_from_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.reports.live_calls import LiveState

_call, _payer = tables.call, tables.subscriber
_IDS_AT_ONCE = 500
"""Values in one question: SQLite before 3.32 takes 999 parameters."""
_TIME = "(RFC 3339, UTC)"
NEW_MAX = 5000
"""The most calls that began and ended between two looks of which it is told: after a gap there may be many."""


class LiveEventKind(StrEnum):
    """What happened to a call in progress."""

    BEGIN = "begin"
    ANSWER = "answer"
    GRANT = "grant"
    END = "end"


class LiveGrantView(msgspec.Struct, kw_only=True):
    """A call in progress was answered, or is granted another time."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    answered_at: Annotated[datetime, Meta(tz=True, description=f"when the callee answered {_TIME}; null: rings")] | None
    granted_seconds: Annotated[int, Meta(description="seconds from the answer on that are granted so far")]
    granted_until: (
        Annotated[datetime, Meta(tz=True, description=f"when that time is over {_TIME}; null: not answered yet")] | None
    )


class LiveEndView(msgspec.Struct, kw_only=True):
    """A call has ended."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    reference: Annotated[str, Meta(description="the id of its hold and of its charge in the ledger")]
    username: Annotated[str, Meta(description="the caller, who pays")]
    from_number: Annotated[str, Meta(description="the number of the caller: digits")]
    to_number: Annotated[str, Meta(description="the number that was called")]
    started_at: Annotated[datetime, Meta(tz=True, description=f"when it was authorized {_TIME}")]
    answered_at: Annotated[datetime, Meta(tz=True, description=f"when the callee answered {_TIME}")] | None
    ended_at: Annotated[datetime, Meta(tz=True, description=f"when the talk was over {_TIME}")] | None
    state: Annotated[CallState, Meta(description="settled (answered), released (not answered) or expired")]
    talk_ms: Annotated[int, Meta(description="milliseconds of talk")] | None
    cost: Annotated[int, Meta(description="credits charged")] | None


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """An event, with what staff and the subscriber who pays may see of it."""

    kind: LiveEventKind
    subscriber_id: int
    server: str
    to_staff: LiveCallView | LiveGrantView | LiveEndView
    to_payer: LiveCallView | LiveGrantView | LiveEndView


@dataclass(frozen=True, slots=True)
class LiveLook:
    """The open calls as they were looked at, and the highest number that a call had by then."""

    states: Mapping[int, LiveState]
    last_id: int


def look(tx: Connection, before: LiveLook | None, now: datetime) -> tuple[LiveLook, list[LiveEvent]]:
    """Return the open calls, and what happened since the look ``before``; at the first look nothing has."""
    if before is None:
        last_id = tx.execute(sa.select(sa.func.coalesce(sa.func.max(_call.c.id), 0))).scalar_one()
        return LiveLook(read_live_states(tx), last_id), []
    # The new ones first: each statement may see more than the one before, and what is not open then has ended.
    newest = sa.select(_call.c.id).where(_call.c.id > before.last_id).order_by(_call.c.id.desc()).limit(NEW_MAX)
    ids = list(tx.execute(newest).scalars())
    states = read_live_states(tx)
    begun = sorted(states.keys() - before.states.keys())
    ended = sorted({*before.states, *ids} - states.keys())
    events = [*_begun(tx, begun, now), *_changed(before.states, states), *_ended(tx, ended)]
    return LiveLook(states, max([before.last_id, *ids])), events


def _begun(tx: Connection, ids: Sequence[int], now: datetime) -> Iterator[LiveEvent]:
    for each in find_live_calls(tx, ids, now):
        call = each.call
        views = view_live_call(each), view_live_call(each, to_staff=False)
        yield LiveEvent(LiveEventKind.BEGIN, call.subscriber_id, call.server, *views)
        if call.answered_at is not None:
            view = _view_grant(each.id, call.answered_at, call.granted_seconds)
            yield LiveEvent(LiveEventKind.ANSWER, call.subscriber_id, call.server, view, view)


def _changed(before: Mapping[int, LiveState], states: Mapping[int, LiveState]) -> Iterator[LiveEvent]:
    for call_id, state in states.items():
        was = before.get(call_id)
        if was is None or was == state:
            continue
        answered_at = driver.parse_timestamp(state.answered_at)
        view = _view_grant(call_id, answered_at, state.granted_seconds)
        kind = LiveEventKind.ANSWER if was.answered_at is None is not answered_at else LiveEventKind.GRANT
        yield LiveEvent(kind, state.subscriber_id, state.server, view, view)


def _view_grant(call_id: int, answered_at: datetime | None, granted_seconds: int) -> LiveGrantView:
    until = None if answered_at is None else answered_at + timedelta(seconds=granted_seconds)
    return LiveGrantView(id=call_id, answered_at=answered_at, granted_seconds=granted_seconds, granted_until=until)


def _ended(tx: Connection, ids: Sequence[int]) -> Iterator[LiveEvent]:
    joined = sa.select(_call, _payer.c.username).join(_payer, _payer.c.id == _call.c.subscriber_id)
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = joined.where(_call.c.id.in_(ids[start : start + _IDS_AT_ONCE])).order_by(_call.c.ended_at, _call.c.id)
        rows: Sequence[Any] = tx.execute(some).all()
        for row in rows:
            call = call_from_row(row)
            view = make_view(LiveEndView, call, id=row.id, username=row.username)
            yield LiveEvent(LiveEventKind.END, call.subscriber_id, call.server, view, view)
