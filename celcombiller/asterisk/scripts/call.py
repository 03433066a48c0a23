"""The script ``caller``: decides, dials with the limit, settles; it stands in place of Dial in the dialplan."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.error import ConnectionClosed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi_codec import AgiCommandRefused, AgiProtocolError
from celcombiller.asterisk.agi_commands import arguments_of, ask, set_variable
from celcombiller.asterisk.scripts.channel import (
    NAMESPACE,
    dial_string,
    read_report,
    refuse,
    report_of,
    shorten,
)
from celcombiller.asterisk.server_identity import ServerNotIdentified
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.model.calls import CallGrant, CallReport, Witness
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.number_forms import NUMBER, plain_number
from celcombiller.core.subscribers.subscriber_records import subscriber_from_row
from celcombiller.runtime.metrics.calls import ALLOWED_ON_FAILURE, ALWAYS_ALLOWED, GRANTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami_link import AmiLink
    from celcombiller.asterisk.scripts.settlement import CallSettlement
    from celcombiller.asterisk.server_identity import ServerIdentity
    from celcombiller.config.tables import Config
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.metrics import Metrics

_LOG = Logger(namespace=NAMESPACE)

_STAMP = re.compile(r"stamp=([A-Za-z0-9_-]{1,79})")

_UP = {"Up", "6"}

_ASK_AGAIN_SECONDS = 0.25


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
    ) -> None:
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
        try:
            dial = await self._decide(agi)
        except (ConnectionClosed, AgiProtocolError):
            raise
        except ServerNotIdentified as error:
            _LOG.error(
                "No decision for channel {uniqueid!r}: {e}", uniqueid=agi.variables["agi_uniqueid"], e=str(error)
            )
            self._metrics.calls.count_authorization(error.code)
            await refuse(agi, self._config.prompts, error.code)
            return
        except Exception:  # noqa: BLE001  the dialplan waits for a result
            _LOG.failure("No decision for channel {uniqueid!r}", uniqueid=agi.variables.get("agi_uniqueid", ""))
            self._metrics.calls.count_authorization(BillerError.code)
            await refuse(agi, self._config.prompts, BillerError.code)
            return
        if dial is not None:
            await dial()

    async def _decide(self, agi: Any) -> Callable[[], Awaitable[None]] | None:
        """Decide, and return what dials; ``None`` when the call was refused."""
        state, code, limit, *previous = await ask(
            agi,
            *("${CHANNEL(state)}", "${CHANNEL(accountcode)}", f"${{{channel_variables.LIMIT}}}"),
            *("${DIALSTATUS}", "${ANSWEREDTIME_MS}"),
        )
        has_limit = limit != ""
        if not state:  # func_channel is not loaded
            state = str(await agi.channelStatus())
            code = agi.variables.get("agi_accountcode", "")
        number = plain_number(agi.variables["agi_extension"])
        if number in self._config.calls.always_allowed:
            return await self._allowed(agi, number)
        question = Initiate(
            server=await self._servers.identify(agi),
            uniqueid=agi.variables["agi_uniqueid"],
            authorization=secrets.token_hex(8),
            channel=agi.variables.get("agi_channel", ""),
            account_code=code or "",
            caller_number=agi.variables.get("agi_callerid", ""),
            called_number=agi.variables["agi_extension"],
            answered_early=state in _UP,
            previous=report_of(previous[0], previous[1], None, datetime.now(UTC)),
        )
        self._settlement.forget(question.server, question.uniqueid)
        try:
            grant = await self._authorize(question)
        except (StoreUnavailable, TimeoutError) as error:
            return await self._without_decision(agi, question, error, has_limit=has_limit)
        except BillerError as refusal:
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
            return await self._without_decision(agi, question, fault, has_limit=has_limit)
        if grant.callee is None:
            dial = self._config.calls.external_dial.format(number=grant.call.to_number)
        else:
            dial = dial_string(self._config.calls.internal_dial, grant.callee)
        return partial(self._dial, agi, question, dial, grant.seconds, grant, has_limit=has_limit)

    async def _authorize(self, question: Initiate) -> CallGrant:
        """Ask the ledger, but not for ever. A grant that comes too late is given back."""
        seconds = self._config.calls.decision_seconds
        asked = self._ask_ledger(question, self._clock.seconds() + seconds)
        try:
            with self._metrics.calls.authorization_seconds.time():
                return await self._settlement.updates.with_timeout(asked, seconds)
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
        self._settlement.submit(Terminate(call.server, call.uniqueid, Witness.AGI, late, leg=call.leg))

    async def _without_decision(
        self, agi: Any, question: Initiate, error: Exception, *, has_limit: bool
    ) -> Callable[[], Awaitable[None]] | None:
        """Do as the failure policy says: deny, or let go and charge when the ledger is back."""
        calls = self._config.calls
        number = plain_number(question.called_number)
        dial = self._way_without_ledger(number)
        allow = calls.on_failure == "allow" and dial != "" and NUMBER.fullmatch(number)
        expected = isinstance(error, StoreUnavailable | TimeoutError)
        say = _LOG.error if expected else _LOG.failure
        say(
            "No decision for channel {uniqueid!r}: {error}; {what} as calls.on_failure says",
            uniqueid=question.uniqueid,
            error=(expected and str(error)) or type(error).__name__,
            what="allowed" if allow else "denied",
        )
        self._metrics.calls.count_authorization(ALLOWED_ON_FAILURE if allow else BillerError.code)
        if allow:
            return partial(self._dial, agi, question, dial, calls.max_call_seconds, None, has_limit=has_limit)
        await refuse(agi, self._config.prompts, BillerError.code)
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
            named = sa.select(tables.subscriber).where(Directory.is_named_by([number]))
            try:
                callee = Directory(map(subscriber_from_row, await self._reader.fetch(named))).find_callee(number)
            except StoreUnavailable:
                dial = self._way_without_ledger(number)
            else:
                dial = "" if callee is None else dial_string(calls.internal_dial, callee)
            if not dial:
                _LOG.error("{number} is always allowed, but there is no way to it", number=number)
                await refuse(agi, self._config.prompts, BillerError.code)
                return None
        _LOG.info("Let {number} through: it is always allowed", number=number)
        self._metrics.calls.count_authorization(ALWAYS_ALLOWED)
        return partial(self._dial_allowed, agi, dial)

    async def _dial_allowed(self, agi: Any, dial: str) -> None:
        calls = self._config.calls
        await set_variable(agi, channel_variables.RESULT, "GRANTED")
        await agi.execute("DIAL", f"{dial},{calls.ring_seconds},{calls.dial_options}")

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
                self._log_grant(question, grant)  # while Asterisk answers
            await is_set
            if not has_limit:
                await agi.setAutoHangup(calls.ring_seconds + seconds)
            await agi.execute("DIAL", f"{dial},{calls.ring_seconds},{options}")
            report = await self._read_report(agi, question)
        except Exception:
            if monitor is not None:
                monitor.session_lost(question.uniqueid)
            raise
        is_transferred = report.answered and report.talk_ms is None
        if is_transferred and monitor is not None and monitor.connected:
            # The caller was transferred: their channel lives on, and they pay to its end, which AMI reports.
            monitor.transferred(question.uniqueid)
            _LOG.info("Channel {uniqueid!r} was transferred; it is charged at its end", uniqueid=question.uniqueid)
            return
        await _limit_rest(agi, seconds, report)
        end = Terminate(
            question.server,
            question.uniqueid,
            Witness.AGI,
            report,
            unauthorized_request=None if grant is not None else question,
        )
        settled = await self._settlement.settle(end)
        if settled is not None and not is_transferred and not getattr(agi, "hungup", False):
            # The dialplan may go on, with a prompt or another Dial: the limit was this call's.
            with suppress(AgiCommandRefused):
                await agi.setAutoHangup(0)

    async def _read_report(self, agi: Any, question: Initiate) -> CallReport:
        report, monitor = await read_report(agi), self._monitors.get(question.server)
        return report if monitor is None else monitor.correct(question.uniqueid, report)

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


async def _limit_rest(agi: Any, seconds: int, report: CallReport) -> None:
    """Limit a caller who was transferred without AMI to what is left: their limit still has the time to ring in it."""
    if report.answered and report.talk_ms is None and report.answered_at is not None:
        talked_seconds = max(0.0, (report.at - report.answered_at).total_seconds())
        with suppress(AgiCommandRefused):
            await agi.setAutoHangup(max(1, round(seconds - talked_seconds)))
