"""Close overdue calls, messages, data sessions. A fault in one is logged once, and stops none of the others."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from twisted.logger import Logger

from celcombiller.core.charging.requests import Terminate
from celcombiller.core.data.session_queries import silent_sessions
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.model.calls import Witness
from celcombiller.core.sms import outbox_queue
from celcombiller.core.voice.asterisk_heartbeat import server_last_seen
from celcombiller.core.voice.call_queries import overdue_calls
from celcombiller.core.voice.evidence import estimated_report
from celcombiller.runtime.log.charging import log_message_outcome
from celcombiller.runtime.log.faults import FaultLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.config.tables import Config
    from celcombiller.core.data.accounting_reports import StaleSession
    from celcombiller.core.model.calls import Call
    from celcombiller.core.sms.charging import MessageOutcome
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.metrics import Metrics

T = TypeVar("T")


_LOG = Logger()


_FAULTS = FaultLog(_LOG)


OVERDUE_MAX = 1000


async def close_overdue(
    store: BatchWriter,
    monitors: Mapping[str, AmiLink],
    now: datetime,
    metrics: Metrics,
    excess_age: Callable[[datetime], timedelta] = lambda _at: timedelta(),
) -> None:
    """End calls whose hold's validity ran out; where an AMI link is up, its sweep knows better and does it.

    A call that began before a step of the clock has as much longer: ``excess_age`` (`ClockSteps.excess_age`).
    """

    async def close(call: Call) -> None:
        monitor = monitors.get(call.server)
        if monitor is not None and monitor.connected:
            return
        seen_at = await store.transact(partial(server_last_seen, name=call.server))
        ending = estimated_report(call, call.answered_at, max(seen_at or call.started_at, call.started_at))
        end = Terminate(call.server, call.uniqueid, Witness.SWEEP, ending, leg=call.leg, expired=True)
        metrics.calls.count_end(Witness.SWEEP, await store.charge(end))

    overdue = await store.transact(lambda tx: _overdue(tx, now, excess_age))
    await _close_each(overdue, close, lambda call: f"The end of overdue call {call.reference}")


def _overdue(tx: Connection, now: datetime, excess_age: Callable[[datetime], timedelta]) -> list[Call]:
    calls = overdue_calls(tx, now, limit=OVERDUE_MAX)
    ages = {excess_age(call.started_at) for call in calls}
    overdue = {age: {call.reference for call in overdue_calls(tx, now - age, limit=OVERDUE_MAX)} for age in ages if age}
    return [call for call in calls if call.reference in overdue.get(excess_age(call.started_at), {call.reference})]


async def expire_messages(store: BatchWriter, now: datetime, metrics: Metrics) -> None:
    """End messages whose time ran out; also when `[sms]` names no way any more, for the sake of what they hold."""

    async def expire(outcome: MessageOutcome) -> None:
        log_message_outcome(_LOG, metrics, await store.charge(outcome))

    overdue = await store.transact(lambda tx: outbox_queue.overdue(tx, now, limit=OVERDUE_MAX))
    await _close_each(overdue, expire, lambda outcome: f"The expiry of message {outcome.reference}")


async def close_silent(store: BatchWriter, reader: Reader, config: Config, now: datetime) -> None:
    """Close data sessions without a report; also without clients in `[radius]`, to release what the sessions hold."""

    async def close(silence: StaleSession) -> None:
        closed = await store.charge(silence)
        if closed is not None:
            _LOG.warn("{nas}: session {session!r}: {note}", nas=closed.nas, session=closed.session_id, note=closed.note)

    before = now - config.radius.conditions.silence
    silent = await reader.read(partial(silent_sessions, heard_before=before, limit=OVERDUE_MAX))
    await _close_each(silent, close, lambda silence: f"The end of silent data session {silence.reference}")


async def _close_each(items: Sequence[T], close: Callable[[T], Awaitable[None]], name: Callable[[T], str]) -> None:
    for item in items:
        try:
            await close(item)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one fault must not stop the round
            _FAULTS.report(name(item), error)
