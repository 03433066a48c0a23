"""Legs that outlive the call that they were dialled by: who set one up pays for it to its end.

A phone that has two calls and connects their other sides leaves both (REFER with Replaces), and a caller may leave the
callee in a parking lot. The caller's channel, and with it their call, ends there. The callee's channel talks on, so it
becomes a call of its own, with the same payer and the same number.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.asterisk.ami.witness import LOG_NAMESPACE
from celcombiller.core.charging.requests import Initiate
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.model.calls import CallReport

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from celcombiller.asterisk.ami.live_calls import LiveCall, LiveCalls
    from celcombiller.asterisk.ami.witness import AmiWitness
    from celcombiller.core.model.calls import CallGrant
    from celcombiller.database.batch_writer import BatchWriter

AGAIN_SECONDS = 1.0
"""How soon a ledger that cannot answer is asked again."""

_LOG = Logger(namespace=LOG_NAMESPACE)


class OutlivingLegs:
    """Has the legs of one server that outlive their calls charged, or hung up."""

    def __init__(self, clock: Any, server: str, calls: LiveCalls, witness: AmiWitness, store: BatchWriter) -> None:
        self._clock = clock
        self._server = server
        self._calls = calls
        self._witness = witness
        self._store = store

    async def go_on(self, ami: Any, ended: LiveCall) -> None:
        """Charge the callee's leg of a call that has ended, if that leg lives and is in no call of its own.

        It is hung up where its payer may not call any more. Two billers that do this get the same grant.
        """
        channel = await self._find_channel(ami, ended.callee)
        if channel is None or self._calls.find(ended.callee) is not None or ended.hung_up_at is None:
            return
        call = ended.call
        question = Initiate(
            server=self._server,
            uniqueid=ended.callee,
            authorization=sha256(call.reference.encode()).hexdigest()[:16],
            channel=channel,
            account_code=call.from_number,
            caller_number=call.from_number,
            called_number=call.to_number,
            answered_early=False,
            previous=CallReport(answered=False, at=ended.hung_up_at),
        )
        try:
            grant = await self._ask_ledger(ami, question)
        except BillerError as refusal:
            _LOG.info("The leg of {call} may not go on: {reason}", call=call.reference, reason=str(refusal))
            await ami.hangup(channel)
            return
        if grant is None:
            return
        _LOG.info("The leg of {call} goes on as {leg}", call=call.reference, leg=grant.call.reference)
        await self._witness.record_answer(ami, self._calls.go_on(grant.call, ended.hung_up_at), grant.seconds)

    async def _find_channel(self, ami: Any, uniqueid: str) -> str | None:
        items = await ami.status()
        return next((item.get("channel") for item in items if item.get("uniqueid") == uniqueid), None)

    async def _ask_ledger(self, ami: Any, question: Initiate) -> CallGrant | None:
        """Ask until the ledger answers; ``None``: the leg ended meanwhile. Raises a `BillerError` that refuses it."""
        while True:
            try:
                grant: CallGrant = await self._store.charge(question)
            except StoreUnavailable:
                again: Deferred[None] = deferLater(self._clock, AGAIN_SECONDS)
                await again
                if await self._find_channel(ami, question.uniqueid) is None:
                    return None
            else:
                return grant
