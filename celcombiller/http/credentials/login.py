"""Logins with a password and a second factor, and the cookie of a browser session.

The cookie is HttpOnly, SameSite=Lax and, behind TLS, Secure. It is invalid once its row is deleted.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from celcombiller.core.access import audit_trail, login_throttle, sessions
from celcombiller.core.access.actor import Actor
from celcombiller.core.access.credentials import second_factor
from celcombiller.core.errors import Forbidden, InvalidValue, SecondFactorNeeded, WrongSecondFactor
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.directory import Directory
from celcombiller.http.request_context import COOKIE, is_secure

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.numbering import NumberingPlan
    from celcombiller.core.subscribers.subscriber_records import LoginRecord
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

NAME_MAX = 64
NUMBER_CHARACTERS_MAX = 32
"""What is longer is no number: E.164 has 15 digits, and people put spaces and signs between them."""
CODE_TIME = timedelta(minutes=5)
"""For how long a login waits for its second factor."""


async def begin_session(
    api: Api,
    http_request: HttpRequest,
    request: Request,
    username: str,
    password: str,
    code: str = "",
    *,
    may_wait: bool = False,
) -> Subscriber | None:
    """Check a password, begin a session, set its cookie, and return who logged in; ``None``: the password is wrong.

    ``username`` may be their number, too, in any form; a username comes first. An unknown name takes as long as a wrong
    password. Where a second factor is set, ``code`` is checked. Without one `SecondFactorNeeded` is raised; with
    ``may_wait`` a session is begun first, which opens nothing until `complete_session`. Raises `TooManyAttempts`,
    `WrongSecondFactor` and, where staff need a second factor and have none (``rest.second_factor``), `Forbidden`.
    """
    numbering = api.config.message_policy.numbering
    found = await api.reader.read(lambda tx: _find_login(tx, username, numbering))
    name = username[:NAME_MAX] if found is None else found.username
    is_known = await api.store.transact(lambda tx: login_throttle.admit_attempt(tx, name, request.address, request.now))
    hashed = None if found is None else found.password_hash
    # A flood of other people's logins from elsewhere has a line of its own.
    source = "API, known address" if is_known else "API"
    right = await api.passwords.verify(hashed, password, source)
    if found is None or hashed is None or not right:
        return None
    fresh = await _rehash(api, hashed, password, username)
    secret, now = secrets.token_urlsafe(32), datetime.now(UTC)

    def work(tx: Connection) -> tuple[Subscriber, Standing] | None:
        # The hash took a while: they may have another password by now, or be disabled or deleted.
        who = subscriber_records.lock_login(tx, found.subscriber_id, hashed)
        if who is None:
            return None
        standing = open_login(api, tx, request, who, secret, code, now, may_wait=may_wait)
        if standing is Standing.LOGGED_IN:
            login_throttle.forget_failures(tx, name, request.address, now)
        if fresh is not None:
            subscriber_records.replace_hash(tx, who.id, fresh)
        return who, standing

    done = await api.store.transact(work)
    if done is None:
        return None
    who, standing = done
    finish_login(api, http_request, secret, standing, may_wait=may_wait)
    return who


def _find_login(tx: Connection, name: str, numbering: NumberingPlan) -> LoginRecord | None:
    """Return the login of a username, else of a number."""
    found = subscriber_records.find_login(tx, name)
    if found is None and len(name) <= NUMBER_CHARACTERS_MAX:
        who = Directory.load(tx, [name], numbering).find_callee(name)
        found = None if who is None else subscriber_records.find_login(tx, who.username)
    return found


async def _rehash(api: Api, hashed: str, password: str, username: str) -> str | None:
    """Return a new hash of a password whose hash is outdated."""
    return await api.passwords.hash(password, username) if api.passwords.is_outdated(hashed) else None


class Standing(Enum):
    """How a login with the right password, or the right code by message, stands."""

    LOGGED_IN = "logged in"
    NEEDS_CODE = "needs a code"
    WRONG_CODE = "wrong code"

    def is_begun(self, *, may_wait: bool) -> bool:
        """Return whether it has a session."""
        return self is Standing.LOGGED_IN or (may_wait and self is Standing.NEEDS_CODE)


def open_login(
    api: Api,
    tx: Connection,
    request: Request,
    who: Subscriber,
    secret: str,
    code: str,
    now: datetime,
    *,
    may_wait: bool,
    way: str = "",
) -> Standing:
    """Open the session of a login, unless its second factor is missing or wrong. ``way``: how, if not by password.

    Raises `Forbidden` where staff need a second factor and have none.
    """
    standing = _admit_second_factor(api, tx, request, who, code, now)
    is_open = standing is Standing.LOGGED_IN
    if is_open or standing.is_begun(may_wait=may_wait):
        sessions.open_session(
            tx,
            secret,
            who.id,
            address=request.address,
            now=now,
            lifetime=timedelta(hours=api.config.rest.session_hours) if is_open else CODE_TIME,
            awaits_code=not is_open,
            by_password=not way,
        )
    if is_open:
        actor, after = Actor(who.username, request.address), {"by": way} if way else None
        audit_trail.record(tx, actor, "log in", f"subscriber:{who.username}", after=after, now=now)
    return standing


def finish_login(api: Api, http_request: HttpRequest, secret: str, standing: Standing, *, may_wait: bool) -> None:
    """Set the cookie of a login that has a session. Raises `SecondFactorNeeded` and `WrongSecondFactor`."""
    if standing.is_begun(may_wait=may_wait):
        _set_cookie(api, http_request, secret, timedelta(hours=api.config.rest.session_hours))
    if standing is Standing.NEEDS_CODE:
        raise SecondFactorNeeded("the code of your authenticator is needed, too")
    if standing is Standing.WRONG_CODE:
        raise WrongSecondFactor("the code is wrong, or was used before")


def _admit_second_factor(
    api: Api, tx: Connection, request: Request, who: Subscriber, code: str, now: datetime
) -> Standing:
    """Return how a login stands. Raises `Forbidden` where staff need a second factor and have none."""
    if not second_factor.is_set(tx, who.id):
        if api.config.rest.second_factor == "staff" and who.level is not Level.SUBSCRIBER:
            raise Forbidden(
                "staff need a second factor (rest.second_factor): the operator sets one by "
                "`celcombiller user set-second-factor`"
            )
        return Standing.LOGGED_IN
    if not code:
        return Standing.NEEDS_CODE
    actor = Actor(who.username, request.address)
    is_right = second_factor.admit_code(tx, actor, who.id, code, now)
    return Standing.LOGGED_IN if is_right else Standing.WRONG_CODE


async def complete_session(api: Api, http_request: HttpRequest, request: Request, code: str) -> None:
    """Check the second factor of a login that waits for it, and open its session under a new secret.

    Raises `SecondFactorNeeded` where no login waits, `WrongSecondFactor` and `TooManyAttempts`.
    """
    now, fresh = datetime.now(UTC), secrets.token_urlsafe(32)
    lifetime = timedelta(hours=api.config.rest.session_hours)

    def find(tx: Connection) -> tuple[str, int, str] | None:
        for secret in request.secrets:
            if (who := sessions.find_waiting(tx, secret, now)) is not None:
                return secret, *who
        return None

    waiting = await api.reader.read(find)
    if waiting is None:
        raise Forbidden("no login waits for a code: log in again")
    secret, subscriber_id, username = waiting
    await api.store.transact(lambda tx: login_throttle.admit_attempt(tx, username, request.address, now))

    def work(tx: Connection) -> bool:
        actor = Actor(username, request.address)
        if sessions.find_waiting(tx, secret, now) is None:
            return False
        if not second_factor.admit_code(tx, actor, subscriber_id, code, now):
            return False
        login_throttle.forget_failures(tx, username, request.address, now)
        sessions.complete(tx, secret, fresh, now + lifetime)
        audit_trail.record(tx, actor, "log in", f"subscriber:{username}", now=now)
        return True

    if not await api.store.transact(work):
        raise WrongSecondFactor("the code is wrong, or was used before")
    _set_cookie(api, http_request, fresh, lifetime)


async def check_password_again(api: Api, request: Request, password: str) -> None:
    """Note that the person of a session has given their password again, with a row of the audit trail.

    Raises `InvalidValue` for a wrong one, which counts as a failed login, `TooManyAttempts`, and `Forbidden` without a
    session.
    """
    if request.secret is None:
        raise Forbidden("only a session has a password to be given again: a token sends its secret each time")
    try:
        hashed = await api.check_old_password(request, password)
    except Forbidden:
        hashed = None
    if hashed is None:
        raise InvalidValue("the password is wrong", {"current_password": "the password is wrong"})

    def work(tx: Connection, admitted: Request) -> None:
        sessions.note_password(tx, admitted.secret or "", admitted.now)
        subject = f"subscriber:{admitted.principal.username}"
        audit_trail.record(tx, admitted.actor, "give password again", subject, now=admitted.now)

    await api.transact(request, work)


async def end_session(api: Api, http_request: HttpRequest, request: Request) -> None:
    """End the session, here and for the browser."""
    if request.secrets:
        await api.store.transact(lambda tx: sessions.close_session(tx, *request.secrets))
    http_request.addCookie(COOKIE, "", path="/", httpOnly=True, sameSite="lax", max_age="0")


def _set_cookie(api: Api, http_request: HttpRequest, secret: str, lifetime: timedelta) -> None:
    age = str(lifetime // timedelta(seconds=1))
    secure = is_secure(http_request, api.config.rest)
    http_request.addCookie(COOKIE, secret, path="/", httpOnly=True, sameSite="lax", secure=secure, max_age=age)
