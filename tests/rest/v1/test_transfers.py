"""Accounts, statements, transfers, reversals and holds, over real HTTP: what moves, once, and for whom."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from tests.core.ledger.test_book import TERMS, ended, initiate
from tests.support.http.api_service import biller_fixture, header

biller = biller_fixture()
LATER = datetime(2100, 1, 1, tzinfo=UTC)
UNLIMITED = {"day_limit": None, "month_limit": None, "spent_day": 0, "spent_month": 0, "valid_until": None}


def charge(biller, *requests):
    answers = transact(biller.engine, lambda tx: process_batch(tx, TERMS, requests, datetime.now(UTC)))
    assert not [each for each in answers if isinstance(each, Exception)], answers
    return answers


async def give(client, value=100, key="k", username="ana", **more):
    body = {"username": username, "kind": "voice", "value": value} | more
    return await client.post("/api/v1/transfers", body, headers={"Idempotency-Key": key})


async def voice(client, username="ana"):
    answer = await client.get(f"/api/v1/subscribers/{username}/accounts")
    return {each["kind"]: each for each in answer.body["items"]}["voice"]


def refused(answer, status, code):
    assert (answer.code, answer.body["code"]) == (status, code), answer.bytes
    assert header(answer, "content-type") == "application/problem+json"
    return answer.body


# -- transfers -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_credit_answers_with_its_transfers_address(biller):
    admin = await biller.logged_in("admin")
    answer = await give(admin, 100, note="a card", origin="shop")
    assert answer.code == 201
    said = answer.body
    assert datetime.fromisoformat(said.pop("at")).utcoffset() == timedelta(0)
    assert said == {
        "id": 1,
        "reference": "id:k",
        "username": "ana",
        "name": "Ana",
        "kind": "voice",
        "value": 100,
        "posted": 100,
        "origin": "shop",
        "note": "a card",
        "receipt": None,
    }
    again = await admin.get(header(answer, "location").removeprefix(biller.base))
    assert {**again.body, "at": None} == {**said, "at": None}
    assert (await voice(admin))["available"] == 100


@pytest_twisted.ensureDeferred
async def test_a_credit_gets_one_receipt(biller):
    admin = await biller.logged_in("admin")
    labels = [(await give(admin, 100, receipt=True)).body["receipt"] for _ in range(2)]
    assert labels == ["office-000001", "office-000001"]
    assert (await admin.get("/api/v1/receipts/office-000001")).body["amount"] == 100
    assert "receipt" in refused(await give(admin, -5, "back", receipt=True), 422, "INVALID")["fields"]


@pytest_twisted.ensureDeferred
async def test_a_plan_moves_nothing(biller):
    admin = await biller.logged_in("admin")
    before = biller.everything()
    for value, posted in ((100, 100), (0, 422), (-1, 409)):
        body = {"username": "ana", "kind": "voice", "value": value}
        answer = await admin.post("/api/v1/transfers/plan", body)
        assert (answer.body.get("posted") or answer.code) == posted
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_a_repeated_key_gives_the_first_answer(biller):
    admin = await biller.logged_in("admin")
    first = await give(admin, 100)
    before = biller.everything()
    again = await give(admin, 100)
    assert (again.code, again.body) == (first.code, first.body)
    assert biller.everything() == before


@pytest.mark.parametrize(
    "other", [{"value": 99}, {"value": -100}, {"kind": "data"}, {"username": "bia"}, {"origin": "x"}, {"note": "x"}]
)
@pytest_twisted.ensureDeferred
async def test_a_key_with_other_content_conflicts(biller, other):
    admin = await biller.logged_in("admin")
    await give(admin, 100)
    before = biller.everything()
    refused(await give(admin, **({"value": 100} | other)), 409, "CONFLICT")
    assert biller.everything() == before


@pytest_twisted.ensureDeferred
async def test_credit_without_a_key_is_refused(biller):
    admin = await biller.logged_in("admin")
    body = {"username": "ana", "kind": "voice", "value": 1}
    assert "Idempotency-Key" in refused(await admin.post("/api/v1/transfers", body), 400, "BROKEN_REQUEST")["detail"]
    for key in ("x" * 201, "\x80", "é"):
        answer = await admin.post("/api/v1/transfers", body, headers={"Idempotency-Key": key})
        refused(answer, 400, "BROKEN_REQUEST")
    assert biller.rows(tables.transfer) == []


@pytest_twisted.ensureDeferred
async def test_every_wrong_field_of_a_transfer_is_named(biller):
    admin = await biller.logged_in("admin")
    body = {"username": "a b", "kind": "gold", "value": 1.5, "note": "a\nb", "amount": 3}
    answer = await admin.post("/api/v1/transfers", body, headers={"Idempotency-Key": "k"})
    assert refused(answer, 422, "INVALID")["fields"].keys() == {"username", "kind", "value", "note", "amount"}
    for value in (0, AMOUNT_MAX + 1, -AMOUNT_MAX - 1, "5", True, None, 10**400):
        assert refused(await give(admin, value), 422, "INVALID")["fields"].keys() == {"value"}
    assert biller.rows(tables.transfer) == []


@pytest_twisted.ensureDeferred
async def test_credit_without_owner_or_funds_is_refused(biller):
    admin = await biller.logged_in("admin")
    refused(await give(admin, username="nobody"), 404, "UNKNOWN")
    refused(await give(admin, -1), 409, "NO_CREDIT")
    await give(admin, AMOUNT_MAX, "all")
    refused(await give(admin, 1, "more"), 409, "BALANCE_TOO_HIGH")
    assert (await give(admin, -AMOUNT_MAX, "back")).body["posted"] == 0


@pytest_twisted.ensureDeferred
async def test_a_collaborator_credits_only_subscribers(biller):
    clara, ana = await biller.logged_in("clara"), await biller.logged_in("ana")
    assert (await give(clara, 5, "1")).code == 201
    refused(await give(clara, 5, "2", username="clara"), 403, "FORBIDDEN")
    refused(await give(clara, 5, "3", username="admin"), 403, "FORBIDDEN")
    refused(await give(ana, 5, "4"), 403, "FORBIDDEN")
    assert len(biller.rows(tables.transfer)) == 1


@pytest_twisted.ensureDeferred
async def test_transfers_are_listed_by_time_and_reference(biller):
    admin = await biller.logged_in("admin")
    for n in range(5):
        await give(admin, 10 + n, f"k{n}", username=["ana", "bia"][n % 2])
    pages, cursor = [], ""
    while cursor is not None:
        answer = await admin.get(f"/api/v1/transfers?limit=2{cursor and f'&cursor={cursor}'}")
        pages.append([each["value"] for each in answer.body["items"]])
        cursor = answer.body["next"]
    assert pages == [[14, 13], [12, 11], [10]]
    middle = (await admin.get("/api/v1/transfers/3")).body["at"]
    until = await admin.get(f"/api/v1/transfers?until={middle}")
    since = await admin.get(f"/api/v1/transfers?since={middle}")
    assert [[each["id"] for each in answer.body["items"]] for answer in (since, until)] == [[5, 4, 3], [2, 1]]
    (found,) = (await admin.get("/api/v1/transfers?reference=id:k3")).body["items"]
    assert (found["id"], found["username"]) == (4, "bia")


@pytest_twisted.ensureDeferred
async def test_a_subscriber_sees_his_own_transfers_only(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    await give(admin, 1, "a", username="ana")
    await give(admin, 2, "b", username="bia")
    refused(await ana.get("/api/v1/transfers"), 403, "FORBIDDEN")
    assert (await ana.get("/api/v1/transfers/1")).body["value"] == 1
    hidden, missing = await ana.get("/api/v1/transfers/2"), await ana.get("/api/v1/transfers/3")
    assert refused(hidden, 404, "NOT_FOUND").keys() == refused(missing, 404, "NOT_FOUND").keys()
    refused(await ana.get("/api/v1/subscribers/bia/statement"), 403, "FORBIDDEN")
    refused(await ana.get("/api/v1/subscribers/bia/accounts"), 403, "FORBIDDEN")
    assert [each["value"] for each in (await ana.get("/api/v1/subscribers/ana/statement")).body["items"]] == [1]


@pytest_twisted.ensureDeferred
async def test_a_reused_name_hides_earlier_transfers(biller):
    admin = await biller.logged_in("admin")
    await give(admin, 7, "old")
    await admin.delete("/api/v1/subscribers/ana")
    body = {"username": "ana", "name": "Another", "clid": "77", "imsi": "7777777", "password": "correct horse"}
    assert (await admin.post("/api/v1/subscribers", body)).code == 201
    ana = await biller.logged_in("ana")
    refused(await ana.get("/api/v1/transfers/1"), 404, "NOT_FOUND")
    assert (await ana.get("/api/v1/subscribers/ana/statement")).body["items"] == []


@pytest_twisted.ensureDeferred
async def test_nothing_recorded_can_be_edited_or_deleted(biller):
    admin = await biller.logged_in("admin")
    await give(admin)
    for method in ("PUT", "PATCH", "DELETE"):
        answer = await admin.ask(method, "/api/v1/transfers/1", {})
        refused(answer, 405, "WRONG_METHOD")
        assert "GET" in header(answer, "allow")


# -- whose key it is -------------------------------------------------------------------------------------------------


async def top_up(client, key="1"):
    answer = await give(client, 60, key=key)
    assert answer.code == 201, answer.bytes
    return answer.body["reference"]


@pytest_twisted.ensureDeferred
async def test_two_operators_use_one_key_each_once(biller):
    admin, clara = await biller.logged_in("admin"), await biller.logged_in("clara")
    references = [await top_up(each) for each in (admin, clara, admin, clara)]
    assert references == ["id:1", "id@4:1", "id:1", "id@4:1"]
    assert (await voice(admin))["posted"] == 120
    refused(await give(clara, 5, key="1"), 409, "CONFLICT")


@pytest_twisted.ensureDeferred
async def test_a_token_shares_the_keys_of_its_owner(biller):
    clara, admin = await biller.logged_in("clara"), await biller.logged_in("admin")
    made = await admin.post("/api/v1/tokens", {"name": "t", "scopes": ["write"], "username": "clara"})
    program = biller.client()
    program.bearer = made.body["secret"]
    assert [await top_up(each) for each in (program, clara, program, admin)] == ["id:1", "id:1", "id:1", "id@1:1"]


@pytest_twisted.ensureDeferred
async def test_a_key_keeps_its_sender_under_another_name(biller):
    admin, clara = await biller.logged_in("admin"), await biller.logged_in("clara")
    assert await top_up(clara) == "id:1"
    assert (await admin.patch("/api/v1/subscribers/clara", {"username": "carla"})).code == 200
    dora = {"username": "clara", "name": "Dora", "clid": "55", "imsi": "1234567", "level": 2}
    assert (await admin.post("/api/v1/subscribers", dora)).code == 201
    other = await biller.logged_in("clara")
    assert [await top_up(each) for each in (clara, other)] == ["id:1", "id@5:1"]


@pytest_twisted.ensureDeferred
async def test_a_key_may_look_like_anothers_reference(biller):
    admin, clara = await biller.logged_in("admin"), await biller.logged_in("clara")
    asked = [(admin, "1"), (admin, "@4:1"), (clara, "1"), (clara, "@4:1"), (clara, "1")]
    references = [await top_up(each, key=key) for each, key in asked]
    assert references == ["id:1", "id:@4:1", "id@4:1", "id@4:@4:1", "id@4:1"]


@pytest_twisted.ensureDeferred
async def test_the_originals_routes_keep_keys_apart_too(biller):
    admin, clara = await biller.logged_in("admin"), await biller.logged_in("clara")
    body = {"from_user_id": 2, "value": 60, "origin": "web"}
    made = [
        (await each.post("/api/voice_balance", body, headers={"Idempotency-Key": "1"})).body["_id"]
        for each in (admin, clara, admin, clara)
    ]
    assert made[:2] == made[2:]
    assert len(set(made)) == 2
    assert (await voice(admin))["posted"] == 120


# -- reversals -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_reversal_moves_a_transfer_back_once(biller):
    admin = await biller.logged_in("admin")
    await give(admin, 100)
    back = await admin.post("/api/v1/transfers/1/reversal", {"note": "the wrong Ana"})
    assert back.code == 201
    assert (back.body["value"], back.body["posted"], back.body["reference"]) == (-100, 0, "reversal:id:k")
    before = biller.everything()
    again = await admin.post("/api/v1/transfers/1/reversal", {"note": "the wrong Ana"})
    assert (again.code, again.body) == (201, back.body)
    refused(await admin.post("/api/v1/transfers/1/reversal", {"note": "another reason"}), 409, "CONFLICT")
    assert biller.everything() == before
    forth = await admin.post("/api/v1/transfers/2/reversal", {"note": "it was the right one"})
    assert (forth.body["value"], forth.body["posted"]) == (100, 100)


@pytest_twisted.ensureDeferred
async def test_a_reversed_call_charge_passes_the_audit(biller):
    admin = await biller.logged_in("admin")
    await give(admin, 100)
    charge(biller, initiate(caller="1002", called="1003"))
    charge(biller, ended(talk_ms=9500))
    call = (await admin.get("/api/v1/calls/1")).body
    back = await admin.post(f"/api/v1/transfers/{call['transfer_id']}/reversal", {"note": "noise on the line"})
    assert (back.body["value"], back.body["posted"]) == (10, 100)
    assert biller.audit().ok


@pytest_twisted.ensureDeferred
async def test_spent_or_unexplained_credit_is_not_reversed(biller):
    admin, clara, ana = [await biller.logged_in(name) for name in ("admin", "clara", "ana")]
    await give(admin, 100, "1")
    await give(admin, -1, "2")
    await give(admin, 5, "3", username="clara")
    before = biller.everything()
    refused(await admin.post("/api/v1/transfers/1/reversal", {"note": "why"}), 409, "NO_CREDIT")
    refused(await admin.post("/api/v1/transfers/9/reversal", {"note": "why"}), 404, "NOT_FOUND")
    refused(await admin.post("/api/v1/transfers/1/reversal", {}), 422, "INVALID")
    refused(await clara.post("/api/v1/transfers/3/reversal", {"note": "why"}), 403, "FORBIDDEN")
    refused(await ana.post("/api/v1/transfers/2/reversal", {"note": "why"}), 403, "FORBIDDEN")
    assert biller.everything() == before


# -- accounts and statements -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_accounts_show_held_and_available_credit(biller):
    admin = await biller.logged_in("admin")
    await give(admin, 100)
    charge(biller, initiate(caller="1002", called="1003"))
    held = {"kind": "voice", "posted": 100, "held": 100, "available": 0, "credit_limit": 0} | UNLIMITED
    assert await voice(admin) == held
    ana = await biller.logged_in("ana")
    assert await voice(ana) == held
    refused(await admin.get("/api/v1/subscribers/nobody/accounts"), 404, "UNKNOWN")


@pytest_twisted.ensureDeferred
async def test_only_administrators_give_a_credit_limit(biller):
    admin, clara, ana = [await biller.logged_in(name) for name in ("admin", "clara", "ana")]
    address = "/api/v1/subscribers/ana/accounts/voice"
    answer = await admin.patch(address, {"credit_limit": 50})
    assert (answer.code, answer.body["available"], answer.body["credit_limit"]) == (200, 50, 50)
    assert (await give(admin, -50)).body["posted"] == -50
    refused(await give(admin, -1, "more"), 409, "NO_CREDIT")
    for client in (clara, ana):
        refused(await client.patch(address, {"credit_limit": 10**6}), 403, "FORBIDDEN")
    for limit in (-1, 10**12 + 1, "5", None):
        refused(await admin.patch(address, {"credit_limit": limit}), 422, "INVALID")
    refused(await admin.patch("/api/v1/subscribers/ana/accounts/gold", {"credit_limit": 1}), 404, "NOT_FOUND")
    lowered = await admin.patch(address, {"credit_limit": 0})
    assert (lowered.body["posted"], lowered.body["available"]) == (-50, -50)
    (_, row) = [row for row in biller.rows(tables.trail) if row["action"] == "change voice credit limit"]
    assert ('"floor":-50' in row["before"], '"floor":0' in row["after"]) == (True, True)


@pytest_twisted.ensureDeferred
async def test_sms_credit_has_an_account_of_its_own(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    given = (await give(admin, 30, kind="sms")).body
    assert (given["kind"], given["value"], given["posted"]) == ("sms", 30, 30)
    taken = (await give(admin, -5, "less", kind="sms")).body
    address = "/api/v1/subscribers/ana"
    limited = await admin.patch(f"{address}/accounts/sms", {"credit_limit": 10})
    as_it_is = {"posted": 25, "held": 0, "available": 35, "credit_limit": 10}
    assert limited.body == as_it_is | UNLIMITED | {"kind": "sms"}
    items = (await ana.get(f"{address}/accounts")).body["items"]
    assert [each["kind"] for each in items] == ["voice", "data", "sms"]
    assert items[2] == limited.body
    shown = (await ana.get(address)).body
    assert (shown["sms"], shown["voice"]["posted"], shown["data"]["posted"]) == (as_it_is, 0, 0)
    assert (await ana.get(f"{address}/statement?kind=sms")).body["items"] == [
        {name: value for name, value in each.items() if name != "receipt"} for each in (taken, given)
    ]
    back = await admin.post(f"/api/v1/transfers/{given['id']}/reversal", {"note": "the wrong Ana"})
    assert (back.body["kind"], back.body["value"], back.body["posted"]) == ("sms", -30, -5)
    for path in ("voice_balance", "data_balance"):
        assert (await admin.get(f"/api/{path}")).body["num_results"] == 0
    (user,) = [each for each in (await admin.get("/api/users")).body["objects"] if each["username"] == "ana"]
    assert (user["voice_balance"], user["data_balance"], "sms" in str(user)) == (0, 0, False)


@pytest_twisted.ensureDeferred
async def test_a_statement_pages_through_running_balances(biller):
    admin = await biller.logged_in("admin")
    for n, (kind, value) in enumerate([("voice", 10), ("data", 500), ("voice", -3), ("voice", 20), ("data", -1)]):
        await give(admin, value, f"k{n}", kind=kind)
    whole = (await admin.get("/api/v1/subscribers/ana/statement")).body["items"]
    assert [(each["kind"], each["value"], each["posted"]) for each in whole] == [
        ("data", -1, 499),
        ("voice", 20, 27),
        ("voice", -3, 7),
        ("data", 500, 500),
        ("voice", 10, 10),
    ]
    first = (await admin.get("/api/v1/subscribers/ana/statement?limit=3")).body
    rest = (await admin.get(f"/api/v1/subscribers/ana/statement?limit=3&cursor={first['next']}")).body
    assert (first["items"] + rest["items"], rest["next"]) == (whole, None)
    data = (await admin.get("/api/v1/subscribers/ana/statement?kind=data")).body["items"]
    assert [each["value"] for each in data] == [-1, 500]
    part = f"?since={whole[3]['at']}&until={whole[1]['at']}"
    assert (await admin.get(f"/api/v1/subscribers/ana/statement{part}")).body["items"] == whole[2:4]


@pytest_twisted.ensureDeferred
async def test_statement_and_transfer_list_agree(biller):
    admin = await biller.logged_in("admin")
    await give(admin, 100)
    await give(admin, -30, "2", note="why")
    charge(biller, initiate(caller="1002", called="1003"))
    charge(biller, ended(talk_ms=2500))
    statement = (await admin.get("/api/v1/subscribers/ana/statement")).body
    assert statement == (await admin.get("/api/v1/transfers")).body
    assert [each["value"] for each in statement["items"]] == [-3, -30, 100]


# -- holds -----------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_only_open_holds_are_listed(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    for username in ("ana", "bia", "clara"):
        await give(admin, 60, username, username=username)
    for n, caller in enumerate(["1002", "1003", "1004"]):
        charge(biller, initiate(f"{n}.0", caller=caller, called="1001"))
    charge(biller, ended("2.0", answered=False))
    items = (await admin.get("/api/v1/holds")).body["items"]
    assert [(each["username"], each["amount"], each["kind"], each["call_id"]) for each in items] == [
        ("bia", 60, "voice", 2),
        ("ana", 60, "voice", 1),
    ]
    first = (await admin.get("/api/v1/holds?limit=1")).body
    second = (await admin.get(f"/api/v1/holds?limit=1&cursor={first['next']}")).body
    assert (first["items"] + second["items"], second["next"]) == (items, None)
    assert (await admin.get("/api/v1/holds?username=ana")).body["items"] == items[1:]
    assert (await ana.get("/api/v1/holds")).body["items"] == items[1:]
    refused(await ana.get("/api/v1/holds?username=bia"), 404, "NOT_FOUND")
    refused(await ana.get("/api/v1/holds?username=nobody"), 404, "NOT_FOUND")
    refused(await admin.get("/api/v1/holds?username=nobody"), 404, "UNKNOWN")


# -- the trail, sessions, who asks, the price list -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_every_write_is_on_the_audit_trail(biller):
    admin, clara = await biller.logged_in("admin"), await biller.logged_in("clara")
    await give(clara, 100)
    await clara.post("/api/v1/transfers/1/reversal", {"note": "why"})
    await admin.patch("/api/v1/subscribers/ana/accounts/data", {"credit_limit": 5})
    items = (await admin.get("/api/v1/trail")).body["items"]
    assert [(each["actor"], each["action"], each["subject"]) for each in items[:3]] == [
        ("admin", "change data credit limit", "subscriber:ana"),
        ("clara", "reverse", "transfer:1"),
        ("clara", "credit", "subscriber:ana"),
    ]
    assert (items[0]["before"]["floor"], items[0]["after"]["floor"], items[0]["address"]) == (0, -5, "127.0.0.1")
    assert items[2]["after"]["amount"] == 100
    of_clara = (await admin.get("/api/v1/trail?actor=clara&limit=1")).body
    more = (await admin.get(f"/api/v1/trail?actor=clara&cursor={of_clara['next']}")).body
    assert [each["action"] for each in of_clara["items"] + more["items"]] == ["reverse", "credit", "log in"]
    of_ana = (await admin.get("/api/v1/trail?subject=subscriber:ana")).body["items"]
    assert [each["action"] for each in of_ana] == ["change data credit limit", "credit"]
    refused(await clara.get("/api/v1/trail"), 403, "FORBIDDEN")


@pytest_twisted.ensureDeferred
async def test_who_asks_hears_who_he_is(biller):
    admin = await biller.logged_in("admin")
    assert (await admin.get("/api/v1/me")).body == {
        "id": 1,
        "username": "admin",
        "level": 0,
        "scopes": None,
        "token_id": None,
        "bundles": [],
    }
    body = {"name": "script", "scopes": ["write", "read"], "username": "ana"}
    secret = (await admin.post("/api/v1/tokens", body)).body["secret"]
    program = biller.client()
    program.bearer = secret
    said = (await program.get("/api/v1/me")).body
    assert (said["username"], said["level"], said["scopes"], said["token_id"]) == ("ana", 1, ["read", "write"], 1)


@pytest_twisted.ensureDeferred
async def test_sessions_end_by_owner_or_administrator(biller):
    admin, here, there = [await biller.logged_in(name) for name in ("admin", "ana", "ana")]
    items = (await here.get("/api/v1/sessions")).body["items"]
    assert [(each["username"], each["address"], each["current"]) for each in items] == [
        ("ana", "127.0.0.1", False),
        ("ana", "127.0.0.1", True),
    ]
    first = (await here.get("/api/v1/sessions?limit=1")).body
    second = (await here.get(f"/api/v1/sessions?limit=1&cursor={first['next']}")).body
    assert (first["items"] + second["items"], second["next"]) == (items, None)
    refused(await here.get("/api/v1/sessions?username=admin"), 404, "NOT_FOUND")
    (of_admin,) = (await admin.get("/api/v1/sessions")).body["items"]
    refused(await here.delete(f"/api/v1/sessions/{of_admin['id']}"), 404, "NOT_FOUND")
    assert (await here.delete(f"/api/v1/sessions/{items[0]['id']}")).code == 204
    refused(await there.get("/api/v1/me"), 401, "NOT_AUTHENTICATED")
    (left,) = (await admin.get("/api/v1/sessions?username=ana")).body["items"]
    assert (await admin.delete(f"/api/v1/sessions/{left['id']}")).code == 204
    refused(await here.get("/api/v1/me"), 401, "NOT_AUTHENTICATED")
    refused(await admin.delete(f"/api/v1/sessions/{left['id']}"), 404, "NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_the_price_list_is_there_to_read(biller):
    ana = await biller.logged_in("ana")
    (rate,) = (await ana.get("/api/v1/rates")).body["items"]
    today = {"prefix": "", "name": "", "connect_fee": 0, "price": 1, "increment_seconds": 1}
    assert {name: rate[name] for name in today} == today


@pytest_twisted.ensureDeferred
async def test_limits_of_spending_are_the_administrators(biller):
    admin, clara = await biller.logged_in("admin"), await biller.logged_in("clara")
    path = "/api/v1/subscribers/ana/accounts/voice"
    refused(await clara.patch(path, {"day_limit": 5}), 403, "FORBIDDEN")
    changed = await admin.patch(path, {"day_limit": 50, "month_limit": 500})
    assert (changed.body["day_limit"], changed.body["month_limit"], changed.body["credit_limit"]) == (50, 500, 0)
    changed = await admin.patch(path, {"day_limit": None, "credit_limit": 7})
    assert (changed.body["day_limit"], changed.body["month_limit"], changed.body["credit_limit"]) == (None, 500, 7)
    assert (changed.body["spent_day"], changed.body["spent_month"]) == (0, 0)
    assert (await voice(admin)) == changed.body
    refused(await admin.patch(path, {"day_limit": -1}), 422, "INVALID")
    actions = [each["action"] for each in biller.rows(tables.trail) if "limit" in each["action"]]
    assert actions == ["change voice spending limits", "change voice credit limit", "change voice spending limits"]
