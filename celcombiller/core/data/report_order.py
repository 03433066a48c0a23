"""Which session an accounting report belongs to, and what its counters mean. Pure.

Reports come twice, late, in another order or not at all, and a NAS uses the ids of its sessions again. So a lower
counter may be a repeat, a 32-bit counter that wrapped, or another session. The times decide: the Event-Timestamp (the
NAS's clock, in whole seconds), else the arrival less the Acct-Delay-Time (our clock), and the Acct-Session-Time, which
gives the beginning of the session that a report belongs to. Sessions with one id follow one another.

Where the times leave a doubt, the reading that charges less is taken. docs/how-to/data-by-radius.md states the rules.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

from celcombiller.core.data.accounting_reports import AcctStatusType
from celcombiller.core.data.session import BEGINNING_UNKNOWN, Closing, DataState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from celcombiller.core.data.accounting_reports import Usage
    from celcombiller.core.data.session import DataSession

REORDERED = timedelta(seconds=30)
"""How late a report without an Event-Timestamp may come, beyond what its Acct-Delay-Time says."""

ROUNDING = timedelta(seconds=5)
"""How much the beginnings that a NAS's reports of one session give may differ: both of its times are rounded."""

COUNTER = 2**32
"""The numbers of a 32-bit counter (RFC 2866, 5.3)."""

PACKET_OCTETS = 1500
"""The octets of the largest usual packet, the MTU of Ethernet."""


class Relation(Enum):
    """How a report stands to a session: of an earlier one, of this one, of a later one."""

    EARLIER = 1
    SAME = 2
    LATER = 3


def place_report(sessions: Sequence[DataSession], usage: Usage, now: datetime) -> tuple[Relation, DataSession]:
    """Return how a report that comes now stands to one of these sessions of its id, the oldest of which is the first.

    ``SAME``: it belongs to that session. ``LATER``: it begins another after that one, which is the last. ``EARLIER``:
    it belongs to none of them, but to one that is not known.
    """
    last = sessions[-1]
    for session in reversed(sessions[:-1]):
        if _is_exact_repeat(session, usage) and not _is_exact_repeat(last, usage):
            return Relation.SAME, session
    for session in reversed(sessions):
        relation = _place_start(session, usage) if _is_start(usage) else _place_update(session, usage)
        if relation is Relation.LATER and session is not last:
            break
        if relation is not Relation.EARLIER:
            return relation, session
    return (Relation.SAME if _may_continue(last, usage, now) else Relation.EARLIER), last


def count_octets(session: DataSession, usage: Usage) -> tuple[int, int]:
    """Return the octets in and out that a report of this session says, with those of counters that wrapped."""
    if not (usage.wraps and is_newer(session, usage)):
        return usage.octets_in, usage.octets_out
    return (
        _unwrap(session.octets_in, usage.octets_in, _possible_octets(session.packets_in, usage.packets_in)),
        _unwrap(session.octets_out, usage.octets_out, _possible_octets(session.packets_out, usage.packets_out)),
    )


def is_newer(session: DataSession, usage: Usage) -> bool:
    """Return whether a report of this session was certainly made after all reports that came before."""
    if usage.dated_at is not None and session.dated_at is not None:
        return usage.dated_at > session.dated_at
    if usage.session_seconds is not None and session.session_seconds is not None:
        return usage.session_seconds > session.session_seconds
    return session.reported_at is not None and usage.at > session.reported_at + REORDERED


def _unwrap(known: int, counter: int, possible: int) -> int:
    """Return the total that a newer counter of 32 bits means, if at most so many octets are ``possible`` since.

    A counter that goes back and cannot have counted so much is one that a NAS set back.
    """
    more = (counter - known) % COUNTER
    return known + more if counter < known and more <= possible else counter


def _possible_octets(known: int | None, packets: int | None) -> int:
    """Return how many octets a counter can have counted since, by the packets, counters of 32 bits as well.

    Without packets it is less than half of its numbers: that is serial number arithmetic (RFC 1982).
    """
    if known is None or packets is None:
        return COUNTER // 2 - 1
    more = (packets - known) % COUNTER
    return more * PACKET_OCTETS if more < COUNTER // 2 else 0


def _is_start(usage: Usage) -> bool:
    return usage.status_type is AcctStatusType.START


def _has_known_beginning(session: DataSession) -> bool:
    return BEGINNING_UNKNOWN not in session.note


def _has_plausible_age(session: DataSession) -> bool:
    """Return whether the age that was reported is that by our clock; otherwise a report of another may be in it."""
    age = timedelta(seconds=session.session_seconds or 0)
    return session.reported_at is None or abs(session.reported_at - session.started_at - age) <= REORDERED


def _last_report_at(session: DataSession) -> datetime:
    known = [each for each in (session.ended_at, session.reported_at) if each is not None]
    return max(known, default=session.heard_at)


def _is_exact_repeat(session: DataSession, usage: Usage) -> bool:
    """Return whether an undated report has the counters of the session's newest report: then it is that one again."""
    return (
        (usage.dated_at is None or session.dated_at is None)
        and usage.octets > 0
        and (usage.octets_in, usage.octets_out) == (session.octets_in, session.octets_out)
        and usage.session_seconds in (None, session.session_seconds)
        and usage.at <= _last_report_at(session) + REORDERED
    )


def began_together(session: DataSession, usage: Usage) -> bool:
    """Return whether a report's session began with this one by our clock: it does not matter how the NAS's is set."""
    return abs(usage.started_at - session.started_at) <= REORDERED


def _may_continue(session: DataSession, usage: Usage, now: datetime) -> bool:
    """Return whether a report of an earlier time goes on with this session all the same.

    Either a clock was set back, the NAS's or ours. Or the session's Start came late, without an Acct-Delay-Time: then
    the report was made after that arrival, though its age says that the session began long before.
    """
    if usage.dated_at is not None and session.dated_at is not None:
        if not began_together(session, usage):
            return False
    elif now >= session.heard_at and usage.at < session.started_at - REORDERED:
        return False
    return usage.octets >= session.octets and (usage.session_seconds or 0) >= (session.session_seconds or 0)


# -- a Start ---------------------------------------------------------------------------------------------------------


def _place_start(session: DataSession, usage: Usage) -> Relation:
    if usage.dated_at is not None and session.dated_at is not None:
        return _place_dated_start(session, session.dated_at, usage.dated_at)
    ended_at = _last_report_at(session)
    if session.state is DataState.CLOSED and session.closed_by is not Closing.STOP:
        return Relation.LATER if usage.at > ended_at else Relation.SAME
    known = _has_known_beginning(session)
    repeated_until = (session.started_at if known else ended_at) + REORDERED
    if usage.at > repeated_until and usage.at >= ended_at:
        return Relation.LATER
    return Relation.EARLIER if known and usage.at < session.started_at - REORDERED else Relation.SAME


def _place_dated_start(session: DataSession, known_until: datetime, dated_at: datetime) -> Relation:
    """Place a Start by the NAS's clock. A repeat has the date of the first one, or comes soon after it."""
    began_at = session.began_at
    is_over = dated_at > known_until
    if session.state is DataState.OPEN and session.octets == 0 and began_at is not None:
        is_over = dated_at > max(known_until, began_at + REORDERED)
    if dated_at == known_until:
        # Dates are whole seconds. A session closed by a restart has the restart's date, but is older than it.
        restarted = session.closed_by is Closing.RESTART
        stopped = session.closed_by is Closing.STOP and _has_known_beginning(session)
        is_over = restarted or (stopped and began_at is not None and dated_at > began_at)
    if is_over:
        return Relation.LATER
    return Relation.EARLIER if began_at is not None and dated_at < began_at - ROUNDING else Relation.SAME


# -- an Interim-Update or a Stop -------------------------------------------------------------------------------------


def _place_update(session: DataSession, usage: Usage) -> Relation:
    if usage.dated_at is not None and session.dated_at is not None:
        return _place_dated_update(session, session.dated_at, usage.dated_at, usage)
    are_aged = usage.session_seconds is not None and session.session_seconds is not None
    if usage.started_at < session.started_at - REORDERED and (are_aged or _has_known_beginning(session)):
        return Relation.EARLIER
    is_after = _has_plausible_age(session) and usage.started_at >= _last_report_at(session) - ROUNDING
    is_later = are_aged and is_after and _contradicts(session, usage, is_dated=False)
    return Relation.LATER if is_later else Relation.SAME


def _place_dated_update(session: DataSession, known_until: datetime, dated_at: datetime, usage: Usage) -> Relation:
    """Place an update by the NAS's clock: by when its session began, else by its own date."""
    known, began_at = session.began_at, usage.began_at or dated_at
    if known is None or abs(began_at - known) <= ROUNDING:
        return Relation.SAME
    if began_at < known:
        return Relation.EARLIER
    is_after = usage.began_at is not None and began_at >= known_until - ROUNDING
    if session.state is DataState.OPEN and began_together(session, usage):
        return Relation.SAME
    return Relation.LATER if is_after and _contradicts(session, usage, is_dated=True) else Relation.SAME


def _contradicts(session: DataSession, usage: Usage, *, is_dated: bool) -> bool:
    """Return whether a report whose own beginning is after this session's reports cannot be of this session.

    The NAS's clock may have been set, and without dates a report may be late: then it still fits the session.
    """
    octets, seconds = usage.octets, usage.session_seconds or 0
    known_octets, known_seconds = session.octets, session.session_seconds or 0
    if session.closed_by is Closing.STOP:
        if (octets, seconds) == (known_octets, known_seconds):
            return False
        return is_dated or not (seconds < known_seconds and octets <= known_octets)
    if is_dated:
        return octets < known_octets or seconds < known_seconds
    return octets < known_octets and seconds >= known_seconds
