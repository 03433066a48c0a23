"""The second factor of a login: a code that an authenticator shows (TOTP, RFC 6238), or a recovery code, once.

On an open transaction. The secret is made outside, as are recovery codes; of these only the SHA-256 is kept, for each
has 80 random bits. A code of the authenticator counts once. Those of a step before and after are right, too, because
two clocks are never the same (RFC 6238, section 5.2).
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING

import pyotp
import sqlalchemy as sa

from celcombiller.core.access import audit_trail, sessions
from celcombiller.core.access.principal import hash_secret
from celcombiller.core.errors import AlreadyTaken, InvalidValue, WrongSecondFactor
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor

STEP_SECONDS = 30
"""How long an authenticator shows a code: what all of them use (RFC 6238, section 4)."""
STEPS_AROUND = 1
ISSUER = "CELCOMBiller"

BASE32_PATTERN = r"[A-Z2-7]{32}"
"""A secret: 160 bits in base 32."""
_SECRET = re.compile(BASE32_PATTERN, re.ASCII)
_DIGITS = re.compile(r"[0-9]{6}", re.ASCII)
_factor, _recovery = tables.second_factor, tables.recovery_code


def is_set(tx: Connection, subscriber_id: int) -> bool:
    """Return whether a login of this subscriber needs a second factor."""
    query = sa.select(_factor.c.subscriber_id).where(_factor.c.subscriber_id == subscriber_id)
    return tx.execute(query).first() is not None


def count_recovery_codes(tx: Connection, subscriber_id: int) -> int:
    """Return how many recovery codes are left."""
    query = sa.select(sa.func.count()).where(_recovery.c.subscriber_id == subscriber_id, _recovery.c.used_at.is_(None))
    return int(tx.execute(query).scalar_one())


def set_up(
    tx: Connection,
    actor: Actor,
    subscriber_id: int,
    secret: str,
    code: str,
    recovery_codes: Collection[str],
    now: datetime,
) -> None:
    """Set a second factor by its secret (base 32) and its first code, with these recovery codes.

    Raises `AlreadyTaken` where there is one, which is reset first, `InvalidValue` for what is no secret, and
    `WrongSecondFactor`.
    """
    if not _SECRET.fullmatch(secret):
        what = "must be 32 letters and digits of base 32"
        raise InvalidValue(f"the secret {what}", {"secret": what})
    subscriber_records.lock_password(tx, subscriber_id)  # the subscriber's row: of two at once the second finds it
    if is_set(tx, subscriber_id):
        raise AlreadyTaken("there is a second factor already", {"code": "there is a second factor already"})
    step = find_step(secret, code, now)
    if step is None:
        raise WrongSecondFactor("the code is not the one that the authenticator shows now")
    tx.execute(sa.insert(_factor).values(subscriber_id=subscriber_id, secret=secret, last_step=step, set_at=now))
    rows = [{"code_hash": hash_code(each), "subscriber_id": subscriber_id} for each in recovery_codes]
    tx.execute(sa.insert(_recovery), rows)
    who = subscriber_records.find_by_id(tx, subscriber_id)
    audit_trail.record(tx, actor, "set second factor", f"subscriber:{who.username}", now=now)


def admit_code(tx: Connection, actor: Actor, subscriber_id: int, code: str, now: datetime) -> bool:
    """Return whether a code is right, and use it up: it is never right again."""
    row = tx.execute(sa.select(_factor).where(_factor.c.subscriber_id == subscriber_id).with_for_update()).first()
    if row is None:
        return False
    step = find_step(row.secret, code, now)
    if step is not None:
        if step <= row.last_step:
            return False
        tx.execute(sa.update(_factor).where(_factor.c.subscriber_id == subscriber_id).values(last_step=step))
        return True
    unused = sa.and_(
        _recovery.c.subscriber_id == subscriber_id,
        _recovery.c.code_hash == hash_code(code),
        _recovery.c.used_at.is_(None),
    )
    if tx.execute(sa.update(_recovery).where(unused).values(used_at=now)).rowcount != 1:
        return False
    who = subscriber_records.find_by_id(tx, subscriber_id)
    left = count_recovery_codes(tx, subscriber_id)
    audit_trail.record(tx, actor, "use recovery code", f"subscriber:{who.username}", after={"left": left}, now=now)
    return True


def reset(tx: Connection, actor: Actor, username: str, now: datetime) -> bool:
    """Take the second factor of a subscriber away, and end their sessions; return whether there was one.

    Raises `UnknownSubscriber` and `Forbidden`.
    """
    who = subscriber_records.find(tx, username)
    actor.check_manages(who.level)
    tx.execute(sa.delete(_recovery).where(_recovery.c.subscriber_id == who.id))
    is_gone = tx.execute(sa.delete(_factor).where(_factor.c.subscriber_id == who.id)).rowcount > 0
    if is_gone:
        sessions.close_sessions(tx, who.id)
        audit_trail.record(tx, actor, "reset second factor", f"subscriber:{who.username}", now=now)
    return is_gone


def find_step(secret: str, code: str, now: datetime) -> int | None:
    """Return the step of time whose code this is, among those around now; ``None``: it is no code of these. Pure."""
    digits = code.replace(" ", "")
    if not _DIGITS.fullmatch(digits):
        return None
    present = int(now.timestamp()) // STEP_SECONDS
    generator = pyotp.TOTP(secret, interval=STEP_SECONDS)
    found = None
    for step in range(present - STEPS_AROUND, present + STEPS_AROUND + 1):
        if hmac.compare_digest(generator.generate_otp(step), digits):
            found = step
    return found


def make_uri(secret: str, username: str) -> str:
    """Return the address ``otpauth://`` that an authenticator reads from a QR code."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(name=username, issuer_name=ISSUER)


def hash_code(code: str) -> str:
    """Return the hash under which a recovery code is kept; capitals, spaces and hyphens do not count."""
    return hash_secret("".join(each for each in code.upper() if each.isalnum()))
