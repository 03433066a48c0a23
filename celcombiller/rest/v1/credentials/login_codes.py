"""``/api/v1/login-codes``: logins by a code that is sent to the subscriber's phone, in place of a password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.http.credentials import login_code
from celcombiller.http.credentials.login import NUMBER_CHARACTERS_MAX
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

Number = Annotated[
    str,
    Meta(
        pattern=rf"^[^\x00-\x1f\x7f]{{1,{NUMBER_CHARACTERS_MAX}}}$(?!\n)",
        description=f"1 to {NUMBER_CHARACTERS_MAX} characters: the subscriber's number",
    ),
]
MessageCode = Annotated[
    str, Meta(pattern=r"^[0-9]{1,20}$(?!\n)", description="1 to 20 digits: the code of the last message")
]
Factor = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]{0,64}$(?!\n)",
        description="at most 64 characters: the code of the second factor, where one is set",
    ),
]


class NewLoginCode(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whose phone shall get a code."""

    number: Number


class CodeLogin(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The code that the phone got."""

    number: Number
    code: MessageCode
    second_factor: Factor = ""


async def send(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Send a code to a subscriber's phone, to log in with. The answer is the same for a number that nobody has."""
    body: NewLoginCode = request.body
    await login_code.send_code(api, request, body.number)
    return Response()


async def log_in(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Log in by the code that the phone got: the answer sets the cookie `session`."""
    body: CodeLogin = request.body
    await login_code.begin_session_by_code(api, http_request, request, body.number, body.code, body.second_factor)
    return Response()
