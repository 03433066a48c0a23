"""What subscribers do with their credit on pages: plans, vouchers, transfers, the password. Over real HTTP."""

import pytest
import pytest_twisted

from tests.support.http.api_service import PASSWORD, biller_fixture
from tests.support.http.pages import Reader, voice_of

biller = biller_fixture()
OFFER = {"name": "Ten <minutes>", "price": 30, "kind": "seconds", "amount": 600, "valid_hours": 24}


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
