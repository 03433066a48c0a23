"""Payments on pages: found, given to their subscriber once, reversed once. Over real HTTP."""

import pytest_twisted

from celcombiller.config.tables import PaymentProvider
from tests.core.payments.test_payment_properties import set_currency
from tests.rest.v1.test_payments import SECRET, notify, posted
from tests.support.http.api_service import Biller
from tests.support.http.pages import Reader

GATEWAY = PaymentProvider(name="gateway", secret=SECRET, currency="BRL", clock_seconds=60)
WAITS = {"id": "T7", "to": "4444", "amount": "12.50"}


@pytest_twisted.async_yield_fixture
async def biller(tmp_path):
    made = Biller(tmp_path, {}, "", payments=(GATEWAY,))
    with made.engine.begin() as tx:
        set_currency(tx)
    yield made
    report = made.audit()
    await made.stop()
    assert report.ok, report.differences


async def waiting(biller):
    """Report a payment for a number that nobody has; return the reader of an operator and its address."""
    await notify(biller.client(), WAITS)
    clara = Reader(await biller.logged_in("clara"))
    page = await clara.look("/ui/payments?state=unassigned")
    assert "4444" in page.text
    return clara, page.content.select_one("tbody a")["href"]


@pytest_twisted.ensureDeferred
async def test_waiting_payment_is_assigned_once(biller):
    clara, place = await waiting(biller)
    before = posted(biller)
    plan = await clara.look(f"{place}/assignment?username=ana")
    assert "Ana" in plan.text
    assert posted(biller) == before
    for _ in range(2):
        page = await clara.fill(plan, f"{place}/assignment")
        assert page.path == f"{place}?done=payment_assigned"
    credited = posted(biller) - before
    assert credited > 0
    assert f"{credited:,}" in page.text
    assert "T7" in (await clara.look(place)).text
    assert "4444" in (await clara.look("/ui/payments?username=ana&provider=gateway")).text
    assert "No payment was found." in (await clara.look("/ui/payments?state=unassigned")).text
    other = await clara.send(f"{place}/assignment", username="bia")
    assert (other.status, posted(biller) - before) == (409, credited)


@pytest_twisted.ensureDeferred
async def test_unknown_recipient_shows_the_payment_again(biller):
    clara, place = await waiting(biller)
    for username, status in (("nobody", 404), ("", 422)):
        page = await clara.look(f"{place}/assignment?username={username}")
        assert (page.status, page.content.h1.get_text()) == (status, (await clara.look(place)).content.h1.get_text())
        assert page.content.find(attrs={"role": "alert"})
    assert (await clara.look("/ui/payments/999")).status == 404
    assert (await clara.look("/ui/payments?state=gone")).status == 422


@pytest_twisted.ensureDeferred
async def test_payment_is_reversed_for_a_reason_once(biller):
    clara, place = await waiting(biller)
    before = posted(biller)
    await clara.send(f"{place}/assignment", username="ana")
    form = await clara.look(place)
    refused = await clara.fill(form, f"{place}/reversal", note="")
    assert (refused.status, bool(refused.error_of("note"))) == (422, True)
    for _ in range(2):
        page = await clara.fill(form, f"{place}/reversal", note="paid by mistake")
        assert page.path == f"{place}?done=payment_reversed"
    assert posted(biller) == before
    assert "paid by mistake" in page.text
