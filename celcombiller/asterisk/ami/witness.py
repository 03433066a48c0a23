"""The third witness: what AMI shows of a call's answer and end, reported to the ledger.

It confirms what the scripts settled and settles what no script did. It believes little: an AMI event is only a text,
into which a phone may have smuggled another, so an end that the scripts do not know is checked by asking Asterisk
whether the channel is alive.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.ami.codec import AmiRefused
from celcombiller.asterisk.ami.event_clock import LATE_MAX
from celcombiller.core.charging.requests import CallAnswered, Terminate
from celcombiller.core.errors import BillerError
from celcombiller.core.model.calls import CallReport, CallState, Witness
from celcombiller.core.voice.evidence import estimated_report, limit_talk, take_out_step
from celcombiller.runtime.log.charging import log_settlement

if TYPE_CHECKING:
    from collections.abc import Callable

    from celcombiller.asterisk.ami.event_clock import EventClock
    from celcombiller.asterisk.ami.live_calls import LiveCall, LiveCalls
    from celcombiller.core.model.calls import Call
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.runtime.metrics import Metrics

LOG_NAMESPACE = "celcombiller.asterisk.call_monitor.CallMonitor"
"""Of all log lines about an AMI link and its calls: operators filter by it, so it outlives the names of classes."""

NOTE_LATE_MAX = timedelta(days=1)
"""A note of a call that seems later or earlier than this is another call's. It may have been written before clocks were
set that differ now, and channels of two calls have the same uniqueid only where a clock was set back to that second."""

HEARING_LASTS = timedelta(days=1)
"""How long after an event of a call another one would have been heard as well."""

_LOG = Logger(namespace=LOG_NAMESPACE)


class Dialled(Protocol):
    """A call as far as its note needs it: its channel, and when it began."""

    @property
    def uniqueid(self) -> str: ...  # noqa: D102
    @property
    def started_at(self) -> datetime: ...  # noqa: D102


class AmiWitness:
    """Reports the calls of one server as its AMI connection shows them."""

    def __init__(
        self,
        server: str,
        calls: LiveCalls,
        events_clock: EventClock,
        store: BatchWriter,
        metrics: Metrics,
        seconds: Callable[[], float],
    ) -> None:
        self._events_clock = events_clock
        self._server = server
        self._calls = calls
        self._store = store
        self._metrics = metrics
        self._seconds = seconds
        self.last_call_event: datetime | None = None
        """When an event of a call last came from this server, to this biller or before it was started."""
        self.complete_end: Callable[[Terminate], Terminate] = lambda end: end
        """What adds to an end the limit to which its call went on without the ledger."""

    def hears_answers(self, call: Call) -> bool:
        """Return whether an answer of this call would have been heard, as far as is known."""
        heard_at = self.last_call_event
        return heard_at is not None and heard_at > call.started_at - HEARING_LASTS

    async def record_answer(self, ami: Any, live: LiveCall, remaining_seconds: float | None) -> None:
        """Restart the limit at the answer, and record the time of the answer. ``None`` keeps the limit."""
        try:
            if remaining_seconds is not None:
                await ami.absoluteTimeout(live.call.channel, round(remaining_seconds, 3))
        except (AmiRefused, ConnectionClosed) as error:
            _LOG.info("No new limit on {channel!r}: {error}", channel=live.call.channel, error=str(error))
        if live.answered_at is not None:
            await self._store.charge(CallAnswered(self._server, live.call.uniqueid, live.answered_at))

    async def record_end(self, ami: Any, live: LiveCall, at: datetime) -> None:
        """Report the end of a call, after asking Asterisk: an event alone does not prove that an open call ended."""
        if not live.closed and await self.is_alive(ami, live.call):
            _LOG.warn("An AMI Hangup of {channel!r} is not true: the channel is alive", channel=live.call.channel)
            live.hung_up_at = None
            return
        answered_at, lasted = live.answered_at or live.call.answered_at, self.lasted(live)
        outcome = f"Hangup {live.cause}"[:64]
        report = CallReport(answered=False, at=at, outcome=outcome)
        if answered_at is not None:
            at = live.talk_ended_at or at
            report = CallReport(answered=True, at=at, answered_at=answered_at, outcome=outcome)
            report = take_out_step(report, self.step_since_answer(live), lasted)
        elif "DialEnd" in self._calls.hearing.unheard:
            report = estimated_report(live.call, None, at, answers_are_heard=False, ahead=self._events_clock.skew)
        if not live.closed:
            report = await self.read_note(ami, live.call) or report
        await self.record_report(live.call, Witness.AMI, limit_talk(report, lasted))

    def lasted(self, live: LiveCall) -> timedelta | None:
        """Return the time since this process began to watch a call, by the monotonic clock; None: another began it."""
        return None if live.watched_at is None else timedelta(seconds=self._seconds() - live.watched_at)

    def step_since_answer(self, live: LiveCall) -> timedelta:
        """Return what Asterisk's clock was set by, in all, since the answer of a call was heard."""
        return self._events_clock.steps.total - live.clock_step

    def answered_at(self, live: LiveCall) -> datetime | None:
        """Return when a call was answered, by Asterisk's clock as it is set now."""
        at = live.answered_at or live.call.answered_at
        return None if at is None else at + self.step_since_answer(live)

    async def is_alive(self, ami: Any, call: Call) -> bool:
        """Ask for this one channel; only a clear No is a No."""
        try:
            items = await ami.status(call.channel)
        except AmiRefused as refused:
            return "no such channel" not in str(refused).lower()
        return any(item.get("uniqueid") == call.uniqueid for item in items)

    async def record_report(self, call: Call, witness: Witness, report: CallReport) -> None:
        """Report an end to the ledger; one that cannot be recorded now is found again by the reconciliation."""
        try:
            end = self.complete_end(Terminate(self._server, call.uniqueid, witness, report, leg=call.leg))
            settlement = await self._store.charge(end)
        except BillerError as error:
            _LOG.warn("{witness} on {call}: {error}", witness=witness, call=call.reference, error=str(error))
            return
        except Exception:  # noqa: BLE001  this call is tried again, and the others go on
            _LOG.failure("{witness} on {call} was not recorded", witness=witness, call=call.reference)
            return
        log_settlement(_LOG, witness, settlement)
        self._metrics.calls.count_end(witness, settlement)
        if settlement.call.state is not CallState.OPEN:
            self._calls.forget(call.uniqueid)

    def is_possible(self, call: Dialled, at: datetime, late_max: timedelta = LATE_MAX) -> bool:
        """Return whether this can have happened to a call by now, by Asterisk's clock, give or take ``late_max``."""
        offset = self._events_clock.offset
        return call.started_at + offset - late_max <= at <= datetime.now(UTC) + offset + late_max

    async def read_note(self, ami: Any, call: Dialled) -> CallReport | None:
        """Return what the dialplan noted of an end that no biller took; read for open calls only, so it may stay."""
        request = {"Action": "DBGet", "Family": channel_variables.NOTE_FAMILY, "Key": call.uniqueid}
        try:
            items = await ami.collectDeferred(request, "DBGetComplete")
        except AmiRefused:
            return None
        text = next((item.get("val", "") for item in items if item.get("event") == "DBGetResponse"), "")
        status, *facts = text.split("|")
        at = channel_variables.instant(facts[2]) if len(facts) == 3 else None  # noqa: PLR2004
        if at is None or not self.is_possible(call, at, NOTE_LATE_MAX):
            return None
        answered_at = channel_variables.instant(facts[1])
        return CallReport(
            answered=status == "ANSWER",
            at=at,
            talk_ms=channel_variables.milliseconds(facts[0]),
            answered_at=answered_at if answered_at and self.is_possible(call, answered_at, NOTE_LATE_MAX) else None,
            outcome=status[:64],
            ahead=self._events_clock.skew,
        )
