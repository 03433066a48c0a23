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
from msgspec import structs
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred  # noqa: A004  Twisted's own name
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi.codec import DEAD, AgiCommandRefused, AgiProtocolError
from celcombiller.asterisk.agi.commands import argument_of, ask, set_variable
from celcombiller.asterisk.ami.event_clock import FRESH_SECONDS
from celcombiller.asterisk.scripts.call_origin import ORIGIN, CallOrigin, paid_text, read_origin
from celcombiller.asterisk.scripts.channel import (
    NAMESPACE,
    Guard,
    dial_string,
    measure_ahead,
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
from celcombiller.core.errors import BadNumber, BillerError, InsufficientBalance, SharedBalance, StoreUnavailable
from celcombiller.core.model.calls import CallGrant, CallReport, CallState, Witness
from celcombiller.core.model.routing import TrunkDial
from celcombiller.core.rating.numbering import normalise
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.number_forms import NUMBER, plain_number
from celcombiller.core.subscribers.subscriber_records import subscriber_from_row
from celcombiller.core.voice.authorization import make_authorization
from celcombiller.runtime.metrics.calls import ALLOWED_ON_FAILURE, ALWAYS_ALLOWED, GRANTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.live_control.control import LiveControl
    from celcombiller.asterisk.outage.control import LedgerlessCall, OutageControl
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
    *(f"${{{channel_variables.ANSWERED}}}", channel_variables.NOW),
    *ORIGIN,
)
"""What is asked of a channel before the decision."""

_OF_LAST_DIAL = ("DIALSTATUS", "ANSWEREDTIME_MS", channel_variables.ANSWERED, channel_variables.LET_GO)

_AS_MOVED = {"DIALSTATUS": "ANSWER", "ANSWEREDTIME_MS": ""}
"""What the channel of a caller who was transferred says of its own call."""

_PLACE = re.compile(r"[A-Za-z0-9*#+._-]{1,80}@[A-Za-z0-9._-]{1,80}")

_CLOCK_SET_SECONDS = 2.0
"""The clock was set where it and the monotonic clock differ by more than this over one Dial."""

_UP = {"Up", "6"}

_ASK_AGAIN_SECONDS = 0.25

_LEFT_TRIES = 5
"""How often the credit of a caller who sent the callee on is asked for: their first call is settled meanwhile."""

ON_FAILURE = "as calls.on_failure says"

JOURNAL_SECONDS = 2.0
"""How long a caller waits for the line in the journal, after `decision_seconds` for the ledger."""


@dataclass(slots=True)
class _Way:
    """A call on its way: its session, the request, and what the channel has and did before.

    ``let_go``: it goes without the ledger's answer; ``late``: the grant that came while this was decided.
    """

    agi: Any
    guard: Guard
    question: Initiate
    has_limit: bool
    has_dialled: bool
    let_go: bool = False
    is_fresh: bool = True
    """What the channel said of its last Dial, it said just now."""
    late: CallGrant | None = None


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
        control: LiveControl,
        outage: OutageControl,
    ) -> None:
        self._catalogue = catalogue
        self._control = control
        self._outage = outage
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
        asked_at = datetime.now(UTC)
        asked = await guard.attempt(partial(ask, agi, *_STATE), "asking of its state", tries=2)
        state, code, limit, named, status, talk_ms, answered, now, *moves = asked or [""] * len(_STATE)
        previous = _previous_report(status, talk_ms, answered, channel_variables.instant(now), asked_at)
        if not state:  # func_channel is not loaded
            state = str(await guard.attempt(agi.channelStatus, "asking of its state") or "")
            code = agi.variables.get("agi_accountcode", "")
        called_number = argument_of(agi, _NUMBER) or named or agi.variables["agi_extension"]
        number = plain_number(called_number)
        if number in self._config.calls.always_allowed:
            return await self._allowed(agi, number)
        origin = read_origin(agi.variables["agi_uniqueid"], *moves)
        code, caller_number = origin.payer(code or "", agi.variables.get("agi_callerid", ""))
        server = await self._servers.identify(agi)
        dial = await self._dial_for_paid_call(agi, guard, server, origin, code, caller_number, number)
        if dial is not None:
            return dial
        question = Initiate(
            server=server,
            uniqueid=agi.variables["agi_uniqueid"],
            authorization=make_authorization(datetime.now(UTC), urandom(3)),
            channel=agi.variables.get("agi_channel", ""),
            account_code=code,
            caller_number=caller_number,
            called_number=called_number,
            answered_early=state in _UP,
            previous=previous,
            slice_seconds=self._control.slice_seconds(server),
        )
        way = _Way(agi, guard, question, has_limit=limit != "", has_dialled=status != "")
        self._settlement.forget(question.server, question.uniqueid)
        try:
            grant = await self._authorize(way, tries=_LEFT_TRIES if origin.is_left else 1)
        except BillerError as refusal:
            if isinstance(refusal, StoreUnavailable):
                return await self._without_decision(way, refusal)
            self._outage.record_answer()
            await self._refuse(way, refusal)
            return None
        except Exception as fault:  # noqa: BLE001  the failure policy is for faults too
            return await self._without_decision(way, fault)
        self._outage.record_answer()
        self._outage.known.use(grant.subscriber.id, *(() if grant.callee is None else (grant.callee.id,)))
        dials: Sequence[TrunkDial] = grant.trunks
        if not dials:
            calls, callee = self._config.calls, grant.callee
            external = calls.external_dial.format(number=grant.call.to_number)
            dials = _one_way(external if callee is None else dial_string(calls.internal_dial, callee))
        return partial(self._dial, way, dials, grant.seconds, grant)

    async def _refuse(self, way: _Way, refusal: BillerError) -> None:
        """Refuse a call, with its reason in the log."""
        _LOG.info(
            "Refused {called} to {caller}: {code}, {reason}",
            called=shorten(plain_number(way.question.called_number)),
            caller=shorten(way.question.caller_number),
            code=refusal.code,
            reason=str(refusal),
        )
        self._metrics.calls.count_authorization(refusal.code)
        await refuse(way.agi, self._config.prompts, refusal.code)

    async def _authorize(self, way: _Way, *, tries: int) -> CallGrant:
        """Ask the ledger, again where the credit is held by a call that is about to end. Raises what refuses it."""
        for _ in range(tries - 1):
            try:
                return await self._authorize_once(way)
            except InsufficientBalance:
                waiting: Deferred[None] = deferLater(self._clock, _ASK_AGAIN_SECONDS)
                await waiting
        return await self._authorize_once(way)

    async def _authorize_once(self, way: _Way) -> CallGrant:
        """Ask the ledger, but not for ever, and only while the caller waits.

        A grant that comes too late is given back, unless the call goes without it: then its end will need it.
        """
        seconds = self._config.calls.decision_seconds
        asked = self._ask_ledger(partial(self._initiate, way.question), self._clock.seconds() + seconds)
        hangup: Deferred[None] = getattr(way.agi, "whenHungUp", Deferred)()
        began = monotonic()
        try:
            return await self._settlement.updates.with_timeout(asked, seconds, until=hangup)
        except TimeoutError:
            asked.addCallbacks(self._give_back, lambda _refusal: None, callbackArgs=(way,))
            raise
        finally:
            self._metrics.calls.authorization_seconds.observe(monotonic() - began)

    def _initiate(self, question: Initiate) -> Deferred[CallGrant]:
        """Ask for a grant; where other live calls hold the credit, they leave a part, and it is asked once more."""

        def share(failure: Failure) -> Deferred[CallGrant]:
            shared = failure.value
            if not isinstance(shared, SharedBalance):
                failure.raiseException()
            room = Deferred.fromCoroutine(self._control.make_room(shared.subscriber_id))
            return room.addCallback(lambda has_room: self._store.charge(question) if has_room else failure)

        return self._store.charge(question).addErrback(share)

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
        """Release what was granted too late, unless the call goes, or may go, without that."""
        if way.let_go:
            way.late = grant
        else:
            self._release(grant, "decided too late to be dialled")

    def _release(self, grant: CallGrant, note: str) -> None:
        """Release the grant of a call that was not dialled."""
        call = grant.call
        report = CallReport(answered=False, at=datetime.now(UTC), note=note)
        end = Terminate(call.server, call.uniqueid, Witness.AGI, report, leg=call.leg, known=call)
        self._settlement.submit(end)

    async def _without_decision(self, way: _Way, error: Exception) -> Callable[[], Awaitable[None]] | None:
        """Do as `OutageRules` say: deny, or let go and charge when the ledger is back."""
        expected = isinstance(error, StoreUnavailable | TimeoutError)
        reason = (expected and str(error)) or type(error).__name__
        if expected:
            self._outage.record_failure(reason)
        else:
            self._metrics.calls.script_faults.labels("caller").inc()
        say = partial(_LOG.error if expected else _LOG.failure, uniqueid=way.question.uniqueid, error=reason)
        number = plain_number(way.question.called_number)
        dials = self._ways_without_ledger(number, way.question.caller_number, way.question.authorization)
        refusal: BillerError = StoreUnavailable("there is no way to the number without the ledger")
        if dials and NUMBER.fullmatch(number) and not way.agi.hungup:
            way.let_go = True
            try:
                call = await self._let_go(way)
            except BillerError as reason_not:
                refusal = reason_not
            except TimeoutError:
                refusal = StoreUnavailable("the journal did not take it in time, or the caller hung up")
            except Exception:  # noqa: BLE001  what was granted meanwhile is given back, and the caller has an answer
                way.guard.count_fault("deciding without the ledger")
                refusal = StoreUnavailable("a fault of the program")
            else:
                by = f"for {call.seconds} s by [[outage]] {call.rule.prefix!r}" if call.rule.is_bounded else ON_FAILURE
                say("No decision for channel {uniqueid!r}: {error}; allowed {by}", by=by)
                self._metrics.calls.count_authorization(ALLOWED_ON_FAILURE)
                return partial(self._dial, way, dials, call.seconds, None)
            way.let_go = False
            if way.late is not None:
                self._give_back(way.late, way)
        say("No decision for channel {uniqueid!r}: {error}; denied: {why}", why=str(refusal))
        code = BillerError.code if isinstance(refusal, StoreUnavailable) else refusal.code
        self._metrics.calls.count_authorization(code)
        await refuse(way.agi, self._config.prompts, code)
        return None

    async def _let_go(self, way: _Way) -> LedgerlessCall:
        """Return the call that may go without the ledger: its line is in the journal.

        Raises a `BillerError` where it may not, and `TimeoutError` where the journal takes too long.
        """
        asked = Deferred.fromCoroutine(self._outage.let_go(way.question))
        hangup: Deferred[None] = getattr(way.agi, "whenHungUp", Deferred)()
        try:
            return await self._settlement.updates.with_timeout(asked, JOURNAL_SECONDS, until=hangup)
        except TimeoutError:
            asked.addCallbacks(lambda _late: self._outage.withdraw(way.question.authorization), lambda _refused: None)
            raise

    def _ways_without_ledger(self, number: str, caller: str, lot: str) -> Sequence[TrunkDial]:
        """Return what to dial, by what is known of the number; nothing when that takes the ledger."""
        calls, callee = self._config.calls, self._outage.callee_of(number)
        if callee is not None:
            return _one_way(dial_string(calls.internal_dial, callee))
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
            try:
                callee = Directory(map(subscriber_from_row, await self._read(named))).find_callee(number)
            except (StoreUnavailable, TimeoutError):
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

    async def _dial_for_paid_call(
        self, agi: Any, guard: Guard, server: str, origin: CallOrigin, code: str, caller_number: str, number: str
    ) -> Callable[[], Awaitable[None]] | None:
        """Return what dials for a call that is paid already: its caller was transferred, or it dials from within."""
        if origin.is_moved:
            return self._move_on(agi, guard, origin, number)
        if origin.within:
            dials = await self._find_way_within(server, origin.within, code, caller_number, number)
            if dials:
                return partial(self._dial_within, agi, dials)
        return None

    async def _find_way_within(
        self, server: str, uniqueid: str, code: str, caller_number: str, number: str
    ) -> Sequence[TrunkDial]:
        """Return how a number is dialled from within a paid call of the same payer; nothing where there is none.

        A queue, a ring group or another part of the dialplan that was called has the biller asked about each phone that
        it dials: the caller pays for that talk already.
        """
        call = tables.call
        is_paid = (call.c.uniqueid == uniqueid, call.c.server == server, call.c.state == CallState.OPEN)
        named = sa.select(tables.subscriber).where(Directory.is_named_by([code, caller_number, number]))
        try:
            payers = {row.subscriber_id for row in await self._read(sa.select(call.c.subscriber_id).where(*is_paid))}
            directory = Directory(map(subscriber_from_row, await self._read(named)), self._numbering)
        except (StoreUnavailable, TimeoutError):
            return ()
        payer, callee = directory.find_payer(code, caller_number), directory.find_callee(number)
        if payer is None or payer.id not in payers:
            return ()
        if callee is not None:
            return _one_way(dial_string(self._config.calls.internal_dial, callee))
        return self._ways_outside(number, caller_number, uniqueid) if NUMBER.fullmatch(number) else ()

    async def _read(self, query: sa.Select[Any]) -> Sequence[Any]:
        rows: Deferred[Any] = maybeDeferred(self._reader.fetch, query)
        try:
            read: Sequence[Any] = await self._settlement.updates.with_timeout(rows, self._config.calls.decision_seconds)
        except (StoreUnavailable, TimeoutError):
            rows.addErrback(lambda _late: None)
            raise
        return read

    async def _dial_within(self, agi: Any, dials: Sequence[TrunkDial]) -> None:
        """Dial from within a paid call: that call has the limit, and the charge."""
        _LOG.info("Channel {uniqueid!r} is part of a paid call: no other charge", uniqueid=uniqueid_of(agi))
        await set_variable(agi, channel_variables.SETTLED, "1")
        await self._dial_allowed(agi, dials)

    def _move_on(self, agi: Any, guard: Guard, origin: CallOrigin, number: str) -> Callable[[], Awaitable[None]]:
        """Return what sends a caller on who was transferred here.

        Their call goes on, and they pay for it to its end. Whoever transferred them pays for the rest of the way: a
        call of its own, on a channel of its own that runs this place of the dialplan once more.
        """
        place = f"{agi.variables.get('agi_extension', '')}@{agi.variables.get('agi_context', '')}"
        if not _PLACE.fullmatch(place) or not NUMBER.fullmatch(number):
            return partial(refuse, agi, self._config.prompts, BadNumber.code)
        words = {
            f"_{channel_variables.MOVED_BY}": origin.mover,
            f"_{channel_variables.NUMBER}": number,
            "BLINDTRANSFER": "",
        }
        return partial(self._dial_on, agi, guard, f"Local/{place}/n", words)

    async def _dial_on(self, agi: Any, guard: Guard, place: str, words: dict[str, str]) -> None:
        await guard.attempt(partial(_set_many, agi, words), "saying who transferred it")
        dialled = partial(agi.execute, "DIAL", f"{place},{self._config.calls.ring_seconds},g")
        await guard.attempt(dialled, "Dial of where it was transferred")
        # What the channel says of its last Dial is of its own call again.
        await guard.attempt(partial(_set_many, agi, _AS_MOVED), "saying that it was transferred")

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
            self._abandon(way, grant, monitor, "the channel was gone before it was dialled")
            raise
        if not may_dial:
            self._abandon(way, grant, monitor, "the channel was gone before it was dialled")
            return
        report = None
        try:
            report, began = await self._dial_in_turn(way, dials, options, grant)
        finally:
            if report is None:
                self._record_lost_session(question, monitor)
        if report is None:  # its hangup and AMI are left to say how it ended
            return
        if monitor is not None:
            report = monitor.correct(question.uniqueid, report, is_fresh=way.is_fresh)
        report, was_clock_set = self._limit(report, question, began)
        is_transferred = report.answered and report.talk_ms is None and not was_clock_set
        granted = seconds if monitor is None else monitor.granted_seconds(question.uniqueid, seconds)
        if is_transferred and grant is not None and (monitor is not None or stamp is not None):
            await self._leave_transferred(way, granted, report, monitor)
            return
        await _limit_rest(way, granted, report)
        end = self._end_of(question, report, grant, seconds)
        settled = await self._settlement.settle(end)
        if settled is not None and not is_transferred and not way.agi.hungup:
            # The dialplan may go on, with a prompt or another Dial: the limit was this call's.
            await way.guard.attempt(partial(agi.setAutoHangup, 0), "taking its limit back")

    @staticmethod
    async def _leave_transferred(way: _Way, granted: int, report: CallReport, monitor: AmiLink | None) -> None:
        """Leave a call open whose caller was transferred: their channel lives on, and they pay to its end.

        AMI reports it, or the sweep when the link is back, or the hangup handler of the fragment that has the stamp.
        """
        if not _is_heard(monitor):
            await _limit_rest(way, granted, report)
        if monitor is not None:
            monitor.transferred(way.question.uniqueid)
        _LOG.info("Channel {uniqueid!r} was transferred; it is charged at its end", uniqueid=way.question.uniqueid)

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
        for _ in range(2 if way.let_go or self._config.calls.on_failure == "allow" else 1):
            dialled = await way.guard.attempt(partial(way.agi.execute, "DIAL", words), "Dial")
            asked_at = monotonic()
            report = await way.guard.attempt(partial(read_report, way.agi), "reading of its end", tries=2)
            way.is_fresh = monotonic() - asked_at < FRESH_SECONDS
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
        if question.channel.startswith("Local/"):  # or its end would come in mid-call, and the talk go on
            words[channel_variables.KEPT] = "0"
        if grant is not None:
            call = grant.call
            words[f"__{channel_variables.PAID}"] = paid_text(call.from_number, call.to_number, call.uniqueid)
        else:
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

    def _end_of(self, question: Initiate, report: CallReport, grant: CallGrant | None, seconds: int) -> Terminate:
        """Return the request that settles a call which was dialled with a limit of so many seconds."""
        if grant is not None:
            call = grant.call
            return Terminate(call.server, call.uniqueid, Witness.AGI, report, leg=call.leg, known=call)
        self._outage.record_end(question.authorization, Witness.AGI, report)
        end = Terminate(question.server, question.uniqueid, Witness.AGI, report, limit_seconds=seconds)
        return replace(end, unauthorized_request=question)

    def _record_lost_session(self, question: Initiate, monitor: AmiLink | None) -> None:
        """Leave it to other witnesses how a call ended."""
        self._outage.record_loss(question.authorization)
        if monitor is not None:
            monitor.session_lost(question.uniqueid)

    def _abandon(self, way: _Way, grant: CallGrant | None, monitor: AmiLink | None, note: str) -> None:
        """End a call that was not dialled."""
        if grant is None:
            self._outage.withdraw(way.question.authorization)
            way.let_go = False
            if way.late is not None:
                self._give_back(way.late, way)
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
        return structs.replace(report, lasted_ms=int(lasted * 1000) + 1), was_clock_set

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


def _is_heard(monitor: AmiLink | None) -> bool:
    return monitor is not None and monitor.connected


def _one_way(dial: str) -> Sequence[TrunkDial]:
    """Return a dial string as the only way: of no trunk."""
    return (TrunkDial(0, "", dial),)


async def _set_many(agi: Any, words: Mapping[str, str]) -> None:
    """Set several variables of a channel at once."""
    await agi.execute("MSET", *(f"{name}={value}" for name, value in words.items()))


def _previous_report(status: str, talk_ms: str, answered: str, told: datetime | None, asked_at: datetime) -> CallReport:
    """Return how the last Dial of a channel ended, by the biller's clock: by that its next call begins.

    ``told`` is the time that Asterisk said with it, since ``asked_at``.
    """
    report = report_of(status, talk_ms, answered, datetime.now(UTC))
    if told is None or report.answered_at is None:
        return report
    return structs.replace(report, answered_at=report.answered_at - measure_ahead(told, asked_at))


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
