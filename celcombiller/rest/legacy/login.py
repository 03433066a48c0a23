"""``/login`` and ``/logout`` as the original had them: a form or JSON, and a cookie for the session.

The cookie is HttpOnly, SameSite=Lax and, behind TLS, Secure. It is invalid once its row is deleted.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twisted.web import http

from celcombiller.core.access import audit_trail, login_throttle, sessions
from celcombiller.core.access.actor import Actor
from celcombiller.core.errors import BrokenRequest, TooLarge
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.decoding import NUL, parse_form, parse_json
from celcombiller.http.request_context import COOKIE, is_secure
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.http.application import Api
    from celcombiller.http.http_request import HttpRequest
    from celcombiller.http.route import Request

ROLES = {Level.ADMINISTRATOR: "admin", Level.SUBSCRIBER: "user", Level.COLLABORATOR: "coll"}
REFUSED = {"message": "Usuário ou Senha invalido"}
NAME_MAX = 64
CREDENTIALS_MAX = 8 * 1024
"""Octets of a login. A password has 1024 characters at most, each of up to 6 octets when it is escaped."""


async def log_in(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Check a password and begin a session. An unknown name takes as long as a wrong password."""
    username, password = _credentials(http_request.body)
    name = username[:NAME_MAX]
    is_known = await api.store.transact(lambda tx: login_throttle.admit_attempt(tx, name, request.address, request.now))
    found = await api.reader.read(lambda tx: subscriber_records.find_login(tx, username))
    hashed = None if found is None else found.password_hash
    # A flood of other people's logins from elsewhere has a line of its own.
    source = "API, known address" if is_known else "API"
    right = await api.passwords.verify(hashed, password, source)
    if found is None or hashed is None or not right:
        return Response(REFUSED, http.NOT_FOUND)
    fresh = await api.passwords.hash(password, username) if api.passwords.is_outdated(hashed) else None
    secret, now = secrets.token_urlsafe(32), datetime.now(UTC)
    lifetime = timedelta(hours=api.config.rest.session_hours)

    def work(tx: Connection) -> Subscriber | None:
        # The hash took a while: they may have another password by now, or be disabled or deleted.
        who = subscriber_records.lock_login(tx, found.subscriber_id, hashed)
        if who is None:
            return None
        login_throttle.forget_failures(tx, name, request.address, now)
        sessions.open_session(tx, secret, who.id, address=request.address, now=now, lifetime=lifetime)
        if fresh is not None:
            subscriber_records.replace_hash(tx, who.id, fresh)
        actor = Actor(who.username, request.address)
        audit_trail.record(tx, actor, "log in", f"subscriber:{who.username}", now=now)
        return who

    who = await api.store.transact(work)
    if who is None:
        return Response(REFUSED, http.NOT_FOUND)
    age = str(lifetime // timedelta(seconds=1))
    secure = is_secure(http_request, api.config.rest)
    http_request.addCookie(COOKIE, secret, path="/", httpOnly=True, sameSite="lax", secure=secure, max_age=age)
    return Response({"roles": [ROLES[who.level]], "displayName": who.name, "username": who.username, "id": who.id})


async def log_out(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """End the session, here and for the browser."""
    if request.secrets:
        await api.store.transact(lambda tx: sessions.close_session(tx, *request.secrets))
    http_request.addCookie(COOKIE, "", path="/", httpOnly=True, sameSite="lax", max_age="0")
    return Response({"message": "logged out"})


def _credentials(raw: bytes) -> tuple[str, str]:
    """Return username and password, from a form or from JSON. Clients send either with any Content-Type."""
    if len(raw) > CREDENTIALS_MAX:
        raise TooLarge(f"a username and a password have at most {CREDENTIALS_MAX} octets")
    given = parse_json(raw) if raw.lstrip().startswith(b"{") else parse_form(raw)
    username, password = given.get("username"), given.get("password")
    if not (isinstance(username, str) and isinstance(password, str)) or NUL in username + password:
        raise BrokenRequest("send username and password, as a form or as JSON")
    return username, password


# -- their description in OpenAPI: the two routes of the original that today's clients use -----------------------------

_TEXT = {"type": "string"}
_MESSAGE = {"type": "object", "properties": {"message": _TEXT}, "required": ["message"]}


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _MESSAGE}}}


_CREDENTIALS = {
    "schema": {
        "type": "object",
        "properties": {"username": _TEXT, "password": {"type": "string", "format": "password"}},
        "required": ["username", "password"],
    },
    "example": {"username": "admin", "password": "correct horse battery"},
}
_BUSY = {
    "413": _refusal("Request Entity Too Large: TOO_LARGE"),
    "503": _refusal("Service Unavailable: STORE_UNAVAILABLE, OVERLOADED"),
}

LOG_IN = {
    "operationId": "login_log_in",
    "tags": ["sessions"],
    "summary": "Log in: check a password and begin a session",
    "description": "No login is needed. The answer sets the cookie `session`. Programs use a token instead.",
    "security": [],
    "requestBody": {
        "required": True,
        "content": {"application/json": _CREDENTIALS, "application/x-www-form-urlencoded": _CREDENTIALS},
    },
    "responses": {
        "200": {
            "description": "OK",
            "headers": {"Set-Cookie": {"description": "the cookie `session`", "schema": _TEXT}},
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "roles": {"type": "array", "items": {"type": "string", "enum": sorted(ROLES.values())}},
                            "displayName": _TEXT,
                            "username": _TEXT,
                            "id": {"type": "integer", "description": "the number of the subscriber"},
                        },
                        "required": ["roles", "displayName", "username", "id"],
                    }
                }
            },
        },
        "400": _refusal("Bad Request: BROKEN_REQUEST"),
        "403": _refusal("Forbidden: FORBIDDEN, a page of another site"),
        "404": _refusal("Not Found: the username or the password is wrong"),
        "429": _refusal("Too Many Requests: TOO_MANY_ATTEMPTS; the header Retry-After has the seconds to wait"),
        **_BUSY,
    },
}

LOG_OUT = {
    "operationId": "login_log_out",
    "tags": ["sessions"],
    "summary": "Log out: end the session of the cookie",
    "description": "No login is needed: without a session there is nothing to end.",
    "security": [],
    "responses": {
        "200": {"description": "OK", "content": {"application/json": {"schema": _MESSAGE}}},
        **_BUSY,
    },
}
