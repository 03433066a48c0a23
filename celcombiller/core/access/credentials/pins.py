"""PINs by which subscribers confirm requests from phones. On an open transaction; hashes are made and checked outside.

A PIN has few digits, so tries are limited as logins are, in a realm of their own. A check takes three steps: `begin`
counts the try and is committed, the hash is checked without a transaction, and `finish` decides in the transaction of
what the PIN confirms. No PIN stands in the trail, in a log or in the ledger in clear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.access import audit_trail, login_throttle
from celcombiller.core.errors import InvalidValue, WrongPin
from celcombiller.core.languages.language import Text as _
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.subscribers import Subscriber

PIN = "pin"
"""The realm of tries of PINs."""

DIGITS = re.compile(r"[0-9]{4,8}", re.ASCII)

_pin = tables.pin
_UPWARDS, _DOWNWARDS = "01234567890", "09876543210"


@dataclass(frozen=True, slots=True)
class NewPin:
    """A PIN to set, and its hash.

    ``replaces_pin`` and ``replaces_password``: the hash that an old PIN, or the password, was found right against.
    """

    text: str = field(repr=False)
    hashed: str = field(repr=False)
    replaces_pin: str | None = field(default=None, repr=False)
    replaces_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PinCheck:
    """A try of a PIN that was counted. ``pin_hash`` is what to check it against; ``None``: there is no PIN."""

    subscriber_id: int
    username: str
    source: str
    pin_hash: str | None = field(repr=False)


def check_digits(pin: str, own: tuple[str, ...] = ()) -> str:
    """Return a PIN that may be set. Raise `InvalidValue` for one of another form, and for one that is guessed first.

    ``own`` are numbers of the subscriber, which it must not be a part of.
    """
    if not DIGITS.fullmatch(pin):
        what = _("must be 4 to 8 digits")
    elif len(set(pin)) == 1 or pin in _UPWARDS or pin in _DOWNWARDS or pin[: len(pin) // 2] * 2 == pin:
        what = _("must not be one digit or two repeated, or digits in a row")
    elif any(pin in each for each in own):
        what = _("must not be a part of the own number")
    else:
        return pin
    raise InvalidValue(_("the PIN {what}", what=what), {"pin": what})


def begin(tx: Connection, subscriber_id: int, source: str, now: datetime) -> PinCheck:
    """Count a try of a PIN; the transaction must be committed before the PIN is checked.

    ``source`` is where it came from: an address, or ``phone:`` and the number of the endpoint. Raises
    `TooManyAttempts` while the next try must wait, and `UnknownSubscriber`.
    """
    who = subscriber_records.find_by_id(tx, subscriber_id)
    login_throttle.admit_attempt(tx, who.username, source, now, PIN)
    return PinCheck(subscriber_id, who.username, source, find_hash(tx, subscriber_id))


def finish(tx: Connection, check: PinCheck, *, is_right: bool, now: datetime) -> None:
    """Forget the failures of a right PIN, which is locked until the transaction ends. Raises `WrongPin`."""
    if not is_right or check.pin_hash is None or find_hash(tx, check.subscriber_id, lock=True) != check.pin_hash:
        raise WrongPin("the PIN is wrong")
    login_throttle.forget_failures(tx, check.username, check.source, now, PIN)


def find_hash(tx: Connection, subscriber_id: int, *, lock: bool = False) -> str | None:
    """Return the hash of a subscriber's PIN, if they have one."""
    query = sa.select(_pin.c.pin_hash).where(_pin.c.subscriber_id == subscriber_id)
    found: str | None = tx.execute(query.with_for_update() if lock else query).scalar()
    return found


def set_pin(tx: Connection, actor: Actor, username: str, new: NewPin, now: datetime) -> None:
    """Set the PIN of a subscriber, once its author may: staff who manage them, or they themselves.

    They themselves need the old PIN or their password. Raises `UnknownSubscriber`, `InvalidValue`, `WrongPin` and
    `Forbidden`.
    """
    who = subscriber_records.find(tx, username)
    check_digits(new.text, (who.clid, who.imsi, who.cpf or ""))
    current = _check_may_change(tx, actor, who, new)
    values = {"pin_hash": new.hashed, "changed_at": now}
    if current is None:
        tx.execute(sa.insert(_pin).values(subscriber_id=who.id, **values))
    else:
        tx.execute(sa.update(_pin).where(_pin.c.subscriber_id == who.id).values(values))
    action = "set PIN" if current is None else "change PIN"
    audit_trail.record(tx, actor, action, f"subscriber:{who.username}", now=now)


def remove_pin(tx: Connection, actor: Actor, username: str, now: datetime) -> bool:
    """Remove the PIN of a subscriber; return whether there was one. Raises `UnknownSubscriber` and `Forbidden`."""
    who = subscriber_records.find(tx, username)
    actor.check_manages(who.level)
    is_gone = tx.execute(sa.delete(_pin).where(_pin.c.subscriber_id == who.id)).rowcount > 0
    if is_gone:
        audit_trail.record(tx, actor, "remove PIN", f"subscriber:{who.username}", now=now)
    return is_gone


def _check_may_change(tx: Connection, actor: Actor, who: Subscriber, new: NewPin) -> str | None:
    """Return the hash of the PIN until now. Raise `WrongPin` or `Forbidden` unless the author may set another one.

    The subscriber's row is locked, so that of two changes at once the second sees the first.
    """
    password_hash = subscriber_records.lock_password(tx, who.id)
    current = find_hash(tx, who.id)
    if actor.subscriber_id != who.id:
        actor.check_manages(who.level)
        return current
    by_pin = new.replaces_pin is not None and new.replaces_pin == current
    by_password = new.replaces_password is not None and new.replaces_password == password_hash
    if not (by_pin or by_password):
        raise WrongPin("the old PIN or the password is needed to set one's own PIN, and was not right")
    return current
