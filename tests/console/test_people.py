"""Many subscribers at once: the filters of their page, and what is done to those who are ticked."""

import pytest_twisted

from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()


def names_on(page):
    return [each.get_text() for each in page.content.select("tbody a")]


@pytest_twisted.ensureDeferred
async def test_page_and_its_file_have_one_filter(biller):
    clara = Reader(await biller.logged_in("clara"))
    await clara.send("/ui/subscribers/bia/change", enabled="false")
    page = await clara.look("/ui/subscribers?search=&enabled=false&suspended=&at_zero=true&inactive_days=&done=x")
    assert names_on(page) == ["bia"]
    (link,) = page.content.select("a[href^='/api/v1/subscribers.csv']")
    assert (await clara.client.get(link["href"])).bytes.count(b"\r\n") == 2
    assert names_on(await clara.look("/ui/subscribers?suspended=true")) == []
    page = await clara.look("/ui/subscribers?inactive_days=0")
    assert (page.status, bool(page.error_of("inactive_days"))) == (422, True)
