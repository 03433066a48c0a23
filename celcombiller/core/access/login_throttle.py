"""Back-off after failed logins, which stops guessers and cannot be turned against people.

Failures are counted for an account from an address, for an account from all addresses, and for an address. From where a
login to the account has succeeded before, only the first counts: whoever guesses elsewhere, or from the same address at
other accounts, keeps no one out of their own. An IPv6 address is its /64. Each realm, the API or RADIUS, counts apart.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.errors import TooManyAttempts
from celcombiller.core.model.addresses import network_of
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

API = "api"
RADIUS = "radius"

FAILURES_FREE = {"pair": 5, "account": 10, "address": 20}
"""Logins that may fail in a row: to an account from an address, to an account, from an address. After that each must
wait, twice as long as the one before."""


WAIT_SECONDS_MAX = 900


FORGET = timedelta(hours=24)
"""Failures older than this are forgotten."""


KNOWN_FOR = timedelta(days=90)
"""How long an address is known for an account after a login from it."""


def admit_attempt(tx: Connection, username: str, address: str, now: datetime, realm: str = API) -> bool:
    """Count a login before its password is checked, so that parallel attempts all count.

    Return whether a login to the account has succeeded from this address. Raises `TooManyAttempts` while the login must
    wait; that attempt is not counted.
    """
    table = tables.login_attempt
    keys = _Keys(username, address, realm)
    counts = ~table.c.who.startswith("known:")
    tx.execute(sa.delete(table).where(table.c.last_at < now - FORGET, counts))
    tx.execute(sa.delete(table).where(table.c.last_at < now - KNOWN_FOR))
    is_known = _exists(tx, keys.known)
    counters = keys.counters(is_known=is_known)
    rows = {
        row.who: row
        for row in tx.execute(sa.select(table).where(table.c.who.in_(counters)).order_by(table.c.who).with_for_update())
    }
    left_seconds = max(
        (
            _wait_seconds(row.failures - counters[key]) - (now - row.last_at).total_seconds()
            for key, row in rows.items()
        ),
        default=0,
    )
    if left_seconds > 0:
        raise TooManyAttempts("too many logins failed", int(left_seconds) + 1)
    for key in sorted(counters):
        if key in rows:
            tx.execute(sa.update(table).where(table.c.who == key).values(failures=rows[key].failures + 1, last_at=now))
        else:
            tx.execute(sa.insert(table).values(who=key, failures=1, last_at=now))
    return is_known


def forget_failures(tx: Connection, username: str, address: str, now: datetime, realm: str = API) -> None:
    """Note a successful login: from now on its address is known for the account, whose failures there are forgotten.

    A login from an address that was not known also resets what counts for the account, and takes its own attempt off
    the address.
    """
    table = tables.login_attempt
    keys = _Keys(username, address, realm)
    tx.execute(sa.delete(table).where(table.c.who == keys.pair))
    noted = sa.update(table).where(table.c.who == keys.known).values(last_at=now)
    if tx.execute(noted).rowcount:
        return
    tx.execute(sa.insert(table).values(who=keys.known, failures=0, last_at=now))
    tx.execute(sa.delete(table).where(table.c.who == keys.account))
    own = sa.update(table).where(table.c.who == keys.address, table.c.failures > 0)
    tx.execute(own.values(failures=table.c.failures - 1))


class _Keys:
    """The keys of the rows that count for a login."""

    def __init__(self, username: str, address: str, realm: str) -> None:
        network = network_of(address)
        self.known = f"known:{realm}:{username}|{network}"
        self.pair = f"pair:{realm}:{username}|{network}"
        self.account = f"account:{realm}:{username}"
        self.address = f"address:{realm}:{network}"

    def counters(self, *, is_known: bool) -> dict[str, int]:
        """Return the counters of a login, each with how many failures are free."""
        pair = {self.pair: FAILURES_FREE["pair"]}
        if is_known:
            return pair
        return pair | {self.account: FAILURES_FREE["account"], self.address: FAILURES_FREE["address"]}


def _exists(tx: Connection, key: str) -> bool:
    found = tx.execute(sa.select(tables.login_attempt.c.who).where(tables.login_attempt.c.who == key)).first()
    return found is not None


def _wait_seconds(beyond: int) -> int:
    """Return how long the next login waits after this many failures more than are free."""
    if beyond < 0:
        return 0
    return min(2**beyond, WAIT_SECONDS_MAX) if beyond < 16 else WAIT_SECONDS_MAX  # noqa: PLR2004
