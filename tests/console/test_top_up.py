"""What subscribers do with their credit on pages: plans, vouchers, transfers, the password. Over real HTTP."""

import pytest
import pytest_twisted

from celcombiller.config.tables import Asterisk, CreditTransfers, Sms
from celcombiller.core.schema import tables
from celcombiller.database.transaction import transact
from tests.rest.v1.test_schedules import FEE, credit_all
from tests.support import vouchers
from tests.support.http.api_service import PASSWORD, Biller, biller_fixture
from tests.support.http.pages import Reader, voice_of

biller = biller_fixture()
NOWHERE = Asterisk(name="pbx1", host="127.0.0.1", port=1, username="x", secret="x")
OFFER = {"name": "Ten <minutes>", "price": 30, "kind": "seconds", "amount": 600, "valid_hours": 24}


@pytest_twisted.async_yield_fixture
async def confirming(tmp_path):
    """A biller whose subscribers hand credit on, with a code; its rounds over schedules are the test's."""
    terms = CreditTransfers(enabled=True, fee=5)
    made = Biller(tmp_path, {}, "", sms=Sms(on_net_route="asterisk"), asterisk=(NOWHERE,), credit_transfers=terms)
    await made.credit_nothing_itself()
    await give(made, "ana", 100)
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def give(biller, username, value):
    body, key = {"username": username, "kind": "voice", "value": value}, {"Idempotency-Key": f"{username}{value}"}
    answer = await (await biller.logged_in("admin")).post("/api/v1/transfers", body, headers=key)
    assert answer.code == 201, answer.bytes


async def asked(biller, amount="50"):
    """Have ana ask for a transfer to bia, twice with one form; return her reader, where to confirm, and the code."""
    ana = Reader(await biller.logged_in("ana"))
    form = await ana.look(f"/ui/me/transfer/plan?to=1003&amount={amount}")
    for _ in range(2):
        page = await ana.fill(form, "/ui/me/credit-transfers")
        assert page.path == "/ui/me/transfer?done=transfer_asked", page.text
    (action,) = {each["action"] for each in page.content.select("form[action$=confirm]")}
    code = biller.rows(tables.message)[-1]["text"].split()[1]
    assert code not in str(page.content)
    return ana, action, code


@pytest_twisted.ensureDeferred
async def test_plan_is_bought_once_per_form(biller):
    admin = await biller.logged_in("admin")
    assert (await admin.post("/api/v1/offers", OFFER)).code == 201
    ana = Reader(await biller.logged_in("ana"))
    plans = await ana.look("/ui/me/plans")
    form = await ana.look(plans.content.select_one("article a")["href"])
    assert "Ten <minutes>" in form.text
    poor = await ana.fill(form, "/ui/me/bundles")
    assert poor.status == 409
    assert poor.content.find(attrs={"role": "alert"})
    credit = {"username": "ana", "kind": "voice", "value": 100}
    await admin.post("/api/v1/transfers", credit, headers={"Idempotency-Key": "for-plans"})
    before = await voice_of(biller, "ana")
    for _ in range(2):
        page = await ana.fill(form, "/ui/me/bundles")
        assert page.path == "/ui/me?done=offer_bought"
    assert await voice_of(biller, "ana") == before - 30
    assert "600" in page.text


@pytest_twisted.ensureDeferred
async def test_wrong_voucher_gives_a_reason_and_nothing(biller):
    bia = Reader(await biller.logged_in("bia"))
    before = await voice_of(biller, "bia")
    page = await bia.send("/ui/me/vouchers", code="123 456 789 012 345 678 903")
    assert page.status in (404, 422)
    assert page.content.find(attrs={"role": "alert"}) or page.content.find("h1")
    assert await voice_of(biller, "bia") == before


@pytest_twisted.ensureDeferred
async def test_voucher_is_redeemed_once(biller):
    _, (code, *_) = transact(biller.engine, vouchers.batch)
    bia, ana = [Reader(await biller.logged_in(name)) for name in ("bia", "ana")]
    before, others = await voice_of(biller, "bia"), await voice_of(biller, "ana")
    for _ in range(2):
        page = await bia.fill(await bia.look("/ui/me/plans"), "/ui/me/vouchers", code=code)
        assert page.path == "/ui/me?done=voucher_redeemed"
    assert "50" in page.text
    refused = await ana.send("/ui/me/vouchers", code=code)
    assert refused.status == 409
    assert code not in str(refused.content)
    assert (await voice_of(biller, "bia"), await voice_of(biller, "ana")) == (before + 50, others)


@pytest_twisted.ensureDeferred
async def test_plan_of_a_transfer_names_its_fee(confirming):
    ana = Reader(await confirming.logged_in("ana"))
    plan = await ana.look("/ui/me/transfer/plan?to=1003&amount=50")
    assert plan.facts() == {"Name": "bia", "Number": "1003", "Credits": "50", "Fee": "5", "Left": "45"}
    page = await ana.look("/ui/me/transfer/plan?to=1003&amount=96")
    assert page.status == 409
    assert "celcombiller" not in page.text
    assert page.content.find("input", attrs={"name": "amount"})["value"] == "96"
    assert await voice_of(confirming, "ana") == 100
    assert not confirming.rows(tables.message)


@pytest_twisted.ensureDeferred
async def test_right_code_hands_credit_on_once(confirming):
    ana, action, code = await asked(confirming)
    assert await voice_of(confirming, "ana") == 100
    for _ in range(2):
        page = await ana.send(action, code=code)
        assert page.path == "/ui/me/transfer?done=transfer_made"
    assert [await voice_of(confirming, name) for name in ("ana", "bia")] == [45, 50]
    assert not page.content.select("form[action$=confirm]")


@pytest_twisted.ensureDeferred
async def test_wrong_code_hands_nothing_on(confirming):
    ana, action, code = await asked(confirming)
    wrong = "1" if code != "1" else "2"
    page = await ana.send(action, code=wrong)
    assert page.status == 409
    assert page.content.find("form", action=action), "it can be tried again"
    assert (await ana.send(action, code="five")).error_of("code")
    bia = Reader(await confirming.logged_in("bia"))
    assert (await bia.send(action, code=code)).status == 409
    assert [await voice_of(confirming, name) for name in ("ana", "bia")] == [100, 0]


@pytest_twisted.ensureDeferred
async def test_fee_is_paid_once(confirming, today):
    admin, bia = await confirming.logged_in("admin"), Reader(await confirming.logged_in("bia"))
    terms = {"when_short": "retry", "joining": "next", "suspend_days": 0}
    schedule = (await admin.post("/api/v1/schedules", FEE | {"fee": terms})).body["id"]
    await admin.post(f"/api/v1/schedules/{schedule}/members", {"username": "bia"})
    credit_all(confirming, today)
    action = (await bia.look("/ui/me/plans")).content.select_one("form[action$=pay]")["action"]
    refused = await bia.send(action)
    assert (refused.status, bool(refused.content.find("form", action=action))) == (409, True)
    await give(confirming, "bia", 80)
    page = await bia.send(action)
    assert page.path == "/ui/me/plans?done=fee_paid"
    assert page.content.find("form", action=action) is None
    assert (await bia.send(action)).status == 422, "nothing is owed any more"
    assert (await Reader(await confirming.logged_in("ana")).send(action)).status == 404
    assert await voice_of(confirming, "bia") == 30


@pytest_twisted.ensureDeferred
async def test_transfer_that_is_not_offered_says_so(biller):
    bia = Reader(await biller.logged_in("bia"))
    page = await bia.look("/ui/me/transfer")
    assert "The operator does not offer this." in page.text
    page = await bia.send("/ui/me/credit-transfers", to="1", amount="1", idempotency_key="t")
    assert page.status in (403, 404, 422)


@pytest.mark.parametrize(
    ("old", "new", "status"), [("wrong", "long enough to be right", 403), (PASSWORD, "short", 422), (PASSWORD, "", 422)]
)
@pytest_twisted.ensureDeferred
async def test_refused_password_changes_nothing(biller, old, new, status):
    clara = Reader(await biller.logged_in("clara"))
    page = await clara.send("/ui/me/password", old_password=old, password=new)
    assert page.status == status
    for text in (old, new):
        assert not text or f'value="{text}"' not in str(page.content)
    assert (await biller.client().post("/login", {"username": "clara", "password": PASSWORD})).code == 200


@pytest_twisted.ensureDeferred
async def test_new_password_is_the_one_that_counts(biller):
    new = "four words of my own"
    bia = Reader(await biller.logged_in("bia"))
    page = await bia.send("/ui/me/password", old_password=PASSWORD, password=new)
    assert page.path == "/ui/me?done=password_set"
    assert (await biller.client().post("/login", {"username": "bia", "password": PASSWORD})).code == 404
    assert (await biller.client().post("/login", {"username": "bia", "password": new})).code == 200
