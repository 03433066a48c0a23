"""What a call would cost, by /api/v1/rate."""

import pytest_twisted

from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture

biller = biller_fixture()
RATE = "/api/v1/rate"


@pytest_twisted.ensureDeferred
async def test_staff_price_a_call_of_anyone(biller):
    admin = await biller.logged_in("admin")
    answer = await admin.post(RATE, {"username": "ana", "to_number": "1003", "seconds": 90})
    assert answer.code == 200, answer.bytes
    shown = answer.body
    assert (shown["username"], shown["on_net"], shown["tariff"], shown["version"]) == ("ana", True, "settings", None)
    assert (shown["cost"], [each["credits"] for each in shown["pieces"]]) == (90, [90])
    by_number = await admin.post(RATE, {"from_number": "1002", "to_number": "1003", "seconds": 90})
    assert by_number.body == shown


@pytest_twisted.ensureDeferred
async def test_subscribers_price_their_own_calls_only(biller):
    ana = await biller.logged_in("ana")
    own = await ana.post(RATE, {"to_number": "1003", "seconds": 10})
    assert (own.code, own.body["username"], own.body["trunks"]) == (200, "ana", [])
    refused(await ana.post(RATE, {"username": "bia", "to_number": "1003", "seconds": 10}), 404, "NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_a_wrong_question_names_its_field(biller):
    admin = await biller.logged_in("admin")
    for body, status, code in (
        ({"username": "ana", "to_number": "1003", "seconds": -1}, 422, "INVALID"),
        ({"username": "nobody", "to_number": "1003", "seconds": 1}, 404, "UNKNOWN"),
        ({"username": "ana", "to_number": "55&11", "seconds": 1}, 422, "BAD_NUMBER"),
    ):
        refused(await admin.post(RATE, body), status, code)
