"""Close overdue calls, messages, data sessions. A fault in one is logged once, and stops none of the others."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from twisted.logger import Logger

from celcombiller.core.charging.requests import Terminate
from celcombiller.core.credit_transfers import transfer_records
from celcombiller.core.data.session_queries import silent_sessions
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.model.calls import Witness
from celcombiller.core.sms import outbox_queue
from celcombiller.core.text_commands import command_records
from celcombiller.core.voice.asterisk_heartbeat import server_last_seen, servers_seen
from celcombiller.core.voice.call_queries import Patience, count_overdue, overdue_calls
from celcombiller.core.voice.evidence import estimated_report
from celcombiller.core.voice.live_changes import forget_changes
from celcombiller.runtime.log.charging import log_message_outcome
from celcombiller.runtime.log.faults import FaultLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.cdr_evidence import CdrEvidence
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


ASKED_WITHIN = timedelta(hours=1)
"""How long after the validity of its hold a call is kept for an Asterisk that cannot be asked now."""


HEARD_WITHIN = timedelta(minutes=1)
"""A server that was heard so lately has a link to a biller, here or elsewhere."""


CHANGES_KEPT = timedelta(minutes=10)
"""How long the record of a change that live calls must follow is kept: billers look at it several times a second."""


async def close_overdue(
    store: BatchWriter,
    monitors: Mapping[str, AmiLink],
    now: datetime,
    metrics: Metrics,
    excess_age: Callable[[datetime], timedelta] = lambda _at: timedelta(),
    cdrs: CdrEvidence | None = None,
    *,
    links_begin: bool = False,
) -> None:
    """End calls whose hold's validity ran out and of which Asterisk cannot be asked; report in the log what must wait.

    Where a biller has an AMI link to the server, its sweep asks, and ends a call whose channel is gone. A link that is
    down is waited for: what Asterisk noted of the end is better than an estimate. But not beyond `ASKED_WITHIN`, or a
    server that is gone for good keeps the credit of its calls. A call that began before a step of the clock has as much
    longer: ``excess_age`` (`ClockSteps.excess_age`). Where ``cdrs`` have Asterisk's own record of a call, that counts
    before the last time at which the server was seen. ``links_begin``: the biller has just been started, so each link
    may soon be up, and what a step of the clock before the start was is not known.
    """

    async def close(call: Call) -> None:
        ending, witness = None if cdrs is None else await cdrs.find(call), Witness.CDR
        if ending is None:
            seen_at, witness = await store.transact(partial(server_last_seen, name=call.server)), Witness.SWEEP
            ending = estimated_report(call, call.answered_at, max(seen_at or call.started_at, call.started_at))
        is_expired = witness is Witness.SWEEP
        end = Terminate(call.server, call.uniqueid, witness, ending, leg=call.leg, expired=is_expired, known=call)
        metrics.calls.count_end(witness, await store.charge(end))

    heard = await store.transact(partial(servers_seen, after=now - HEARD_WITHIN))
    linked = heard | {name for name, monitor in monitors.items() if links_begin or monitor.connected}
    patience = Patience(linked, frozenset(monitors) - linked, now - ASKED_WITHIN)
    _OVERDUE.report(await store.transact(partial(count_overdue, now=now)), patience)
    overdue = await store.transact(lambda tx: _overdue(tx, now, excess_age, patience))
    await _close_each(overdue, close, lambda call: f"The end of overdue call {call.reference}")


class _OverdueLog:
    """Logs once for each server that its calls hold credit beyond its validity, and once that none does any more."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def report(self, counts: Mapping[str, int], patience: Patience) -> None:
        """Log what is new."""
        for server in counts.keys() - self._reported:
            if server in patience.linked:
                what = "Asterisk is asked for their channels, and those that are gone are ended"
            elif server in patience.lost:
                what = f"they wait for its AMI link, {ASKED_WITHIN // timedelta(minutes=1)} min at most"
            else:
                what = "no biller has an AMI link to it, so they are ended by what is known of them"
            _LOG.warn(
                "Open calls of {server} ({count}) hold credit for longer than it was valid: {what}",
                count=counts[server],
                server=server,
                what=what,
            )
        for server in self._reported - counts.keys():
            _LOG.info("No call of {server} holds credit for longer than it was valid any more", server=server)
        self._reported = set(counts)


_OVERDUE = _OverdueLog()


def _overdue(
    tx: Connection, now: datetime, excess_age: Callable[[datetime], timedelta], patience: Patience
) -> list[Call]:
    calls = overdue_calls(tx, now, limit=OVERDUE_MAX, patience=patience)
    ages = {excess_age(call.started_at) for call in calls}
    overdue = {age: {call.reference for call in overdue_calls(tx, now - age, limit=OVERDUE_MAX)} for age in ages if age}
    return [call for call in calls if call.reference in overdue.get(excess_age(call.started_at), {call.reference})]


async def forget_old_changes(store: BatchWriter, now: datetime) -> None:
    """Delete changes of live calls that every biller has read long ago."""
    await store.transact(partial(forget_changes, before=now - CHANGES_KEPT))


async def cancel_credit_transfers(store: BatchWriter, now: datetime) -> None:
    """Cancel transfers between subscribers that were not confirmed in time."""
    await store.transact(partial(transfer_records.cancel_expired, now=now))


async def forget_phone_commands(store: BatchWriter, now: datetime) -> None:
    """Forget commands from phones that no network repeats any more."""
    await store.transact(partial(command_records.forget_old, now=now))


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
