"""Names, keys and logins on PostgreSQL, where two nodes work at the same time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa

from celcombiller.core.access import sessions
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.access.changes import schedule_changes, subscriber_changes
from celcombiller.core.access.changes.subscriber_changes import NewPassword
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.request_keys import find_reference
from celcombiller.core.charging.requests import Credit
from celcombiller.core.errors import AlreadyTaken, Forbidden
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.support import databases
from tests.support.http.api_service import HASHED, people

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ADMINISTRATOR = Actor("admin", "10.0.0.1", manages=ALL_LEVELS, subscriber_id=1, sets_own_password=True)
COLLABORATOR = Actor("clara", "10.0.0.1", manages=frozenset({Level.SUBSCRIBER}), subscriber_id=4)
GOLD = {
    "name": "gold",
    "kind": 1,
    "value": 5,
    "recurrence": "monthly",
    "day": 1,
    "interval_days": None,
    "count": 3,
    "time_zone": "UTC",
    "now": NOW,
}


@pytest.fixture
def filled(cluster):
    with databases.on_postgresql(cluster, people) as engine:
        yield engine


def test_one_of_two_nodes_gives_a_name(filled):
    barrier = Barrier(2)

    def add(_):
        with filled.begin() as tx:
            tx.execute(sa.select(1))
            barrier.wait()
            try:
                return schedule_changes.add(tx, ADMINISTRATOR, **GOLD).name
            except AlreadyTaken as refused:
                return refused.code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(add, range(2))) == ["TAKEN", "gold"]


def test_a_schedule_with_staff_is_the_administrators(filled):
    with filled.begin() as tx:
        made = schedule_changes.add(tx, COLLABORATOR, **GOLD)
        schedule_changes.change(tx, COLLABORATOR, made.id, {"value": 6}, NOW)
        member = schedule_changes.join(tx, ADMINISTRATOR, made, subscriber_records.find(tx, "clara"), now=NOW)
        for change in (
            lambda: schedule_changes.change(tx, COLLABORATOR, made.id, {"value": 7}, NOW),
            lambda: schedule_changes.delete(tx, COLLABORATOR, made.id, NOW),
            lambda: schedule_changes.set_count(tx, COLLABORATOR, member, 9, NOW),
        ):
            with pytest.raises(Forbidden):
                change()


def test_keys_are_their_senders(filled):
    with filled.begin() as tx:
        found = []
        for actor in (ADMINISTRATOR, COLLABORATOR, ADMINISTRATOR, COLLABORATOR):
            reference = find_reference(tx, actor, "1")
            credit(tx, Credit("ana", Kind.VOICE, 60, "web", reference), actor, NOW)
            found.append(reference)
    assert found == ["id:1", "id@4:1", "id:1", "id@4:1"]


def test_a_password_change_ends_starting_sessions(filled):
    barrier = Barrier(2)

    def log_in():
        with filled.begin() as tx:
            assert subscriber_records.lock_login(tx, 2, HASHED) is not None
            barrier.wait()
            sessions.open_session(tx, "secret", 2, address="", now=NOW, lifetime=timedelta(hours=1))

    def change():
        barrier.wait()
        with filled.begin() as tx:
            password = NewPassword("another horse", "its hash")
            subscriber_changes.change(tx, ADMINISTRATOR, "ana", {}, NOW, password=password)

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(log_in), pool.submit(change)]:
            each.result()
    with filled.begin() as tx:
        assert tx.execute(sa.select(tables.session)).all() == []
        assert subscriber_records.lock_login(tx, 2, HASHED) is None
