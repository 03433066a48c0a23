"""A fault of the program while a page is made: a page says so, and does not try the same once more."""

from datetime import UTC, datetime

import pytest_twisted

from celcombiller.config.tables import Config
from celcombiller.console.page import page
from celcombiller.core.errors import BillerError
from celcombiller.http.authorization import OWN_READ
from celcombiller.http.route import Request
from tests.support.http.requests import make_http_request


class Api:
    """Reads without a database."""

    def __init__(self):
        self.reader = self

    async def read(self, work):
        return work(None)


@pytest_twisted.ensureDeferred
async def test_broken_page_is_not_made_again():
    def show(_tx, _request):
        raise ZeroDivisionError

    route = page("/ui/broken", OWN_READ, show)
    facts = {"config": Config(), "who": None, "path": {}, "query": {}, "body": None, "address": "127.0.0.1"}
    request = Request(**facts, now=datetime.now(UTC), base_url="http://h", url="http://h/ui/broken")
    http_request = make_http_request("127.0.0.1", path="/ui/broken")
    fault = BillerError("the biller made a mistake; its log says which")
    answer = await route.refuse(Api(), http_request, route, request, fault)
    assert answer.status == 500
    assert b"The biller made a mistake" in answer.body
