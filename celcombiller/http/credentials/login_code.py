"""Logins by a code that is sent to the subscriber's phone, in place of a password.

No answer says whether a number has an account: it is the same for all, and comes after the same time.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from twisted.internet.task import deferLater
from twisted.logger import Logger

from celcombiller.core.access import login_throttle
from celcombiller.core.access.credentials import login_codes
from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError, NotOffered, WrongCode
from celcombiller.core.rating.numbering import normalise
from celcombiller.core.subscribers.number_forms import forms_of, plain_number
from celcombiller.http.credentials.login import NUMBER_CHARACTERS_MAX, Standing, finish_login, open_login

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.rating.numbering import NumberingPlan
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

SENDING, LOGGING_IN = "login code", "login by code"
"""Realms of the throttle. Both count what was typed, so that it does not tell who has an account, either."""
ANSWER_SECONDS = 0.3
"""Answers come after a multiple of this: longer than it takes to queue a message."""
_log = Logger()


async def send_code(api: Api, request: Request, number: str) -> None:
    """Send a code to the phone of the subscriber who has this number, if there is one who may log in by it.

    Raises `NotOffered` and `TooManyAttempts`.
    """
    _check_offered(request)
    number, began = number[:NUMBER_CHARACTERS_MAX], api.reader.reactor.seconds()
    code = f"{secrets.randbelow(10**login_codes.DIGITS):0{login_codes.DIGITS}}"
    reference, now = f"login-code:{secrets.token_hex(8)}", datetime.now(UTC)
    await _admit(api, request, number, SENDING, now)
    policy = replace(api.config.message_policy, validity=login_codes.VALIDITY)
    minutes = login_codes.VALIDITY // timedelta(minutes=1)
    login_text = api.config.phone_text("rest.login_code_text")

    def work(tx: Connection) -> str:
        who = login_codes.find_recipient(tx, number, policy.numbering)
        if who is None or not login_codes.may_have_another(tx, who.id, now):
            return ""
        text = policy.write(login_text, who.language, code=code, minutes=minutes)
        try:
            messages.submit(tx, policy, reference=reference, to_number=who.clid, text=text, now=now)
        except BillerError as refusal:
            return f"{who.username} gets no code: {refusal}"
        login_codes.add(tx, who, code, now)
        return ""

    failure = await api.store.transact(work)
    if failure:
        _log.warn("{failure}", failure=failure)
    await _wait(api, began)


async def begin_session_by_code(
    api: Api,
    http_request: HttpRequest,
    request: Request,
    number: str,
    code: str,
    factor: str = "",
    *,
    may_wait: bool = False,
) -> None:
    """Check a code that was sent to a phone, begin a session, and set its cookie, as `begin_session` does.

    Raises `NotOffered`, `TooManyAttempts`, `WrongCode`, and `SecondFactorNeeded` and `WrongSecondFactor` where a second
    factor is set, whose code is ``factor``; then the code is still good.
    """
    _check_offered(request)
    number, began = number[:NUMBER_CHARACTERS_MAX], api.reader.reactor.seconds()
    numbering = api.config.message_policy.numbering
    secret, now = secrets.token_urlsafe(32), datetime.now(UTC)
    await _admit(api, request, number, LOGGING_IN, now)

    def work(tx: Connection) -> Standing | None:
        who = login_codes.find_recipient(tx, number, numbering)
        if who is None or not login_codes.admit_try(tx, who, code.strip(), now):
            return None
        standing = open_login(api, tx, request, who, secret, factor, now, may_wait=may_wait, way="a code by message")
        if standing.is_begun(may_wait=may_wait):
            login_codes.use_up(tx, who.id, now)
            for realm in (SENDING, LOGGING_IN):
                login_throttle.forget_failures(tx, _name_of(number, numbering), request.address, now, realm)
        return standing

    standing = await api.store.transact(work)
    if standing is None:
        await _wait(api, began)
        raise WrongCode("the code is wrong, was used, or is too old")
    finish_login(api, http_request, secret, standing, may_wait=may_wait)


def _check_offered(request: Request) -> None:
    if not request.config.rest.login_code:
        raise NotOffered("logins by a code that is sent to the phone are switched off (rest.login_code)")


async def _admit(api: Api, request: Request, number: str, realm: str, now: datetime) -> None:
    name = _name_of(number, api.config.message_policy.numbering)
    await api.store.transact(lambda tx: login_throttle.admit_attempt(tx, name, request.address, now, realm))


def _name_of(number: str, numbering: NumberingPlan) -> str:
    """Return what a number counts as, however it is written and whether or not somebody has it."""
    return (number, *forms_of(normalise(numbering, plain_number(number))).numbers)[-1]


async def _wait(api: Api, began: float) -> None:
    """Wait until a multiple of the time of an answer has passed."""
    clock = api.reader.reactor
    await deferLater(clock, -(clock.seconds() - began) % ANSWER_SECONDS)
