"""One-time codes that are sent to a subscriber's phone and log them in without a password. On an open transaction.

The code is made outside; only its hash is kept, with the number that it went to: where the subscriber has another
number by now, it is wrong. A new code takes the place of the one before. Staff and sellers have none: who has their
phone in hand for a minute would have the biller, or a stock of credit.
"""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.access.principal import MAY_LOG_IN, hash_secret
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.directory import Directory
from celcombiller.core.subscribers.subscriber_records import subscriber_from_row

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.numbering import NumberingPlan

DIGITS = 6
VALIDITY = timedelta(minutes=5)
"""For how long a code is good."""
TRIES_MAX = 5
PER_HOUR_MAX = 3
"""The most codes of one subscriber in an hour: with their tries, 15 guesses at a million."""
KEPT_FOR = timedelta(hours=1)
_code = tables.login_code


def find_recipient(tx: Connection, number: str, numbering: NumberingPlan) -> Subscriber | None:
    """Return the subscriber who has this number and may log in by a code, locked; ``None``: there is none."""
    found = Directory.load(tx, [number], numbering).find_callee(number)
    if found is None:
        return None
    table = tables.subscriber
    sells = sa.exists().where(tables.seller.c.subscriber_id == found.id)
    which = (table.c.id == found.id, table.c.level == Level.SUBSCRIBER.value, MAY_LOG_IN, sa.not_(sells))
    row = tx.execute(sa.select(table).where(*which).with_for_update()).first()
    return None if row is None else subscriber_from_row(row)


def may_have_another(tx: Connection, subscriber_id: int, now: datetime) -> bool:
    """Return whether a subscriber may be sent a code now, and delete all codes of more than an hour ago."""
    tx.execute(sa.delete(_code).where(_code.c.sent_at <= now - KEPT_FOR))
    count = sa.select(sa.func.count()).where(_code.c.subscriber_id == subscriber_id)
    return int(tx.execute(count).scalar_one()) < PER_HOUR_MAX


def add(tx: Connection, who: Subscriber, code: str, now: datetime) -> None:
    """Record a code that is on its way. From now on only this one logs its subscriber in."""
    values = {"subscriber_id": who.id, "code_hash": _hash(who, code), "sent_at": now, "expires_at": now + VALIDITY}
    tx.execute(sa.insert(_code).values(values))


def admit_try(tx: Connection, who: Subscriber, code: str, now: datetime) -> bool:
    """Return whether this is the subscriber's last code, and still good. A try counts, right or wrong."""
    last = sa.select(_code).where(_code.c.subscriber_id == who.id).order_by(_code.c.id.desc()).limit(1)
    row = tx.execute(last).first()
    if row is None or row.expires_at <= now or row.tries >= TRIES_MAX:
        return False
    tx.execute(sa.update(_code).where(_code.c.id == row.id).values(tries=row.tries + 1))
    return hmac.compare_digest(row.code_hash, _hash(who, code))


def use_up(tx: Connection, subscriber_id: int, now: datetime) -> None:
    """End the code of a subscriber: it has logged them in."""
    tx.execute(sa.update(_code).where(_code.c.subscriber_id == subscriber_id).values(expires_at=now))


def _hash(who: Subscriber, code: str) -> str:
    return hash_secret(f"login {who.id} {who.clid} {code}")
