"""``/login`` and ``/logout`` as the original had them: a form or JSON, and a cookie for the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.web import http

from celcombiller.core.errors import BrokenRequest, TooLarge
from celcombiller.core.model.subscribers import Level
from celcombiller.http.credentials.login import begin_session, end_session
from celcombiller.http.decoding import NUL, parse_form, parse_json
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

ROLES = {Level.ADMINISTRATOR: "admin", Level.SUBSCRIBER: "user", Level.COLLABORATOR: "coll"}
REFUSED = {"message": "Usuário ou Senha invalido"}
CREDENTIALS_MAX = 8 * 1024
"""Octets of a login. A password has 1024 characters at most, each of up to 6 octets when it is escaped."""


async def log_in(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Check a password, and the code of a second factor where one is set, and begin a session."""
    username, password, code = _credentials(http_request.body)
    who = await begin_session(api, http_request, request, username, password, code)
    if who is None:
        return Response(REFUSED, http.NOT_FOUND)
    return Response({"roles": [ROLES[who.level]], "displayName": who.name, "username": who.username, "id": who.id})


async def log_out(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """End the session, here and for the browser."""
    await end_session(api, http_request, request)
    return Response({"message": "logged out"})


def _credentials(raw: bytes) -> tuple[str, str, str]:
    """Return username, password and code, from a form or from JSON. Clients send either with any Content-Type."""
    if len(raw) > CREDENTIALS_MAX:
        raise TooLarge(f"a username and a password have at most {CREDENTIALS_MAX} octets")
    given = parse_json(raw) if raw.lstrip().startswith(b"{") else parse_form(raw)
    texts = [given.get("username"), given.get("password"), given.get("code", "")]
    found = [each for each in texts if isinstance(each, str) and NUL not in each]
    if len(found) != len(texts):
        raise BrokenRequest("send username and password, as a form or as JSON")
    username, password, code = found
    return username, password, code


# -- their description in OpenAPI: the two routes of the original that today's clients use -----------------------------

_TEXT = {"type": "string"}
_CODE = {"type": "string", "description": "the code of the second factor, where one is set"}
_MESSAGE = {"type": "object", "properties": {"message": _TEXT}, "required": ["message"]}


def _refusal(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _MESSAGE}}}


_CREDENTIALS = {
    "schema": {
        "type": "object",
        "properties": {"username": _TEXT, "password": {"type": "string", "format": "password"}, "code": _CODE},
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
        "403": _refusal(
            "Forbidden: FORBIDDEN, a page of another site; SECOND_FACTOR_NEEDED; WRONG_SECOND_FACTOR, or it was used"
        ),
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
