"""The original program's API over real HTTP: its objects, its words, and what it refuses now."""

import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import pytest_twisted
import sqlalchemy as sa

from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.rest.legacy import collections
from celcombiller.runtime.credentials.password_hasher import Passwords
from tests.support.http.api_service import PEOPLE, biller_fixture, header

biller = biller_fixture()
near_biller = biller_fixture(balance_checks="loopback")

USER_KEYS = ["_id", "level", "name", "address", "cpf", "username", "clid", "imsi", "voice_balance", "data_balance"]


@pytest.fixture(autouse=True)
def every_count_is_new(monkeypatch):
    """Keep no count: on a busy machine the count of four rows may take long enough to be kept."""
    monkeypatch.setattr(collections, "SLOW_SECONDS", 3600)


NEW = {
    "level": "1",
    "username": "dora",
    "password": "a good password",
    "clid": "1005",
    "imsi": 724000000001005,
    "name": "Dora",
    "address": "Rua 1",
    "cpf": "007",
    "voice_balance": "5",
    "data_balance": 0,
}


def looking_for(**q):
    return f"?q={quote(json.dumps(q))}"


def where(name, value, op="eq"):
    return {"name": name, "op": op, "val": value}


async def credited(client, user_id, value, **more):
    answer = await client.post("/api/voice_balance", {"from_user_id": user_id, "value": value, "origin": "web"} | more)
    assert answer.code == 201, answer.bytes
    return answer.body


# -- users -----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_users_are_listed_and_shown_as_they_were(biller):
    client = await biller.logged_in("admin")
    answer = await client.get("/api/users")
    assert answer.code == 200
    assert answer.bytes.startswith(b'{\n  "num_results": 4,')
    assert header(answer, "content-type") == "application/json"
    assert list(answer.body) == ["num_results", "objects", "page", "total_pages"]
    assert [list(each) for each in answer.body["objects"]] == [USER_KEYS] * 4
    assert header(answer, "link") == f'<{biller.base}/api/users?page=1&results_per_page=10>; rel="last"'
    assert "password" not in answer.bytes.decode()
    answer = await client.get("/api/users/ana")
    assert answer.body == {
        "_id": 2,
        "level": 1,
        "name": "Ana",
        "address": "",
        "cpf": 1002,
        "username": "ana",
        "clid": "1002",
        "imsi": "724000000001002",
        "voice_balance": 0,
        "data_balance": 0,
    }
    for path in ("/api/users/nobody", "/api/users/" + quote("ana\x00"), "/api/users/" + "a" * 5000):
        answer = await client.get(path)
        assert answer.code == 404, path
    assert (await client.get("/api/users/nobody")).body == {}
    assert (await client.get("/api/users/")).code == 404
    assert (await client.get("/api/users/%FF")).body == {"message": "the address is not UTF-8"}
    assert (await client.ask("HEAD", "/api/users")).code == 200
    assert header(await client.ask("OPTIONS", "/api/users"), "allow") == "GET, HEAD, PATCH, POST, PUT"


@pytest_twisted.ensureDeferred
async def test_jsonp_is_not_brought_back(biller):
    client = await biller.logged_in("admin")
    answer = await client.get("/api/users?callback=cb&_=1")
    assert header(answer, "content-type") == "application/json"
    assert answer.body["num_results"] == 4


@pytest_twisted.ensureDeferred
async def test_a_user_is_added_despite_loose_types(biller):
    client = await biller.logged_in("clara")
    answer = await client.post("/api/users", NEW)
    assert answer.code == 201, answer.bytes
    assert header(answer, "location") == f"{biller.base}/api/users/dora"
    shown = {name: value for name, value in NEW.items() if name != "password"}
    assert answer.body == shown | {"_id": 5, "level": 1, "cpf": 7, "imsi": "724000000001005", "voice_balance": 5}
    (row,) = [row for row in biller.rows(tables.subscriber) if row["username"] == "dora"]
    assert (row["cpf"], row["imsi"]) == ("007", "724000000001005")
    assert (await (biller.client()).log_in("dora", NEW["password"])).code == 200
    (transfer,) = biller.rows(tables.transfer)
    assert (transfer["origin"], transfer["amount"], transfer["credit_posted"]) == ("opening", 5, 5)
    for field, value in (("username", "dora2"), ("clid", "1006"), ("imsi", "724000000001006"), ("cpf", "8")):
        others = {"username": "e", "clid": "1009", "imsi": "724000000001009", "cpf": "9"}
        answer = await client.post("/api/users", NEW | others | {field: NEW[field]})
        assert (answer.code, answer.body["message"]) == (409, "the user already exists"), value
        assert list(answer.body["validation_errors"]) == [field]
    assert (await client.delete("/api/users/dora")).code == 204
    assert (await client.get("/api/users/dora")).body == {}
    assert (await client.post("/api/users", NEW)).body["_id"] == 6


@pytest_twisted.ensureDeferred
async def test_optional_user_fields_may_be_missing(biller):
    client = await biller.logged_in("admin")
    body = {name: NEW[name] for name in ("level", "username", "password", "clid", "imsi", "name")}
    answer = await client.post("/api/users", body | {"cpf": None})
    assert (answer.code, answer.body["cpf"], answer.body["address"], answer.body["voice_balance"]) == (201, None, "", 0)
    assert biller.rows(tables.transfer) == []


@pytest_twisted.ensureDeferred
async def test_a_wrong_user_names_every_wrong_field(biller):
    client = await biller.logged_in("admin")
    before = biller.everything()
    wrong = {
        "level": 3,
        "username": "a/b",
        "password": "short",
        "clid": "+55",
        "imsi": -724000000001005,
        "name": "",
        "cpf": "1.5",
        "voice_balance": -1,
        "data_balance": "many",
        "Ki": "",
    }
    answer = await client.post("/api/users", wrong)
    assert answer.code == 400
    assert answer.body["validation_errors"].keys() == wrong.keys()
    for field, value in (
        ("username", None),
        ("username", "ana\x00"),
        ("username", "\u0430na"),  # the first letter is Cyrillic
        ("password", 12345678),
        ("password", None),
        ("clid", "\uff11\uff10\uff10\uff15"),  # digits of another script
        ("voice_balance", AMOUNT_MAX + 1),
        ("voice_balance", 10**400),
        ("voice_balance", 1e300),
        ("voice_balance", 0.5),
        ("data_balance", True),
        ("level", None),
        ("name", ["Ana"]),
        ("cpf", {"a": 1}),
    ):
        answer = await client.post("/api/users", NEW | {field: value})
        assert answer.code == 400, (field, value)
        assert answer.body["message"]
    for missing in ("level", "username", "password", "clid", "imsi", "name"):
        answer = await client.post("/api/users", {name: value for name, value in NEW.items() if name != missing})
        assert (answer.code, answer.body["validation_errors"]) == (400, {missing: "is missing"})
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_user_changes_by_object_or_lists(biller):
    client = await biller.logged_in("admin")
    answer = await client.patch("/api/users/ana", {"name": "Ana Maria", "level": "2", "cpf": 123})
    assert (answer.code, answer.body["name"], answer.body["level"], answer.body["cpf"]) == (200, "Ana Maria", 2, 123)
    answer = await client.patch(
        "/api/users/ana", {"fields": ["level", "address", "imsi"], "values": [1, "", 724000000009]}
    )
    assert (answer.body["level"], answer.body["address"], answer.body["imsi"]) == (1, "", "724000000009")
    answer = await client.patch("/api/users/ana", {"fields": ["level"], "values": [0]})
    assert answer.body["level"] == 0  # a value that counts as nothing in Python was skipped once
    answer = await client.patch("/api/users/ana", {"address": None, "cpf": None})
    assert (answer.body["address"], answer.body["cpf"]) == ("", None)
    answer = await client.patch("/api/users/ana", {"username": "ana2"})
    assert (answer.code, answer.body["username"]) == (200, "ana2")
    assert (await client.get("/api/users/ana")).code == 404
    assert (await client.patch("/api/users/ana", {"name": "x"})).body == {}
    assert (await client.patch("/api/users/ana2", {})).body["username"] == "ana2"
    assert (await client.patch("/api/users/ana2", {"username": "bia"})).code == 409


@pytest_twisted.ensureDeferred
async def test_a_password_in_either_shape_is_hashed(biller):
    client = await biller.logged_in("admin")
    for body in ({"password": "another one"}, {"fields": ["name", "password"], "values": ["A", "the third one"]}):
        assert (await client.patch("/api/users/ana", body)).code == 200
        password = body.get("password") or body["values"][1]
        assert (await biller.client().log_in("ana", password)).code == 200
    assert "another one" not in str(biller.everything())
    assert "the third one" not in str(biller.everything())
    for wrong in ("short", None, 12345678, ["another one"], "x" * 1025):
        answer = await client.patch("/api/users/ana", {"password": wrong})
        assert (answer.code, list(answer.body["validation_errors"])) == (400, ["password"])


@pytest_twisted.ensureDeferred
async def test_an_invalid_password_is_not_hashed(biller, monkeypatch):
    client = await biller.logged_in("admin")

    async def hashed(*_):
        raise AssertionError("hashed")

    monkeypatch.setattr(Passwords, "hash", hashed)
    assert (await client.patch("/api/users/ana", {"password": "x" * 2000})).code == 400
    anonymous = biller.client()
    assert (await anonymous.patch("/api/users/ana", {"password": "a good one"})).code == 401


@pytest_twisted.ensureDeferred
async def test_balances_and_keys_cannot_be_changed(biller):
    client = await biller.logged_in("admin")
    before = biller.everything()
    for field in ("voice_balance", "data_balance", "_id"):
        for body in ({field: 1000, "name": "x"}, {"fields": ["name", field], "values": ["x", 1000]}):
            answer = await client.patch("/api/users/ana", body)
            assert (answer.code, list(answer.body["validation_errors"])) == (400, [field])
    answer = await client.patch("/api/users/ana", {"voice_balance": 1000})
    assert "POST the difference to /api/voice_balance" in answer.body["message"]
    for body in (
        {"fields": ["name"], "values": []},
        {"fields": ["name"]},
        {"fields": "name", "values": "x"},
        {"fields": ["name", "name"], "values": ["x", "y"]},
        {"fields": [["name"]], "values": ["x"]},
        {"fields": ["name"], "values": ["x"], "level": 0},
        {"nothing": 1},
    ):
        answer = await client.patch("/api/users/ana", body)
        assert answer.code == 400, body
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_search_changes_many_users_never_all(biller):
    client = await biller.logged_in("admin")
    some = {"filters": [where("username", "%a", "like"), where("level", 1)]}
    for method in ("PATCH", "PUT"):
        answer = await client.ask(method, "/api/users", {"q": some, "address": f"by {method}"})
        assert (answer.code, answer.body) == (200, {"num_modified": 2})
        changed = {row["username"] for row in biller.rows(tables.subscriber) if row["address"] == f"by {method}"}
        assert changed == {"ana", "bia"}
    assert (await client.patch("/api/users", {"q": some})).body == {"num_modified": 0}
    nobody = {"filters": [where("username", "nobody")]}
    assert (await client.patch("/api/users", {"q": nobody, "name": "x"})).body == {"num_modified": 0}
    before = biller.everything()
    for q in (
        {},
        {"filters": []},
        None,
        "x",
        [],
        {"filters": [{"or": []}]},
        {"filters": [where("password", "%", "like")]},
    ):
        answer = await client.patch("/api/users", {"q": q, "name": "x"})
        assert answer.code == 400, q
    assert (await client.patch("/api/users", {"name": "x"})).code == 400
    assert (await client.patch("/api/users", {"q": some, "username": "x"})).code == 409
    assert (await client.patch("/api/users", {"q": some, "voice_balance": 5})).code == 400
    assert (await client.patch("/api/users", {"q": {"filters": [where("level", 0)]}, "level": 1})).code == 409
    assert biller.everything() == before
    collaborator = await biller.logged_in("clara")
    answer = await collaborator.patch("/api/users", {"q": {"filters": [where("_id", 0, ">")]}, "name": "x"})
    assert answer.code == 403
    assert biller.everything()["subscriber"] == before["subscriber"]


@pytest_twisted.ensureDeferred
async def test_at_most_a_hundred_users_change_at_once(biller):
    def work(tx):
        for number in range(2000, 2098):
            facts = {"clid": str(number), "imsi": f"72400000000{number}", "cpf": None, "address": "", "level": 1}
            subscriber_records.add(
                tx, username=f"u{number}", name="N", password_hash=None, now=datetime.now(UTC), **facts
            )

    transact(biller.engine, work)
    client = await biller.logged_in("admin")
    all_of_them = {"filters": [where("level", 1)]}
    assert (await client.patch("/api/users", {"q": all_of_them, "name": "x"})).body == {"num_modified": 100}
    await client.patch("/api/users/clara", {"level": 1})
    answer = await client.patch("/api/users", {"q": all_of_them, "name": "y"})
    assert (answer.code, "more than 100" in answer.body["message"]) == (400, True)
    answer = await client.patch("/api/users", {"q": all_of_them | {"limit": 5}, "name": "y"})
    assert answer.body == {"num_modified": 5}


@pytest_twisted.ensureDeferred
async def test_deleting_says_whether_there_was_something(biller):
    client = await biller.logged_in("admin")
    answer = await client.delete("/api/users/ana")
    assert (answer.code, answer.bytes) == (204, b"")
    answer = await client.delete("/api/users/ana")
    assert (answer.code, answer.body) == (404, {})
    answer = await client.delete("/api/users")
    assert (answer.code, header(answer, "allow")) == (405, "GET, HEAD, PATCH, POST, PUT")
    assert (await client.ask("PUT", "/api/users/bia", {"name": "x"})).code == 405
    assert (await client.delete("/api/users/admin")).code == 409


# -- movements -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_each_voice_movement_becomes_a_row(biller):
    client = await biller.logged_in("clara")
    answer = await client.post("/api/voice_balance", {"value": "1000", "from_user_id": 2, "origin": "web"})
    assert answer.code == 201
    assert header(answer, "location") == f"{biller.base}/api/voice_balance/1"
    date = answer.body.pop("date")
    assert datetime.fromisoformat(date).tzinfo is None
    assert len(date) == len("2026-11-01T12:00:00.000000")
    assert answer.body == {"_id": 1, "from_user_id": 2, "to_user_id": None, "value": 1000, "origin": "web"}
    taken = await credited(client, "2", -300, to_user_id="3", date="2017-02-01T10:00:00", origin="call")
    assert taken == {
        "_id": 2,
        "from_user_id": 2,
        "to_user_id": 3,
        "value": -300,
        "date": "2017-02-01T10:00:00.000000",
        "origin": "call",
    }
    assert (await client.get("/api/users/ana")).body["voice_balance"] == 700
    answer = await client.get("/api/voice_balance")
    assert answer.body["num_results"] == 2
    assert answer.body["objects"] == [
        {"_id": 1, "from_user_id": 2, "to_user_id": None, "value": 1000, "date": date, "origin": "web"},
        taken | {"to_user_clid": "1003"},
    ]
    assert (await client.get("/api/voice_balance/2")).body == taken
    answer = await client.get("/api/voice_balance" + looking_for(filters=[where("_id", 2)], single=True))
    assert answer.body == taken | {"to_user_clid": "1003"}
    assert (await client.get("/api/voice_balance/3")).body == {}
    assert (await client.get("/api/data_balance/2")).body == {}
    assert (await client.get("/api/data_balance")).body["num_results"] == 0
    assert (await client.delete("/api/users/bia")).code == 204
    assert (await client.get("/api/voice_balance")).body["objects"][1]["to_user_clid"] == "1003"


@pytest_twisted.ensureDeferred
async def test_data_credit_finds_users_by_id_or_imsi(biller):
    client = await biller.logged_in("admin")
    for said in (2, "2", 724000000001002, "724000000001002"):
        body = {"user_id": said, "value": 10, "origin": "web", "user_ip": "10.0.0.1", "connection_ip": None}
        answer = await client.post("/api/data_balance", body)
        assert (answer.code, answer.body["user_id"], answer.body["user_ip"]) == (201, 2, "10.0.0.1")
    assert list(answer.body) == ["_id", "user_id", "date", "value", "user_ip", "connection_ip", "origin"]
    assert (await client.get("/api/users/ana")).body["data_balance"] == 40
    for said in (724000000009999, "724000000009999", 99, "99", -1, 0, "x", "", None, 1.5, True, [2], 10**40, "\uff19"):
        answer = await client.post("/api/data_balance", {"user_id": said, "value": 1, "origin": "web"})
        assert (answer.code, list(answer.body["validation_errors"])) == (400, ["user_id"]), said
    assert len(biller.rows(tables.transfer)) == 4


@pytest_twisted.ensureDeferred
async def test_more_than_is_there_is_not_taken(biller):
    client = await biller.logged_in("admin")
    await credited(client, 2, 10)
    before = biller.everything()
    answer = await client.post("/api/voice_balance", {"from_user_id": 2, "value": -11, "origin": "web"})
    assert (answer.code, answer.body["message"]) == (409, "Insufficient balance: 11 asked for, 10 available")
    body = {"from_user_id": 2, "value": 1, "origin": "web"}
    for wrong in (
        *({"value": each} for each in (0, "0", "", "x", 1.5, None, True, [1], AMOUNT_MAX + 1, -(10**30), "1" * 5000)),
        *({"origin": each} for each in (None, "", "a\nb", "x" * 65, 5.5)),
        *({"date": each} for each in ("yesterday", "", 5, "2017-02-30")),
        *({"to_user_id": each} for each in (99, "x", -1)),
        {"unknown": 1},
        {"user_id": 2},
    ):
        answer = await client.post("/api/voice_balance", body | wrong)
        assert (answer.code, list(answer.body["validation_errors"])) == (400, list(wrong)), wrong
    answer = await client.post("/api/voice_balance", {})
    assert (answer.code, set(answer.body["validation_errors"])) == (400, {"from_user_id", "value", "origin"})
    answer = await client.post("/api/voice_balance", body | {"value": AMOUNT_MAX})
    assert answer.code == 409
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_key_moves_credit_once(biller):
    client = await biller.logged_in("admin")
    key = {"headers": {"Idempotency-Key": "receipt 7"}}
    body = {"from_user_id": 2, "value": 10, "origin": "web", "to_user_id": 3, "date": "2017-02-01T10:00:00Z"}
    first = await client.post("/api/voice_balance", body, **key)
    again = await client.post("/api/voice_balance", body, **key)
    assert (again.code, again.body) == (201, first.body)
    for other in ({"value": 11}, {"from_user_id": 3}, {"origin": "x"}, {"to_user_id": None}, {"date": None}):
        answer = await client.post("/api/voice_balance", body | other, **key)
        assert answer.code == 409, other
    answer = await client.post("/api/data_balance", {"user_id": 2, "value": 10, "origin": "web"}, **key)
    assert answer.code == 409
    assert len(biller.rows(tables.transfer)) == 1
    assert [row["action"] for row in biller.rows(tables.trail)] == ["log in", "credit"]
    without = [await credited(client, 2, 10) for _ in range(2)]
    assert without[0]["_id"] != without[1]["_id"]


@pytest_twisted.ensureDeferred
async def test_movements_are_neither_changed_nor_deleted(biller):
    client = await biller.logged_in("admin")
    await credited(client, 2, 10)
    before = biller.everything()
    for path in ("/api/voice_balance/1", "/api/data_balance/1", "/api/voice_balance", "/api/data_balance"):
        for method in ("PATCH", "PUT", "DELETE"):
            answer = await client.ask(method, path, {"value": 5})
            assert answer.code == 405, path
            assert "nothing recorded is edited or deleted" in answer.body["message"]
            assert "GET" in header(answer, "allow")
    assert biller.everything() == before


# -- who sees what ---------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_subscriber_sees_and_does_his_own_only(biller):
    admin = await biller.logged_in("admin")
    for user_id in (2, 3):
        await credited(admin, user_id, 10 * user_id)
    client = await biller.logged_in("ana")
    users = (await client.get("/api/users")).body
    assert [each["username"] for each in users["objects"]] == ["ana"]
    looked = (await client.get("/api/users" + looking_for(filters=[where("username", "bia")]))).body
    assert looked["num_results"] == 0
    assert [each["value"] for each in (await client.get("/api/voice_balance")).body["objects"]] == [20]
    assert (await client.get("/api/voice_balance/2")).body == {}
    assert (await client.get("/api/voice_balance/1")).body["value"] == 20
    answer = await client.get("/api/users/bia")
    assert (answer.code, answer.body["message"].startswith("Forbidden")) == (403, True)
    before = biller.everything()
    for method, path, body in (
        ("POST", "/api/voice_balance", {"from_user_id": 2, "value": 1, "origin": "web"}),
        ("POST", "/api/users", NEW),
        ("PATCH", "/api/users/bia", {"name": "x"}),
        ("PATCH", "/api/users/ana", {"level": 0}),
        ("PATCH", "/api/users/ana", {"clid": "1"}),
        ("PATCH", "/api/users", {"q": {"filters": [where("username", "ana")]}, "level": 0}),
        ("DELETE", "/api/users/ana", None),
        ("GET", "/check_voice_balance", {"imsi": "724000000001002"}),
    ):
        answer = await client.ask(method, path, body)
        assert answer.code == 403, path
    assert biller.everything() == before
    assert (await client.patch("/api/users/ana", {"fields": ["address"], "values": ["Rua 2"]})).body[
        "address"
    ] == "Rua 2"


@pytest_twisted.ensureDeferred
async def test_a_collaborator_credits_subscribers_and_not_the_staff(biller):
    client = await biller.logged_in("clara")
    for user_id, code in ((1, 403), (2, 201), (4, 403)):
        for path, field in (("/api/voice_balance", "from_user_id"), ("/api/data_balance", "user_id")):
            assert (await client.post(path, {field: user_id, "value": 1, "origin": "web"})).code == code
    for level in (0, 2):
        assert (await client.post("/api/users", NEW | {"level": level})).code == 403


@pytest_twisted.ensureDeferred
async def test_anonymous_requests_are_401_with_a_hint(biller):
    client = biller.client()
    answer = await client.get("/api/users")
    assert answer.code == 401
    assert answer.body["message"].startswith("Not authenticated")
    assert header(answer, "www-authenticate") == 'Bearer realm="celcombiller"'


# -- the plain routes ------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_plain_routes_say_who_one_is(biller):
    client = await biller.logged_in("ana")
    for path, text in (("/", b"ana"), ("/test", b"test"), ("/check", b"ana"), ("/checkadm", b"<User 'ana'>")):
        answer = await client.get(path)
        assert (answer.code, answer.bytes) == (200, text)
        assert header(answer, "content-type") == "text/plain; charset=utf-8"
        assert (await biller.client().get(path)).code == 401
    assert (await client.post("/")).bytes == b"ana"
    answer = await client.post("/sms", {"id": 2, "to": "1003", "msg": "hello"})
    assert (answer.code, answer.body) == (501, {"message": "the biller sends no SMS: [sms] names no way"})
    assert (await client.get("/logout")).code == 200
    assert (await client.get("/test")).code == 401


async def balance(client, kind="voice", method="GET", **more):
    return await client.ask(method, f"/check_{kind}_balance", **more)


@pytest_twisted.ensureDeferred
async def test_a_balance_by_imsi_is_plain_text(biller):
    admin = await biller.logged_in("admin")
    await credited(admin, 2, 77)
    made = await admin.post("/api/v1/tokens", {"name": "pbx", "scopes": ["agi"]})
    token = biller.client()
    token.bearer = made.body["secret"]
    for client in (admin, token):
        for method in ("GET", "POST"):
            for more in (
                {"body": {"imsi": "724000000001002"}},
                {"body": {"imsi": 724000000001002}},
                {"raw": b'{"imsi": "724000000001002"}'},
                {"raw": b'{"imsi": "724000000001002"}', "headers": {"Content-Type": "text/plain"}},
            ):
                answer = await balance(client, method=method, **more)
                assert (answer.code, answer.bytes) == (200, b"77")
        assert (await balance(client, "data", body={"imsi": "724000000001002"})).bytes == b"0"
        assert (await balance(client, body={"imsi": "999999999999999"})).bytes == b"none"
    for raw in (
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"imsi": null}',
        b'{"imsi": ["7"]}',
        b'{"imsi": true}',
        b'{"imsi": 1, "imsi": 2}',
    ):
        answer = await balance(admin, method="POST", raw=raw)
        assert answer.code == 400, raw
        assert answer.body["message"]
    assert (await balance(biller.client(), body={"imsi": "724000000001002"})).code == 401
    reads = biller.client()
    made = await admin.post("/api/v1/tokens", {"name": "reports", "scopes": ["read"]})
    reads.bearer = made.body["secret"]
    assert (await balance(reads, body={"imsi": "724000000001002"})).code == 403


@pytest_twisted.ensureDeferred
async def test_local_programs_may_read_balances_where_allowed(near_biller):
    client = near_biller.client()
    asked = {"body": {"imsi": "724000000001002"}}
    assert (await balance(client, **asked)).bytes == b"0"
    assert (await balance(client, "data", "POST", **asked)).bytes == b"0"
    for headers in ({"X-Forwarded-For": "10.0.0.1"}, {"Origin": near_biller.base}, {"Host": "evil.example.org"}):
        assert (await balance(client, headers=headers, **asked)).code == 401, headers
    assert (await client.get("/api/users")).code == 401


# -- bad input -------------------------------------------------------------------------------------------------------

WRITES = (
    ("POST", "/api/users"),
    ("PATCH", "/api/users"),
    ("PATCH", "/api/users/ana"),
    ("POST", "/api/voice_balance"),
    ("POST", "/api/data_balance"),
)


@pytest_twisted.ensureDeferred
async def test_an_unreadable_body_is_refused_with_reason(biller):
    client = await biller.logged_in("admin")
    before = biller.everything()
    for method, path in WRITES:
        for raw in (
            b"",
            b"{",
            b"null",
            b"[]",
            b'"x"',
            b"\xff\xfe{}",
            b'{"name": "a", "name": "b"}',
            b'{"name": "a\\u0000"}',
            b'{"name": "\\ud800"}',
            b'{"value": NaN}',
            b'{"value": ' + b"9" * 5000 + b"}",
            b"[" * 60000,
            b'{"a":' * 10000,
        ):
            answer = await client.ask(method, path, raw=raw, headers={"Content-Type": "application/json"})
            assert answer.code == 400, (method, path, raw[:20])
            assert answer.body["message"].startswith(("Unable to decode data", "a text has")), raw[:20]
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = await client.ask(method, path, raw=b"{}", headers={"Content-Type": content_type})
            assert answer.code == 415
            assert answer.body == {"message": 'Request must have "Content-Type: application/json" header'}
        answer = await client.ask(method, path, raw=b" " * 10_000_000, headers={"Content-Type": "application/json"})
        assert answer.code == 413
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_an_unreadable_search_is_refused_with_reason(biller):
    client = await biller.logged_in("admin")
    for path in ("/api/users", "/api/voice_balance", "/api/data_balance"):
        for query, why in (
            ("?q={", "Unable to decode data"),
            ("?q=%FF", "not UTF-8"),
            ("?q=%7B%7D&q=%7B%7D", "q twice"),
            ("?q=" + quote('{"filters":[{"name":"_id","op":"eq","val":"\x00"}]}'), "NUL"),
            ("?q=" + "[" * 4000, "nested too deep"),
            ("?page=x", "page must be a whole number"),
            ("?" + "&".join(f"a{number}=1" for number in range(60)), "too many fields"),
            (looking_for(filters=[where("_id", "9" * 3000)]), "must be a whole number"),
            (looking_for(filters=[where("_id", 10**3000)]), "must be a whole number"),
            (looking_for(filters=[where("_id", -(2**63))]), "must be a whole number"),
            (looking_for(filters=[where("password", "a%", "like")]), "there is no field 'password'"),
        ):
            answer = await client.get(path + query)
            assert answer.code == 400, query[:60]
            assert why in answer.body["message"], query[:60]


@pytest_twisted.ensureDeferred
async def test_too_long_addresses_and_headers_are_refused(biller):
    client = await biller.logged_in("admin")
    for path, headers, code in (("/api/users?q=" + "x" * 20000, {}, 414), ("/api/users", {"X-Long": "x" * 20000}, 431)):
        assert (await client.get(path, headers=headers)).code == code


@pytest_twisted.ensureDeferred
async def test_a_slow_pattern_is_answered_at_once(biller):
    def work(tx):
        table = tables.subscriber
        tx.execute(sa.update(table).where(table.c.username == "ana").values(address="a" * 500))

    transact(biller.engine, work)
    client = await biller.logged_in("admin")
    slow = [where("address", "%" + "a%" * 9 + "b", "like")] * 50
    began = datetime.now(UTC)
    answer = await client.get("/api/users" + looking_for(filters=[{"or": slow}]))
    assert (answer.code, answer.body["num_results"]) == (200, 0)
    assert (datetime.now(UTC) - began).total_seconds() < 2


def test_test_people_exist_in_the_biller():
    assert list(PEOPLE) == ["admin", "ana", "bia", "clara"]  # their ids are 1 to 4
