"""How pages are sent: compressed, with their policy, in the reader's language."""

import gzip

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers

from celcombiller.console.assets import load_assets
from celcombiller.console.rendering import environment_of
from celcombiller.core.model.day_sums import Movement
from tests.support.http.api_service import biller_fixture, header

biller = biller_fixture()


async def get_as_sent(biller, path, accepted):
    """Return the answer and its octets, not unpacked."""
    headers = Headers({"Accept-Encoding": [accepted]})
    answer = await Agent(reactor).request(b"GET", (biller.base + path).encode(), headers)
    return answer, await readBody(answer)


@pytest_twisted.ensureDeferred
async def test_pages_run_only_what_is_ours(biller):
    answer = await biller.client().get("/ui/login")
    policy = dict(each.strip().partition(" ")[::2] for each in header(answer, "content-security-policy").split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)


@pytest_twisted.ensureDeferred
async def test_assets_keep_for_ever_and_are_packed(biller):
    for name, asset in load_assets().items():
        answer, octets = await get_as_sent(biller, asset.address, "gzip")
        assert answer.code == 200, name
        assert "immutable" in header(answer, "cache-control")
        assert header(answer, "content-type") == asset.media_type
        assert gzip.decompress(octets) == asset.plain
        assert (await get_as_sent(biller, asset.address, "identity"))[1] == asset.plain


@pytest_twisted.ensureDeferred
async def test_long_pages_are_packed_where_accepted(biller):
    packed, octets = await get_as_sent(biller, "/ui/login", "gzip")
    plain, text = await get_as_sent(biller, "/ui/login", "br")
    assert gzip.decompress(octets) == text
    assert (header(packed, "content-encoding"), header(plain, "content-encoding")) == ("gzip", "")


@pytest.mark.parametrize("movement", sorted(set(Movement) - {Movement.OPERATOR}))
def test_each_origin_of_movements_has_a_word(movement):
    template = '{% import "movements.html" as movements with context %}{{ movements.origin(word) }}'
    said = environment_of("pt_BR").from_string(template).render(word=movement)
    assert said not in ("", movement.value)
