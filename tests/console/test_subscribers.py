"""The list of subscribers: its search, and what it shows of hostile names. Over real HTTP."""

import pytest
import pytest_twisted

from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()


async def found_by(biller, text):
    page = await Reader(await biller.logged_in("clara")).look(f"/ui/subscribers?search={text}")
    assert page.status == 200
    return [each.get_text() for each in page.content.select("#found tbody tr td:nth-child(2)")]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("AN", ["ana"]),
        ("ar", ["clara"]),
        ("%25", []),
        ("_", []),
        ("%3Cb%3E", []),
        ("", ["admin", "ana", "bia", "clara"]),
        ("nobody", []),
    ],
)
@pytest_twisted.ensureDeferred
async def test_part_of_a_name_finds_subscribers(biller, text, names):
    found = await found_by(biller, text)
    assert found == names


@pytest_twisted.ensureDeferred
async def test_hostile_names_are_text(biller):
    admin = await biller.logged_in("admin")
    name = "<img src=x onerror=alert(1)>\"'{{7*7}}"
    body = {"username": "evil", "name": name, "clid": "599", "imsi": "724000000000599"}
    assert (await admin.post("/api/v1/subscribers", body)).code == 201
    reader = Reader(admin)
    for path in ("/ui/subscribers?search=evil", "/ui/subscribers/evil", "/ui/subscribers/evil/credit"):
        page = await reader.look(path)
        assert page.content.main.find("img") is None, path
        assert name in page.text or " ".join(name.split()) in page.text, path
    assert (await admin.delete("/api/v1/subscribers/evil")).code == 204
    gone = await reader.send("/ui/subscribers/evil/transfers", kind="voice", value="5", idempotency_key="gone")
    assert gone.status == 404
