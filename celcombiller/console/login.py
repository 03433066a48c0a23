"""Logging in and out. A form that came when its session had ended is kept, and sent after the login."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.web import http

from celcombiller.console.page import View, respond
from celcombiller.core.errors import InvalidValue, NotFound, SecondFactorNeeded, WrongCode
from celcombiller.http.credentials.login import begin_session, complete_session, end_session
from celcombiller.http.credentials.login_code import begin_session_by_code, send_code
from celcombiller.http.route import Response
from celcombiller.runtime.languages import mark_text as _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

HOME = "/ui/"
KEPT = "kept."
"""Before the names of the fields of a form that waits for the login."""
_WRONG_CODE = _("The code is wrong, was used, or is too old.")
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


def show_phone(_tx: Connection, request: Request) -> View:
    """Show the form of a number whose phone gets a code. Raises `NotFound` where there are no such logins."""
    _check_by_phone(request)
    return View("login_phone.html", _where_to({"next": (request.query or {}).get("next", "")} | dict(request.form)))


def show_phone_code(tx: Connection, request: Request) -> View:
    """Show the form of the code that a phone got; without its number, the form of the number."""
    return _view_phone_code(request.form) if request.form.get("number") else show_phone(tx, request)


async def send_phone_code(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Have a code sent to a phone, and show its form, whoever has the number; without a number, ask for it."""
    _check_by_phone(request)
    form = request.body
    number = form.get("number", "").strip()
    if not number:
        return respond(request, View("login_phone.html", _where_to(form)))
    await send_code(api, request, number)
    return respond(request, _view_phone_code(form))


async def check_phone_code(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Check the code that a phone got, and go where the reader wanted to be."""
    _check_by_phone(request)
    form = request.body
    number, code = form.get("number", "").strip(), form.get("code", "")
    try:
        await begin_session_by_code(api, http_request, request, number, code, may_wait=True)
    except SecondFactorNeeded:
        return respond(request, View("login_code.html", _where_to(form)))
    except WrongCode:
        raise InvalidValue(_WRONG_CODE, {"code": _WRONG_CODE}) from None
    return _go_on(request, form)


def _check_by_phone(request: Request) -> None:
    if not request.config.rest.login_code:
        raise NotFound("there is no such page")


def _view_phone_code(form: Mapping[str, str]) -> View:
    return View("login_phone_code.html", _where_to(form) | {"number": form["number"].strip()})


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
