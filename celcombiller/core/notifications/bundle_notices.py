"""Messages to subscribers about their bundles: that one was not bought again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.bundles import Bundle


@dataclass(frozen=True, slots=True)
class BundleNotices:
    """The text that says that a bundle was not bought again (empty: none is sent), and how messages are sent."""

    not_renewed: str = ""
    policy: MessagePolicy = field(default_factory=MessagePolicy)


def notify_not_renewed(tx: Connection, notices: BundleNotices, bundle: Bundle, now: datetime) -> None:
    """Queue the message that a bundle was not bought again, once. One that cannot be queued is left out.

    Who is disabled or deleted gets none.
    """
    subscriber = tables.subscriber
    which = (subscriber.c.id == bundle.subscriber_id, subscriber.c.enabled, NOT_DELETED)
    who = tx.execute(sa.select(subscriber.c.clid, subscriber.c.language).where(*which)).first()
    if not notices.not_renewed or who is None:
        return
    text = notices.policy.write(notices.not_renewed, who.language, name=bundle.name)
    reference = f"not-renewed:{bundle.account_id}"
    try:
        messages.submit(tx, notices.policy, reference=reference, to_number=who.clid, text=text, now=now)
    except BillerError:  # the log says all the same that it was not bought
        return
