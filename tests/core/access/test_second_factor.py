"""The second factor: each code counts once, and a reset takes all of it away."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from celcombiller.core.access import sessions
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.access.credentials import second_factor
from celcombiller.core.errors import AlreadyTaken, Forbidden, InvalidValue, WrongSecondFactor
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers import subscriber_records
from tests.support import databases

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
CODES = ("AAAA-BBBB", "CCCC-DDDD")
OPERATOR = Actor("command root", "", ALL_LEVELS)


def people(tx):
    for number, (name, level) in enumerate({"ana": Level.SUBSCRIBER, "clara": Level.COLLABORATOR}.items()):
        digits = f"72405000000000{number}"
        subscriber_records.add(
            tx,
            username=name,
            name=name,
            clid=f"200{number}",
            imsi=digits,
            cpf=None,
            address="",
            level=level,
            password_hash=None,
            now=NOW,
        )


@pytest.fixture
def tx(tmp_path):
    engine = databases.sqlite(tmp_path / "factor.sqlite", people)
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def code_at(moment):
    return pyotp.TOTP(SECRET).at(moment)


def set_up(tx, name="ana"):
    who = subscriber_records.find(tx, name)
    second_factor.set_up(tx, OPERATOR, who.id, SECRET, code_at(NOW), CODES, NOW)
    return who.id


def test_codes_are_those_of_the_standard():
    """RFC 6238, appendix B, with SHA-1: the last six of its eight digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        at = datetime.fromtimestamp(seconds, UTC)
        assert second_factor.find_step(secret, code, at) == seconds // 30
        assert second_factor.find_step(secret, code, at + timedelta(seconds=90)) is None


@pytest.mark.parametrize("code", ["", "12345", "1234567", "١٢٣٤٥٦", "abcdef", "123456\n"])
def test_what_is_no_code_is_wrong(code):
    assert second_factor.find_step(SECRET, code, NOW) is None


def test_wrong_first_code_sets_nothing(tx):
    who = subscriber_records.find(tx, "ana")
    with pytest.raises(WrongSecondFactor):
        second_factor.set_up(tx, OPERATOR, who.id, SECRET, code_at(NOW + timedelta(hours=1)), CODES, NOW)
    assert not second_factor.is_set(tx, who.id)


@pytest.mark.parametrize("secret", ["", "abc", SECRET.lower(), SECRET[:-1], SECRET + "A", SECRET[:-1] + "1", "é" * 32])
def test_what_is_no_secret_is_refused(tx, secret):
    who = subscriber_records.find(tx, "ana")
    with pytest.raises(InvalidValue):
        second_factor.set_up(tx, OPERATOR, who.id, secret, "123456", CODES, NOW)
    assert not second_factor.is_set(tx, who.id)


def test_each_code_counts_once(tx):
    who = set_up(tx)
    assert not second_factor.admit_code(tx, OPERATOR, who, code_at(NOW), NOW), "it confirmed the secret"
    later = NOW + timedelta(seconds=60)
    assert second_factor.admit_code(tx, OPERATOR, who, code_at(later), later)
    assert not second_factor.admit_code(tx, OPERATOR, who, code_at(later), later)
    assert not second_factor.admit_code(tx, OPERATOR, who, code_at(later - timedelta(seconds=30)), later)


def test_each_recovery_code_counts_once(tx):
    who = set_up(tx)
    assert second_factor.admit_code(tx, OPERATOR, who, "aaaa bbbb", NOW)
    assert not second_factor.admit_code(tx, OPERATOR, who, CODES[0], NOW)
    assert second_factor.count_recovery_codes(tx, who) == 1


def test_codes_of_others_are_wrong(tx):
    set_up(tx)
    clara = subscriber_records.find(tx, "clara").id
    assert not second_factor.admit_code(tx, OPERATOR, clara, CODES[0], NOW)


def test_set_factor_is_not_replaced(tx):
    set_up(tx)
    with pytest.raises(AlreadyTaken):
        set_up(tx)


def test_reset_takes_all_and_ends_sessions(tx):
    who = set_up(tx)
    sessions.open_session(tx, "secret", who, address="", now=NOW, lifetime=timedelta(hours=1))
    assert second_factor.reset(tx, OPERATOR, "ana", NOW)
    assert not second_factor.is_set(tx, who)
    assert second_factor.count_recovery_codes(tx, who) == 0
    assert sessions.by_session(tx, "secret", NOW) is None
    assert not second_factor.reset(tx, OPERATOR, "ana", NOW)


def test_collaborators_reset_no_staff(tx):
    set_up(tx, "clara")
    with pytest.raises(Forbidden):
        second_factor.reset(tx, Actor("clara", "", frozenset({Level.SUBSCRIBER})), "clara", NOW)
