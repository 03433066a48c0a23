"""``/api/v1/me/password-check``: a session gives its password again, before an export or a large credit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from celcombiller.http.credentials.login import check_password_again
from celcombiller.http.route import Response
from celcombiller.runtime.credentials.password_hash import OldPassword

if TYPE_CHECKING:
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest


class PasswordCheck(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The password of the session's person."""

    current_password: OldPassword


async def check(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Check your password again in a session. Exports and large credits need it (`rest.password_minutes`)."""
    body: PasswordCheck = request.body
    await check_password_again(api, request, body.current_password)
    return Response()
