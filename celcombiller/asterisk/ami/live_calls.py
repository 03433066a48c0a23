"""The calls in progress on one Asterisk server, and what AMI events say of them.

Pure: no Twisted, no clock, no database. An event is only text, so it is believed of a call only if its uniqueid and its
channel are both the ones that are known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cachetools import FIFOCache

from celcombiller.core.model.calls import RenewalReason
from celcombiller.runtime.timers.clock_steps import STEP_LEAST

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from celcombiller.core.model.calls import Call


MISSED = 3
"""So many calls in a row without an event that came before: one may end in a way that has none."""


ENDS_MAX = 4096
"""The ends of channels that are kept, of which no call is known here: it may be one of another biller that died."""

LEFT_LEAST_SECONDS = 0.1
"""0 would be no limit."""

_AT_ONCE = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class LiveCall:
    """What is known of a call in progress."""

    call: Call
    in_session: bool
    """Its AGI session is in this process, and will report its end."""
    watched_at: float | None = None
    """When this process began to watch it, in seconds of the monotonic clock; None: another process began it."""
    answered_at: datetime | None = None
    clock_step: timedelta = timedelta()
    """The steps of Asterisk's clock up to the answer."""
    is_unmeasured: bool = False
    """Its answer was heard before Asterisk's clock was measured on this connection: it is of the clock as it is now."""
    off_by: timedelta = timedelta()
    """How far its answer's Timestamp was from the time of its arrival, where Asterisk's clock may have been set; see
    `LiveCalls.doubt`."""
    callee: str = ""
    """The uniqueid of the channel that answered."""
    talk_ended_at: datetime | None = None
    transferred: bool = False
    handed_on: bool = False
    """Its caller left the callee's leg to others, by an attended transfer or in a parking lot: the leg goes on."""
    closed: bool = False
    """Settled: what AMI says of its end is a confirmation."""
    compared: bool = False
    """It was in the ledger before the next list of channels is asked for."""
    missing: int = 0
    """The lists of channels in a row that did not have it."""
    seen_at: datetime | None = None
    """When it was last on a list."""
    listed: bool = False
    """A list of this connection had it."""
    elsewhere: bool = False
    """Begun by another biller, or by this one before it was started again."""
    hung_up_at: datetime | None = None
    cause: str = ""
    gave_up_at: datetime | None = None
    """When its caller hung up, if the biller stood still then: the channel ends only when the biller goes on."""
    linked: bool = False
    """The link has been up since before it was dialled, so all its events should have come."""
    dialled: bool = False
    """A DialEnd of it was heard."""
    talked: bool = False
    """Another witness reported talk."""
    callee_channel: str = ""
    """The name of the channel that answered; empty: not known, or the call was moved since."""
    look_at: datetime = _AT_ONCE
    """When its grant is looked at next, by Asterisk's clock."""
    reason: RenewalReason = RenewalReason.RENEWAL
    """Why."""
    is_updating: bool = False
    """The ledger is being asked about it."""
    is_final: bool = False
    """When the ledger was last asked, no more could be granted."""
    limit_seconds: int = 0
    """The limit that its channels have, in seconds since the answer; 0: not known."""
    warned_seconds: int | None = None
    """How long before the end of its grant its caller was last warned."""

    def look_now(self, reason: RenewalReason) -> None:
        """Have its grant looked at for this reason, at once."""
        self.look_at, self.reason = _AT_ONCE, reason

    def move_times(self, step: timedelta) -> None:
        """Move the times at which it was seen by a step of Asterisk's clock, to what the clock would have said."""
        self.seen_at, self.talk_ended_at, self.hung_up_at, self.gave_up_at = (
            None if at is None else at + step
            for at in (self.seen_at, self.talk_ended_at, self.hung_up_at, self.gave_up_at)
        )

    def earliest_end(self, at: datetime) -> datetime:
        """Return when it ended, if its channel ended at ``at``."""
        return at if self.gave_up_at is None else min(at, self.gave_up_at)

    def remaining_seconds(self, now: datetime) -> float:
        """Return the granted seconds that are left since the answer: more than none, for that would be no limit."""
        elapsed = 0.0 if self.answered_at is None else (now - self.answered_at).total_seconds()
        return max(LEFT_LEAST_SECONDS, self.call.granted_seconds - max(0.0, elapsed))

    def alive_until(self, link_lost_at: datetime | None, answered_at: datetime | None) -> datetime:
        """Return when it was last known to be alive: at its Hangup, on a list, or when the link was lost.

        All by Asterisk's clock. Where nothing else is known, it is at its answer; or when it began, by the biller's.
        """
        known = [each for each in (self.hung_up_at, self.seen_at, link_lost_at) if each is not None]
        return max(known, default=answered_at or self.call.started_at)


class Hearing:
    """Which events of calls come through on a connection, by those that should have come."""

    def __init__(self) -> None:
        self._heard: set[str] = set()
        self._missed: Counter[str] = Counter()

    def hear(self, event: str) -> None:
        """Note an event that came."""
        self._heard.add(event)
        del self._missed[event]

    def miss(self, event: str) -> None:
        """Note that an event of a call did not come."""
        self._missed[event] += 1

    @property
    def unheard(self) -> list[str]:
        """The events that rights or a filter keep back. Of those that came before, some in a row must be missing."""
        return sorted(name for name, count in self._missed.items() if count >= (MISSED if name in self._heard else 1))


class _ChannelEnd(NamedTuple):
    """A Hangup of a channel, by Asterisk's clock as it was then: as the answer is in the ledger."""

    channel: str
    at: datetime
    cause: str


class LiveCalls:
    """The calls in progress, by the uniqueid of the caller's channel."""

    def __init__(self) -> None:
        self._calls: dict[str, LiveCall] = {}
        self._callees: dict[str, LiveCall] = {}
        self._other_ends: FIFOCache[str, _ChannelEnd] = FIFOCache(ENDS_MAX)
        self._in_doubt: dict[str, LiveCall] = {}
        self.hearing = Hearing()

    def __iter__(self) -> Iterator[LiveCall]:
        return iter(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)

    def find(self, uniqueid: str) -> LiveCall | None:
        """Return the call of a channel."""
        return self._calls.get(uniqueid)

    @property
    def missing_count(self) -> int:
        """Return how many open calls the last list of channels did not have."""
        return sum(not live.closed and live.missing > 0 for live in self)

    def watch(self, call: Call, *, linked: bool, at: float) -> None:
        """Add a call that is about to be dialled; ``linked``: the link is up. ``at``: as `LiveCall.watched_at`."""
        live = LiveCall(call, in_session=True, watched_at=at, linked=linked, limit_seconds=call.granted_seconds)
        self._calls[call.uniqueid] = live

    def lose_link(self) -> None:
        """Expect no events of the calls that are in progress: some may be missed from now on."""
        for live in self:
            live.linked = live.listed = False

    def add_open(self, call: Call, clock_step: timedelta) -> None:
        """Add an open call that this process did not begin, or began before it was started again; follow its grant."""
        live = self._calls.get(call.uniqueid)
        if live is None or live.call.leg < call.leg:
            live = LiveCall(call, in_session=False, answered_at=call.answered_at, clock_step=clock_step, elsewhere=True)
            live.limit_seconds = call.granted_seconds
            self._calls[call.uniqueid] = live
        elif live.call.granted_seconds != call.granted_seconds and not live.is_updating:
            # Another biller changed its grant, and moved its limit.
            live.call, live.limit_seconds, live.is_final = call, call.granted_seconds, False
            live.look_now(RenewalReason.RENEWAL)

    def take_step(self, step: timedelta, total: timedelta) -> None:
        """Follow a step of Asterisk's clock: limits are moments of it, and some answers were stamped beyond it."""
        for live in self:
            live.limit_seconds = 0
            live.look_now(live.reason)
            live.move_times(step)
            if live.answered_at is not None and live.off_by and abs(live.off_by - step) < STEP_LEAST:
                live.answered_at += live.off_by
                live.clock_step = total
        self.settle_doubts()

    def doubt(self, live: LiveCall, off_by: timedelta) -> None:
        """Keep how far the Timestamp of an answer was off, until Asterisk's clock is measured next."""
        live.off_by = off_by
        if off_by:
            self._in_doubt[live.call.uniqueid] = live

    def settle_doubts(self) -> None:
        """Follow a measurement that shows no step: a Timestamp that was off was wrong.

        This comes with the end of every call, so it must not look at all that go on.
        """
        for live in self._in_doubt.values():
            live.off_by = timedelta()
        self._in_doubt.clear()

    def take_measurement(self, total: timedelta) -> None:
        """Follow the first measurement of Asterisk's clock on a connection: it showed the steps before some answers."""
        for live in self:
            if live.is_unmeasured:
                live.clock_step, live.is_unmeasured = total, False

    def forget(self, uniqueid: str) -> None:
        """Remove a call."""
        live = self._calls.pop(uniqueid, None)
        if live is None:
            return
        self._callees.pop(live.callee, None)
        self._in_doubt.pop(uniqueid, None)
        if live.linked and live.closed and live.talked and not live.dialled:
            self.hearing.miss("DialEnd")

    def forget_ended(self, alive: Container[str], still_open: Container[str]) -> None:
        """Remove the calls without a channel that are closed, or that another biller has closed.

        The Hangup of a call that was closed here is waited for until the second list without it.
        """
        for uniqueid, live in list(self._calls.items()):
            is_closed = live.closed or (live.elsewhere and live.call.reference not in still_open)
            if not is_closed or uniqueid in alive:
                continue
            if live.linked and live.hung_up_at is None:
                live.missing += 1
                if live.missing == 1:
                    continue
                self.hearing.miss("Hangup")
            self.forget(uniqueid)

    # -- events: the keys are in lower case, as our client and starpy give them -------------------------------------

    def find_by_event(self, event: Mapping[str, str]) -> LiveCall | None:
        """Return the call that an event speaks of."""
        live = self._calls.get(event.get("uniqueid", ""))
        return live if live is not None and live.call.channel == event.get("channel") else None

    def begin_dial(self, event: Mapping[str, str]) -> None:
        """Apply a DialBegin: the dialplan's next Dial on a channel makes what was known of the last one void.

        Not so where the caller was transferred into that Dial: it is the same call, and its limit counts on.
        """
        live = self.find_by_event(event)
        if live is not None and live.talk_ended_at is not None and not live.transferred:
            self._callees.pop(live.callee, None)
            live.callee, live.answered_at, live.talk_ended_at = "", None, None

    def answer(self, event: Mapping[str, str], at: datetime) -> LiveCall | None:
        """Apply a DialEnd of this time, and return the call if this is its answer."""
        live = self.find_by_event(event)
        if live is not None:
            live.dialled = True
            self.hearing.hear("DialEnd")
        if live is None or event.get("dialstatus") != "ANSWER" or live.answered_at is not None or live.closed:
            return None
        live.answered_at = live.look_at = at
        live.callee, live.callee_channel = event.get("destuniqueid", ""), event.get("destchannel", "")
        self._callees[live.callee] = live
        return live

    def move(self, event: Mapping[str, str]) -> None:
        """Apply a transfer: a call whose sides change has not ended when its first callee leaves."""
        for value in event.values():
            live = self._calls.get(value) or self._callees.get(value)
            if live is not None:
                live.transferred, live.talk_ended_at, live.callee_channel = True, None, ""

        handed_on = self._find_handed_on(event)
        if handed_on is not None:
            handed_on.handed_on = True

    def _find_handed_on(self, event: Mapping[str, str]) -> LiveCall | None:
        """Return the call whose caller leaves its callee's leg to others by what this event tells.

        Of two calls of one phone the second goes on, which was made to ask first. Asterisk's own feature does the whole
        transfer on one channel, and its second call is one of a Local channel, which stays.
        """
        if event.get("event") == "ParkedCall":
            return self._callees.get(event.get("parkeeuniqueid", ""))
        first, second = (event.get(f"{place}transfereruniqueid", "") for place in ("orig", "second"))
        return None if first == second else self._calls.get(second) or self._calls.get(first)

    def go_on(self, call: Call, at: datetime) -> LiveCall:
        """Add the call that a leg is which outlived the call that it was dialled by."""
        live = LiveCall(call, in_session=False, answered_at=at, linked=True, dialled=True)
        live.limit_seconds = call.granted_seconds
        self._calls[call.uniqueid] = live
        return live

    def give_up(self, event: Mapping[str, str], at: datetime) -> None:
        """Apply a HangupRequest that was heard late."""
        live = self.find_by_event(event)
        if live is not None and live.gave_up_at is None:
            live.gave_up_at = at

    def hang_up(self, event: Mapping[str, str], at: datetime) -> LiveCall | None:
        """Apply a Hangup of a caller or a callee at this time, and return the call if it is the caller's."""
        callee_of = self._callees.get(event.get("uniqueid", ""))
        if callee_of is not None and not callee_of.transferred and callee_of.talk_ended_at is None:
            callee_of.talk_ended_at = at
        live = self.find_by_event(event)
        if live is not None:
            live.hung_up_at, live.cause = live.earliest_end(at), event.get("cause", "")
            self.hearing.hear("Hangup")
        elif callee_of is None:
            uniqueid, channel, cause = (event.get(name, "") for name in ("uniqueid", "channel", "cause"))
            self._other_ends[uniqueid] = _ChannelEnd(channel, at, cause)
        return live

    def recall_end(self, live: LiveCall) -> None:
        """Apply the Hangup of a call that is gone, if it came before the call was known here."""
        end = self._other_ends.get(live.call.uniqueid)
        if end is not None and live.hung_up_at is None and end.channel == live.call.channel:
            live.hung_up_at, live.cause = end.at, end.cause
