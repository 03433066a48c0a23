"""Logging in by a code that is sent to the phone: by pages and by the API. Over real HTTP."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest
import pytest_twisted
import sqlalchemy as sa

from celcombiller.config.tables import Asterisk, Sms
from celcombiller.core.access.actor import Actor
from celcombiller.core.access.credentials import second_factor
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from celcombiller.http.credentials import login_code
from tests.support.databases import speak
from tests.support.http.api_service import Biller, biller_fixture, header
from tests.support.http.pages import Reader

PATH = "/api/v1/login-codes"
ANA, BIA, CLARA = "1002", "1003", "1004"
NOWHERE = Asterisk(name="pbx1", host="127.0.0.1", port=1, username="x", secret="x")
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
without = biller_fixture()


@pytest_twisted.async_yield_fixture
async def biller(tmp_path, monkeypatch):
    monkeypatch.setattr(login_code, "ANSWER_SECONDS", 0.01)
    made = Biller(tmp_path, {"login_code": True}, "", sms=Sms(on_net_route="asterisk"), asterisk=(NOWHERE,))
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


def sent(biller):
    return [(each["to_number"], each["text"].split()[0]) for each in biller.rows(tables.message)]


async def ask(biller, number=ANA):
    answer = await biller.client().post(PATH, {"number": number})
    return answer.code, answer.bytes


async def code_for(biller, number=ANA):
    await ask(biller, number)
    return sent(biller)[-1][1]


async def log_in(biller, code, number=ANA, **more):
    return await biller.client().post(f"{PATH}/login", {"number": number, "code": code} | more)


def wrong(code):
    return f"{(int(code) + 1) % 10**6:06}"


def change(biller, table, **values):
    with biller.engine.begin() as tx:
        tx.execute(sa.update(table).values(values))


@pytest_twisted.ensureDeferred
async def test_code_of_message_logs_in_once(biller):
    assert await ask(biller) == (204, b"")
    (to, code), (row,) = sent(biller)[0], biller.rows(tables.login_code)
    assert (to, len(code), code in str(row)) == (ANA, 6, False)
    answer = await log_in(biller, code, "+1002")
    assert answer.code == 204
    cookie = header(answer, "set-cookie").lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    client = biller.client()
    client.cookie = header(answer, "set-cookie").partition("=")[2].partition(";")[0]
    assert (await client.get("/api/v1/me")).body["username"] == "ana"
    assert (await log_in(biller, code)).body["code"] == "WRONG_CODE"
    (row,) = biller.rows(tables.trail)
    assert (row["actor"], row["action"], row["address"]) == ("ana", "log in", "127.0.0.1")
    assert "message" in row["after"]


@pytest_twisted.ensureDeferred
async def test_sixth_try_fails_with_right_code(biller):
    code = await code_for(biller)
    for _ in range(4):
        refused = await log_in(biller, wrong(code))
        assert (refused.code, refused.body["code"]) == (409, "WRONG_CODE")
    assert (await log_in(biller, code)).code == 204, "the fifth try"
    code = await code_for(biller)
    for _ in range(5):
        assert (await log_in(biller, wrong(code))).code == 409
    assert (await log_in(biller, code)).code == 429, "guesses wait, too"
    biller.empty(tables.login_attempt)
    assert (await log_in(biller, code)).code == 409


@pytest_twisted.ensureDeferred
async def test_late_code_and_older_code_fail(biller):
    first = await code_for(biller)
    second = await code_for(biller)
    if first != second:
        assert (await log_in(biller, first)).code == 409
    change(biller, tables.login_code, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await log_in(biller, second)).code == 409
    (row, _) = biller.rows(tables.login_code)
    assert row["expires_at"] < datetime.now(UTC) + timedelta(minutes=5)


@pytest_twisted.ensureDeferred
async def test_code_to_former_number_is_wrong(biller):
    code = await code_for(biller)
    admin = await biller.logged_in("admin")
    assert (await admin.patch("/api/v1/subscribers/ana", {"clid": "1009"})).code == 200
    assert (await log_in(biller, code, "1009")).code == 409


@pytest_twisted.ensureDeferred
async def test_answers_do_not_tell_who_exists(biller):
    admin = await biller.logged_in("admin")
    assert (await admin.patch("/api/v1/subscribers/bia", {"enabled": False})).code == 200
    known = await ask(biller)
    for number in ("9" * 12, CLARA, BIA, "*", "x" * 32):
        assert await ask(biller, number) == known, number
        answer, of_known = [await log_in(biller, "123456", each) for each in (number, ANA)]
        assert (answer.code, answer.body["detail"]) == (of_known.code, of_known.body["detail"])
    assert [to for to, _ in sent(biller)] == [ANA]


@pytest_twisted.ensureDeferred
async def test_sellers_get_no_code(biller):
    code = await code_for(biller)
    assert (await (await biller.logged_in("admin")).post("/api/v1/sellers", {"username": "ana"})).code == 201
    assert (await ask(biller), len(sent(biller))) == ((204, b""), 1)
    assert (await log_in(biller, code)).body["code"] == "WRONG_CODE", "it was sent before they were one"


@pytest.mark.parametrize("number", [ANA, "9" * 12])
@pytest_twisted.ensureDeferred
async def test_answer_takes_its_time(biller, monkeypatch, number):
    monkeypatch.setattr(login_code, "ANSWER_SECONDS", 0.5)
    began = datetime.now(UTC)
    await ask(biller, number)
    assert (datetime.now(UTC) - began).total_seconds() > 0.45


@pytest_twisted.ensureDeferred
async def test_three_codes_in_an_hour(biller):
    answers = [await ask(biller) for _ in range(5)]
    assert set(answers) == {(204, b"")}
    assert len(sent(biller)) == 3
    change(biller, tables.login_code, sent_at=datetime.now(UTC) - timedelta(minutes=61))
    biller.empty(tables.login_attempt)
    await ask(biller)
    assert len(sent(biller)) == 4
    assert len(biller.rows(tables.login_code)) == 1, "old ones are deleted"


@pytest_twisted.ensureDeferred
async def test_address_asks_for_few_numbers(biller):
    answers = [await ask(biller, str(number)) for number in range(5000, 5022)]
    assert [code for code, _ in answers[:20]] == [204] * 20
    assert answers[-1][0] == 429


@pytest_twisted.ensureDeferred
async def test_second_factor_is_asked_for_too(biller):
    def set_factor(tx):
        now = datetime.now(UTC) - timedelta(minutes=5)
        who = subscriber_records.find(tx, "ana")
        second_factor.set_up(tx, Actor("ana", ""), who.id, SECRET, pyotp.TOTP(SECRET).at(now), ("AAAA",), now)

    transact(biller.engine, set_factor)
    code = await code_for(biller)
    needed, refused = await log_in(biller, code), await log_in(biller, code, second_factor="000000")
    assert [each.body["code"] for each in (needed, refused)] == ["SECOND_FACTOR_NEEDED", "WRONG_SECOND_FACTOR"]
    assert (await log_in(biller, code, second_factor="AAAA")).code == 204
    reader = Reader(biller.client())
    page = await reader.send("/ui/login/phone", number=ANA, next="/ui/me/password")
    page = await reader.fill(page, "/ui/login/phone/code", code=sent(biller)[-1][1])
    assert (await reader.look("/ui/me")).path.startswith("/ui/login"), "the message alone opens nothing"
    page = await reader.fill(page, "/ui/login/code", code=pyotp.TOTP(SECRET).now())
    assert (page.status, page.path) == (200, "/ui/me/password")


@pytest_twisted.ensureDeferred
async def test_pages_lead_from_number_to_home(biller):
    reader = Reader(biller.client())
    page = await reader.look("/ui/me/password")
    page = await reader.fill(page, "/ui/login/phone")
    unknown = await Reader(biller.client()).send("/ui/login/phone", number="4711")
    page = await reader.fill(page, "/ui/login/phone", number=ANA)
    assert unknown.text == page.text.replace(ANA, "4711")
    code = sent(biller)[-1][1]
    page = await reader.fill(page, "/ui/login/phone/code", code=wrong(code))
    assert (page.status, bool(page.error_of("code"))) == (422, True)
    page = await reader.fill(page, "/ui/login/phone/code", code=code)
    assert (page.status, page.path) == (200, "/ui/me/password")


@pytest_twisted.ensureDeferred
async def test_no_login_by_code_by_default(without):
    before = without.everything()
    client, reader = without.client(), Reader(without.client())
    for path, body in ((PATH, {"number": ANA}), (f"{PATH}/login", {"number": ANA, "code": "123456"})):
        answer = await client.post(path, body)
        assert (answer.code, answer.body["code"]) == (403, "NOT_OFFERED")
    for path in ("/ui/login/phone", "/ui/login/phone/code"):
        assert (await reader.look(path)).status == 404
        assert (await reader.send(path, number=ANA, code="123456")).status == 404
    assert "by a message" not in (await reader.look("/ui/login")).text
    assert without.everything() == before


@pytest_twisted.ensureDeferred
async def test_the_message_is_in_the_subscribers_language(biller):
    for number, language in ((ANA, "es"), (BIA, "")):
        speak(biller.engine, number, language)
        await ask(biller, number)
    assert [each["text"].partition(" ")[2] for each in biller.rows(tables.message)] == [
        "es su codigo para entrar, vale 5 min. No lo diga a nadie.",
        "is your code to log in, good for 5 min. Tell it to nobody.",
    ]
