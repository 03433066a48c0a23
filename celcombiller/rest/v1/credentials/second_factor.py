"""``/api/v1/me/second-factor``: the second factor of one's own logins; staff take that of others away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access.credentials import second_factor
from celcombiller.core.access.credentials.second_factor import BASE32_PATTERN
from celcombiller.core.errors import Forbidden, NotFound
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.route import Response
from celcombiller.runtime.credentials.authenticator import make_recovery_codes, make_secret

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

Secret = Annotated[
    str,
    Meta(pattern=rf"^{BASE32_PATTERN}$(?!\n)", description="32 letters and digits of base 32, as GET …/secret gives"),
]
Code = Annotated[str, Meta(pattern=r"^[0-9]{6}$(?!\n)", description="6 digits: what the authenticator shows now")]


class SecondFactorView(msgspec.Struct, kw_only=True):
    """Whether a login needs a code besides the password."""

    enabled: bool
    recovery_codes: Annotated[int, Meta(description="number of recovery codes that are left")]


class SecondFactorSecret(msgspec.Struct, kw_only=True):
    """A new secret for an authenticator. It is kept nowhere until a second factor is set with it."""

    secret: Annotated[str, Meta(description="base 32, as it is typed into an authenticator")]
    uri: Annotated[str, Meta(description="the address otpauth:// that stands in the QR code")]


class NewSecondFactor(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The secret of an authenticator, and the first code that it shows."""

    secret: Secret
    code: Code


class RecoveryCodes(msgspec.Struct, kw_only=True):
    """Codes for when the authenticator is lost. They are shown once, and each is good once."""

    recovery_codes: list[str]


def show(tx: Connection, request: Request) -> SecondFactorView:
    """Show whether your logins need a second factor."""
    return _to_view(tx, request.principal.subscriber_id)


def show_of(tx: Connection, request: Request) -> SecondFactorView:
    """Show whether the logins of a subscriber need a second factor."""
    return _to_view(tx, subscriber_records.find(tx, request.path["username"]).id)


def _to_view(tx: Connection, subscriber_id: int) -> SecondFactorView:
    return SecondFactorView(
        enabled=second_factor.is_set(tx, subscriber_id),
        recovery_codes=second_factor.count_recovery_codes(tx, subscriber_id),
    )


def make(_tx: Connection, request: Request) -> SecondFactorSecret:
    """Make a secret for your authenticator."""
    secret = make_secret()
    return SecondFactorSecret(secret=secret, uri=second_factor.make_uri(secret, request.principal.username))


def set_up(tx: Connection, request: Request) -> RecoveryCodes:
    """Set your second factor by its first code, and get the recovery codes."""
    body: NewSecondFactor = request.body
    who = request.principal
    if not who.is_unnarrowed:
        raise Forbidden("one's own second factor is set with a session or the scope admin")
    codes = make_recovery_codes()
    second_factor.set_up(tx, request.actor, who.subscriber_id, body.secret, body.code, codes, request.now)
    return RecoveryCodes(recovery_codes=codes)


def reset(tx: Connection, request: Request) -> Response:
    """Take a subscriber's second factor away, and end their sessions."""
    if not second_factor.reset(tx, request.actor, request.path["username"], request.now):
        raise NotFound("there is no second factor")
    return Response()
