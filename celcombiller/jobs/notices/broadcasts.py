"""Queue the messages of broadcasts, slice by slice, as fast as their way takes them. Any number of nodes may do it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.notifications import broadcasts
from celcombiller.core.notifications.broadcasts import SLICE, WAITING_MAX
from celcombiller.runtime.log.faults import FaultLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.charging import MessagePolicy

LOOK_SECONDS = 1.0
"""The interval between two looks; a look at nothing is one read by index."""

_FAULTS = FaultLog(Logger())


async def advance_broadcasts(
    transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
    read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
    policy: MessagePolicy,
    now: datetime,
) -> None:
    """Queue what may be queued now of each broadcast; a fault in one stops no other. Raises `StoreUnavailable`.

    Each slice is a transaction of its own, so calls get in between.
    """
    for broadcast_id in await read(broadcasts.list_open):
        advance = partial(broadcasts.advance, broadcast_id=broadcast_id, policy=policy, now=now)
        try:
            for _ in range(WAITING_MAX // SLICE):
                if not await transact(advance):
                    break
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one fault must not stop the others
            _FAULTS.report(f"Broadcast {broadcast_id}", error)
