"""The documents as pages: those of this version, installed with it. They are written in Markdown (CommonMark)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markupsafe import Markup
from mdit_py_plugins.admon import admon_plugin
from mdit_py_plugins.anchors import anchors_plugin

import celcombiller
from celcombiller.console.page import Redirect, View
from celcombiller.core.errors import NotFound
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

_HOME = Path(celcombiller.__file__).parent
_FOLDER = next(each for each in (_HOME / "help", _HOME.parent / "docs") if each.is_dir() or each.name == "docs")
"""Where the documents are: in the package, or beside it in a checkout."""
_PICTURE_HEADERS = {"Content-Type": "image/png", "Cache-Control": "private, max-age=3600"}


@cache
def list_documents() -> frozenset[str]:
    """Return the documents by their addresses below `/ui/help/`, such as ``how-to/vouchers.md``."""
    return frozenset(each.relative_to(_FOLDER).as_posix() for each in _FOLDER.rglob("*.md"))


@cache
def _list_pictures() -> frozenset[str]:
    return frozenset(each.name for each in (_FOLDER / "images").glob("*.png"))


@cache
def _render(name: str) -> tuple[str, Markup]:
    """Return the title of a document, and its HTML. HTML in the document is shown as text."""
    parser = (
        MarkdownIt("commonmark", {"html": False}).enable("table").use(anchors_plugin, max_level=4).use(admon_plugin)
    )
    text = (_FOLDER / name).read_text(encoding="utf-8")
    title = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("# ")), name)
    return title, Markup(parser.render(text))  # noqa: S704  ours, and without the HTML that it may have


def show_first(_tx: Connection, _request: Request) -> Redirect:
    """Send the reader to the first document."""
    return Redirect("/ui/help/index.md")


def show(_tx: Connection, request: Request) -> View:
    """Show one document. The links between them are those of their files."""
    name = request.path["document"]
    if name not in list_documents():
        raise NotFound("there is no such document")
    title, content = _render(name)
    return View("document.html", {"title": title, "content": content})


async def send_picture(_api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Send a picture of a document."""
    name = request.path["name"]
    if name not in _list_pictures():
        raise NotFound("there is no such picture")
    return Response((_FOLDER / "images" / name).read_bytes(), headers=_PICTURE_HEADERS)
