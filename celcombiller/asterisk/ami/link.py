"""The AMI link to one Asterisk server: connects, hears the events of calls, and has calls compared in between."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import structs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.ami.alive_signal import SIGNAL_SECONDS, AliveSignal
from celcombiller.asterisk.ami.codec import AmiProtocolError, AmiRefused
from celcombiller.asterisk.ami.event_clock import FRESH_SECONDS, EventClock
from celcombiller.asterisk.ami.live_calls import Hearing, LiveCalls
from celcombiller.asterisk.ami.outliving_legs import OutlivingLegs
from celcombiller.asterisk.ami.probe import NO_EVENTS, UNHEARD, Probed, probe
from celcombiller.asterisk.ami.reconciliation import Reconciliation
from celcombiller.asterisk.ami.witness import LOG_NAMESPACE, AmiWitness
from celcombiller.core.errors import BillerError
from celcombiller.core.voice.evidence import limit_talk, take_out_step
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.timers.clock_steps import STEP_LEAST
from celcombiller.runtime.timers.reconnecting import stay_connected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami.live_calls import LiveCall
    from celcombiller.asterisk.ami.witness import Dialled
    from celcombiller.asterisk.cdr_evidence import CdrEvidence
    from celcombiller.core.charging.requests import Terminate
    from celcombiller.core.model.calls import Call, CallReport
    from celcombiller.database.batch_writer import BatchWriter

SWEEP_SECONDS = 5.0
"""How often the open calls are compared with what is alive."""

SWEEP_SHARE = 20
"""A comparison takes one of so many seconds at most: of very many channels the list alone takes a second to read."""

HEARTBEAT_SECONDS = 1.0
"""How often it is recorded that calls are alive, while there are any."""

LATE_BEATS = 2
"""After a pause of more heartbeats the process stood still."""

SECOND_LIST_SECONDS = 1.0
"""How soon a second list is asked for when a call is missing in one."""

OTHERS_SECONDS = 1.0
"""How long the biller that began a call has to do at its answer and its end what any biller that hears it could do."""

STOOD_STILL = timedelta(seconds=2)
"""An event that is heard later than this came while the biller stood still."""

REFUSED_SECONDS = 15.0
"""Wait at least this long after a refused login: it will not be right a second later."""

_LOG = Logger(namespace=LOG_NAMESPACE)


class AmiLink(Service):
    """The AMI link of one server and the calls that it watches.

    ``login`` returns a Deferred of a logged-in AMI protocol, ours or starpy's. ``links`` are those of all servers.
    """

    def __init__(
        self,
        clock: Any,
        server: str,
        login: Callable[[], Deferred[Any]],
        store: BatchWriter,
        metrics: Metrics | None = None,
        *,
        sends_messages: bool = False,
        plays_sounds: bool = False,
        agi_port: int | None = None,
        links: Mapping[str, AmiLink] = MappingProxyType({}),
        cdrs: CdrEvidence | None = None,
        complete_end: Callable[[Terminate], Terminate] | None = None,
    ) -> None:
        self.setName(f"monitor-{server}")
        self._clock = clock
        self._server = server
        self._login = login
        self._metrics = metrics or Metrics()
        self._calls, self._events_clock = LiveCalls(), EventClock()
        self._witness = AmiWitness(server, self._calls, self._events_clock, store, self._metrics, clock.seconds)
        if complete_end is not None:
            self._witness.complete_end = complete_end
        self._reconciliation = Reconciliation(
            server, self._calls, self._witness, self._events_clock, store, cdrs, now=self.now
        )
        self._sends_messages, self._plays_sounds = sends_messages, plays_sounds
        self._outliving = OutlivingLegs(clock, server, self._calls, self._witness, store)
        self._links = links
        self._ami: Any = None
        self._address = ""
        self._probed = Probed()
        self._lists, self._put_off, self._sweep_due_at = 0, "", 0.0
        self._beat_at, self._is_late = 0.0, False
        self._logged: set[str] = set()
        self._elsewhere: dict[str, LiveCall] = {}
        self._make_good_later: IDelayedCall | None = None
        self._signal = AliveSignal(agi_port)
        self._loops: list[LoopingCall] = []
        self._running: Deferred[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the link is up, so that an end will be heard."""
        return self._ami is not None

    @property
    def ami(self) -> Any:
        """The connection while the link is up, else ``None``."""
        return self._ami

    @property
    def address(self) -> str:
        """The address of the server, as the last connection had it; empty before the first."""
        return self._address

    @property
    def gone(self) -> int:
        """How many open calls the last list of channels did not have."""
        return self._calls.missing_count

    @property
    def system_name(self) -> str | None:
        """The name that Asterisk calls itself (systemname in asterisk.conf); ``None`` while it is not known."""
        return self._probed.system_name

    @property
    def faults(self) -> list[str]:
        """What this link cannot do, and what to set; empty while it is down."""
        if self._ami is None:
            return []
        faults = [*self._probed.faults, *(UNHEARD[name] for name in self._calls.hearing.unheard)]
        if self._hears_nothing:
            faults.append(NO_EVENTS)
        return [*faults, *self._events_clock.faults, *self._lookalikes()]

    @property
    def _hears_nothing(self) -> bool:
        return self._lists > 1 and not getattr(self._ami, "fullyBooted", True)  # it may still boot at the first

    # -- what the control of live calls needs ------------------------------------------------------------------------

    @property
    def live_calls(self) -> LiveCalls:
        """The calls in progress, as far as they are known here."""
        return self._calls

    @property
    def renewal_fault(self) -> str:
        """Why the grants of its calls cannot be renewed; empty: they can."""
        if self._ami is None:
            return "its AMI link is down"
        if not self._probed.may_limit:
            return "its AMI user may not set limits, or it is not known yet"
        if self._hears_nothing or "DialEnd" in self._calls.hearing.unheard:
            return "its AMI user hears no answers of calls"
        return ""

    def now(self) -> datetime:
        """Return the time by Asterisk's clock."""
        return self._events_clock.time_there(datetime.now(UTC), self._clock.seconds())

    @property
    def clock_step(self) -> timedelta:
        """The steps that Asterisk's clock has made, in all."""
        return self._events_clock.steps.total

    def used_seconds(self, live: LiveCall) -> float:
        """Return the seconds of talk so far; 0 before the answer."""
        if live.answered_at is None:
            return 0.0
        step = self._witness.step_since_answer(live)
        return max(0.0, (self.now() - live.answered_at - step).total_seconds())

    def is_alive(self, live: LiveCall) -> bool:
        """Return whether a call is in progress by all that this connection has shown.

        Asterisk uses names of channels again when it is started again: one that is known from before may be another's.
        """
        return (live.linked or live.listed) and not live.missing and not live.closed and live.hung_up_at is None

    def granted_seconds(self, uniqueid: str, known: int) -> int:
        """Return what a call is granted by now; ``known``: what was granted when it began."""
        live = self._calls.find(uniqueid)
        return known if live is None else live.call.granted_seconds

    async def has_channel(self, live: LiveCall) -> bool:
        """Ask Asterisk whether the channel of a call is there; only a clear No is a No. A lost link raises."""
        if self._ami is None:
            raise ConnectionDone("the AMI link is down")
        return await self._witness.is_alive(self._ami, live.call)

    def _lookalikes(self) -> Iterator[str]:
        """Yield a fault for each other server whose calls can only be told from this one's by asking both."""
        for name, link in self._links.items():
            is_other = link is not self and self.system_name is not None
            if is_other and (link.address, link.system_name) == (self.address, self.system_name):
                said = f"systemname {self.system_name!r}" if self.system_name else "no systemname"
                yield f"it has {said} and the address of {name}, too: set another systemname in asterisk.conf"

    def _log_faults(self) -> None:
        """Log each fault once a connection, and count them for the metric."""
        faults = self.faults
        self._metrics.links.record_faults(self._server, len(faults))
        for fault in faults:
            if fault not in self._logged:
                self._logged.add(fault)
                _LOG.error("Asterisk {server}: {fault}", server=self._server, fault=fault)

    def startService(self) -> None:
        """Begin to connect, and never stop."""
        super().startService()
        self._metrics.links.record_down(self._server)
        self._running = Deferred.fromCoroutine(self._stay_connected())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None] | None:
        """Close the link; fires when what it had to record is recorded."""
        super().stopService()
        self._stop_loops()
        if self._ami is not None:
            self._ami.transport.loseConnection()
        elif self._running is not None:
            self._running.cancel()
        return self._running

    def _start_loops(self) -> None:
        """Begin what is repeated on a connection, by new loops: one whose last work still waits would go on twice."""
        sweeps, signals = LoopingCall(self._begin_sweep), LoopingCall(self._begin_signal)
        beats = LoopingCall.withCount(self._begin_beat)
        self._loops = [sweeps, beats, signals]
        for loop in self._loops:
            loop.clock = self._clock
        sweeps.start(SWEEP_SECONDS)
        beats.start(HEARTBEAT_SECONDS, now=False)
        signals.start(SIGNAL_SECONDS, now=False)

    def _stop_loops(self) -> None:
        for loop in self._loops:
            if loop.running:
                loop.stop()

    def _ended(self, failure: Any) -> None:
        if self.running or not failure.check(CancelledError):
            _LOG.failure("The AMI link to {server} is given up", failure, server=self._server)

    # -- what the scripts report -------------------------------------------------------------------------------------

    def watch(self, call: Call) -> None:
        """Watch a call that is about to be dialled."""
        self._calls.watch(call, linked=self.connected, at=self._clock.seconds())

    def transferred(self, uniqueid: str) -> None:
        """Record that the caller's channel lives on without its session: the call is charged at its end."""
        live = self._calls.find(uniqueid)
        if live is not None:
            live.in_session, live.transferred, live.talk_ended_at = False, True, None

    def session_lost(self, uniqueid: str) -> None:
        """Record that the session of a call broke off: another witness must report its end."""
        live = self._calls.find(uniqueid)
        if live is not None:
            live.in_session = False

    def closed(self, uniqueid: str, *, talked: bool = False) -> None:
        """Record that a call is settled: what AMI says of its end is a confirmation. ``talked``: it was answered."""
        live = self._calls.find(uniqueid)
        if live is None:
            return
        live.in_session, live.closed, live.talked = False, True, talked
        if not self.connected:  # its Hangup will not be heard
            self._calls.forget(uniqueid)

    def correct(self, uniqueid: str, report: CallReport, *, is_fresh: bool = False) -> CallReport:
        """Return what a channel reports of its call without what only a clock or a standstill added.

        Asterisk measures talk by the wall clock, so a step of it is in there. And a channel in AGI ends late when the
        biller stands still. ``is_fresh``: the report has Asterisk's time of just now, so it shows a step that no
        heartbeat has shown yet.
        """
        live = self._calls.find(uniqueid)
        if live is None:
            return report
        if is_fresh and self._probed.tells_time:
            self._compare_clocks(report.at)
        step, lasted = self._witness.step_since_answer(live), self._witness.lasted(live)
        if abs(step) >= STEP_LEAST and live.answered_at is not None:
            report = take_out_step(report, step, lasted)
        return limit_talk(structs.replace(report, at=live.earliest_end(report.at)), lasted)

    async def read_note(self, call: Dialled) -> CallReport | None:
        """Return what the dialplan noted of the end of a call; ``None``: nothing, or the link is down."""
        return None if self._ami is None else await self._witness.read_note(self._ami, call)

    # -- the connection ----------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        await stay_connected(
            self._clock,
            lambda: bool(self.running),
            self._login,
            self._serve,
            log=_LOG,
            peer=f"AMI of {self._server}",
            least_seconds=lambda error: REFUSED_SECONDS if isinstance(error, AmiRefused) else 0.0,
        )

    async def _serve(self, ami: Any) -> None:
        """Hear one connection to its end."""
        _LOG.info("AMI of {server} is connected", server=self._server)
        over = ami.onClose()
        ami.registerEvent("DialBegin", self._on_dial_begin)
        ami.registerEvent("DialEnd", self._on_dial_end)
        ami.registerEvent("Hangup", self._on_hangup)
        ami.registerEvent("HangupRequest", self._on_hangup_request)
        ami.registerEvent(("BlindTransfer", "AttendedTransfer", "LocalOptimizationEnd", "ParkedCall"), self._on_move)
        await self._reconciliation.begin()
        self._ami, self._probed, self._lists = ami, Probed(self._probed.system_name), 0
        self._events_clock.reset()
        self._beat_at, self._is_late, self._sweep_due_at = self._clock.seconds(), False, 0.0
        self._address = getattr(ami.transport.getPeer(), "host", "")
        self._logged.clear()
        self._calls.hearing = Hearing()
        self._start(self._probe(ami))
        self._metrics.links.record_up(self._server)
        self._start_loops()
        try:
            await over
        finally:
            self._ami = None
            self._calls.lose_link()
            self._metrics.links.record_faults(self._server, 0)
            self._metrics.links.record_down(self._server)
            self._stop_loops()
            self._leave_elsewhere()
            await self._record_loss()
        _LOG.warn("AMI of {server} is lost; connecting again", server=self._server)

    async def _record_loss(self) -> None:
        if self._is_late or self._clock.seconds() - self._beat_at > LATE_BEATS * HEARTBEAT_SECONDS:
            return  # this process stood still, and may hear late of an Asterisk that is gone long since
        try:
            await self._reconciliation.record_seen()
        except BillerError as error:
            _LOG.warn("That {server} was seen is not recorded: {error}", server=self._server, error=str(error))

    async def _probe(self, ami: Any) -> None:
        probed = await probe(ami, sends_messages=self._sends_messages, plays_sounds=self._plays_sounds)
        if self._ami is ami:
            self._probed = probed
            self._log_faults()
            _LOG.info("AMI of {server} is ready: the rights of its user are read", server=self._server)

    # -- events ------------------------------------------------------------------------------------------------------

    def _on_dial_begin(self, _ami: Any, event: dict[str, str]) -> None:
        self._hear_call_event()
        self._calls.begin_dial(event)

    def _hear_call_event(self) -> None:
        """Keep that events of calls come; the first of a connection is recorded at once."""
        is_first, self._witness.last_call_event = self._witness.last_call_event is None, datetime.now(UTC)
        if is_first:
            self._start(self._reconciliation.record_seen())

    def _on_dial_end(self, ami: Any, event: dict[str, str]) -> None:
        now = datetime.now(UTC)
        self._hear_call_event()
        at, steps, off_by = self._time_of(event, now)
        live = self._calls.answer(event, at)
        if live is not None:
            live.clock_step, live.is_unmeasured = steps, not self._events_clock.is_measured
            self._calls.doubt(live, off_by)
        if live is not None and live.elsewhere:
            self._leave_to_its_biller(ami, live)
        elif live is not None:
            self._start(self._record_answer(ami, live))

    async def _record_answer(self, ami: Any, live: LiveCall) -> None:
        """Record an answer and restart the limit; where its Timestamp is in doubt, measure Asterisk's clock first.

        The ledger keeps the first time that it is told, and a biller that is started again has no other.
        """
        if live.off_by:
            await self._quietly(self._measure_clock)
        now_there = self.now() + live.clock_step - self._events_clock.steps.total
        await self._witness.record_answer(ami, live, live.remaining_seconds(now_there))

    def _on_move(self, _ami: Any, event: dict[str, str]) -> None:
        self._calls.move(event)

    def _on_hangup_request(self, _ami: Any, event: dict[str, str]) -> None:
        """Keep when a caller hung up while the biller stood still, and with it their channel in AGI.

        Otherwise the channel ends at once and its own times count: a text of a phone must not end a call earlier.
        """
        now = datetime.now(UTC)
        at = self._end_of(event, now)
        if self.now() - at > STOOD_STILL:
            self._calls.give_up(event, at)

    def _on_hangup(self, ami: Any, event: dict[str, str]) -> None:
        live = self._calls.hang_up(event, self._end_of(event, datetime.now(UTC)))
        if live is None or live.hung_up_at is None:
            return
        if live.elsewhere:
            self._leave_to_its_biller(ami, live)
        else:
            self._start(self._end(ami, live, live.hung_up_at))

    async def _end(self, ami: Any, live: LiveCall, at: datetime) -> None:
        """Report the end of a call, and go on with its callee's leg where that was left to others."""
        await self._witness.record_end(ami, live, at)
        if live.handed_on and live.hung_up_at is not None:
            await self._outliving.go_on(ami, live)

    def _time_of(self, event: dict[str, str], now: datetime) -> tuple[datetime, timedelta, timedelta]:
        """Return `EventClock.time_of` an event; report what is wrong with its Timestamp."""
        moment = self._events_clock.time_of(event, now, self._clock.seconds())
        self._log_faults()
        return moment

    def _end_of(self, event: dict[str, str], now: datetime) -> datetime:
        """Return when an event happened, by Asterisk's clock as last measured."""
        at, steps, _ = self._time_of(event, now)
        return at + self._events_clock.steps.total - steps

    def _leave_to_its_biller(self, ami: Any, live: LiveCall) -> None:
        """Leave a call to the biller that began it, and see in a moment whether it was there to do it."""
        self._elsewhere[live.call.reference] = live
        if self._make_good_later is None:
            self._make_good_later = self._clock.callLater(OTHERS_SECONDS, self._make_good, ami)

    def _make_good(self, ami: Any) -> None:
        self._make_good_later = None
        lives, self._elsewhere = self._elsewhere, {}
        self._start(self._make_good_of(ami, lives))

    async def _make_good_of(self, ami: Any, lives: dict[str, LiveCall]) -> None:
        await self._reconciliation.make_good(ami, lives)
        for live in lives.values():
            if live.handed_on and live.hung_up_at is not None:
                await self._outliving.go_on(ami, live)

    def _leave_elsewhere(self) -> None:
        later, self._make_good_later = self._make_good_later, None
        self._elsewhere.clear()
        if later is not None and later.active():
            later.cancel()

    # -- the comparison ----------------------------------------------------------------------------------------------

    def _begin_sweep(self) -> Deferred[None] | None:
        return Deferred.fromCoroutine(self._sweep()) if self._clock.seconds() >= self._sweep_due_at else None

    async def _sweep(self) -> None:
        ami, began = self._ami, self._clock.seconds()
        try:
            if ami is not None:
                self._lists += 1
                await self._measure_clock(ami)
                await self._reconciliation.compare(ami)
                self._log_faults()
                if "DialEnd" in self._calls.hearing.unheard:
                    await self._reconciliation.record_deaf()
                if self._reconciliation.is_in_doubt:
                    self._clock.callLater(SECOND_LIST_SECONDS, self._sweep_again, ami)
                await self._reconciliation.record_seen()
                await self._signal.look(ami)
                await self._signal.send(ami)
                self._put_off = ""
        except (ConnectionClosed, AmiRefused, AmiProtocolError, BillerError) as error:
            if str(error) != self._put_off:
                _LOG.warn("Sweep of {server} put off: {error}", server=self._server, error=str(error))
            self._put_off = str(error)
        except Exception:  # noqa: BLE001  one error must not end the loop
            _LOG.failure("Sweep of {server} failed", server=self._server)
        now = self._clock.seconds()
        self._sweep_due_at = now + (now - began) * (SWEEP_SHARE - 1)

    def _begin_beat(self, count: int) -> Deferred[None]:
        """Begin a heartbeat; ``count``: how many are due since the last one."""
        self._beat_at, self._is_late = self._clock.seconds(), self._is_late or count > LATE_BEATS
        return Deferred.fromCoroutine(self._quietly(self._beat))

    async def _beat(self, ami: Any) -> None:
        """Keep that the calls in progress are alive: if the biller dies, they are charged up to here at least."""
        if self._is_late or any(not live.closed for live in self._calls):
            await self._measure_clock(ami)
            self._is_late = False
            await self._reconciliation.record_seen()

    async def _measure_clock(self, ami: Any) -> None:
        asked_at = self._clock.seconds()
        stamp = (await ami.sendDeferred({"Action": "Ping"})).get("timestamp")
        if self._clock.seconds() - asked_at < FRESH_SECONDS:
            self._compare_clocks(channel_variables.instant(stamp))

    def _compare_clocks(self, stamp: datetime | None) -> None:
        """Compare the clocks by what Asterisk's said just now, and take a step into the calls."""
        is_first = not self._events_clock.is_measured
        step = self._events_clock.measure(stamp, datetime.now(UTC), self._clock.seconds())
        if is_first and self._events_clock.is_measured:
            self._calls.take_measurement(self._events_clock.steps.total)
        if step:
            self._calls.take_step(step, self._events_clock.steps.total)
        elif stamp is not None:
            self._calls.settle_doubts()

    def _begin_signal(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._quietly(self._signal.send))

    async def _quietly(self, work: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Do what is repeated soon: the sweep reports an Asterisk that does not answer."""
        ami = self._ami
        if ami is not None:
            with suppress(ConnectionClosed, AmiRefused, AmiProtocolError, BillerError):
                await work(ami)

    def _sweep_again(self, ami: Any) -> None:
        if self._ami is ami:
            self._start(self._sweep())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what an event started; its failure is a line in the log and nothing else."""
        Deferred.fromCoroutine(work).addErrback(self._log_failure)

    def _log_failure(self, failure: Failure) -> None:
        if not failure.check(ConnectionClosed, AmiRefused, AmiProtocolError, BillerError):
            _LOG.failure("An AMI event of {server} failed", failure, server=self._server)
