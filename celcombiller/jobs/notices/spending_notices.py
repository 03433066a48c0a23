"""Look for accounts that have spent a share of their limits, and send their owners a message, once a day or month."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from celcombiller.core.notifications import spending_notices
from celcombiller.core.notifications.spending_notices import SpendingRules
from celcombiller.core.schedules.due_dates import local_date

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config

_LOG = Logger("celcombiller.jobs.spending_notices")


async def notify_spenders(
    transact: Callable[[Callable[[Connection], Any]], Awaitable[Any]], config: Config, now: datetime
) -> None:
    """Queue the messages that are due, and log why some could not be."""
    notices = config.notices
    rules = SpendingRules(notices.spending_share, config.phone_text("notices.spending_text"), config.balance.style)
    today = local_date(now, config.schedules.zone)
    queue = partial(spending_notices.queue, rules=rules, policy=config.message_policy, today=today, now=now)
    for failure in await transact(queue):
        _LOG.warn("Notice of spending cannot be sent: {failure}", failure=failure)
