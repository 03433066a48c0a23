"""Guessers wait, longer each time; the people whose accounts they guess at do not."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.access import login_throttle
from celcombiller.core.access.login_throttle import FAILURES_FREE, FORGET, KNOWN_FOR, RADIUS
from celcombiller.core.errors import TooManyAttempts
from celcombiller.core.schema import tables

NOW = datetime(2026, 11, 1, tzinfo=UTC)
HOME, OFFICE = "192.0.2.7", "2001:db8:7::1"


def attempt(engine, username, address, at=NOW, realm=login_throttle.API):
    """Count a login; return the refusal if there is one."""
    with engine.begin() as tx:
        try:
            login_throttle.admit_attempt(tx, username, address, at, realm)
        except TooManyAttempts as refused:
            return refused
    return None


def succeed(engine, username, address, at=NOW, realm=login_throttle.API):
    assert attempt(engine, username, address, at, realm) is None
    with engine.begin() as tx:
        login_throttle.forget_failures(tx, username, address, at, realm)


def everywhere(count):
    return [f"198.51.{each // 250}.{each % 250}" for each in range(count)]


def test_each_failure_after_free_ones_doubles_waiting(engine):
    at, waits = NOW, []
    for _ in range(FAILURES_FREE["pair"] + 12):
        while (refused := attempt(engine, "ana", HOME, at)) is not None:
            waits.append(refused.retry_seconds)
            at += timedelta(seconds=refused.retry_seconds)
    assert waits[:9] == [2, 3, 5, 9, 17, 33, 65, 129, 257]
    assert max(waits) == waits[-1] == login_throttle.WAIT_SECONDS_MAX + 1


def test_a_success_forgets_the_failures_from_its_address(engine):
    for _ in range(FAILURES_FREE["pair"] - 1):
        assert attempt(engine, "ana", HOME) is None
    succeed(engine, "ana", HOME)
    assert all(attempt(engine, "ana", HOME) is None for _ in range(FAILURES_FREE["pair"]))


def test_guessing_everywhere_spares_known_addresses(engine):
    succeed(engine, "admin", HOME)
    succeed(engine, "admin", OFFICE)
    refusals = 0
    for second in range(60):
        at = NOW + timedelta(seconds=second)
        refusals += sum(attempt(engine, "admin", each, at) is not None for each in everywhere(10))
        succeed(engine, "admin", HOME, at)
        succeed(engine, "admin", "2001:db8:7::ffff", at)
    assert refusals > 500


def test_guessing_from_everywhere_is_throttled_for_the_account(engine):
    tried = [attempt(engine, "admin", each) is None for each in everywhere(100)]
    assert tried == [True] * FAILURES_FREE["account"] + [False] * (100 - FAILURES_FREE["account"])


def test_an_owners_login_gives_guessers_no_tries(engine):
    succeed(engine, "admin", HOME)
    for each in everywhere(50):
        attempt(engine, "admin", each)
    succeed(engine, "admin", HOME)
    assert attempt(engine, "admin", "203.0.113.1") is not None


def test_a_failing_neighbour_spares_known_addresses(engine):
    succeed(engine, "ana", HOME)
    for each in range(FAILURES_FREE["address"] + 1):
        attempt(engine, f"name{each}", HOME)
    assert attempt(engine, "another", HOME) is not None
    assert attempt(engine, "ana", HOME) is None
    assert attempt(engine, "another", OFFICE) is None


def test_an_address_that_tries_many_names_must_wait(engine):
    assert all(attempt(engine, f"name{each}", HOME) is None for each in range(FAILURES_FREE["address"]))
    assert attempt(engine, "another", HOME) is not None
    assert attempt(engine, "another", HOME, NOW + FORGET + timedelta(seconds=1)) is None


def test_a_network_of_ipv6_is_one_address(engine):
    tried = [attempt(engine, "ana", f"2001:db8::{each:x}") is None for each in range(1, 10)]
    assert tried == [True] * FAILURES_FREE["pair"] + [False] * (9 - FAILURES_FREE["pair"])
    assert attempt(engine, "ana", "2001:db8:0:1::1") is None


def test_radius_and_the_api_count_apart(engine):
    for _ in range(FAILURES_FREE["address"]):
        attempt(engine, "ana", HOME, realm=RADIUS)
    assert attempt(engine, "ana", HOME, realm=RADIUS) is not None
    assert attempt(engine, "ana", HOME) is None


def test_an_address_is_known_for_a_time(engine):
    succeed(engine, "ana", HOME)
    for at, known in ((NOW + KNOWN_FOR, True), (NOW + KNOWN_FOR + timedelta(seconds=1), False)):
        with engine.begin() as tx:
            assert login_throttle.admit_attempt(tx, "ana", HOME, at) is known


def test_what_is_old_is_deleted(engine):
    for each in everywhere(5):
        attempt(engine, "ana", each)
    succeed(engine, "bia", HOME)
    attempt(engine, "cai", HOME, NOW + KNOWN_FOR + timedelta(seconds=1))
    with engine.connect() as tx:
        found = set(tx.execute(sa.select(tables.login_attempt.c.who)).scalars())
    assert found == {"pair:api:cai|192.0.2.7", "account:api:cai", "address:api:192.0.2.7"}


@pytest.mark.parametrize("username", ["", "a|192.0.2.7", "known:api:ana", "%", "\u00e9" * 64])
def test_any_name_counts_for_itself(engine, username):
    assert all(attempt(engine, username, HOME) is None for _ in range(FAILURES_FREE["pair"]))
    assert attempt(engine, username, HOME) is not None
    assert attempt(engine, "ana", HOME) is None
