"""Which subscribers a list has: conditions on their rows, each of them cheap for one subscriber."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.text import fold_text
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

_SUBSCRIBER = tables.subscriber.c


def has_part(text: str) -> sa.ColumnElement[bool]:
    """Return the condition that a subscriber has this part in a name or a number, in any case, accents or not."""
    return _SUBSCRIBER.search_text.contains(fold_text(text), autoescape=True)


def is_disabled() -> sa.ColumnElement[bool]:
    """Return the condition that a subscriber may neither call nor log in."""
    return ~_SUBSCRIBER.enabled


def is_suspended() -> sa.ColumnElement[bool]:
    """Return the condition that a subscriber is suspended, because a fee is unpaid."""
    return _SUBSCRIBER.suspended_at.is_not(None)


def is_at_zero() -> sa.ColumnElement[bool]:
    """Return the condition that a subscriber has no credit for calls left."""
    account = tables.account.c
    available = account.posted - account.held - account.floor
    return sa.exists().where(
        account.subscriber_id == _SUBSCRIBER.id, account.kind == Kind.VOICE, account.pot == 0, available <= 0
    )


def is_inactive_since(since: datetime) -> sa.ColumnElement[bool]:
    """Return the condition that a subscriber was there, and neither called nor sent a message from this time on."""
    call, message = tables.call.c, tables.message.c
    return sa.and_(
        _SUBSCRIBER.created_at < since,
        ~sa.exists().where(call.subscriber_id == _SUBSCRIBER.id, call.started_at >= since),
        ~sa.exists().where(message.subscriber_id == _SUBSCRIBER.id, message.queued_at >= since),
    )
