"""Logging in and out. A form that came when its session had ended is kept, and sent after the login."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.web import http

from celcombiller.console.page import View, respond
from celcombiller.core.errors import InvalidValue, SecondFactorNeeded
from celcombiller.http.credentials.login import begin_session, complete_session, end_session
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.http_request import HttpRequest
    from celcombiller.http.route import Request

HOME = "/ui/"
KEPT = "kept."
"""Before the names of the fields of a form that waits for the login."""
_OWN_ADDRESS = re.compile(r"/ui/[A-Za-z0-9_.~%/?&=+-]*")


def show(_tx: Connection, request: Request) -> View:
    """Show the form of the login."""
    return View("login.html", _where_to({"next": (request.query or {}).get("next", "")} | dict(request.form)))


async def log_in(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Check a password, begin a session, and go where the reader wanted to be."""
    form = request.body
    username = form.get("username", "").strip()
    try:
        who = await begin_session(api, http_request, request, username, form.get("password", ""), may_wait=True)
    except SecondFactorNeeded:
        return respond(request, View("login_code.html", _where_to(form)))
    if who is None:
        raise InvalidValue(
            "the username or the password is wrong", {"password": "the username or the password is wrong"}
        )
    return _go_on(request, form)


def show_code(_tx: Connection, request: Request) -> View:
    """Show the form of the second factor."""
    return View("login_code.html", _where_to(request.form))


async def check_code(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Check the second factor, and go where the reader wanted to be."""
    await complete_session(api, http_request, request, request.body.get("code", ""))
    return _go_on(request, request.body)


def _where_to(form: Mapping[str, str]) -> dict[str, Any]:
    """Return where a login leads, and the form that waits for it."""
    kept = {name.removeprefix(KEPT): value for name, value in form.items() if name.startswith(KEPT)}
    return {"next": form.get("next", ""), "kept": kept}


def _go_on(request: Request, form: Mapping[str, str]) -> Response:
    found = _where_to(form)
    where = found["next"] if _OWN_ADDRESS.fullmatch(found["next"]) else HOME
    if found["kept"]:
        return respond(replace(request, body=None), View("send_again.html", {"to": where, "kept": found["kept"]}))
    return Response(b"", http.SEE_OTHER, {"Location": where})


async def log_out(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """End the session."""
    await end_session(api, http_request, request)
    # What the back button would show of the session is gone, too.
    return Response(b"", http.SEE_OTHER, {"Location": "/ui/login?done=logged_out", "Clear-Site-Data": '"cache"'})
