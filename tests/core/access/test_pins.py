"""PINs: set by who may, checked with limited tries, and kept as hashes alone."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from argon2.exceptions import VerificationError

from celcombiller.core.access import login_throttle
from celcombiller.core.access.actor import Actor
from celcombiller.core.access.credentials import pins
from celcombiller.core.access.credentials.pins import NewPin, check_digits
from celcombiller.core.errors import Forbidden, InvalidValue, TooManyAttempts, WrongPin
from celcombiller.core.schema import tables
from celcombiller.runtime.credentials import password_hash
from tests.support.databases import NOW
from tests.support.selling.sellers import OPERATOR, actor_of

PHONE = "phone:1001"


def new(text="4071", **more):
    return NewPin(text, password_hash.hash_password(text), **more)


def set_pin(tx, text="4071", actor=OPERATOR, **more):
    made = new(text, **more)
    pins.set_pin(tx, actor, "u1001", made, NOW)
    return made.hashed


def attempt(engine, text, now=NOW):
    """Try a PIN in the three steps that a request takes; return the refusal, if there is one."""
    try:
        with engine.begin() as tx:
            check = pins.begin(tx, 1, PHONE, now)
        is_right = check.pin_hash is not None and _verify(check.pin_hash, text)
        with engine.begin() as tx:
            pins.finish(tx, check, is_right=is_right, now=now)
    except (WrongPin, TooManyAttempts) as refused:
        return refused
    return None


def _verify(hashed, text):
    try:
        return password_hash.HASHER.verify(hashed, text)
    except VerificationError:
        return False


def test_right_pin_passes_and_wrong_one_not(engine):
    with engine.begin() as tx:
        set_pin(tx)
    assert attempt(engine, "4071") is None
    assert isinstance(attempt(engine, "4072"), WrongPin)


def test_without_a_pin_none_is_right(engine):
    assert isinstance(attempt(engine, "4071"), WrongPin)


def test_wrong_pins_must_wait_even_for_right_one(engine):
    with engine.begin() as tx:
        set_pin(tx)
    for _ in range(5):
        assert isinstance(attempt(engine, "0001"), WrongPin)
    while not isinstance(attempt(engine, "0001"), TooManyAttempts):
        pass
    assert isinstance(attempt(engine, "4071"), TooManyAttempts)
    assert attempt(engine, "4071", NOW + timedelta(hours=1)) is None


def test_a_login_failure_counts_for_no_pin(engine):
    for _ in range(5):
        with engine.begin() as tx:
            login_throttle.admit_attempt(tx, "u1001", PHONE, NOW)
    with engine.begin() as tx:
        login_throttle.admit_attempt(tx, "u1002", PHONE, NOW)
        set_pin(tx)
    assert attempt(engine, "4071") is None


def test_a_pin_changed_meanwhile_is_not_right(engine):
    with engine.begin() as tx:
        set_pin(tx)
    with engine.begin() as tx:
        check = pins.begin(tx, 1, PHONE, NOW)
    with engine.begin() as tx:
        set_pin(tx, "9318")
    with engine.begin() as tx, pytest.raises(WrongPin):
        pins.finish(tx, check, is_right=True, now=NOW)


def test_own_pin_needs_old_pin_or_password(engine):
    with engine.begin() as tx:
        first = set_pin(tx)
        with pytest.raises(WrongPin):
            set_pin(tx, "9318", actor_of(1))
        with pytest.raises(WrongPin):
            set_pin(tx, "9318", actor_of(1), replaces_pin="another hash")
        with pytest.raises(WrongPin):
            set_pin(tx, "9318", actor_of(1), replaces_password="no such hash")
        second = set_pin(tx, "9318", actor_of(1), replaces_pin=first)
        tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.id == 1).values(password_hash="h"))
        set_pin(tx, "5520", actor_of(1), replaces_password="h")
        assert pins.find_hash(tx, 1) not in (first, second, None)


def test_others_set_and_remove_no_pin(engine):
    with engine.begin() as tx:
        set_pin(tx)
        for author in (actor_of(2), Actor("token", "", subscriber_id=None)):
            with pytest.raises(Forbidden):
                set_pin(tx, "9318", author)
            with pytest.raises(Forbidden):
                pins.remove_pin(tx, author, "u1001", NOW)
        with pytest.raises(Forbidden):
            pins.remove_pin(tx, actor_of(1), "u1001", NOW)


def test_a_removed_pin_is_right_no_more(engine):
    with engine.begin() as tx:
        set_pin(tx)
        assert pins.remove_pin(tx, OPERATOR, "u1001", NOW)
        assert not pins.remove_pin(tx, OPERATOR, "u1001", NOW)
    assert isinstance(attempt(engine, "4071"), WrongPin)


def test_trail_and_tables_have_no_pin_in_clear(engine):
    with engine.begin() as tx:
        set_pin(tx, "40718293")
        pins.remove_pin(tx, OPERATOR, "u1001", NOW)
        set_pin(tx, "40718293")
        rows = [str(tuple(row)) for table in tables.metadata.tables.values() for row in tx.execute(sa.select(table))]
        actions = tx.execute(sa.select(tables.trail.c.action).order_by(tables.trail.c.id)).scalars().all()
    assert not any("40718293" in row for row in rows)
    assert actions == ["set PIN", "remove PIN", "set PIN"]
    assert "4071" not in repr(new())
    assert "argon2" not in repr(new())


@pytest.mark.parametrize(
    "pin",
    [
        "",
        "123",
        "123456789",
        "12a4",
        "1111",
        "1234",
        "4321",
        "0123",
        "1212",
        "7890",
        "1001",
        "\u0661\u0662\u0663\u0665",
    ],
)
def test_pins_guessed_first_are_refused(pin):
    with pytest.raises(InvalidValue):
        check_digits(pin, ("1001", "724000000001001"))


@pytest.mark.parametrize("pin", ["4071", "00713", "90210418"])
def test_other_pins_may_be_set(pin):
    assert check_digits(pin, ("1001",)) == pin
