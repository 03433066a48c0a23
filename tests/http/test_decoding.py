"""What is broken, huge, forged or meant to harm: each is a 4xx that says why, in a problem document; nothing is written."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest_twisted
import sqlalchemy as sa
from twisted.internet.threads import deferToThread

from celcombiller.core.access import principal
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from tests.support.http.api_service import biller_fixture

biller = biller_fixture()
NEW = '{"username":"dora","name":"Dora","clid":"55","imsi":"1234567"'

BROKEN_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"{'username': 1}",
    NEW.encode() + b",}",
    NEW.encode() + b"} {}",
    NEW.encode() + b',"level":NaN}',
    NEW.encode() + b',"level":Infinity}',
    NEW.encode() + b',"username":"dora"}',
    NEW.encode() + b',"address":{"a":1,"a":2}}',
    NEW.encode() + b',"address":"\\u0000"}',
    NEW.encode() + b',"a\\u0000b":1}',
    NEW.encode() + b',"address":"\\ud800"}',
    NEW.encode() + b',"address":"\xff"}',
    NEW.encode() + b',"level":' + b"9" * 5000 + b"}",
    NEW.encode() + b',"level":1e9999999999999999999}',
    NEW.encode() + b',"level":-1e400}',
    NEW.encode() + b',"level":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    NEW.encode("utf-16") + b"}",
    b"\xef\xbb\xbf" + NEW.encode() + b"}",
]

WRONG_FIELDS = [
    ({"username": "d\u043era"}, "username"),  # a Cyrillic o
    ({"username": "dora\n"}, "username"),
    ({"username": "do ra"}, "username"),
    ({"username": ".."}, "username"),
    ({"username": "d/ora"}, "username"),
    ({"username": ""}, "username"),
    ({"username": "\u202edora"}, "username"),  # right to left
    ({"clid": "\uff15\uff15"}, "clid"),  # wide digits
    ({"clid": "\u0665\u0665"}, "clid"),  # Arabic digits
    ({"clid": "-55"}, "clid"),
    ({"clid": 55}, "clid"),
    ({"clid": "5" * 16}, "clid"),
    ({"imsi": "12345"}, "imsi"),
    ({"imsi": "1234567\n"}, "imsi"),
    ({"cpf": "1 OR 1=1"}, "cpf"),
    ({"level": 3}, "level"),
    ({"level": -1}, "level"),
    ({"level": 10**400}, "level"),
    ({"level": "1"}, "level"),
    ({"level": True}, "level"),
    ({"level": 1.5}, "level"),
    ({"level": 1e300}, "level"),
    ({"enabled": "yes"}, "enabled"),
    ({"enabled": None}, "enabled"),
    ({"name": "D\x1b[2J"}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"password": "short"}, "password"),
    ({"password": "x" * 1025}, "password"),
    ({"is_admin": True}, "is_admin"),
    ({"id": 1}, "id"),
    ({"voice_balance": 100}, "voice_balance"),
    ({"password_hash": "$argon2id$v=19$"}, "password_hash"),
]

NOWHERE = [
    "/api/v1/tokens/-1",
    "/api/v1/tokens/0",
    "/api/v1/tokens/1.5",
    "/api/v1/tokens/%D9%A1",
    "/api/v1/tokens/9007199254740992",
    "/api/v1/tokens/99999999999999999999",
    f"/api/v1/tokens/{'9' * 5000}",
    "/api/v1/transfers/-1",
    "/api/v1/transfers/9007199254740993",
    "/api/v1/calls/x",
    "/api/v1/subscribers/%00",
    "/api/v1/subscribers/admin%00",
    "/api/v1/subscribers/a%2Fb",
    "/api/v1/subscribers/%25",
    "/api/v1/subscribers/' or 1=1",
    "/api/v1/subscribers/%D0%B0dmin",
    "/api/v1/subscribers/../admin/x",
    "/api/v1/sessions/%F0%9F%92%A3",
    "/api/v1/../v1/nothing",
    "/api/v1/",
    "/api/v1/subscribers/",
    "/api/v2/subscribers",
]

BROKEN_QUERIES = [
    "username=%00",
    "username=%ff",
    "username=a&username=b",
    "=",
    "&".join(f"f{n}=1" for n in range(60)),
    "cursor=" + "A" * 700,
    "limit=-1",
    "limit=1e9",
    "level=9",
    "enabled=1",
    "nothing=here",
]


def why(answer):
    """Give the code of a refusal, which is a problem document and a 4xx."""
    assert 400 <= answer.code < 500, (answer.code, answer.bytes)
    assert answer.body["status"] == answer.code
    assert answer.body["detail"]
    return answer.body["code"]


def conversation(biller, sent):
    """Send bytes as they are, and give what comes until the connection ends."""
    with socket.create_connection(("127.0.0.1", int(biller.base.rpartition(":")[2])), timeout=20) as client:
        for piece in sent:
            try:
                client.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break
        said = b""
        while piece := client.recv(65536):
            said += piece
    return said


async def raw(biller, client, first_line, *headers, body=()):
    lines = [first_line, b"Host: x", b"Connection: close", b"Cookie: session=" + client.cookie.encode(), *headers]
    said = await deferToThread(conversation, biller, [b"\r\n".join(lines) + b"\r\n\r\n", *body])
    head, _, text = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, text


@pytest_twisted.ensureDeferred
async def test_an_unreadable_body_is_refused_whole(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    for body in BROKEN_BODIES:
        answer = await admin.post("/api/v1/subscribers", raw=body, headers={"Content-Type": "application/json"})
        assert (answer.code, why(answer)) == (400, "BROKEN_REQUEST"), body[:80]
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_wrong_field_is_named(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    for wrong, field in WRONG_FIELDS:
        answer = await admin.post("/api/v1/subscribers", json.loads(NEW + "}") | wrong)
        assert (answer.code, why(answer)) == (422, "INVALID"), wrong
        assert answer.body["fields"].keys() == {field}, wrong
        changed = await admin.patch("/api/v1/subscribers/ana", wrong)
        assert (changed.code, changed.body["fields"].keys()) == (422, {field}), wrong
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_all_that_is_wrong_is_said_at_once(biller):
    admin = await biller.logged_in("admin")
    body = {"username": "", "clid": "x", "level": 7, "zzz": 1}
    answer = await admin.post("/api/v1/subscribers", body)
    assert answer.body["fields"].keys() == {"username", "clid", "level", "zzz", "name", "imsi"}


@pytest_twisted.ensureDeferred
async def test_a_body_not_json_is_unsupported_media(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    types = [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "x",
        "\xff",
    ]
    for kind in types:
        answer = await admin.post("/api/v1/subscribers", raw=(NEW + "}").encode(), headers={"Content-Type": kind})
        assert (answer.code, why(answer)) == (415, "WRONG_MEDIA_TYPE"), kind
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_ten_megabyte_body_is_413(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    line, kind, size = b"POST /api/v1/subscribers HTTP/1.1", b"Content-Type: application/json", 10 * 1024 * 1024
    body = [b"x" * 65536] * (size // 65536)
    chunks = [b"10000\r\n" + piece + b"\r\n" for piece in body]
    for headers, pieces in (
        ([b"Content-Length: %d" % size], body),
        ([b"Transfer-Encoding: chunked"], [*chunks, b"0\r\n\r\n"]),
    ):
        status, _, text = await raw(biller, admin, line, kind, *headers, body=pieces)
        assert (status, json.loads(text)["code"]) == (413, "TOO_LARGE")
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_addresses_of_nothing_are_not_found(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    for path in NOWHERE:
        for method in ("GET", "DELETE"):
            status, _, text = await raw(biller, admin, f"{method} {path.replace(' ', '%20')} HTTP/1.1".encode())
            assert 400 <= status < 500, path
            assert json.loads(text).get("code", "NOT_FOUND") in ("NOT_FOUND", "UNKNOWN", "WRONG_METHOD"), (path, text)
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_an_unknown_query_is_refused(biller):
    admin = await biller.logged_in("admin")
    for query in BROKEN_QUERIES:
        answer = await admin.get(f"/api/v1/subscribers?{query}")
        assert why(answer) in ("BROKEN_REQUEST", "INVALID"), query
    assert why(await admin.get("/api/v1/me?x=1")) == "INVALID"


@pytest_twisted.ensureDeferred
async def test_undecodable_addresses_and_headers_are_refused(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    status, _, text = await raw(biller, admin, b"GET /api/v1/subscribers/%ff HTTP/1.1")
    assert (status, json.loads(text)["code"]) == (400, "BROKEN_REQUEST")
    status, _, text = await raw(biller, admin, b"GET /api/v1/subscribers/\xff HTTP/1.1")
    assert status == 400
    line, kind = b"POST /api/v1/transfers HTTP/1.1", b"Content-Type: application/json"
    body = [b'{"username":"ana","kind":"voice","value":1}']
    length = b"Content-Length: %d" % len(body[0])
    for header, code in (
        (b"Idempotency-Key: \xff", "BROKEN_REQUEST"),
        (b"Idempotency-Key: ", "BROKEN_REQUEST"),
        (b"Idempotency-Key: a\tb", "BROKEN_REQUEST"),
        (b"Idempotency-Key: k\r\nAuthorization: Bearer \xff", "NOT_AUTHENTICATED"),
        (b"Idempotency-Key: k\r\nOrigin: \xff", "FORBIDDEN"),
        (b"Idempotency-Key: k\r\nReferer: http://[", "FORBIDDEN"),
        (b"Idempotency-Key: k\r\nOrigin: null", "FORBIDDEN"),
    ):
        status, _, text = await raw(biller, admin, line, kind, length, header, body=body)
        assert json.loads(text)["code"] == code, header
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_bytes_not_http_are_refused(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    for sent in (
        b"\x00\xff\x00\xff\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET /api/v1/me HTTP/9.9\r\n\r\n",
        b"POST /api/v1/transfers HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/transfers HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /api/v1/transfers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 600 + b"\r\n",
    ):
        said = await deferToThread(half_closed, biller, sent)
        assert said == b"" or said.split()[1].startswith(b"4"), (sent[:60], said[:200])
    assert (await admin.get("/api/v1/me")).code == 200
    assert biller.everything() == before


def half_closed(biller, sent):
    with socket.create_connection(("127.0.0.1", int(biller.base.rpartition(":")[2])), timeout=20) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            return client.recv(65536)
        except OSError:
            return b""


@pytest_twisted.ensureDeferred
async def test_an_unknown_method_lists_the_known(biller):
    admin = await biller.logged_in("admin")
    for method in ("PUT", "TRACE", "PROPFIND"):
        status, head, text = await raw(biller, admin, f"{method} /api/v1/tokens HTTP/1.1".encode())
        assert (status, json.loads(text)["code"]) == (405, "WRONG_METHOD"), method
        assert b"Allow: GET, HEAD, POST" in head


@pytest_twisted.ensureDeferred
async def test_forged_or_revoked_credentials_open_nothing(biller):
    admin = await biller.logged_in("admin")
    made = (await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["admin"]})).body
    late = (await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["admin"], "expires_at": soon()})).body
    await admin.delete(f"/api/v1/tokens/{made['token']['id']}")
    over = await biller.logged_in("admin")
    out = await biller.logged_in("admin")
    await out.get("/logout")
    past = datetime.now(UTC) - timedelta(seconds=1)

    def age(tx):
        is_over = tables.session.c.secret_hash == principal.hash_secret(over.cookie)
        tx.execute(sa.update(tables.session).where(is_over).values(expires_at=past))
        is_late = tables.token.c.id == late["token"]["id"]
        tx.execute(sa.update(tables.token).where(is_late).values(expires_at=past))

    transact(biller.engine, age)
    before = biller.everything()
    stored = biller.rows(tables.session)[0]["secret_hash"]
    cookies = [
        "",
        "x",
        "admin",
        "0" * 43,
        admin.cookie[:-1],
        admin.cookie + "x",
        stored,
        over.cookie,
        out.cookie,
        "%00",
        "é",
    ]
    bearers = [
        "",
        "ccb_",
        "ccb_" + "x" * 43,
        made["secret"],
        late["secret"],
        made["secret"].upper(),
        stored,
        "a b",
        "é",
    ]
    for cookie in cookies:
        client = biller.client()
        client.cookie = cookie
        for answer in (await client.get("/api/v1/me"), await client.post("/api/v1/subscribers", json.loads(NEW + "}"))):
            assert (answer.code, why(answer)) == (401, "NOT_AUTHENTICATED"), cookie
    for bearer in bearers:
        client = biller.client()
        client.bearer = bearer
        for answer in (await client.get("/api/v1/me"), await client.delete("/api/v1/subscribers/ana")):
            assert (answer.code, why(answer)) == (401, "NOT_AUTHENTICATED"), bearer
    both = biller.client()
    both.cookie, both.bearer = admin.cookie, made["secret"]
    assert (await both.get("/api/v1/me")).code == 401  # the token counts, and it is revoked
    assert biller.everything() == before


ODD_HEADERS = [
    b"Host: \xc3\xa9",
    b"Host: " + b"a" * 70,
    b"Host: a..b",
    b"Host: xn--a.example",
    b"Host: [::1",
    b"Host: x:99999",
    b"Host:",
    b"Host: a b",
    b"Host: \x1b[2J",
    b"X-Forwarded-For: " + b"1.2.3.4, " * 1500,
    b"X-Forwarded-Proto: \xff",
    b"Forwarded: for=\xff;;;=",
    b"Cookie: " + b"session=x; " * 1000,
    b"Cookie: session=\xff\xfe",
    b"Authorization: Bearer",
    b"Authorization: " + b"Bearer " * 2000,
    b"Origin: http://[",
    b"Referer: \xff",
    b"Content-Type: application/json; charset=\xff",
    b"Expect: 100-continue",
    b"Expect: \xff",
    b"Range: bytes=0-\xff",
    b"If-None-Match: *",
    b"Connection: \xff",
]
PATHS = [
    b"/healthz",
    b"/metrics",
    b"/api/v1/openapi.json",
    b"/api/v1/subscribers?cursor=" + b"W1tb" * 140,
    b"/api/v1/calls?since=9999-12-31T23:59:59-23:59",
    b"/api/v1/calls?limit=" + b"9" * 5000,
    b"/api/users?q=" + b"%7B%22a%22:" * 1500,
    b"/api/users?q=%7B%22limit%22:1e9999999999999999999%7D",
    b"/api/users?q=%7B%22filters%22:[" + b"[" * 1500 + b"]" * 1500 + b"]%7D",
    b"/api/users?page=" + b"9" * 5000,
    b"/api/v1/calls.csv?x=\xc3\xa9",
]


@pytest_twisted.ensureDeferred
async def test_odd_headers_and_addresses_are_never_500(biller):
    admin = await biller.logged_in("admin")
    for path in PATHS:
        status, _, text = await raw(biller, admin, b"GET " + path + b" HTTP/1.1")
        assert status < 500, (path[:60], text[:200])
    for each in ODD_HEADERS:
        for line in (
            b"GET /api/v1/me HTTP/1.1",
            b"POST /logout HTTP/1.1",
            b"OPTIONS /api/v1/me HTTP/1.1",
            b"GET /x HTTP/1.0",
        ):
            sent = b"\r\n".join([line, each, b"Connection: close", b"", b""])
            said = await deferToThread(conversation, biller, [sent])
            assert said.split()[1] < b"500", (line, each[:60], said[:200])


FORMS = [
    b"username=ana&password=correct horse",
    b"username=ana&password=correct%20horse&",
    b"&&password=correct+horse&&username=ana&",
    b"username=ana&password=correct+horse\r\n",
    b"username=other&username=ana&password=correct+horse&x=\xc3\xa9&remember",
    b' {"username": "ana", "password": "correct horse", "x": 1e5}',
]
BROKEN_FORMS = [
    b"",
    b"username=ana",
    b"username=ana&password=\xff",
    b"username=ana&password=%ff",
    b"username=%00&password=x",
    b"&".join(b"f%d=1" % each for each in range(60)),
    b'{"username":"ana","password":1}',
    b'{"username":"ana","password":"x","a":1e9999999999999999999}',
    b'{"username":"ana","password":"x","a":' + b"[" * 5000,
    b'{"a":1,"a":1}',
    b'{"username":"\\ud800","password":"x"}',
]


@pytest_twisted.ensureDeferred
async def test_forms_of_all_clients_log_in(biller):
    for form in FORMS:
        for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}):
            answer = await biller.client().post("/login", raw=form, headers=headers)
            assert (answer.code, answer.body.get("username")) == (200, "ana"), form
    for form in BROKEN_FORMS:
        answer = await biller.client().post("/login", raw=form)
        assert (answer.code, list(answer.body)) == (400, ["message"]), form
    assert (await biller.client().post("/login", raw=b"username=a&password=" + b"x" * 8192)).code == 413
    name = "jos\u00e9".encode()  # a wrong name in raw UTF-8 is read as what it is, and is not known
    assert (await biller.client().post("/login", raw=b"username=" + name + b"&password=x")).code == 404


def soon():
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()
