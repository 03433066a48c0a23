"""The script ``caller``: decides, dials with the limit, settles; it stands in place of Dial in the dialplan."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from os import urandom
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred  # noqa: A004  Twisted's own name
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi.codec import DEAD, AgiCommandRefused, AgiProtocolError
from celcombiller.asterisk.agi.commands import argument_of, ask, set_variable
from celcombiller.asterisk.scripts.channel import (
    NAMESPACE,
    Guard,
    dial_string,
    read_report,
    refuse,
    report_of,
    set_result,
    shorten,
    uniqueid_of,
)
from celcombiller.asterisk.server_identity import ServerNotIdentified
from celcombiller.core.charging.admission import list_all_trunks
from celcombiller.core.charging.requests import Initiate, TakeTrunk, Terminate
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.model.calls import CallGrant, CallReport, Witness
from celcombiller.core.model.routing import TrunkDial
from celcombiller.core.rating.numbering import normalise
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.number_forms import NUMBER, plain_number
from celcombiller.core.subscribers.subscriber_records import subscriber_from_row
from celcombiller.runtime.metrics.calls import ALLOWED_ON_FAILURE, ALWAYS_ALLOWED, GRANTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.scripts.settlement import CallSettlement
    from celcombiller.asterisk.server_identity import ServerIdentity
    from celcombiller.config.tables import Config
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.metrics import Metrics

T = TypeVar("T")

_LOG = Logger(namespace=NAMESPACE)

_STAMP = re.compile(r"stamp=([A-Za-z0-9_-]{1,79})")

_NUMBER = re.compile(r"number=(.{1,80})")

_STATE = (
    *("${CHANNEL(state)}", "${CHANNEL(accountcode)}", f"${{{channel_variables.LIMIT}}}"),
    *(f"${{{channel_variables.NUMBER}}}", "${DIALSTATUS}", "${ANSWEREDTIME_MS}"),
)
"""What is asked of a channel before the decision."""

_OF_LAST_DIAL = ("DIALSTATUS", "ANSWEREDTIME_MS", channel_variables.ANSWERED, channel_variables.LET_GO)

_CLOCK_SET_SECONDS = 2.0
"""The clock was set where it and the monotonic clock differ by more than this over one Dial."""

_UP = {"Up", "6"}

_ASK_AGAIN_SECONDS = 0.25


@dataclass(slots=True)
class _Way:
    """A call on its way: its session, the request, and what the channel has and did before.

    ``let_go``: it goes without the ledger's answer.
    """

    agi: Any
    guard: Guard
    question: Initiate
    has_limit: bool
    has_dialled: bool
    let_go: bool = False


class CallScript:
    """Decides on a call, dials it with its limit, and settles it."""

    def __init__(
        self,
        clock: Any,
        config: Config,
        store: BatchWriter,
        reader: Reader,
        monitors: Mapping[str, AmiLink],
        servers: ServerIdentity,
        settlement: CallSettlement,
        metrics: Metrics,
        catalogue: CatalogueHolder,
    ) -> None:
        self._catalogue = catalogue
        self._numbering = config.numbering_plan
        self._servers = servers
        self._clock = clock
        self._config = config
        self._store = store
        self._reader = reader
        self._monitors = monitors
        self._settlement = settlement
        self._metrics = metrics

    async def __call__(self, agi: Any) -> None:
        """Decide, dial with the limit, settle. Whatever goes wrong in deciding, the channel has a result."""
        guard = Guard(agi, "caller", self._metrics)
        try:
            dial = await self._decide(agi, guard)
        except (ConnectionClosed, AgiProtocolError):
            raise
        except ServerNotIdentified as error:
            _LOG.error("No decision for channel {uniqueid!r}: {e}", uniqueid=uniqueid_of(agi), e=str(error))
            self._metrics.calls.count_authorization(error.code)
            await refuse(agi, self._config.prompts, error.code)
            return
        except Exception:  # noqa: BLE001  the dialplan waits for a result
            guard.count_fault("the decision")
            self._metrics.calls.count_authorization(BillerError.code)
            await refuse(agi, self._config.prompts, BillerError.code)
            return
        if dial is not None:
            await dial()

    async def _decide(self, agi: Any, guard: Guard) -> Callable[[], Awaitable[None]] | None:
        """Decide, and return what dials; ``None`` when the call was refused."""
        asked = await guard.attempt(partial(ask, agi, *_STATE), "asking of its state", tries=2)
        state, code, limit, named, *previous = asked or [""] * len(_STATE)
        if not state:  # func_channel is not loaded
            state = str(await guard.attempt(agi.channelStatus, "asking of its state") or "")
            code = agi.variables.get("agi_accountcode", "")
        called_number = argument_of(agi, _NUMBER) or named or agi.variables["agi_extension"]
        number = plain_number(called_number)
        if number in self._config.calls.always_allowed:
            return await self._allowed(agi, number)
        question = Initiate(
            server=await self._servers.identify(agi),
            uniqueid=agi.variables["agi_uniqueid"],
            authorization=urandom(8).hex(),
            channel=agi.variables.get("agi_channel", ""),
            account_code=code or "",
            caller_number=agi.variables.get("agi_callerid", ""),
            called_number=called_number,
            answered_early=state in _UP,
            previous=report_of(previous[0], previous[1], None, datetime.now(UTC)),
        )
        way = _Way(agi, guard, question, has_limit=limit != "", has_dialled=previous[0] != "")
        self._settlement.forget(question.server, question.uniqueid)
        try:
            grant = await self._authorize(way)
        except BillerError as refusal:
            if isinstance(refusal, StoreUnavailable):
                return await self._without_decision(way, refusal)
            _LOG.info(
                "Refused {called} to {caller}: {code}, {reason}",
                called=shorten(number),
                caller=shorten(question.caller_number),
                code=refusal.code,
                reason=str(refusal),
            )
            self._metrics.calls.count_authorization(refusal.code)
            await refuse(agi, self._config.prompts, refusal.code)
            return None
        except Exception as fault:  # noqa: BLE001  the failure policy is for faults too
            return await self._without_decision(way, fault)
        dials: Sequence[TrunkDial] = grant.trunks
        if not dials:
            calls, callee = self._config.calls, grant.callee
            external = calls.external_dial.format(number=grant.call.to_number)
            dials = _one_way(external if callee is None else dial_string(calls.internal_dial, callee))
        return partial(self._dial, way, dials, grant.seconds, grant)

    async def _authorize(self, way: _Way) -> CallGrant:
        """Ask the ledger, but not for ever, and only while the caller waits.

        A grant that comes too late is given back, unless the call goes without it: then its end will need it.
        """
        seconds = self._config.calls.decision_seconds
        asked = self._ask_ledger(partial(self._store.charge, way.question), self._clock.seconds() + seconds)
        hangup: Deferred[None] = getattr(way.agi, "whenHungUp", Deferred)()
        try:
            with self._metrics.calls.authorization_seconds.time():
                return await self._settlement.updates.with_timeout(asked, seconds, until=hangup)
        except TimeoutError:
            asked.addCallbacks(self._give_back, lambda _refusal: None, callbackArgs=(way,))
            raise

    def _ask_ledger(self, ask_once: Callable[[], Deferred[T]], ends_at: float) -> Deferred[T]:
        """Ask again while there is time: a database that restarts, or hands over to another, need not cost a call."""

        def later(failure: Failure) -> Deferred[T]:
            failure.trap(StoreUnavailable)
            if self._clock.seconds() + _ASK_AGAIN_SECONDS >= ends_at:
                failure.raiseException()
            waiting: Deferred[None] = deferLater(self._clock, _ASK_AGAIN_SECONDS)
            return waiting.addCallback(lambda _: self._ask_ledger(ask_once, ends_at))

        return ask_once().addErrback(later)

    def _give_back(self, grant: CallGrant, way: _Way) -> None:
        """Release what was granted too late; the leg is named, as the dialplan may have asked again since."""
        if not way.let_go:
            self._release(grant, "decided too late to be dialled")

    def _release(self, grant: CallGrant, note: str) -> None:
        """Release the grant of a call that was not dialled."""
        call = grant.call
        report = CallReport(answered=False, at=datetime.now(UTC), note=note)
        self._settlement.submit(Terminate(call.server, call.uniqueid, Witness.AGI, report, leg=call.leg))

    async def _without_decision(self, way: _Way, error: Exception) -> Callable[[], Awaitable[None]] | None:
        """Do as the failure policy says: deny, or let go and charge when the ledger is back."""
        calls = self._config.calls
        number = plain_number(way.question.called_number)
        dials = self._ways_without_ledger(number, way.question.caller_number, way.question.authorization)
        allow = calls.on_failure == "allow" and dials and NUMBER.fullmatch(number) and not way.agi.hungup
        expected = isinstance(error, StoreUnavailable | TimeoutError)
        if not expected:
            self._metrics.calls.script_faults.labels("caller").inc()
        say = _LOG.error if expected else _LOG.failure
        say(
            "No decision for channel {uniqueid!r}: {error}; {what} as calls.on_failure says",
            uniqueid=way.question.uniqueid,
            error=(expected and str(error)) or type(error).__name__,
            what="allowed" if allow else "denied",
        )
        self._metrics.calls.count_authorization(ALLOWED_ON_FAILURE if allow else BillerError.code)
        if allow:
            way.let_go = True
            return partial(self._dial, way, dials, calls.max_call_seconds, None)
        await refuse(way.agi, self._config.prompts, BillerError.code)
        return None

    def _ways_without_ledger(self, number: str, caller: str, lot: str) -> Sequence[TrunkDial]:
        """Return what to dial for a number of which nothing is known; nothing when that takes the ledger."""
        calls = self._config.calls
        return self._ways_outside(number, caller, lot) or (
            ()
            if "{imsi}" in calls.internal_dial or "{username}" in calls.internal_dial
            else _one_way(calls.internal_dial.format(clid=number))
        )

    def _ways_outside(self, number: str, caller: str, lot: str) -> Sequence[TrunkDial]:
        """Return how a number outside is dialled without the ledger: by its route, full trunks too, or as it was."""
        external = self._config.calls.external_dial
        to = normalise(self._numbering, number)
        trunks = list_all_trunks(self._catalogue.current, to, plain_number(caller), datetime.now(UTC), lot)
        return trunks or (_one_way(external.format(number=number)) if external else ())

    async def _allowed(self, agi: Any, number: str) -> Callable[[], Awaitable[None]] | None:
        """Let a number through that is always allowed: no ledger, no limit, no charge."""
        calls = self._config.calls
        dials = self._ways_outside(number, agi.variables.get("agi_callerid", ""), agi.variables["agi_uniqueid"])
        if calls.always_allowed_dial:
            dials = _one_way(calls.always_allowed_dial.format(number=number))
        elif not dials:
            named = sa.select(tables.subscriber).where(Directory.is_named_by([number]))
            rows: Deferred[Any] = maybeDeferred(self._reader.fetch, named)
            try:
                read = await self._settlement.updates.with_timeout(rows, calls.decision_seconds)
                callee = Directory(map(subscriber_from_row, read)).find_callee(number)
            except (StoreUnavailable, TimeoutError):
                rows.addErrback(lambda _late: None)
                dials = self._ways_without_ledger(number, "", "")
            else:
                dials = () if callee is None else _one_way(dial_string(calls.internal_dial, callee))
            if not dials:
                _LOG.error("{number} is always allowed, but there is no way to it", number=number)
                await refuse(agi, self._config.prompts, BillerError.code)
                return None
        _LOG.info("Let {number} through: it is always allowed", number=number)
        self._metrics.calls.count_authorization(ALWAYS_ALLOWED)
        return partial(self._dial_allowed, agi, dials)

    async def _dial_allowed(self, agi: Any, dials: Sequence[TrunkDial]) -> None:
        """Dial by each way until one does not fail: each has the whole time to ring."""
        calls = self._config.calls
        await set_variable(agi, channel_variables.RESULT, "GRANTED")
        for place, each in enumerate(dials, 1):
            await agi.execute("DIAL", f"{each.dial},{calls.ring_seconds},{calls.dial_options}{_shown_caller(each)}")
            if place == len(dials) or agi.hungup or not self._fails_over(await read_report(agi)):
                return

    async def _dial(self, way: _Way, dials: Sequence[TrunkDial], seconds: int, grant: CallGrant | None) -> None:
        """Dial with both limits; then settle by what the channel says of the last Dial.

        The absolute time-out counts from now, so it includes the ringing until AMI sets it again at the answer; it
        survives transfers. ``L`` counts from the answer and works without AMI.
        """
        calls, question, agi = self._config.calls, way.question, way.agi
        monitor = self._monitors.get(question.server)
        options = f"{calls.dial_options}L({seconds * 1000})"
        stamp = argument_of(agi, _STAMP)
        if stamp is not None:
            options += f"U({stamp})"
        try:
            may_dial = await self._prepare(way, seconds, grant, monitor)
        except (ConnectionClosed, AgiProtocolError):
            self._abandon(grant, monitor, "the channel was gone before it was dialled")
            raise
        if not may_dial:
            self._abandon(grant, monitor, "the channel was gone before it was dialled")
            return
        report = None
        try:
            report, began = await self._dial_in_turn(way, dials, options, grant)
        finally:
            if report is None and monitor is not None:
                monitor.session_lost(question.uniqueid)
        if report is None:  # its hangup and AMI are left to say how it ended
            return
        if monitor is not None:
            report = monitor.correct(question.uniqueid, report)
        report, was_clock_set = self._limit(report, question, began)
        is_transferred = report.answered and report.talk_ms is None and not was_clock_set
        if is_transferred and monitor is not None and monitor.connected and grant is not None:
            # The caller was transferred: their channel lives on, and they pay to its end, which AMI reports.
            monitor.transferred(question.uniqueid)
            _LOG.info("Channel {uniqueid!r} was transferred; it is charged at its end", uniqueid=question.uniqueid)
            return
        await _limit_rest(way, seconds, report)
        late, leg = (question, None) if grant is None else (None, grant.call.leg)
        end = Terminate(question.server, question.uniqueid, Witness.AGI, report, unauthorized_request=late, leg=leg)
        settled = await self._settlement.settle(end)
        if settled is not None and not is_transferred and not way.agi.hungup:
            # The dialplan may go on, with a prompt or another Dial: the limit was this call's.
            await way.guard.attempt(partial(agi.setAutoHangup, 0), "taking its limit back")

    async def _dial_in_turn(
        self, way: _Way, dials: Sequence[TrunkDial], options: str, grant: CallGrant | None
    ) -> tuple[CallReport | None, tuple[float, datetime]]:
        """Dial by one way after the other until one does not fail; return the report of the last, and its beginning.

        All together ring no longer than one would. Each next one is recorded before it is dialled.
        """
        calls, agi, last = self._config.calls, way.agi, dials[0]
        rings_until = self._clock.seconds() + calls.ring_seconds
        ring_seconds = calls.ring_seconds
        while True:
            began = (monotonic(), datetime.now(UTC))
            report = await self._dial_and_read(way, f"{last.dial},{ring_seconds},{options}{_shown_caller(last)}")
            if len(dials) == 1 or report is None or agi.hungup or not self._fails_over(report):
                return report, began
            taken = await self._take_next(way, dials, report, grant)
            ring_seconds = int(rings_until - self._clock.seconds())
            if taken is None or ring_seconds < 1 or agi.hungup:
                return report, began
            dials, last = dials[dials.index(taken) :], taken
            # What the channel says of the last Dial must not be taken for this one's.
            clear = partial(agi.execute, "MSET", *(f"{name}=" for name in _OF_LAST_DIAL))
            await way.guard.attempt(clear, "clearing of its last Dial")

    def _fails_over(self, report: CallReport) -> bool:
        """Return whether a Dial that ended so is followed by one of the next trunk."""
        status, _, _ = report.outcome.partition(" ")
        return not report.answered and not {status, report.outcome}.isdisjoint(self._config.calls.failover_on)

    async def _take_next(
        self, way: _Way, dials: Sequence[TrunkDial], report: CallReport, grant: CallGrant | None
    ) -> TrunkDial | None:
        """Record the next trunk that can take the call, and return it; ``None``: there is none, or it is not recorded.

        Without an authorization there is nothing to record it in.
        """
        failed, *others = dials
        self._metrics.calls.count_failover(failed.name, report.outcome.partition(" ")[0])
        reason: object = ""
        taken = others[0]
        if grant is not None:
            call, seconds = grant.call, self._config.calls.decision_seconds
            wish = TakeTrunk(
                call.server, call.uniqueid, call.leg, failed.trunk_id, tuple(each.trunk_id for each in others)
            )
            asked = self._ask_ledger(lambda: self._store.charge(wish), self._clock.seconds() + seconds)
            hangup: Deferred[None] = getattr(way.agi, "whenHungUp", Deferred)()
            try:
                now_by = await self._settlement.updates.with_timeout(asked, seconds, until=hangup)
                taken = next(each for each in others if each.trunk_id == now_by.trunk_id)
            except (BillerError, TimeoutError) as error:
                asked.addErrback(lambda _late: None)
                reason = str(error) or type(error).__name__
            except Exception:  # noqa: BLE001  the call ends as it stands
                way.guard.count_fault("taking of the next trunk")
                reason = "a fault"
        _LOG.info(
            "Trunk {failed} failed with {outcome} for channel {uniqueid!r}; {next}",
            failed=failed.name,
            outcome=report.outcome,
            uniqueid=way.question.uniqueid,
            next=f"no other is dialled: {reason}" if reason else f"{taken.name} is dialled",
        )
        return None if reason else taken

    async def _dial_and_read(self, way: _Way, words: str) -> CallReport | None:
        """Dial, and return what the channel says of it; ``None`` when it says nothing.

        A Dial that failed before it began, which no DIALSTATUS shows, is answered as calls.on_failure says.
        """
        for _ in range(2 if self._config.calls.on_failure == "allow" else 1):
            dialled = await way.guard.attempt(partial(way.agi.execute, "DIAL", words), "Dial")
            report = await way.guard.attempt(partial(read_report, way.agi), "reading of its end", tries=2)
            if dialled is not None or report is None or report.outcome.strip("0123456789"):
                return report
        await set_result(way.agi, BillerError.code)
        return report

    async def _prepare(self, way: _Way, seconds: int, grant: CallGrant | None, monitor: AmiLink | None) -> bool:
        """Set the result and the limit on the channel; return whether it may be dialled now."""
        question, limit_seconds = way.question, self._config.calls.ring_seconds + seconds
        words = {channel_variables.SECONDS: str(seconds), channel_variables.RESULT: GRANTED}
        if way.has_limit:
            words[channel_variables.LIMIT] = str(limit_seconds)
        if way.has_dialled:  # what the channel says of its last Dial must not be taken for this one's
            words |= dict.fromkeys(_OF_LAST_DIAL, "")
        if grant is None:
            words[channel_variables.LET_GO] = f"{question.authorization}:{plain_number(question.called_number)}"
        return await self._set_words(way, words, grant, monitor) and (
            way.has_limit or await self._set_limit(way, limit_seconds)
        )

    async def _set_words(
        self, way: _Way, words: dict[str, str], grant: CallGrant | None, monitor: AmiLink | None
    ) -> bool:
        """Set variables of the channel; return whether it may be dialled, also where some could not be set."""
        question = way.question
        try:
            if monitor is not None and grant is not None:
                monitor.watch(grant.call)
            is_set = way.agi.execute("MSET", *(f"{name}={value}" for name, value in words.items()))
            if grant is not None:
                self._log_grant(question, grant)  # while Asterisk answers
            await is_set
        except (ConnectionClosed, AgiProtocolError):
            raise
        except Exception as fault:  # noqa: BLE001  one by one, what can be set is set
            if not isinstance(fault, AgiCommandRefused):
                way.guard.count_fault("setting its limit")
                if self._config.calls.on_failure != "allow":
                    await refuse(way.agi, self._config.prompts, BillerError.code)
                    return False
            for name, value in words.items():
                await way.guard.attempt(partial(set_variable, way.agi, name, value), f"setting {name}")
        return True

    @staticmethod
    async def _set_limit(way: _Way, seconds: int) -> bool:
        """Limit a channel whose Asterisk lacks func_timeout; return whether it is still there to be dialled."""
        try:
            await way.agi.setAutoHangup(seconds)
        except (ConnectionClosed, AgiProtocolError):
            raise
        except AgiCommandRefused as refusal:
            if refusal.status == DEAD:
                return False
            reason = str(refusal)
            _LOG.warn("Channel {channel!r} has Dial's limit only: {error}", channel=way.question.channel, error=reason)
        except Exception:  # noqa: BLE001  Dial has a limit of its own
            way.guard.count_fault("setting its limit")
        return True

    def _abandon(self, grant: CallGrant | None, monitor: AmiLink | None, note: str) -> None:
        """End a call that was not dialled."""
        if grant is None:
            return
        if monitor is not None:
            monitor.session_lost(grant.call.uniqueid)
        self._release(grant, note)

    @staticmethod
    def _limit(report: CallReport, question: Initiate, began: tuple[float, datetime]) -> tuple[CallReport, bool]:
        """Limit a doubtful talk by how long the Dial lasted; return as well whether the clock was set during it.

        ANSWEREDTIME_MS counts from the answer of the caller's channel, so it is too much where that was up before, as
        in the second call of one channel; and Asterisk reckons it by a clock that may be set.
        """
        lasted = monotonic() - began[0]  # the clock of the reactor may be set
        was_clock_set = abs((datetime.now(UTC) - began[1]).total_seconds() - lasted) > _CLOCK_SET_SECONDS
        if not report.answered or not (was_clock_set or question.answered_early or report.talk_ms is None):
            return report, was_clock_set
        return replace(report, lasted_ms=int(lasted * 1000) + 1), was_clock_set

    def _log_grant(self, question: Initiate, grant: CallGrant) -> None:
        """Write the one line of the decision."""
        _LOG.info(
            "Granted {seconds} s to {user} for {called}, call {reference}",
            seconds=grant.seconds,
            user=grant.subscriber.username,
            called=shorten(question.called_number),
            reference=grant.call.reference,
        )
        self._metrics.calls.count_authorization(GRANTED)


def _one_way(dial: str) -> Sequence[TrunkDial]:
    """Return a dial string as the only way: of no trunk."""
    return (TrunkDial(0, "", dial),)


def _shown_caller(way: TrunkDial) -> str:
    """Return the option of Dial that sets which caller's number is sent, where the trunk has a rule of it.

    The channel keeps its own: by that the payer is known.
    """
    return f"f({way.caller_id})" if way.caller_id else ""


async def _limit_rest(way: _Way, seconds: int, report: CallReport) -> None:
    """Limit a caller who was transferred without AMI to what is left: their limit still has the time to ring in it."""
    if report.answered and report.talk_ms is None and report.answered_at is not None:
        talked_seconds = max(0.0, (report.at - report.answered_at).total_seconds())
        left = max(1, round(seconds - talked_seconds))
        await way.guard.attempt(partial(way.agi.setAutoHangup, left), "limiting what is left")
