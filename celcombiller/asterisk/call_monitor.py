"""The third witness: one AMI link to an Asterisk server, which hears every hangup and looks for what was missed.

It confirms what the scripts settled and settles what no script did. It believes little: an AMI event is only a text,
into which a phone may have smuggled another, so an end that the scripts do not know is checked by asking Asterisk
whether the channel is alive, and a call is given up only when complete lists of what is alive agree that it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.ami_client import lost
from celcombiller.asterisk.ami_codec import AmiProtocolError, AmiRefused
from celcombiller.core.charging.requests import CallAnswered, Terminate
from celcombiller.core.errors import BillerError
from celcombiller.core.model.calls import CallReport, CallState, Witness
from celcombiller.core.voice.asterisk_heartbeat import server_last_seen, server_seen
from celcombiller.core.voice.call_queries import open_calls, still_open
from celcombiller.core.voice.evidence import estimated_report
from celcombiller.runtime.charging_log import log_settlement
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.reconnecting import stay_connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from celcombiller.core.model.calls import Call
    from celcombiller.database.batch_writer import BatchWriter

SWEEP_SECONDS = 5.0
"""How often the open calls are held against what is alive."""

SETTLING_IN = timedelta(seconds=5)
"""A call younger than this may not be in a list that was asked for before it began."""

OTHERS_SECONDS = 1.0
"""How long the biller that began a call has to do at its answer and its end what any biller that hears it could do."""

REFUSED_SECONDS = 15.0
"""Wait at least this long after a refused login: it will not be right a second later."""

_TIMESTAMP_SKEW = timedelta(hours=1)


@dataclass(slots=True)
class _Live:
    """What the monitor knows of a call in progress."""

    call: Call
    in_session: bool
    answered_at: datetime | None = None
    callee: str = ""
    talk_ended_at: datetime | None = None
    transferred: bool = False
    closed: bool = False
    missing: int = 0
    seen_at: datetime | None = None
    elsewhere: bool = False
    """Begun by another biller, or by this one before it was started again."""
    hung_up_at: datetime | None = None
    cause: str = ""


class CallMonitor(Service):
    """The AMI link of one server and the calls it watches.

    ``login`` gives a Deferred of a logged-in AMI protocol, ours or starpy's.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        server: str,
        login: Callable[[], Deferred[Any]],
        store: BatchWriter,
        metrics: Metrics | None = None,
    ) -> None:
        self.setName(f"monitor-{server}")
        self._clock = clock
        self._server = server
        self._login = login
        self._store = store
        self._metrics = metrics or Metrics()
        self._ami: Any = None
        self._calls: dict[str, _Live] = {}
        self._callees: dict[str, _Live] = {}
        self._heard_until: datetime | None = None
        self._elsewhere: dict[str, _Live] = {}
        self._look: IDelayedCall | None = None
        self._sweeps = LoopingCall(self._sweep_soon)
        self._sweeps.clock = clock
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
    def gone(self) -> int:
        """How many open calls the last list of channels did not have."""
        return sum(not live.closed and live.missing > 0 for live in self._calls.values())

    def startService(self) -> None:
        """Begin to connect, and never stop."""
        super().startService()
        self._metrics.links.record_down(self._server)
        self._running = Deferred.fromCoroutine(self._stay_connected())
        self._running.addErrback(self._ended)

    def stopService(self) -> Deferred[None] | None:
        """Close the link; fires when what it had to record is recorded."""
        super().stopService()
        if self._sweeps.running:
            self._sweeps.stop()
        if self._ami is not None:
            self._ami.transport.loseConnection()
        elif self._running is not None:
            self._running.cancel()
        return self._running

    def _ended(self, failure: Any) -> None:
        if self.running or not failure.check(CancelledError):
            self._log.failure("The AMI link to {server} is given up", failure, server=self._server)

    # -- what the scripts tell -----------------------------------------------------------------------------------

    def watch(self, call: Call) -> None:
        """Know a call that is about to be dialled."""
        self._calls[call.uniqueid] = _Live(call, in_session=True)

    def transferred(self, uniqueid: str) -> None:
        """Know that the caller's channel lives on without its session: it is charged at its end."""
        live = self._calls.get(uniqueid)
        if live is not None:
            live.in_session, live.transferred, live.talk_ended_at = False, True, None

    def session_lost(self, uniqueid: str) -> None:
        """Know that the session of a call broke off: somebody else must tell of its end."""
        live = self._calls.get(uniqueid)
        if live is not None:
            live.in_session = False

    def closed(self, uniqueid: str) -> None:
        """Know that a call is settled: what AMI says of its end is a confirmation."""
        live = self._calls.get(uniqueid)
        if live is None:
            return
        live.in_session, live.closed = False, True
        if not self.connected:  # its Hangup will not be heard
            self._forget(uniqueid)

    # -- the link -----------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        await stay_connected(
            self._clock,
            lambda: bool(self.running),
            self._login,
            self._serve,
            log=self._log,
            peer=f"AMI of {self._server}",
            least_seconds=lambda error: REFUSED_SECONDS if isinstance(error, AmiRefused) else 0.0,
        )

    async def _serve(self, ami: Any) -> None:
        """Hear one connection to its end."""
        self._log.info("AMI of {server} is connected", server=self._server)
        over = lost(ami)
        ami.registerEvent("DialBegin", self._dial_began)
        ami.registerEvent("DialEnd", self._dial_ended)
        ami.registerEvent("Hangup", self._hung_up)
        ami.registerEvent(("BlindTransfer", "AttendedTransfer", "LocalOptimizationEnd"), self._moved)
        try:
            self._heard_until = await self._store.transact(lambda tx: server_last_seen(tx, self._server))
        except BillerError as error:
            self._log.warn("When {server} was last seen is not known: {error}", server=self._server, error=str(error))
        self._ami = ami
        self._metrics.links.record_up(self._server)
        self._sweeps.start(SWEEP_SECONDS)
        try:
            await over
        finally:
            self._ami = None
            self._metrics.links.record_down(self._server)
            if self._sweeps.running:
                self._sweeps.stop()
            self._look_no_more()
            await self._note_seen()
        self._log.warn("AMI of {server} is lost; connecting again", server=self._server)

    async def _note_seen(self) -> None:
        """Record when the server was last heard: what is found gone later was alive until then."""
        now = datetime.now(UTC)
        try:
            await self._store.transact(lambda tx: server_seen(tx, self._server, now))
        except BillerError as error:
            self._log.warn("That {server} was seen is not recorded: {error}", server=self._server, error=str(error))

    # -- events --------------------------------------------------------------------------------------------------

    def _of(self, event: dict[str, str]) -> _Live | None:
        """Find the call an event speaks of: its uniqueid and its channel must both be the ones we know."""
        live = self._calls.get(event.get("uniqueid", ""))
        if live is None or live.call.channel != event.get("channel"):
            return None
        return live

    def _dial_began(self, _ami: Any, event: dict[str, str]) -> None:
        live = self._of(event)
        if live is not None and live.callee:  # the dialplan's next Dial on the same channel
            self._callees.pop(live.callee, None)
            live.callee, live.answered_at, live.talk_ended_at = "", None, None

    def _dial_ended(self, ami: Any, event: dict[str, str]) -> None:
        live = self._of(event)
        if live is None or event.get("dialstatus") != "ANSWER" or live.answered_at is not None or live.closed:
            return
        live.answered_at = _when(event)
        live.callee = event.get("destuniqueid", "")
        self._callees[live.callee] = live
        if live.elsewhere:
            self._look_later(ami, live)
        else:
            self._tell(self._answered(ami, live, self._remaining_seconds(live, live.answered_at)))

    @staticmethod
    def _remaining_seconds(live: _Live, answered_at: datetime) -> float:
        elapsed = (datetime.now(UTC) - answered_at).total_seconds()
        return live.call.granted_seconds - (elapsed if 0 <= elapsed < live.call.granted_seconds else 0)

    async def _answered(self, ami: Any, live: _Live, remaining_seconds: float) -> None:
        """Count the limit from the answer, and keep when it was."""
        try:
            await ami.absoluteTimeout(live.call.channel, round(remaining_seconds, 3))
        except (AmiRefused, ConnectionClosed) as error:
            self._log.info("No new limit on {channel!r}: {error}", channel=live.call.channel, error=str(error))
        if live.answered_at is not None:
            await self._store.charge(CallAnswered(self._server, live.call.uniqueid, live.answered_at))

    def _moved(self, _ami: Any, event: dict[str, str]) -> None:
        """Keep a call whose sides change from being taken for ended when its first callee leaves."""
        for value in event.values():
            live = self._calls.get(value) or self._callees.get(value)
            if live is not None:
                live.transferred, live.talk_ended_at = True, None

    def _hung_up(self, ami: Any, event: dict[str, str]) -> None:
        callee_of = self._callees.get(event.get("uniqueid", ""))
        if callee_of is not None and not callee_of.transferred and callee_of.talk_ended_at is None:
            callee_of.talk_ended_at = _when(event)
        live = self._of(event)
        if live is None:
            return
        live.hung_up_at, live.cause = _when(event), event.get("cause", "")
        if live.elsewhere:
            self._look_later(ami, live)
        else:
            self._tell(self._over(ami, live, live.hung_up_at))

    def _look_later(self, ami: Any, live: _Live) -> None:
        """Leave a call to the biller that began it, and see in a moment whether it was there to do it."""
        self._elsewhere[live.call.reference] = live
        if self._look is None:
            self._look = self._clock.callLater(OTHERS_SECONDS, self._look_now, ami)

    def _look_now(self, ami: Any) -> None:
        self._look = None
        lives, self._elsewhere = self._elsewhere, {}
        self._tell(self._make_good(ami, lives))

    def _look_no_more(self) -> None:
        look, self._look = self._look, None
        self._elsewhere.clear()
        if look is not None and look.active():
            look.cancel()

    async def _make_good(self, ami: Any, lives: dict[str, _Live]) -> None:
        """Do what is not done yet for calls that were begun elsewhere."""
        calls: list[Call] = await self._store.transact(lambda tx: still_open(tx, lives))
        left = {call.reference: call for call in calls}
        for reference, live in lives.items():
            if reference not in left:
                self._forget(live.call.uniqueid)
            elif live.hung_up_at is not None:
                await self._over(ami, live, live.hung_up_at)
            elif live.answered_at is not None and left[reference].answered_at is None:
                await self._answered(ami, live, self._remaining_seconds(live, live.answered_at))

    async def _over(self, ami: Any, live: _Live, at: datetime) -> None:
        """Report the end of a call, after asking Asterisk: an event alone does not prove that an open call ended."""
        if not live.closed and await self._is_alive(ami, live.call):
            self._log.warn("An AMI Hangup of {channel!r} is not true: the channel is alive", channel=live.call.channel)
            live.hung_up_at = None
            return
        answered_at = live.answered_at or live.call.answered_at
        ending = CallReport(
            answered=answered_at is not None,
            at=(live.talk_ended_at or at) if answered_at is not None else at,
            answered_at=answered_at,
            outcome=f"Hangup {live.cause}"[:64],
        )
        if not live.closed:
            ending = await self._noted(ami, live.call) or ending
        await self._testify(live.call, Witness.AMI, ending)

    async def _is_alive(self, ami: Any, call: Call) -> bool:
        """Ask for this one channel; only a clear No is a No."""
        try:
            items = await ami.status(call.channel)
        except AmiRefused as refused:
            return "no such channel" not in str(refused).lower()
        return any(item.get("uniqueid") == call.uniqueid for item in items)

    async def _testify(self, call: Call, witness: Witness, ending: CallReport, *, expired: bool = False) -> None:
        end = Terminate(self._server, call.uniqueid, witness, ending, leg=call.leg, expired=expired)
        try:
            settlement = await self._store.charge(end)
        except BillerError as error:
            self._log.warn("{witness} on {call}: {error}", witness=witness, call=call.reference, error=str(error))
            return
        except Exception:  # noqa: BLE001  the next sweep tries this call again, and this one goes on with the others
            self._log.failure("{witness} on {call} was not recorded", witness=witness, call=call.reference)
            return
        log_settlement(self._log, witness, settlement)
        self._metrics.calls.count_end(witness, settlement)
        if settlement.call.state is not CallState.OPEN:
            self._forget(call.uniqueid)

    def _forget(self, uniqueid: str) -> None:
        live = self._calls.pop(uniqueid, None)
        if live is not None:
            self._callees.pop(live.callee, None)

    async def _noted(self, ami: Any, call: Call) -> CallReport | None:
        """Read what the dialplan noted of an end that no biller took; read for open calls only, so it may stay."""
        request = {"Action": "DBGet", "Family": channel_variables.NOTE_FAMILY, "Key": call.uniqueid}
        try:
            items = await ami.collectDeferred(request, "DBGetComplete")
        except AmiRefused:
            return None
        text = next((item.get("val", "") for item in items if item.get("event") == "DBGetResponse"), "")
        status, *facts = text.split("|")
        at = channel_variables.instant(facts[2]) if len(facts) == 3 else None  # noqa: PLR2004
        if at is None:
            return None
        return CallReport(
            answered=status == "ANSWER",
            at=at,
            talk_ms=channel_variables.milliseconds(facts[0]),
            answered_at=channel_variables.instant(facts[1]),
            outcome=status[:64],
        )

    # -- the sweep -----------------------------------------------------------------------------------------------

    def _sweep_soon(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._guarded_sweep())

    async def _guarded_sweep(self) -> None:
        ami = self._ami
        try:
            if ami is not None:
                await self._sweep(ami)
                await self._note_seen()
        except (ConnectionClosed, AmiRefused, AmiProtocolError, BillerError) as error:
            self._log.warn("Sweep of {server} put off: {error}", server=self._server, error=str(error))
        except Exception:  # noqa: BLE001  one error must not end the loop
            self._log.failure("Sweep of {server} failed", server=self._server)

    async def _sweep(self, ami: Any) -> None:
        """Hold the open calls against one complete list of what is alive."""
        asked_at = datetime.now(UTC)
        items = await ami.status()
        alive = {item.get("uniqueid", ""): item for item in items if item.get("event") == "Status"}
        calls: list[Call] = await self._store.transact(lambda tx: open_calls(tx, self._server))
        still = {call.reference for call in calls}
        for uniqueid in [
            each
            for each, live in self._calls.items()
            if each not in alive and (live.closed or (live.elsewhere and live.call.reference not in still))
        ]:
            self._forget(uniqueid)
        for call in calls:
            live = self._met(call)
            if call.uniqueid in alive:
                live.missing, live.seen_at = 0, asked_at
                if live.answered_at is None and alive[call.uniqueid].get("bridgeid"):
                    await self._answer_missed(ami, live)
                continue
            if live.in_session or call.started_at > asked_at - SETTLING_IN:
                continue
            live.missing += 1
            if live.missing > 1:
                await self._gone(ami, live)
        if any(live.missing == 1 for live in self._calls.values()):
            self._clock.callLater(1.0, self._sweep_again, ami)

    def _met(self, call: Call) -> _Live:
        """Know an open call that this process did not begin, or did before it was started again."""
        live = self._calls.get(call.uniqueid)
        if live is None or live.call.leg < call.leg:
            live = _Live(call, in_session=False, answered_at=call.answered_at, elsewhere=True)
            self._calls[call.uniqueid] = live
        return live

    def _sweep_again(self, ami: Any) -> None:
        if self._ami is ami:
            self._tell(self._guarded_sweep())

    async def _answer_missed(self, ami: Any, live: _Live) -> None:
        """Find when a call was answered while the link was down; without the dialplan's stamp, that is now."""
        stamp = channel_variables.instant(await ami.getVar(live.call.channel, channel_variables.ANSWERED))
        live.answered_at = stamp or datetime.now(UTC)
        remaining = live.call.granted_seconds - max(0.0, (datetime.now(UTC) - live.answered_at).total_seconds())
        await self._answered(ami, live, max(0.1, remaining))

    async def _gone(self, ami: Any, live: _Live) -> None:
        """Close a call that two lists do not have, by the best evidence there is."""
        ending = await self._noted(ami, live.call)
        if ending is None:
            alive_until = live.talk_ended_at or self._alive_until(live)
            ending = estimated_report(live.call, live.answered_at or live.call.answered_at, alive_until)
        await self._testify(live.call, Witness.SWEEP, ending)

    def _alive_until(self, live: _Live) -> datetime:
        """When this call was last known to be alive: at its Hangup, on a list, or when the link that tells was lost."""
        known = (live.hung_up_at, live.seen_at, self._heard_until, live.call.started_at)
        return max(each for each in known if each is not None)

    def _tell(self, work: Any) -> None:
        """Run what an event started; its failure is a line in the log and nothing else."""
        Deferred.fromCoroutine(work).addErrback(self._heed)

    def _heed(self, failure: Failure) -> None:
        if not failure.check(ConnectionClosed, AmiRefused, AmiProtocolError, BillerError):
            self._log.failure("An AMI event of {server} failed", failure, server=self._server)


def _when(event: dict[str, str]) -> datetime:
    """When an event happened: its own Timestamp (``timestampevents=yes``), else now, when it came."""
    now = datetime.now(UTC)
    stamp = channel_variables.instant(event.get("timestamp"))
    return stamp if stamp is not None and abs(stamp - now) < _TIMESTAMP_SKEW else now
