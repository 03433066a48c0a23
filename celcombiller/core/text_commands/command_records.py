"""The rows of commands from phones: what was done for each message, and what it was answered."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

_command = tables.phone_command

KEPT = timedelta(days=32)
"""How long a message is known, so that a repeat of it does nothing again."""

DONE, ASKED = "done", "asked"
"""Results beside the codes of refusals: what was asked for is done, or is asked about."""


def lock_sender(tx: Connection, subscriber_id: int) -> None:
    """Let the commands of one subscriber follow one another, on every node."""
    row = sa.select(tables.subscriber.c.id).where(tables.subscriber.c.id == subscriber_id)
    tx.execute(row.with_for_update(key_share=True))


def find_by_key(tx: Connection, key: str) -> sa.Row[Any] | None:
    """Return the command of this message, if it has come before."""
    return tx.execute(sa.select(_command).where(_command.c.key == key)).first()


def count_since(tx: Connection, subscriber_id: int, since: datetime) -> int:
    """Return how many commands the subscriber has sent since then."""
    which = (_command.c.subscriber_id == subscriber_id, _command.c.at > since)
    return int(tx.execute(sa.select(sa.func.count()).select_from(_command).where(*which)).scalar_one())


def find_same(tx: Connection, subscriber_id: int, words: str, since: datetime) -> sa.Row[Any] | None:
    """Return the last command that did the same since then."""
    which = (
        _command.c.subscriber_id == subscriber_id,
        _command.c.at > since,
        _command.c.words == words,
        _command.c.result == DONE,
    )
    return tx.execute(sa.select(_command).where(*which).order_by(_command.c.id.desc()).limit(1)).first()


def find_asked(tx: Connection, subscriber_id: int, now: datetime) -> sa.Row[Any] | None:
    """Return the last command that the subscriber was asked about, if its code is still good."""
    which = (_command.c.subscriber_id == subscriber_id, _command.c.code.is_not(None), _command.c.expires_at > now)
    return tx.execute(sa.select(_command).where(*which).order_by(_command.c.id.desc()).limit(1)).first()


def add(tx: Connection, **values: Any) -> None:
    """Insert a command."""
    tx.execute(sa.insert(_command).values(values))


def change(tx: Connection, command_id: int, **values: Any) -> None:
    """Change a command."""
    tx.execute(sa.update(_command).where(_command.c.id == command_id).values(values))


def forget_old(tx: Connection, now: datetime) -> None:
    """Delete commands that are so old that no network repeats them."""
    tx.execute(sa.delete(_command).where(_command.c.at < now - KEPT))
