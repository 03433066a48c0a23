"""The documents on pages: all of them, with links that lead somewhere. Over real HTTP; 3 s."""

from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import pytest_twisted

from celcombiller.console import documents, menu
from tests.support.http.api_service import biller_fixture
from tests.support.http.pages import Reader

biller = biller_fixture()
DOCUMENTS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_every_link_of_documents_leads_somewhere(biller):
    reader = Reader(biller.client())
    pages = {f"/ui/help/{each}": await reader.look(f"/ui/help/{each}") for each in documents.list_documents()}
    targets = {path: {each["id"] for each in page.content.find_all(id=True)} for path, page in pages.items()}
    lost = set()
    for path, page in pages.items():
        assert page.status == 200, path
        assert page.content.h1, path
        for link in page.content.select(".document a[href]"):
            to = urlsplit(urljoin(path, link["href"]))
            if not to.scheme and (to.path not in targets or (to.fragment and to.fragment not in targets[to.path])):
                lost.add((path, link["href"]))
        for picture in page.content.select(".document img"):
            answer = await reader.client.get(urljoin(path, picture["src"]))
            if answer.code != 200:
                lost.add((path, picture["src"]))
    assert not lost


@pytest_twisted.ensureDeferred
async def test_documents_are_those_of_the_checkout(biller):
    reader = Reader(biller.client())
    assert documents.list_documents() == {each.relative_to(DOCUMENTS).as_posix() for each in DOCUMENTS.rglob("*.md")}
    assert (await reader.look("/ui/help")).path == "/ui/help/index.md"
    for wrong in ("nothing.md", "generate.py", "../README.md", "%2e%2e/README.md", "images/nothing.png"):
        assert (await reader.look(f"/ui/help/{wrong}")).status == 404, wrong


def test_each_page_of_the_menu_has_a_document():
    entries = [each for section in menu.SECTIONS for each in section.entries]
    assert {menu.find_document(each.path) for each in entries} <= documents.list_documents()
