"""``/login`` and ``/logout`` as the original had them: a form or JSON, and a cookie for the session.

The cookie is HttpOnly, SameSite=Lax and, behind TLS, Secure. It is invalid once its row is deleted.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from twisted.web import http

from celcombiller.core.access import audit_trail, login_throttle, sessions
from celcombiller.core.errors import BrokenRequest
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.decoding import NUL, parse_form, parse_json
from celcombiller.http.request_context import COOKIE, is_secure
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.http_request import HttpRequest
    from celcombiller.http.route import Request

ROLES = {Level.ADMINISTRATOR: "admin", Level.SUBSCRIBER: "user", Level.COLLABORATOR: "coll"}
REFUSED = {"message": "Usuário ou Senha invalido"}
NAME_MAX = 64


async def log_in(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Check a password and begin a session. An unknown name takes as long as a wrong password."""
    username, password = _credentials(http_request.body)
    name = username[:NAME_MAX]
    is_known = await api.store.transact(lambda tx: login_throttle.admit_attempt(tx, name, request.address, request.now))
    row = await api.reader.read(lambda tx: tx.execute(_PERSON.where(_TABLE.c.username == username)).first())
    # A flood of other people's logins from elsewhere has a line of its own.
    source = "API, known address" if is_known else "API"
    right = await api.passwords.verify(None if row is None else row.password_hash, password, source)
    if row is None or not right or not row.enabled:
        return Response(REFUSED, http.NOT_FOUND)
    fresh = await api.passwords.hash(password, username) if api.passwords.is_outdated(row.password_hash) else None
    secret = secrets.token_urlsafe(32)
    lifetime = timedelta(hours=api.config.rest.session_hours)

    def work(tx: Connection) -> None:
        login_throttle.forget_failures(tx, name, request.address, request.now)
        sessions.open_session(tx, secret, row.id, address=request.address, now=request.now, lifetime=lifetime)
        if fresh is not None:
            subscriber_records.change(tx, username, {"password_hash": fresh}, request.now)
        actor = audit_trail.Actor(username, request.address)
        audit_trail.record(tx, actor, "log in", f"subscriber:{username}", now=request.now)

    await api.store.transact(work)
    age = str(lifetime // timedelta(seconds=1))
    secure = is_secure(http_request, api.config.rest)
    http_request.addCookie(COOKIE, secret, path="/", httpOnly=True, sameSite="lax", secure=secure, max_age=age)
    level = Level(row.level)
    return Response({"roles": [ROLES[level]], "displayName": row.name, "username": username, "id": row.id})


async def log_out(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """End the session, here and for the browser."""
    if request.secrets:
        await api.store.transact(lambda tx: sessions.close_session(tx, *request.secrets))
    http_request.addCookie(COOKIE, "", path="/", httpOnly=True, sameSite="lax", max_age="0")
    return Response({"message": "logged out"})


def _credentials(raw: bytes) -> tuple[str, str]:
    """Return username and password, from a form or from JSON. Clients send either with any Content-Type."""
    given = parse_json(raw) if raw.lstrip().startswith(b"{") else parse_form(raw)
    username, password = given.get("username"), given.get("password")
    if not (isinstance(username, str) and isinstance(password, str)) or NUL in username + password:
        raise BrokenRequest("send username and password, as a form or as JSON")
    return username, password


_TABLE = tables.subscriber
_PERSON = sa.select(_TABLE.c.id, _TABLE.c.name, _TABLE.c.level, _TABLE.c.enabled, _TABLE.c.password_hash).where(
    subscriber_records.NOT_DELETED
)
