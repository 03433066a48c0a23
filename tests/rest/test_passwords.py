"""Passwords over HTTP: changed with the old one, never a common one, and right at the moment of the commit.

A hash takes a while. Each test that waits holds one of these waits open and changes the subscriber meanwhile.
"""

from datetime import UTC, datetime

import argon2
import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from celcombiller.core.schema import tables
from celcombiller.database.reader import Reader
from celcombiller.runtime.credentials.password_hash import hash_password
from celcombiller.runtime.credentials.password_hasher import Passwords
from tests.support.gate import Gate
from tests.support.http.api_service import PASSWORD, biller_fixture

biller = biller_fixture()

NEW = "another horse"
PATHS = ["/api/v1/subscribers/{}", "/api/users/{}"]


def stored_hash(biller, username):
    with biller.engine.begin() as tx:
        table = tables.subscriber
        return tx.execute(sa.select(table.c.password_hash).where(table.c.username == username)).scalar_one()


def set_columns(biller, username, **columns):
    with biller.engine.begin() as tx:
        tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.username == username).values(columns))


# -- the old password ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("owner", ["admin", "clara", "ana"])
@pytest_twisted.ensureDeferred
async def test_ones_own_password_needs_the_old_one(biller, owner, path):
    client, own = await biller.logged_in(owner), path.format(owner)
    before = stored_hash(biller, owner)
    for more, codes in (({}, (400, 422)), ({"old_password": "a wrong one"}, (403,)), ({"old_password": ""}, (403,))):
        answer = await client.patch(own, {"password": NEW} | more)
        assert answer.code in codes, answer.bytes
        assert b"old_password" in answer.bytes
    assert stored_hash(biller, owner) == before
    assert (await client.patch(own, {"password": NEW, "old_password": PASSWORD})).code == 200
    assert (await biller.client().log_in(owner, NEW)).code == 200


@pytest_twisted.ensureDeferred
async def test_guesses_of_the_old_password_are_throttled(biller):
    ana = await biller.logged_in("ana")
    codes = [
        (await ana.patch("/api/v1/subscribers/ana", {"password": NEW, "old_password": f"guess {n}"})).code
        for n in range(8)
    ]
    assert codes[0] == 403
    assert codes[-1] == 429


@pytest_twisted.ensureDeferred
async def test_the_original_search_changes_not_ones_own(biller):
    admin = await biller.logged_in("admin")
    everybody = {"filters": [{"name": "_id", "op": "ge", "val": 1}]}
    before = biller.rows(tables.subscriber)
    assert (await admin.patch("/api/users", {"q": everybody, "password": NEW})).code == 400
    assert biller.rows(tables.subscriber) == before
    body = {"q": everybody, "password": NEW, "old_password": PASSWORD}
    assert (await admin.patch("/api/users", body)).body == {"num_modified": 4}


@pytest_twisted.ensureDeferred
async def test_an_administrator_sets_another_password_without_it(biller):
    admin = await biller.logged_in("admin")
    assert (await admin.patch("/api/v1/subscribers/clara", {"password": NEW})).code == 200
    assert (await biller.client().log_in("clara", NEW)).code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest_twisted.ensureDeferred
async def test_tokens_are_revoked_on_request_only(biller, path):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["read"], "username": "ana"})
    other = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["read"], "username": "bia"})
    programs = [biller.client(), biller.client()]
    for program, answer in zip(programs, (made, other), strict=True):
        program.bearer = answer.body["secret"]
    own = path.format("ana")
    assert (await ana.patch(own, {"password": NEW, "old_password": PASSWORD})).code == 200
    assert (await programs[0].get("/api/v1/me")).code == 200
    again = {"password": "a third horse", "old_password": NEW, "revoke_tokens": True}
    assert (await ana.patch(own, again)).code == 200
    assert [(await each.get("/api/v1/me")).code for each in programs] == [401, 200]


# -- common ones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["12345678", " " * 8, "password1", "eve12345", "Eve Maria"])
@pytest_twisted.ensureDeferred
async def test_a_common_password_is_refused_by_every_route(biller, password):
    admin = await biller.logged_in("admin")
    eve = {"level": 1, "username": "eve", "name": "Eve Maria", "clid": "55", "imsi": "1234567"}
    before = biller.rows(tables.subscriber)
    for path in ("/api/v1/subscribers", "/api/users"):
        answer = await admin.post(path, eve | {"password": password})
        assert answer.code in (400, 422)
        assert b"password" in answer.bytes
    assert biller.rows(tables.subscriber) == before
    assert (await admin.post("/api/users", eve | {"password": PASSWORD})).code == 201
    found = {"filters": [{"name": "username", "op": "eq", "val": "eve"}]}
    for method, path, more in (
        ("PATCH", "/api/v1/subscribers/eve", {}),
        ("PATCH", "/api/users/eve", {}),
        ("PATCH", "/api/users", {"q": found}),
        ("PUT", "/api/users", {"q": found}),
    ):
        answer = await admin.ask(method, path, {"password": password} | more)
        assert answer.code in (400, 422), (method, path)
    assert (await biller.client().log_in("eve")).code == 200


# -- what changes while a hash is checked ----------------------------------------------------------------------------

CHANGES = {
    "password": {"password_hash": hash_password(NEW)},
    "disabled": {"enabled": False},
    "deleted": {"deleted_at": datetime.now(UTC)},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest_twisted.ensureDeferred
async def test_a_login_is_refused_after_a_change_meanwhile(biller, monkeypatch, change):
    gate = Gate()
    gate.hold(monkeypatch, Passwords, "verify")
    login = Deferred.fromCoroutine(biller.client().log_in("ana"))
    await gate.reached
    set_columns(biller, "ana", **CHANGES[change])
    gate.opened.callback(None)
    assert (await login).code == 404
    assert biller.rows(tables.session) == []


@pytest_twisted.ensureDeferred
async def test_a_login_has_the_level_of_its_end(biller, monkeypatch):
    gate = Gate()
    gate.hold(monkeypatch, Passwords, "verify")
    login = Deferred.fromCoroutine(biller.client().log_in("clara"))
    await gate.reached
    set_columns(biller, "clara", level=1)
    gate.opened.callback(None)
    assert (await login).body["roles"] == ["user"]


@pytest_twisted.ensureDeferred
async def test_a_rehash_never_brings_the_old_password_back(biller, monkeypatch):
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    set_columns(biller, "ana", password_hash=weak.hash(PASSWORD))
    gate = Gate()
    gate.hold(monkeypatch, Passwords, "hash")
    login = Deferred.fromCoroutine(biller.client().log_in("ana"))
    await gate.reached
    changed = hash_password(NEW)
    set_columns(biller, "ana", password_hash=changed)
    gate.opened.callback(None)
    assert (await login).code == 404
    assert stored_hash(biller, "ana") == changed


@pytest_twisted.ensureDeferred
async def test_a_rehash_is_stored_when_nothing_changed(biller):
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    outdated = weak.hash(PASSWORD)
    set_columns(biller, "ana", password_hash=outdated)
    assert (await biller.client().log_in("ana")).code == 200
    assert stored_hash(biller, "ana") != outdated
    assert (await biller.client().log_in("ana")).code == 200


@pytest_twisted.ensureDeferred
async def test_an_old_password_counts_only_while_valid(biller, monkeypatch):
    ana = await biller.logged_in("ana")
    gate = Gate()
    gate.hold(monkeypatch, Passwords, "verify_own")
    asked = Deferred.fromCoroutine(
        ana.patch("/api/v1/subscribers/ana", {"password": "a third horse", "old_password": PASSWORD})
    )
    await gate.reached
    changed = hash_password(NEW)
    set_columns(biller, "ana", password_hash=changed)
    gate.opened.callback(None)
    assert (await asked).code == 403
    assert stored_hash(biller, "ana") == changed


SOMEONE = {"level": 1, "username": "eve", "name": "Eve", "clid": "55", "imsi": "1234567", "password": PASSWORD}
ASKED = {
    "POST": ("POST", "/api/v1/subscribers", SOMEONE, (Passwords, "hash", 1)),
    "PATCH": ("PATCH", "/api/v1/subscribers/ana", {"password": NEW}, (Passwords, "hash", 1)),
    "search": (
        "PATCH",
        "/api/users",
        {"q": {"filters": [{"name": "username", "op": "eq", "val": "ana"}]}, "name": "A"},
        (Reader, "read", 3),
    ),
}
LOST = {
    "demoted": lambda biller: set_columns(biller, "clara", level=1),
    "disabled": lambda biller: set_columns(biller, "clara", enabled=False),
    "logged out": lambda biller: biller.empty(tables.session),
    "revoked": lambda biller: biller.empty(tables.token),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("lost", LOST)
@pytest_twisted.ensureDeferred
async def test_rights_lost_during_a_wait_are_lost(biller, monkeypatch, asked, lost):
    clara = await biller.logged_in("clara")
    if lost == "revoked":
        admin = await biller.logged_in("admin")
        made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["write"], "username": "clara"})
        clara = biller.client()
        clara.bearer = made.body["secret"]
    method, path, body, (owner, name, call) = ASKED[asked]
    gate = Gate()
    gate.hold(monkeypatch, owner, name, call=call)
    answer = Deferred.fromCoroutine(clara.ask(method, path, body))
    await gate.reached
    LOST[lost](biller)
    before = biller.rows(tables.subscriber)
    gate.opened.callback(None)
    assert (await answer).code in (401, 403)
    assert biller.rows(tables.subscriber) == before
