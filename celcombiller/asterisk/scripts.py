"""What the dialplan asks of the biller over FastAGI: ``caller`` instead of Dial, ``reducer`` at hangup, ``balance``.

A script is a conversation with one channel. It owns no credit: it asks the ledger's door and does what it says. The
first thing it does is a question with a number in it that cannot be guessed: lines that a phone smuggled into the
environment would stand before the answer, and end the session (`celcombiller.asterisk.agi_codec` refuses them).
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.asterisk import balance_prompts, channel_variables
from celcombiller.asterisk.agi_codec import AgiCommandRefused, AgiProtocolError
from celcombiller.asterisk.agi_server import arguments_of, ask, set_variable
from celcombiller.asterisk.pending_updates import PendingUpdates
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.errors import BillerError, StoreUnavailable, UnknownCall, UnknownSubscriber
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import CallGrant, CallReport, CallState, Settlement, Witness
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.fields import NUMBER
from celcombiller.core.subscribers.subscriber_records import subscriber_from_row
from celcombiller.runtime.charging_log import log_settlement
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.metrics.calls import ALLOWED_ON_FAILURE, ALWAYS_ALLOWED, GRANTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from twisted.python.failure import Failure

    from celcombiller.asterisk.call_monitor import CallMonitor
    from celcombiller.asterisk.sms_script import SmsScript
    from celcombiller.config.tables import Config
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader

_STAMP = re.compile(r"stamp=([A-Za-z0-9_-]{1,79})")


_QUIET = "quiet"
"""The argument of ``balance`` that has it set variables only."""


_UP = {"Up", "6"}


_ASK_AGAIN_SECONDS = 0.25


ENDED_MAX = 1000
"""Calls settled here whose reducer is remembered to be due; it comes in a moment, or not at all."""


class Scripts:
    """The scripts, and the calls whose Dial is running in this process."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        config: Config,
        store: BatchWriter,
        reader: Reader,
        monitors: Mapping[str, CallMonitor],
        metrics: Metrics | None = None,
    ) -> None:
        self._clock = clock
        self._config = config
        self._store = store
        self._reader = reader
        self._monitors = monitors
        self._metrics = metrics or Metrics()
        self.settling = PendingUpdates(clock)
        self._ended: dict[tuple[str, str], CallReport] = {}
        self._named: dict[str, Any] = {"caller": self.caller, "reducer": self.reducer, "balance": self.balance}

    async def __call__(self, agi: Any) -> None:
        """Run the script that the dialplan named: ``agi://host/caller``."""
        path = agi.variables.get("agi_network_script", "") or agi.variables.get("agi_request", "").rpartition("/")[2]
        name = path.partition("?")[0].strip("/")
        script = self._named.get(name)
        if script is None:
            known = ", ".join(self._named)
            self._log.warn("No AGI script is called {name!r}; there are {known}", name=name[:80], known=known)
            return
        await script(agi)

    def take_texts(self, texts: SmsScript) -> None:
        """Take the script ``sms``, which serves the messages that phones send."""
        self._named["sms"] = texts

    # -- caller -------------------------------------------------------------------------------------------------

    async def caller(self, agi: Any) -> None:
        """Decide, dial with the limit, settle. Whatever goes wrong in deciding, the channel has a result."""
        try:
            dial = await self._decided(agi)
        except (ConnectionClosed, AgiProtocolError):
            raise
        except Exception:  # noqa: BLE001  the dialplan waits for a result
            self._log.failure("No decision for channel {uniqueid!r}", uniqueid=agi.variables.get("agi_uniqueid", ""))
            self._metrics.calls.count_authorization(BillerError.code)
            await self._refuse(agi, BillerError.code)
            return
        if dial is not None:
            await dial()

    async def _decided(self, agi: Any) -> Callable[[], Awaitable[None]] | None:
        """Decide, and return what dials; ``None`` when the channel was told that it may not."""
        state, code, limit, *previous = await ask(
            agi,
            *("${CHANNEL(state)}", "${CHANNEL(accountcode)}", f"${{{channel_variables.LIMIT}}}"),
            *("${DIALSTATUS}", "${ANSWEREDTIME_MS}"),
        )
        has_limit = limit != ""
        if not state:  # func_channel is not loaded
            state = str(await agi.channelStatus())
            code = agi.variables.get("agi_accountcode", "")
        number = agi.variables["agi_extension"]
        if number in self._config.calls.always_allowed:
            return await self._allowed(agi, number)
        question = Initiate(
            server=self._server(agi),
            uniqueid=agi.variables["agi_uniqueid"],
            authorization=secrets.token_hex(8),
            channel=agi.variables.get("agi_channel", ""),
            account_code=code or "",
            caller_number=agi.variables.get("agi_callerid", ""),
            called_number=number,
            answered_early=state in _UP,
            previous=_ending(previous[0], previous[1], None, datetime.now(UTC)),
        )
        self._ended.pop((question.server, question.uniqueid), None)
        try:
            grant = await self._decide(question)
        except (StoreUnavailable, TimeoutError) as error:
            return await self._without_decision(agi, question, error, has_limit=has_limit)
        except BillerError as refusal:
            self._log.info(
                "Refused {called} to {caller}: {code}, {reason}",
                called=_tail(number),
                caller=_tail(question.caller_number),
                code=refusal.code,
                reason=str(refusal),
            )
            self._metrics.calls.count_authorization(refusal.code)
            await self._refuse(agi, refusal.code)
            return None
        except Exception as fault:  # noqa: BLE001  the failure policy is for faults too
            return await self._without_decision(agi, question, fault, has_limit=has_limit)
        if grant.callee is None:
            dial = self._config.calls.external_dial.format(number=number)
        else:
            dial = _dial_to(self._config.calls.internal_dial, grant.callee)
        return partial(self._dial, agi, question, dial, grant.seconds, grant, has_limit=has_limit)

    async def _decide(self, question: Initiate) -> CallGrant:
        """Ask the ledger, but not for ever. A grant that comes too late is given back."""
        seconds = self._config.calls.decision_seconds
        asked = self._ask_ledger(question, self._clock.seconds() + seconds)
        try:
            with self._metrics.calls.authorization_seconds.time():
                return await self.settling.with_timeout(asked, seconds)
        except TimeoutError:
            asked.addCallbacks(self._give_back, lambda _refusal: None)
            raise

    def _ask_ledger(self, question: Initiate, ends_at: float) -> Deferred[CallGrant]:
        """Ask again while there is time: a database that restarts, or hands over to another, need not cost a call."""

        def later(failure: Failure) -> Deferred[CallGrant]:
            failure.trap(StoreUnavailable)
            if self._clock.seconds() + _ASK_AGAIN_SECONDS >= ends_at:
                failure.raiseException()
            waiting: Deferred[None] = deferLater(self._clock, _ASK_AGAIN_SECONDS)
            return waiting.addCallback(lambda _: self._ask_ledger(question, ends_at))

        asked = self._store.charge(question)
        return asked.addErrback(later)

    def _give_back(self, grant: CallGrant) -> None:
        """Release what was granted too late; the leg is named, as the dialplan may have asked again since."""
        call = grant.call
        late = CallReport(answered=False, at=datetime.now(UTC), note="decided too late to be dialled")
        self._begin_settling(Terminate(call.server, call.uniqueid, Witness.AGI, late, leg=call.leg))

    async def _without_decision(
        self, agi: Any, question: Initiate, error: Exception, *, has_limit: bool
    ) -> Callable[[], Awaitable[None]] | None:
        """Do as the failure policy says: deny, or let go and charge when the ledger is back."""
        calls = self._config.calls
        dial = self._way_without_ledger(question.called_number)
        allow = calls.on_failure == "allow" and dial != "" and NUMBER.fullmatch(question.called_number)
        expected = isinstance(error, StoreUnavailable | TimeoutError)
        say = self._log.error if expected else self._log.failure
        say(
            "No decision for channel {uniqueid!r}: {error}; {what} as calls.on_failure says",
            uniqueid=question.uniqueid,
            error=(expected and str(error)) or type(error).__name__,
            what="allowed" if allow else "denied",
        )
        self._metrics.calls.count_authorization(ALLOWED_ON_FAILURE if allow else BillerError.code)
        if allow:
            return partial(self._dial, agi, question, dial, calls.max_call_seconds, None, has_limit=has_limit)
        await self._refuse(agi, BillerError.code)
        return None

    def _way_without_ledger(self, number: str) -> str:
        """Return what to dial for a number of which nothing is known; empty when that takes the ledger."""
        calls = self._config.calls
        if calls.external_dial:
            return calls.external_dial.format(number=number)
        if "{imsi}" in calls.internal_dial or "{username}" in calls.internal_dial:
            return ""
        return calls.internal_dial.format(clid=number)

    async def _allowed(self, agi: Any, number: str) -> Callable[[], Awaitable[None]] | None:
        """Let a number through that is always allowed: no ledger, no limit, no charge."""
        calls = self._config.calls
        template = calls.always_allowed_dial or calls.external_dial
        if template:
            dial = template.format(number=number)
        else:
            table = tables.subscriber
            try:
                rows = await self._reader.fetch(sa.select(table).where(table.c.clid == number))
            except StoreUnavailable:
                dial = self._way_without_ledger(number)
            else:
                dial = _dial_to(calls.internal_dial, subscriber_from_row(rows[0])) if rows else ""
            if not dial:
                self._log.error("{number} is always allowed, but there is no way to it", number=number)
                await self._refuse(agi, BillerError.code)
                return None
        self._log.info("Let {number} through: it is always allowed", number=number)
        self._metrics.calls.count_authorization(ALWAYS_ALLOWED)
        return partial(self._dial_allowed, agi, dial)

    async def _dial_allowed(self, agi: Any, dial: str) -> None:
        calls = self._config.calls
        await set_variable(agi, channel_variables.RESULT, "GRANTED")
        await agi.execute("DIAL", f"{dial},{calls.ring_seconds},{calls.dial_options}")

    async def _refuse(self, agi: Any, code: str) -> None:
        await set_variable(agi, channel_variables.RESULT, code)
        prompt = getattr(self._config.prompts, code.lower(), "")
        if prompt:
            try:
                await agi.streamFile(prompt)
            except (AgiCommandRefused, ConnectionClosed) as error:
                self._log.warn("The prompt {prompt!r} was not played: {error}", prompt=prompt, error=str(error))

    async def _dial(
        self, agi: Any, question: Initiate, dial: str, seconds: int, grant: CallGrant | None, *, has_limit: bool
    ) -> None:
        """Dial with both limits; then settle by what the channel says of the Dial.

        The absolute time-out counts from now, so it includes the ringing until AMI sets it again at the answer; it
        survives transfers. ``L`` counts from the answer and works without AMI.
        """
        calls = self._config.calls
        monitor = self._monitors.get(question.server)
        options = f"{calls.dial_options}L({seconds * 1000})"
        stamp = next(filter(None, map(_STAMP.fullmatch, arguments_of(agi))), None)
        if stamp is not None:
            options += f"U({stamp[1]})"
        if monitor is not None and grant is not None:
            monitor.watch(grant.call)
        try:
            words = [f"{channel_variables.SECONDS}={seconds}", f"{channel_variables.RESULT}=GRANTED"]
            if has_limit:
                words.append(f"{channel_variables.LIMIT}={calls.ring_seconds + seconds}")
            is_set = agi.execute("MSET", *words)
            if grant is not None:
                self._tell_granted(question, grant)  # while Asterisk answers
            await is_set
            if not has_limit:
                await agi.setAutoHangup(calls.ring_seconds + seconds)
            await agi.execute("DIAL", f"{dial},{calls.ring_seconds},{options}")
            ending = await self._ending(agi)
        except Exception:
            if monitor is not None:
                monitor.session_lost(question.uniqueid)
            raise
        if ending.answered and ending.talk_ms is None and monitor is not None and monitor.connected:
            # The caller was transferred: their channel lives on, and they pay to its end, which AMI reports.
            monitor.transferred(question.uniqueid)
            self._log.info("Channel {uniqueid!r} was transferred; it is charged at its end", uniqueid=question.uniqueid)
            return
        end = Terminate(
            question.server,
            question.uniqueid,
            Witness.AGI,
            ending,
            unauthorized_request=None if grant is not None else question,
        )
        settled = await self._settle(end)
        if settled is not None and not getattr(agi, "hungup", False):
            # The dialplan may go on, with a prompt or another Dial: the limit was this call's.
            with suppress(AgiCommandRefused):
                await agi.setAutoHangup(0)

    def _tell_granted(self, question: Initiate, grant: CallGrant) -> None:
        """Write the one line of the decision."""
        self._log.info(
            "Granted {seconds} s to {user} for {called}, call {reference}",
            seconds=grant.seconds,
            user=grant.subscriber.username,
            called=_tail(question.called_number),
            reference=grant.call.reference,
        )
        self._metrics.calls.count_authorization(GRANTED)

    # -- reducer and balance ------------------------------------------------------------------------------------

    async def reducer(self, agi: Any) -> None:
        """Report the end of this channel's call: confirm what ``caller`` settled, or settle it now.

        Where ``caller`` settled it here, the charge is durable already, and the dialplan does not wait.
        """
        ending = await self._ending(agi)
        end = Terminate(self._server(agi), agi.variables["agi_uniqueid"], Witness.REDUCER, ending)
        known = self._ended.pop((end.server, end.uniqueid), None)
        if known is not None and replace(known, at=ending.at) == ending:
            self._begin_settling(end, deferrable=True)
        else:
            settlement = await self._settle(end)
            if settlement is None or settlement.call.state is CallState.OPEN:
                return
        await set_variable(agi, channel_variables.SETTLED, "1")

    async def balance(self, agi: Any) -> None:
        """Report the caller's available balance: in channel variables, and aloud unless the dialplan wants it quiet.

        It only reads. Without a prompt, who is refused hears nothing here; the dialplan knows by the result.
        """
        (code,) = await ask(agi, "${CHANNEL(accountcode)}")
        words = [code or agi.variables.get("agi_accountcode", ""), agi.variables.get("agi_callerid", "")]
        asked: Deferred[Mapping[str, int] | None] = Deferred.fromCoroutine(self._available(*words))
        try:
            available = await self.settling.with_timeout(asked, self._config.calls.decision_seconds)
        except Exception as error:  # noqa: BLE001  the dialplan waits for a result, whatever it is
            expected = isinstance(error, StoreUnavailable | TimeoutError)
            say = self._log.error if expected else self._log.failure
            reason = str(error) or type(error).__name__
            say("Nobody can be told his balance: {error}", error=reason)
            asked.addErrback(lambda _late: None)
            await self._refuse(agi, BillerError.code)
            return
        if available is None:
            await self._refuse(agi, UnknownSubscriber.code)
            return
        voice = available[Kind.VOICE]
        told = {
            channel_variables.VOICE_BALANCE: voice,
            channel_variables.DATA_BALANCE: available[Kind.DATA],
            channel_variables.SMS_BALANCE: available[Kind.SMS],
            channel_variables.BALANCE: voice,
        }
        await agi.execute("MSET", *(f"{name}={value}" for name, value in told.items()))
        if _QUIET not in arguments_of(agi):
            await self._say_balance(agi, available)

    async def _available(self, code: str, number: str) -> Mapping[str, int] | None:
        """Return what the subscriber of this account code or number has available of each kind."""
        rows = await self._reader.fetch(sa.select(tables.subscriber).where(Directory.is_named_by((code, number))))
        payer = Directory(map(subscriber_from_row, rows)).find_payer(code, number)
        if payer is None:
            return None
        table = tables.account
        available = (table.c.posted - table.c.held - table.c.floor).label("available")
        accounts = await self._reader.fetch(sa.select(table.c.kind, available).where(table.c.subscriber_id == payer.id))
        return {row.kind: row.available for row in accounts}

    async def _say_balance(self, agi: Any, available: Mapping[str, int]) -> None:
        settings = self._config.balance
        try:
            await agi.answer()
        except (AgiCommandRefused, ConnectionClosed):  # the caller has hung up
            return
        words = [
            *balance_prompts.balance(available[Kind.VOICE], settings.style, intro=settings.intro, unit=settings.unit)
        ]
        if self._config.sms.terms.account is Kind.SMS:
            words += balance_prompts.messages(available[Kind.SMS], unit=settings.sms_unit)
        lacking = await balance_prompts.say(agi, words)
        if lacking:
            self._log.warn(
                "A balance was told without {sounds}: no such sounds in {language!r}",
                sounds=", ".join(f"{each.verb} {each.what}" for each in lacking),
                language=agi.variables.get("agi_language", ""),
            )

    # -- settling -----------------------------------------------------------------------------------------------

    async def _settle(self, end: Terminate) -> Settlement | None:
        """Settle, and wait for it as long as a call may wait; what takes longer goes on without the channel."""
        try:
            return await self.settling.with_timeout(self._begin_settling(end), self._config.calls.decision_seconds)
        except TimeoutError:
            return None

    def _begin_settling(self, end: Terminate, *, deferrable: bool = False) -> Deferred[Settlement | None]:
        """Begin to charge the end of an answered call, and try until it is recorded."""
        return self.settling.submit(
            partial(self._tell, end, deferrable=deferrable), f"The end of channel {end.uniqueid!r}"
        )

    def _tell(self, end: Terminate, *, deferrable: bool) -> Deferred[Settlement | None]:
        told = self._store.charge(end, deferrable=deferrable)
        return told.addCallbacks(self._settled, self._refused, (end,), {}, (end,))

    def _refused(self, failure: Failure, end: Terminate) -> None:
        error = failure.value
        if isinstance(error, StoreUnavailable) or not isinstance(error, BillerError):
            failure.raiseException()
        if not isinstance(error, UnknownCall):
            self._log.error(
                "The end of channel {uniqueid!r} was refused: {code}, {reason}",
                uniqueid=end.uniqueid,
                code=error.code,
                reason=str(error),
            )

    def _settled(self, settlement: Settlement, end: Terminate) -> Settlement:
        call = settlement.call
        monitor = self._monitors.get(call.server)
        if call.state is not CallState.OPEN:
            if monitor is not None:
                monitor.closed(call.uniqueid)
            if end.witness is Witness.AGI:
                self._ended[call.server, call.uniqueid] = end.ending
                if len(self._ended) > ENDED_MAX:
                    del self._ended[next(iter(self._ended))]
        log_settlement(self._log, end.witness, settlement)
        self._metrics.calls.count_end(end.witness, settlement)
        return settlement

    # -- small things -------------------------------------------------------------------------------------------

    async def _ending(self, agi: Any) -> CallReport:
        """Read what the channel says of its last Dial, by Asterisk's clock."""
        status, answered_ms, cause, answered, now = await ask(
            agi,
            *("${DIALSTATUS}", "${ANSWEREDTIME_MS}", "${HANGUPCAUSE}", f"${{{channel_variables.ANSWERED}}}"),
            channel_variables.NOW,
        )
        return _ending(status, answered_ms, answered, channel_variables.instant(now) or datetime.now(UTC), cause=cause)

    def _server(self, agi: Any) -> str:
        """Name the Asterisk of a session: by its systemname in the uniqueid, else by its address, else the only one."""
        servers = self._config.asterisk
        prefix = agi.variables["agi_uniqueid"].rpartition("-")[0]
        if prefix in {each.name for each in servers}:
            return str(prefix)
        if len(servers) == 1:
            return servers[0].name
        host = getattr(agi.transport.getPeer(), "host", "")
        by_host = [each.name for each in servers if each.host == host]
        return by_host[0] if len(by_host) == 1 else re.sub(r"[^A-Za-z0-9_.-]", "_", prefix or host or "asterisk")


def _ending(status: str, answered_ms: str, answered: str | None, now: datetime, *, cause: str = "") -> CallReport:
    return CallReport(
        answered=status == "ANSWER",
        at=now,
        talk_ms=channel_variables.milliseconds(answered_ms),
        answered_at=channel_variables.instant(answered),
        outcome=f"{status} {cause}".strip()[:64],
    )


def _dial_to(template: str, callee: Subscriber) -> str:
    return template.format(imsi=callee.imsi, clid=callee.clid, username=callee.username)


def _tail(number: str) -> str:
    """Return the last four digits of a number, which is all that a log may have."""
    return f"…{re.sub('[^0-9A-Za-z]', '', number)[-4:]}"
