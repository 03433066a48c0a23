"""Talk time, from what witnesses report of a call's end. Pure."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
from msgspec import structs

from celcombiller.core.model.calls import Call, CallReport, CallState, Witness

DISCREPANCY_MS = 1000
"""Two witnesses of one call that differ by more than this are recorded as a discrepancy."""


def talk_ms(call: Call, ending: CallReport) -> int:
    """Return the milliseconds from the callee's answer to the end of the talk, by the best evidence there is.

    ANSWEREDTIME_MS is exact when the caller's channel was not up before the Dial. Else it includes the ringing (it
    counts from the answer of the caller's channel), and after a transfer it is empty. Then our own stamp of the
    callee's answer counts, else the one from AMI. The upper limits are ANSWEREDTIME_MS and how long the Dial lasted.
    Where none of them is known, the talk began with the call, by the biller's clock, and was cut at its grant.
    """
    if not ending.answered:
        return 0
    limits = [each for each in (ending.talk_ms, ending.lasted_ms) if each is not None]
    if ending.talk_ms is None or call.answered_early:
        answered_at = ending.answered_at or call.answered_at
        if answered_at is not None and (answered_at <= ending.at or not limits):
            limits.append(milliseconds(answered_at, ending.at))
    return min(limits or [milliseconds(call.started_at, ending.at_biller), call.granted_seconds * 1000])


CLOCKS_APART = timedelta(seconds=2)
"""How far the times of a CDR and of a witness of the same talk may be apart: CDRs have whole seconds."""


def is_of_talk(call: Call, answered_at: datetime, ended_at: datetime) -> bool:
    """Return whether a talk at this time, by Asterisk's CDR, is the talk of a call on the same channel.

    They share at least half of the shorter one. A call that is open, or was given up, may have lasted for ever.
    """
    has_end = call.ended_at is not None and not is_weakly_closed(call)
    call_ended_at = call.ended_at if call.ended_at is not None and has_end else max(ended_at, call.started_at)
    shared = min(ended_at, call_ended_at) - max(answered_at, call.started_at)
    shorter = min(ended_at - answered_at, call_ended_at - (call.answered_at or call.started_at))
    if shorter <= CLOCKS_APART:
        return shared >= -CLOCKS_APART
    return shared * 2 >= shorter


def is_weakly_closed(call: Call) -> bool:
    """Return whether a call was closed without a charge by no witness: a CDR that has a talk knows better."""
    if call.state is CallState.EXPIRED:
        return True
    return call.state is CallState.RELEASED and call.witness is Witness.SWEEP


class Limited(Protocol):
    """A call as far as an estimate needs it: when it began, and the seconds that it may talk."""

    @property
    def started_at(self) -> datetime: ...  # noqa: D102
    @property
    def granted_seconds(self) -> int: ...  # noqa: D102


def estimated_report(
    call: Limited,
    answered_at: datetime | None,
    alive_until: datetime,
    *,
    answers_are_heard: bool = True,
    ahead: timedelta = timedelta(),
) -> CallReport:
    """Return a report of a call without witness: it talked while it was known to be alive, at most its grant.

    Where the answers of calls are not heard, silence is no evidence: the call counts as answered when it began.
    ``ahead``: by how much the clock of the other times is ahead of the biller's, by which it began.
    """
    note = f"nobody told of its end; it was alive until {alive_until:%Y-%m-%d %H:%M:%S} UTC"
    if answered_at is None and not answers_are_heard:
        note += "; its server's AMI link does not hear answers, so all of that time counts as talk"
        answered_at = call.started_at + ahead
    if answered_at is None:
        return CallReport(answered=False, at=alive_until, outcome="gone", note=note)
    cut_at = answered_at + timedelta(seconds=call.granted_seconds)
    at = min(max(alive_until, answered_at), cut_at)
    return CallReport(answered=True, at=at, answered_at=answered_at, outcome="gone", note=note)


FIT = timedelta(seconds=2)
"""Tolerance when a talk is compared with the time since its call began."""


def take_out_step(report: CallReport, step: timedelta, lasted: timedelta | None) -> CallReport:
    """Return a report without what the clock was set by since the answer was heard.

    It stays as it is if the talk fits into the time since its call began only so: then the clock was set before the
    answer, and that was noticed after it. ``lasted`` is that time; ``None`` if it is not known.
    """
    talk = _stated_talk(report)
    if talk is not None and _fits(talk, lasted) and not _fits(talk - step, lasted):
        return report
    return without_step(report, step)


def limit_talk(report: CallReport, lasted: timedelta | None) -> CallReport:
    """Return a report whose talk is at most the time since its call began; ``None``: that time is not known."""
    talk = _stated_talk(report)
    if not report.answered or lasted is None or (talk is not None and talk <= lasted + FIT):
        return report
    lasted_ms = math.ceil(lasted / timedelta(milliseconds=1))
    return structs.replace(report, lasted_ms=min(lasted_ms, report.lasted_ms or lasted_ms))


def _stated_talk(report: CallReport) -> timedelta | None:
    """Return the talk that a report states; it is negative where clocks put the end before the answer."""
    if report.talk_ms is not None:
        return timedelta(milliseconds=report.talk_ms)
    return None if report.answered_at is None else report.at - report.answered_at


def _fits(talk: timedelta, lasted: timedelta | None) -> bool:
    return talk >= -FIT and (lasted is None or talk <= lasted + FIT)


def without_step(report: CallReport, step: timedelta) -> CallReport:
    """Return a report without a step that the clock made during the talk, forward or back."""
    talk = None if report.talk_ms is None else max(0, report.talk_ms - step // timedelta(milliseconds=1))
    answered_at = None if report.answered_at is None else report.answered_at + step
    return structs.replace(report, talk_ms=talk, answered_at=answered_at)


def milliseconds(start: datetime, end: datetime) -> int:
    """Return the whole milliseconds from start to end; 0 when a clock step put the end before the start."""
    elapsed = end - start
    return max(0, elapsed.days * 86_400_000 + elapsed.seconds * 1000 + elapsed.microseconds // 1000)


class WitnessReport(msgspec.Struct, frozen=True):
    """A witness's report of a call, recorded as it came."""

    reference: str
    witness: Witness
    at: datetime
    answered: bool
    talk_ms: int | None
    outcome: str
    difference_ms: int | None
    discrepancy: bool
    note: str
