"""Back-off after failed logins, which stops guessers and cannot be turned against people.

Failures are counted for an account from an address, for an account from all addresses, and for an address. From where a
login to the account has succeeded before, only the first counts: whoever guesses elsewhere, or from the same address at
other accounts, keeps no one out of their own. An IPv6 address is its /64. Each realm, the API or RADIUS, counts apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import TooManyAttempts
from celcombiller.core.model.addresses import network_of
from celcombiller.core.schema import bulk, driver, tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection

API = "api"
RADIUS = "radius"
VOUCHER = "voucher"

FAILURES_FREE = {"pair": 5, "account": 10, "address": 20}
"""Logins that may fail in a row: to an account from an address, to an account, from an address. After that each must
wait, twice as long as the one before."""


WAIT_SECONDS_MAX = 900


FORGET = timedelta(hours=24)
"""Failures older than this are forgotten."""


KNOWN_FOR = timedelta(days=90)
"""How long an address is known for an account after a login from it."""


KNOWN_NOTED_EVERY = timedelta(days=1)
"""How old the last success may become before `note_successes` writes another time."""


def admit_attempt(tx: Connection, username: str, address: str, now: datetime, realm: str = API) -> bool:
    """Count a login before its password is checked, so that parallel attempts all count.

    Return whether a login to the account has succeeded from this address. Raises `TooManyAttempts` while the login must
    wait; that attempt is not counted.
    """
    standing = find_standing(tx, username, address, now, realm, lock=True)
    if standing.wait_seconds > 0:
        raise TooManyAttempts("too many logins failed", standing.wait_seconds)
    count_failure(tx, username, address, now, realm)
    return standing.is_known


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts for an attempt: whether its address is known for the account, and the seconds that it must wait.

    ``has_failed``: whether an attempt has failed that counts.
    """

    is_known: bool
    wait_seconds: int
    has_failed: bool


def find_standing(
    tx: Connection, username: str, address: str, now: datetime, realm: str = API, *, lock: bool = False
) -> Standing:
    """Return the standing of an attempt, which is not counted. ``lock``: until the transaction ends."""
    table = tables.login_attempt
    keys = _Keys(username, address, realm)
    rows = sa.select(table).where(table.c.who.in_((keys.known, *keys.counters(is_known=False)))).order_by(table.c.who)
    return _standing(keys, tx.execute(rows.with_for_update() if lock else rows), now)


def find_standings(
    tx: Connection, attempts: Collection[tuple[str, str]], now: datetime, realm: str = API
) -> dict[tuple[str, str], Standing]:
    """Return the standings of attempts by username and address, which are not counted."""
    keys = {each: _Keys(*each, realm) for each in attempts}
    names = {name for each in keys.values() for name in (each.known, *each.counters(is_known=False))}
    (rows,) = bulk.read(tx, _ATTEMPTS.with_values(sorted(names)))
    found = {who: _Attempts(who, failures, driver.parse_timestamp(last_at)) for who, failures, last_at in rows}
    return {
        pair: _standing(each, filter(None, map(found.get, (each.known, *each.counters(is_known=False)))), now)
        for pair, each in keys.items()
    }


@dataclass(frozen=True, slots=True)
class _Attempts:
    """A row of the table."""

    who: str
    failures: int
    last_at: datetime


_ATTEMPTS = bulk.BulkQuery(
    "who, failures, last_at", "from login_attempt where who {among}", of=tables.login_attempt.c.who
)


def _standing(keys: _Keys, rows: Iterable[Any], now: datetime) -> Standing:
    found = {row.who: row for row in rows}
    known = found.pop(keys.known, None)
    is_known = known is not None and known.last_at >= now - KNOWN_FOR
    failed = {
        name: found[name]
        for name in keys.counters(is_known=is_known)
        if name in found and found[name].failures and found[name].last_at >= now - FORGET
    }
    free = keys.counters(is_known=is_known)
    left_seconds = max(
        (_left_seconds(row.failures - free[name], row.last_at, now) for name, row in failed.items()), default=0
    )
    return Standing(is_known, int(left_seconds) + 1 if left_seconds > 0 else 0, bool(failed))


def count_failure(tx: Connection, username: str, address: str, now: datetime, realm: str = API) -> None:
    """Count an attempt as failed; `forget_failures` takes it back."""
    table = tables.login_attempt
    keys = _Keys(username, address, realm)
    counts = ~table.c.who.startswith("known:")
    tx.execute(sa.delete(table).where(table.c.last_at < now - FORGET, counts))
    tx.execute(sa.delete(table).where(table.c.last_at < now - KNOWN_FOR))
    for key in sorted(keys.counters(is_known=_exists(tx, keys.known))):
        more = sa.update(table).where(table.c.who == key).values(failures=table.c.failures + 1, last_at=now)
        if not tx.execute(more).rowcount:
            tx.execute(sa.insert(table).values(who=key, failures=1, last_at=now))


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


def note_successes(tx: Connection, attempts: Collection[tuple[str, str]], now: datetime, realm: str = API) -> None:
    """Note that these addresses are known for these accounts, none of which has a failure that counts."""
    table = tables.login_attempt
    known = sorted(_Keys(*each, realm).known for each in attempts)
    bulk.write(tx, [(_NOTE_KNOWN, [(who, 0, now) for who in known])])
    old = sa.and_(table.c.who.in_(known), table.c.last_at < now - KNOWN_NOTED_EVERY)
    tx.execute(sa.update(table).where(old).values(last_at=now))


_NOTE_KNOWN = bulk.insert(tables.login_attempt, ("who", "failures", "last_at"), once=True)


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


def _left_seconds(beyond: int, last_at: datetime, now: datetime) -> float:
    """Return how long the next login still waits; where the clock was set back, as long as from now."""
    seconds = _wait_seconds(beyond)
    return min(seconds, seconds - (now - last_at).total_seconds())


def _wait_seconds(beyond: int) -> int:
    """Return how long the next login waits after this many failures more than are free."""
    if beyond < 0:
        return 0
    return min(2**beyond, WAIT_SECONDS_MAX) if beyond < 16 else WAIT_SECONDS_MAX  # noqa: PLR2004
