"""Back-off after failed logins."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import TooManyAttempts
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

FAILURES_FREE = {"account": 5, "address": 20}
"""Logins that may fail in a row. After that each must wait, twice as long as the one before."""


WAIT_SECONDS_MAX = 900


FORGET = timedelta(hours=24)
"""Failures older than this are forgotten."""


def admit_attempt(tx: Connection, username: str, address: str, now: datetime) -> None:
    """Count a login before its password is checked, so that parallel attempts all count.

    Raises `TooManyAttempts` while the account or the address must wait; that attempt is not counted.
    """
    table = tables.login_attempt
    tx.execute(sa.delete(table).where(table.c.last_at < now - FORGET))
    for key in _counter_keys(username, address):
        row = tx.execute(sa.select(table).where(table.c.who == key).with_for_update()).first()
        beyond = 0 if row is None else row.failures - FAILURES_FREE[key.partition(":")[0]]
        if row is not None and beyond >= 0:
            wait_seconds = min(2**beyond, WAIT_SECONDS_MAX) if beyond < 16 else WAIT_SECONDS_MAX  # noqa: PLR2004
            left_seconds = wait_seconds - (now - row.last_at).total_seconds()
            if left_seconds > 0:
                raise TooManyAttempts("too many logins failed", int(left_seconds) + 1)
    for key in _counter_keys(username, address):
        counted = sa.update(table).where(table.c.who == key).values(failures=table.c.failures + 1, last_at=now)
        if tx.execute(counted).rowcount == 0:
            tx.execute(sa.insert(table).values(who=key, failures=1, last_at=now))


def forget_failures(tx: Connection, username: str, address: str) -> None:
    """Reset the account's failures after a successful login, and take one failure off the address."""
    table = tables.login_attempt
    account, from_address = _counter_keys(username, address)
    tx.execute(sa.delete(table).where(table.c.who == account))
    tx.execute(sa.update(table).where(table.c.who == from_address).values(failures=table.c.failures - 1))


def _counter_keys(username: str, address: str) -> tuple[str, str]:
    return f"account:{username}", f"address:{address}"
