"""Who may do what: logins, sessions, tokens, levels, other sites' pages. Over real HTTP."""

import json
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater

from celcombiller.core.access.login_throttle import FAILURES_FREE
from celcombiller.core.access.principal import Scope
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.http.transport.event_stream import EVENT_STREAM_TYPE
from celcombiller.rest.routes import ROUTES
from celcombiller.runtime.credentials import password_hasher
from celcombiller.runtime.credentials.password_hasher import Passwords
from tests.support.http.api_service import PASSWORD, PEOPLE, Client, biller_fixture, header

biller = biller_fixture()
open_biller = biller_fixture(
    trusted_proxies=("127.0.0.1",), cors_origins=("https://console.example.org",), body_kib_max=1
)

FOR_ANYBODY = {
    "POST /api/v1/login-codes",
    "POST /api/v1/login-codes/login",
    "POST /api/v1/payments",
    "GET /healthz",
    "GET /readyz",
    "POST /login",
    "GET /logout",
    "GET /api/v1/openapi.json",
}
FOR_ADMINISTRATORS = ("/api/v1/tokens", "/api/v1/trail", "/api/v1/settings", "/api/v1/audit")
SOMEBODY_ELSES = {"number": 999, "username": "bia", "id": 2**53 - 1, "kind": "voice", "name": "nobody"} | {
    "receipt": "S9-000009"
}


def address_of(route, **values):
    return route.open_path.format(**(SOMEBODY_ELSES | values))


async def try_route(client, route):
    """Ask a route for somebody else's thing, with a body that would do harm if it were looked at."""
    address = address_of(route)
    if route.answer_type == EVENT_STREAM_TYPE:  # an answer without an end, unless it is a refusal
        address += "?server=" + "x" * 65
    return await client.ask(route.method, address, None if route.reads else {})


# -- the table -------------------------------------------------------------------------------------------------------


def test_few_routes_are_public_keys_are_for_administrators():
    assert {route.name for route in ROUTES if route.who is None} <= FOR_ANYBODY
    for route in ROUTES:
        if route.path.startswith(FOR_ADMINISTRATORS):
            assert (route.who.levels, route.who.scope) == ({Level.ADMINISTRATOR}, Scope.ADMIN), route.name


def test_a_subscriber_uses_only_own_things():
    for route in ROUTES:
        if route.who is not None and Level.SUBSCRIBER in route.who.levels:
            assert route.who.own, route.name


def test_no_writing_route_accepts_a_read_token():
    for route in ROUTES:
        if route.who is not None and not route.reads:
            assert route.who.scope is not Scope.READ, route.name


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_only_public_routes_work_without_authentication(biller):
    before = biller.everything()
    for client in (biller.client(), forged(biller, cookie="x" * 43), forged(biller, bearer="ccb_" + "x" * 43)):
        for route in ROUTES:
            if route.who is not None:
                answer = await try_route(client, route)
                assert answer.code == 401, route.name
                assert answer.body, route.name
    assert biller.everything() == before


@pytest.mark.slow
@pytest.mark.parametrize(("username", "level"), [each for each in PEOPLE.items() if each[0] != "bia"])
@pytest_twisted.ensureDeferred
async def test_each_level_reaches_exactly_its_routes(biller, username, level):
    client = await biller.logged_in(username)
    after = biller.everything()
    for route in ROUTES:
        if route.who is None:
            continue
        answer = await try_route(client, route)
        before, after = after, biller.everything()
        said = f"{route.name} gave {answer.code} {answer.bytes}"
        if level not in route.who.levels:
            assert answer.code == 403, said
        assert answer.code not in (401, 500), said
        if level is Level.SUBSCRIBER:
            assert b"bia" not in answer.bytes, said
        if answer.code >= 400 or route.reads or level is Level.SUBSCRIBER:
            assert after == before, said


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_token_never_exceeds_its_scopes_or_owner(biller):
    admin = await biller.logged_in("admin")
    for owner in ("admin", "clara", "ana"):
        for scope in Scope:
            body = {"name": "t", "scopes": [scope], "username": owner}
            made = await admin.post("/api/v1/tokens", body)
            assert made.code == 201, made.bytes
            client = forged(biller, bearer=made.body["secret"])
            held = {"read": {"read"}, "write": {"read", "write"}, "agi": {"agi"}, "admin": set(Scope)}[scope]
            for route in ROUTES:
                if route.who is None or not route.reads:
                    continue
                allowed = route.who.scope in held and PEOPLE[owner] in route.who.levels
                answer = await try_route(client, route)
                if not allowed:
                    assert answer.code == 403, f"{owner} {scope}: {route.name} gave {answer.code}"
                else:
                    assert answer.code != 401, f"{owner} {scope}: {route.name} gave {answer.code}"


@pytest_twisted.ensureDeferred
async def test_a_collaborator_manages_subscribers_but_not_staff(biller):
    clara = await biller.logged_in("clara")
    someone = {"username": "dora", "name": "Dora", "clid": "55", "imsi": "1234567"}
    assert (await clara.post("/api/v1/subscribers", someone | {"level": 0})).code == 403
    assert (await clara.post("/api/v1/subscribers", someone | {"level": 2})).code == 403
    assert (await clara.post("/api/v1/subscribers", someone)).code == 201
    assert (await clara.patch("/api/v1/subscribers/dora", {"level": 0})).code == 403
    assert (await clara.patch("/api/v1/subscribers/dora", {"name": "D"})).code == 200
    for words in ({"password": "taken over"}, {"enabled": False}, {"level": 1}):
        assert (await clara.patch("/api/v1/subscribers/admin", words)).code == 403
    assert (await clara.patch("/api/v1/subscribers/clara", {"level": 0})).code == 403
    assert (await clara.delete("/api/v1/subscribers/admin")).code == 403
    assert (await clara.delete("/api/v1/subscribers/dora")).code == 204


@pytest_twisted.ensureDeferred
async def test_a_subscriber_changes_own_name_address_and_password(biller):
    ana = await biller.logged_in("ana")
    assert (await ana.get("/api/v1/subscribers/ana")).body["username"] == "ana"
    assert (await ana.get("/api/v1/subscribers/bia")).code == 403
    assert (await ana.patch("/api/v1/subscribers/ana", {"address": "here"})).body["address"] == "here"
    for words in ({"level": 0}, {"clid": "9"}, {"imsi": "9999999"}, {"username": "anna"}, {"enabled": True}):
        assert (await ana.patch("/api/v1/subscribers/ana", words)).code == 403, words
    assert (await ana.delete("/api/v1/subscribers/ana")).code == 403


@pytest_twisted.ensureDeferred
async def test_the_last_administrator_stays_one(biller):
    admin = await biller.logged_in("admin")
    for words in ({"level": 1}, {"enabled": False}):
        answer = await admin.patch("/api/v1/subscribers/admin", words)
        assert (answer.code, answer.body["code"]) == (409, "LAST_ADMINISTRATOR")
    assert (await admin.delete("/api/v1/subscribers/admin")).code == 409
    assert (await admin.patch("/api/v1/subscribers/clara", {"level": 0})).code == 200
    assert (await admin.delete("/api/v1/subscribers/admin")).code == 204
    assert (await admin.get("/api/v1/subscribers")).code == 401


# -- logins and sessions ---------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_session_cookie_is_hidden_from_scripts(biller):
    client = biller.client()
    answer = await client.log_in("admin")
    assert answer.body == {"roles": ["admin"], "displayName": "Admin", "username": "admin", "id": 1}
    cookie = header(answer, "set-cookie")
    for part in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "Secure" not in cookie
    assert (await client.get("/api/v1/subscribers")).code == 200
    (row,) = biller.rows(tables.session)
    assert client.cookie not in str(row)


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (f"username=admin&password={PASSWORD.replace(' ', '+')}", "application/x-www-form-urlencoded"),
        (f'{{"username":"admin","password":"{PASSWORD}"}}', "application/json"),
        (f'{{"username":"admin","password":"{PASSWORD}"}}', "application/x-www-form-urlencoded"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_login_is_a_form_or_json(biller, raw, content_type):
    answer = await biller.client().post("/login", raw=raw.encode(), headers={"Content-Type": content_type})
    assert answer.code == 200


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"username=admin", b"[]", b'{"username":1,"password":"x"}', b"a=%ff", b"\xff"]
)
@pytest_twisted.ensureDeferred
async def test_a_login_without_a_name_is_400(biller, raw):
    answer = await biller.client().post("/login", raw=raw)
    assert answer.code == 400
    assert answer.body["message"]


@pytest_twisted.ensureDeferred
async def test_all_failed_logins_get_the_same_answer(biller):
    admin = await biller.logged_in("admin")
    assert (await admin.patch("/api/v1/subscribers/ana", {"enabled": False})).code == 200
    assert (await admin.delete("/api/v1/subscribers/bia")).code == 204
    answers = [
        await biller.client().log_in(*words) for words in (("admin", "wrong password"), ("nobody",), ("ana",), ("bia",))
    ]
    assert {(answer.code, answer.bytes) for answer in answers} == {(404, answers[0].bytes)}
    assert not any(header(answer, "set-cookie") for answer in answers)


@pytest_twisted.ensureDeferred
async def test_a_logout_ends_the_session_on_the_server(biller):
    client = await biller.logged_in("admin")
    stolen = forged(biller, cookie=client.cookie)
    answer = await client.get("/logout")
    assert "Max-Age=0" in header(answer, "set-cookie")
    assert (await stolen.get("/api/v1/subscribers")).code == 401
    assert biller.rows(tables.session) == []


@pytest_twisted.ensureDeferred
async def test_an_expired_session_is_none(biller):
    client = await biller.logged_in("admin")
    with biller.engine.begin() as tx:
        tx.execute(sa.update(tables.session).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert (await client.get("/api/v1/subscribers")).code == 401


@pytest_twisted.ensureDeferred
async def test_a_new_password_ends_the_other_sessions(biller):
    here, elsewhere = await biller.logged_in("ana"), await biller.logged_in("ana")
    words = {"password": "another horse", "old_password": PASSWORD}
    assert (await here.patch("/api/v1/subscribers/ana", words)).code == 200
    assert (await here.get("/api/v1/subscribers/ana")).code == 200
    assert (await elsewhere.get("/api/v1/subscribers/ana")).code == 401
    assert (await biller.client().log_in("ana")).code == 404
    assert (await biller.client().log_in("ana", "another horse")).code == 200


@pytest_twisted.ensureDeferred
async def test_a_disabled_subscriber_loses_sessions_and_tokens(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["read"], "username": "ana"})
    program = forged(biller, bearer=made.body["secret"])
    assert (await program.get("/api/v1/subscribers/ana")).code == 200
    assert (await admin.patch("/api/v1/subscribers/ana", {"enabled": False})).code == 200
    assert [(await each.get("/api/v1/subscribers/ana")).code for each in (ana, program)] == [401, 401]


@pytest_twisted.ensureDeferred
async def test_a_token_is_shown_once_expires_and_revokes(biller):
    admin = await biller.logged_in("admin")
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["read"], "expires_at": soon})
    secret, number = made.body["secret"], made.body["token"]["id"]
    assert secret not in str(biller.everything())
    assert secret not in str((await admin.get("/api/v1/tokens")).body)
    program = forged(biller, bearer=secret)
    assert (await program.get("/api/v1/subscribers")).code == 200
    with biller.engine.begin() as tx:
        tx.execute(sa.update(tables.token).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert (await program.get("/api/v1/subscribers")).code == 401
    with biller.engine.begin() as tx:
        tx.execute(sa.update(tables.token).values(expires_at=None))
    assert (await program.get("/api/v1/subscribers")).code == 200
    assert (await admin.delete(f"/api/v1/tokens/{number}")).code == 204
    assert (await program.get("/api/v1/subscribers")).code == 401
    assert (await admin.get(f"/api/v1/tokens/{number}")).body["revoked_at"]


@pytest_twisted.ensureDeferred
async def test_what_operators_change_leaves_its_trail_without_passwords(biller):
    admin = await biller.logged_in("admin")
    body = {"username": "dora", "name": "Dora", "clid": "55", "imsi": "1234567", "password": "dora's secret"}
    await admin.post("/api/v1/subscribers", body)
    await admin.patch("/api/v1/subscribers/dora", {"name": "D", "password": "dora's other"})
    await admin.delete("/api/v1/subscribers/dora")
    rows = [row for row in biller.rows(tables.trail) if row["subject"] == "subscriber:dora"]
    assert [row["action"] for row in rows] == ["add", "change, with password", "delete"]
    assert {(row["actor"], row["address"]) for row in rows} == {("admin", "127.0.0.1")}
    assert ('"name":"Dora"' in rows[1]["before"], '"name":"D"' in rows[1]["after"]) == (True, True)
    assert "argon2" not in str(rows)
    assert "secret" not in str(rows)


# -- logins that fail ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_parallel_guesses_must_wait_too(biller):
    guesses = [biller.client().log_in("admin", f"guess number {n}") for n in range(FAILURES_FREE["pair"] + 6)]
    answers = [answer for _, answer in await DeferredList([deferred(each) for each in guesses])]
    codes = [answer.code for answer in answers]
    assert set(codes) == {404, 429}
    assert codes.count(404) >= FAILURES_FREE["pair"]
    refused = next(answer for answer in answers if answer.code == 429)
    assert int(header(refused, "retry-after")) >= 1
    with biller.engine.begin() as tx:  # whatever time this took: the last failure is of just now
        tx.execute(sa.update(tables.login_attempt).values(last_at=datetime.now(UTC) + timedelta(minutes=1)))
    assert (await biller.client().log_in("admin")).code == 429  # even with the right one, until he has waited


NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest_twisted.ensureDeferred
async def test_passwords_are_checked_off_the_reactors_thread(monkeypatch):
    threads, hasher = [], password_hasher.HASHER

    class Noting:
        def __getattr__(self, name):
            threads.append(threading.get_ident())
            return getattr(hasher, name)

    monkeypatch.setattr(password_hasher, "HASHER", Noting())
    checked = Passwords(reactor)
    checked.start()
    try:
        hashed = await checked.hash(PASSWORD)
        assert await checked.verify(hashed, PASSWORD)
        assert not await checked.verify(hashed, "another")
        assert not await checked.verify(None, "another")
    finally:
        checked.stop()
    assert len(threads) == 5  # who is unknown costs a hash once, and a check as well
    assert threading.get_ident() not in threads


# -- other sites' pages, proxies, headers, sizes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Referer": "https://evil.example/page"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_another_sites_page_cannot_write_or_log_in(biller, headers):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    body = {"username": "evil", "name": "E", "clid": "66", "imsi": "6666666"}
    for method, path in (("POST", "/api/v1/subscribers"), ("POST", "/login"), ("PATCH", "/api/v1/subscribers/ana")):
        answer = await admin.ask(method, path, body, headers=headers)
        assert answer.code == 403, (method, path)
    assert biller.everything() == before
    assert (await admin.get("/api/v1/subscribers", headers=headers)).code == 200


@pytest_twisted.ensureDeferred
async def test_a_page_of_ours_and_programs_can_write(biller):
    admin = await biller.logged_in("admin")
    for headers in ({}, {"Origin": biller.base}, {"Sec-Fetch-Site": "same-origin"}, {"Referer": biller.base + "/x"}):
        assert (await admin.patch("/api/v1/subscribers/ana", {"name": "A"}, headers=headers)).code == 200
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["write"]})
    program = forged(biller, bearer=made.body["secret"])
    evil = {"Origin": "https://evil.example"}
    assert (await program.patch("/api/v1/subscribers/ana", {"name": "A"}, headers=evil)).code == 200


@pytest_twisted.ensureDeferred
async def test_only_configured_origins_are_allowed(biller, open_biller):
    for each, origin, seen in (
        (biller, "https://console.example.org", ""),
        (open_biller, "https://console.example.org", "https://console.example.org"),
        (open_biller, "https://console.example.org.evil", ""),
        (open_biller, "http://console.example.org", ""),
    ):
        answer = await each.client().ask("OPTIONS", "/api/v1/subscribers", headers={"Origin": origin})
        assert (answer.code, header(answer, "access-control-allow-origin")) == (204, seen)
        assert bool(header(answer, "access-control-allow-methods")) == bool(seen)
    assert header(answer, "allow") == "GET, HEAD, POST"


@pytest_twisted.ensureDeferred
async def test_a_trusted_proxy_gives_address_and_scheme(biller, open_biller):
    said = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "https"}
    for each, address, secure in ((biller, "127.0.0.1", False), (open_biller, "203.0.113.9", True)):
        body = {"username": "admin", "password": PASSWORD}
        answer = await each.client().post("/login", body, headers=said)
        assert ("Secure" in header(answer, "set-cookie")) is secure
        assert bool(header(answer, "strict-transport-security")) is secure
        assert [row["address"] for row in each.rows(tables.session)] == [address]


@pytest_twisted.ensureDeferred
async def test_every_answer_has_security_headers_without_server_name(biller):
    for path in ("/healthz", "/api/v1/subscribers", "/no/where", "/login"):
        answer = await biller.client().get(path)
        assert header(answer, "x-content-type-options") == "nosniff"
        assert header(answer, "cache-control") == "no-store"
        assert "default-src 'none'" in header(answer, "content-security-policy")
        assert header(answer, "server") == ""


@pytest_twisted.ensureDeferred
async def test_a_body_over_the_limit_is_413(open_biller):
    admin = await open_biller.logged_in("admin")
    body = {"username": "dora", "name": "D" * 2000, "clid": "55", "imsi": "1234567"}
    answer = await admin.post("/api/v1/subscribers", body)
    assert (answer.code, answer.body["code"]) == (413, "TOO_LARGE")
    assert "rest.body_kib_max" in answer.body["detail"]
    ten_megabytes = await admin.post("/api/v1/subscribers", raw=b"x" * 10_000_000)
    assert ten_megabytes.code == 413


@pytest_twisted.ensureDeferred
async def test_head_has_no_body_unknown_methods_get_405(biller):
    admin = await biller.logged_in("admin")
    answer = await admin.ask("HEAD", "/api/v1/subscribers")
    assert (answer.code, answer.bytes) == (200, b"")
    answer = await admin.ask("PUT", "/api/v1/subscribers", {})
    assert (answer.code, header(answer, "allow")) == (405, "GET, HEAD, POST")
    assert (await admin.get("/api/v1/no/where")).body["code"] == "NOT_FOUND"


@pytest_twisted.ensureDeferred
async def test_a_vanished_clients_write_is_still_whole(biller):
    admin = await biller.logged_in("admin")
    body = json.dumps({"username": "dora", "name": "D", "clid": "55", "imsi": "1234567"})
    lines = ("POST /api/v1/subscribers HTTP/1.1", "Host: x", "Content-Type: application/json")
    head = "\r\n".join((*lines, f"Cookie: session={admin.cookie}", f"Content-Length: {len(body)}", "", ""))
    with biller.engine.begin():  # the writing thread waits for this lock
        with socket.create_connection(("127.0.0.1", int(biller.base.rpartition(":")[2]))) as client:
            client.sendall((head + body).encode())
            await deferLater(reactor, 0.2)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        await deferLater(reactor, 0.1)
    assert (await admin.get("/api/v1/subscribers/dora")).code in (200, 404)
    assert (await admin.post("/api/v1/subscribers", json.loads(body) | {"username": "eva"})).code == 409


def forged(biller, *, cookie=None, bearer=None):
    client = Client(biller.base)
    client.cookie, client.bearer = cookie, bearer
    return client


def deferred(coroutine):
    return Deferred.fromCoroutine(coroutine)
