"""The differences between the records of a channel and the calls of the ledger on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from celcombiller.core.model.calls import CallState
from celcombiller.core.voice.evidence import CLOCKS_APART, is_of_talk, is_weakly_closed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from celcombiller.core.model.calls import Call
    from celcombiller.core.reconciliation.cdr import ChannelCdr, Talk


class DifferenceKind(StrEnum):
    """What differs. ``missing``: Asterisk has a talk that no call of the ledger is charged for.

    ``open``: the ledger has the call open, and Asterisk says that it is over. ``duration``: both have it, with another
    duration. ``no_cdr``: the ledger has charged a call that Asterisk has no record of.
    """

    MISSING = "missing"
    OPEN = "open"
    DURATION = "duration"
    NO_CDR = "no_cdr"


@dataclass(frozen=True, slots=True)
class CallDifference:
    """A difference of one talk or call. ``cdr_ms`` and ``ledger_ms`` are the talk; ``None``: there is no such thing.

    ``reference`` is the call that it is about, with its ``leg``. ``answered_at`` is the answer that a settlement would
    charge from: of an open call the one that a witness saw, if there is one. ``ended_at``: when Asterisk says that it
    was over.
    """

    kind: DifferenceKind
    uniqueid: str
    channel: str
    context: str
    account_code: str
    from_number: str
    to_number: str
    place: int | None
    started_at: datetime
    ended_at: datetime | None
    cdr_ms: int | None
    ledger_ms: int | None
    reference: str | None = None
    leg: int | None = None
    answered_at: datetime | None = None

    @property
    def can_be_settled(self) -> bool:
        """Whether a settlement can mend it."""
        return self.kind in (DifferenceKind.MISSING, DifferenceKind.OPEN)


def compare_channel(cdr: ChannelCdr, legs: Sequence[Call], tolerance: timedelta) -> list[CallDifference]:
    """Return what differs between the records of a channel and its legs in the ledger, by more than ``tolerance``.

    A talk belongs to the leg whose time it meets. Where it meets none of the legs that there are, the clocks of
    Asterisk and of the biller differ, and it is no missing call. A leg that its own channel reported as not answered
    stays so: a CDR does not overrule a witness.
    """
    if not cdr.is_whole:
        return []
    of_leg: dict[int, list[Talk]] = {each.leg: [] for each in legs}
    unknown: list[Talk] = []
    ordered = sorted(legs, key=_doubt)
    for talk in cdr.talks:
        leg = next((each for each in ordered if is_of_talk(each, talk.answered_at, talk.ended_at)), None)
        (unknown if leg is None else of_leg[leg.leg]).append(talk)
    clocks_differ = bool(legs) and len(unknown) == len(cdr.talks)
    is_open = [leg for leg in legs if leg.state is CallState.OPEN]
    if clocks_differ and is_open:
        of_leg[is_open[-1].leg], unknown = unknown, []
    found = [] if clocks_differ else [_missing(cdr, talk) for talk in unknown]
    closed: list[Call] = []
    for leg in legs:
        talks = of_leg[leg.leg]
        if leg.state is CallState.OPEN:
            if cdr.ended_at >= leg.started_at or talks:
                found.append(_open(cdr, leg, talks))
        elif is_weakly_closed(leg):
            found.extend(_missing(cdr, talk, leg) for talk in talks)
        else:
            closed.append(leg)
    talks = [talk for leg in closed for talk in of_leg[leg.leg]] + (unknown if clocks_differ else [])
    found.extend(_durations(cdr, closed, talks, tolerance))
    return found


def _doubt(leg: Call) -> int:
    """Return how doubtful it is that a leg has a talk: the least first."""
    if leg.state is CallState.SETTLED:
        return 0
    if leg.state is CallState.OPEN:
        return 1
    return 2 if is_weakly_closed(leg) else 3


def _durations(
    cdr: ChannelCdr, closed: Sequence[Call], talks: Sequence[Talk], tolerance: timedelta
) -> Iterable[CallDifference]:
    """Yield the difference of what was charged on a channel, all its dials together.

    Where the caller's channel was up before a Dial, its CDR includes the ringing and the prompts. Then only the ends
    can be compared, and the CDR is the most that can be right.
    """
    if not closed:
        return
    cdr_ms, ledger_ms = sum(talk.talk_ms for talk in talks), sum(leg.talk_ms or 0 for leg in closed)
    most = tolerance.total_seconds() * 1000
    differs = abs(cdr_ms - ledger_ms) > most
    if talks and any(leg.answered_early for leg in closed):
        ends = [leg.ended_at for leg in closed if leg.ended_at is not None and leg.talk_ms]
        differs = ledger_ms - cdr_ms > most
        if ends and not differs:
            differs = abs(max(ends) - max(talk.ended_at for talk in talks)) > tolerance
    if differs:
        first = closed[0]
        yield CallDifference(
            DifferenceKind.DURATION,
            *(cdr.uniqueid, cdr.channel, cdr.context, cdr.account_code, first.from_number, first.to_number),
            place=cdr.place,
            started_at=first.started_at,
            ended_at=cdr.ended_at,
            cdr_ms=cdr_ms,
            ledger_ms=ledger_ms,
            reference=first.reference,
            leg=first.leg,
        )


def _missing(cdr: ChannelCdr, talk: Talk, leg: Call | None = None) -> CallDifference:
    return CallDifference(
        DifferenceKind.MISSING,
        *(cdr.uniqueid, cdr.channel, cdr.context, cdr.account_code, cdr.caller, talk.number),
        place=cdr.place,
        started_at=talk.answered_at,
        ended_at=talk.ended_at,
        cdr_ms=talk.talk_ms,
        ledger_ms=None if leg is None else 0,
        reference=None if leg is None else leg.reference,
        leg=None if leg is None else leg.leg,
        answered_at=talk.answered_at,
    )


def _open(cdr: ChannelCdr, leg: Call, talks: Sequence[Talk]) -> CallDifference:
    ended_at = max((talk.ended_at for talk in talks), default=cdr.ended_at)
    answered_at = leg.answered_at or (talks[0].answered_at if talks else None)
    if answered_at is not None and leg.answered_early:  # the CDR counts from the answer of the caller's channel
        answered_at = max(answered_at, leg.started_at)
    elif answered_at is not None and talks and abs(answered_at - talks[0].answered_at) <= CLOCKS_APART:
        # One answer, which the CDR has in whole seconds by Asterisk's clock. The talk is as long as the CDR says.
        ended_at += answered_at - talks[0].answered_at
    return CallDifference(
        DifferenceKind.OPEN,
        *(cdr.uniqueid, cdr.channel, cdr.context, cdr.account_code, leg.from_number, leg.to_number),
        place=cdr.place,
        started_at=leg.started_at,
        ended_at=ended_at,
        cdr_ms=sum(talk.talk_ms for talk in talks),
        ledger_ms=None,
        reference=leg.reference,
        leg=leg.leg,
        answered_at=answered_at,
    )


def without_cdr(call: Call) -> CallDifference:
    """Return the difference of a call that was charged, and that Asterisk has no record of."""
    return CallDifference(
        DifferenceKind.NO_CDR,
        *(call.uniqueid, call.channel, "", "", call.from_number, call.to_number),
        place=None,
        started_at=call.started_at,
        ended_at=call.ended_at,
        cdr_ms=None,
        ledger_ms=call.talk_ms,
        reference=call.reference,
        leg=call.leg,
    )
