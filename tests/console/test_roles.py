"""Which role sees which page: all pages, by each role and without a login."""

import pytest
import pytest_twisted

from celcombiller.console import menu
from celcombiller.console.routes import CONSOLE_ROUTES
from celcombiller.core.model.subscribers import Level
from celcombiller.http.route import ResponseStyle
from tests.support.http.api_service import PEOPLE, biller_fixture, header

biller = biller_fixture()
PAGES = [each for each in CONSOLE_ROUTES if each.style is ResponseStyle.PAGE]
PLACES = {"username": "ana", "id": 999_999, "number": 1, "unknown": "x", "kind": "voice", "name": "x"} | {
    "receipt": "S9-000009",
    "document": "index.md",
    "action": "enable",
}
FOR_ANYBODY = {
    "GET /ui/assets/<name>",
    "GET /ui/help",
    "GET /ui/help/<path:document>",
    "GET /ui/help/images/<name>",
    "GET /ui/login",
    "GET /ui/login/code",
    "POST /ui/login/code",
    "POST /ui/login",
    "GET /ui/login/phone",
    "GET /ui/login/phone/code",
    "POST /ui/login/phone",
    "POST /ui/login/phone/code",
    "POST /ui/logout",
    "GET /ui/<path:unknown>",
}


def address_of(route):
    return route.open_path.format(**PLACES).replace("<path:unknown>", "x")


def test_few_pages_need_no_login():
    assert {each.name for each in PAGES if each.who is None} == FOR_ANYBODY


def test_menu_has_the_rules_of_its_pages():
    rules = {each.path: each.who for each in PAGES if each.method == "GET"}
    entries = [each for section in menu.SECTIONS for each in section.entries]
    assert {each.path: rules.get(each.path) for each in entries} == {each.path: each.rule for each in entries}


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_no_page_is_seen_without_login(biller):
    client = biller.client()
    for route in PAGES:
        if route.who is not None:
            answer = await client.ask(route.method, address_of(route), raw=b"")
            if route.method == "GET":
                assert (answer.code, header(answer, "location")[:9]) == (303, "/ui/login"), route.name
            else:
                assert answer.code == 401, route.name


@pytest.mark.slow
@pytest.mark.parametrize("username", PEOPLE)
@pytest_twisted.ensureDeferred
async def test_each_role_sees_its_pages(biller, username):
    client = await biller.logged_in(username)
    before = biller.everything()
    for route in PAGES:
        if route.who is None:
            continue
        answer = await client.ask(route.method, address_of(route), raw=b"")
        if PEOPLE[username] not in route.who.levels:
            assert answer.code == 403, route.name
        elif PEOPLE[username] is Level.ADMINISTRATOR:
            assert answer.code not in (401, 403) or route.method == "POST", route.name
        assert answer.code < 500, (route.name, answer.bytes[:3000])
    assert biller.everything() == before, "an empty form wrote something"
