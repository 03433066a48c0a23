"""The calls in progress on one Asterisk server, and what AMI events say of them.

Pure: no Twisted, no clock, no database. An event is only text, so it is believed of a call only if its uniqueid and its
channel are both the ones that are known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from datetime import datetime

    from celcombiller.core.model.calls import Call


MISSED = 3
"""So many calls in a row without an event that came before: one may end in a way that has none."""


@dataclass(slots=True)
class LiveCall:
    """What is known of a call in progress."""

    call: Call
    in_session: bool
    """Its AGI session is in this process, and will report its end."""
    answered_at: datetime | None = None
    clock_step: timedelta = timedelta()
    """The steps of Asterisk's clock up to the answer."""
    callee: str = ""
    """The uniqueid of the channel that answered."""
    talk_ended_at: datetime | None = None
    transferred: bool = False
    closed: bool = False
    """Settled: what AMI says of its end is a confirmation."""
    missing: int = 0
    """The lists of channels in a row that did not have it."""
    seen_at: datetime | None = None
    """When it was last on a list."""
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

    def earliest_end(self, at: datetime) -> datetime:
        """Return when it ended, if its channel ended at ``at``."""
        return at if self.gave_up_at is None else min(at, self.gave_up_at)

    def remaining_seconds(self, now: datetime) -> float:
        """Return the granted seconds that are left since the answer; all of them, if that cannot be right."""
        elapsed = 0.0 if self.answered_at is None else (now - self.answered_at).total_seconds()
        granted = self.call.granted_seconds
        return granted - (elapsed if 0 <= elapsed < granted else 0)

    def alive_until(self, link_lost_at: datetime | None) -> datetime:
        """Return when it was last known to be alive: at its Hangup, on a list, or when the link was lost."""
        known = (self.hung_up_at, self.seen_at, link_lost_at, self.call.started_at)
        return max(each for each in known if each is not None)


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


class LiveCalls:
    """The calls in progress, by the uniqueid of the caller's channel."""

    def __init__(self) -> None:
        self._calls: dict[str, LiveCall] = {}
        self._callees: dict[str, LiveCall] = {}
        self.hearing = Hearing()

    def __iter__(self) -> Iterator[LiveCall]:
        return iter(self._calls.values())

    def find(self, uniqueid: str) -> LiveCall | None:
        """Return the call of a channel."""
        return self._calls.get(uniqueid)

    @property
    def missing_count(self) -> int:
        """Return how many open calls the last list of channels did not have."""
        return sum(not live.closed and live.missing > 0 for live in self)

    def watch(self, call: Call, *, linked: bool) -> None:
        """Add a call that is about to be dialled; ``linked``: the link is up."""
        self._calls[call.uniqueid] = LiveCall(call, in_session=True, linked=linked)

    def lose_link(self) -> None:
        """Expect no events of the calls that are in progress: some may be missed from now on."""
        for live in self:
            live.linked = False

    def add_open(self, call: Call, clock_step: timedelta) -> LiveCall:
        """Return an open call, added if this process did not begin it, or did before it was started again."""
        live = self._calls.get(call.uniqueid)
        if live is None or live.call.leg < call.leg:
            live = LiveCall(call, in_session=False, answered_at=call.answered_at, clock_step=clock_step, elsewhere=True)
            self._calls[call.uniqueid] = live
        return live

    def forget(self, uniqueid: str) -> None:
        """Remove a call."""
        live = self._calls.pop(uniqueid, None)
        if live is None:
            return
        self._callees.pop(live.callee, None)
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
        live.answered_at = at
        live.callee = event.get("destuniqueid", "")
        self._callees[live.callee] = live
        return live

    def move(self, event: Mapping[str, str]) -> None:
        """Apply a transfer: a call whose sides change has not ended when its first callee leaves."""
        for value in event.values():
            live = self._calls.get(value) or self._callees.get(value)
            if live is not None:
                live.transferred, live.talk_ended_at = True, None

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
        return live
