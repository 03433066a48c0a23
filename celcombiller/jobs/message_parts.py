"""Long messages of other networks: kept part by part, and joined when all are there or none has come for a while."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from twisted.logger import Logger

from celcombiller.core.charging import message_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from celcombiller.core.charging.message_parts import Decode, JoinedParts
    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.core.sms.inbound_message import InboundPart
    from celcombiller.database.batch_writer import BatchWriter

LOOK_SECONDS = 30.0
"""The interval between two looks for messages whose parts do not come any more."""

_LOG = Logger()


class MessageParts:
    """Keeps and joins the parts; each step is a transaction of its own."""

    def __init__(
        self,
        store: BatchWriter,
        policy: MessagePolicy,
        decode: Decode,
        wait_seconds: int,
        count_incomplete: Callable[[], object],
    ) -> None:
        self._store = store
        self._policy = policy
        self._decode = decode
        self._wait = timedelta(seconds=wait_seconds)
        self._count_incomplete = count_incomplete

    async def accept(self, part: InboundPart, now: datetime) -> tuple[bool, bool]:
        """Keep a part; return whether it was new, and whether the message is queued now."""
        policy, decode = self._policy, self._decode
        record = partial(message_parts.record_part, policy=policy, part=part, decode=decode, now=now)
        is_new, given_up = await self._store.transact(record)
        self._log_joined(given_up)
        joined = await self._store.transact(
            lambda tx: message_parts.join_parts(tx, policy, part.group_key, decode, now)
        )
        self._log_joined(joined)
        return is_new, joined is not None

    async def join_overdue(self, now: datetime) -> None:
        """Queue what is overdue as it is, and delete what was joined long ago."""
        find = partial(message_parts.overdue_groups, wait=self._wait, now=now)
        for group_key in await self._store.transact(find):
            join = partial(
                message_parts.join_parts,
                policy=self._policy,
                group_key=group_key,
                decode=self._decode,
                now=now,
                is_overdue=True,
            )
            self._log_joined(await self._store.transact(join))
        await self._store.transact(lambda tx: message_parts.delete_joined(tx, now))

    def _log_joined(self, joined: JoinedParts | None) -> None:
        if joined is None:
            return
        if joined.missing:
            self._count_incomplete()
            _LOG.warn("SMPP: a long message goes on without {count} of its parts", count=joined.missing)
        if joined.refusal:
            _LOG.warn("SMPP: a long message is not delivered: {reason}", reason=joined.refusal)
