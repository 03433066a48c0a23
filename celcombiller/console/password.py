"""The password once more: before an export, or a large credit. What the reader was doing goes on after it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.web import http

from celcombiller.console.login import HOME
from celcombiller.console.page import Redirect, View, respond
from celcombiller.http.credentials.login import check_password_again
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

FIELD = "current_password"
_WHERE = re.compile(r"/(ui|api/v1)/[A-Za-z0-9_.~%/?&=+-]*")


def show(_tx: Connection, request: Request) -> View | Redirect:
    """Show the form of the password; who has just given it goes on at once."""
    if request.refused is None and not request.needs_password:
        return Redirect(_where(request.query.get("next", "")))
    kept = {name: text for name, text in request.form.items() if name != "next"}
    return View("password.html", {"next": (request.query | request.form).get("next", ""), "kept": kept})


async def check(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Check the password, and go on: to a page, to a file, or to where the form that waits is sent."""
    await check_password_again(api, request, request.body.get(FIELD, ""))
    where = _where(request.body.get("next", ""))
    if request.key is not None or request.body.keys() - {FIELD, "next"}:
        return Response(b"", http.TEMPORARY_REDIRECT, {"Location": where})  # the browser sends the same fields there
    if where.startswith("/ui/"):
        return respond(request, Redirect(where))
    return respond(request, View("file_ready.html", {"file": where}))


def _where(address: str) -> str:
    """Return where to go: an address of this program only."""
    return address if _WHERE.fullmatch(address) else HOME
