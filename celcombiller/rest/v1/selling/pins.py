"""``/api/v1/subscribers/<username>/pin``: the PIN by which a subscriber confirms requests from their phone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access.credentials import pins
from celcombiller.core.access.credentials.pins import NewPin, check_digits
from celcombiller.core.errors import InvalidValue, WrongPin
from celcombiller.http.route import Response
from celcombiller.rest.v1.subscribers import OldPasswordGiven

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

Digits = Annotated[str, Meta(pattern=r"^[0-9]{4,8}$(?!\n)", description="4 to 8 digits")]


class PinChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new PIN. To set your own, send the old one or your password with it."""

    pin: Digits
    old_pin: Digits | None = None
    old_password: OldPasswordGiven | None = None


async def change(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Set a subscriber's PIN. Staff set those of the subscribers they manage; your own needs the old one."""
    body: PinChange = request.body
    check_digits(body.pin)
    who, username = request.principal, request.path["username"]
    by_pin = by_password = None
    if username == who.username:
        if body.old_pin is not None:
            by_pin = await _check_old_pin(api, request, body.old_pin)
        elif body.old_password is not None:
            by_password = await api.check_old_password(request, body.old_password)
        else:
            what = "or old_password is needed to set one's own PIN"
            raise InvalidValue(f"old_pin {what}", {"old_pin": what})
    new = NewPin(body.pin, await api.passwords.hash(body.pin, who.username), by_pin, by_password)

    def work(tx: Connection, admitted: Request) -> Response:
        pins.set_pin(tx, admitted.actor, username, new, admitted.now)
        return Response()

    return await api.transact(request, work)


async def _check_old_pin(api: Api, request: Request, old: str) -> str:
    """Return the hash that the principal's old PIN has. Raises `WrongPin` and `TooManyAttempts`."""
    who, address = request.principal, request.address

    def begin(tx: Connection, admitted: Request) -> pins.PinCheck:
        return pins.begin(tx, who.subscriber_id, address, admitted.now)

    check = await api.transact(request, begin)
    if check.pin_hash is None or not await api.passwords.verify_own(check.pin_hash, old, who.username):
        raise WrongPin("old_pin is not the PIN")
    await api.transact(request, lambda tx, admitted: pins.finish(tx, check, is_right=True, now=admitted.now))
    return check.pin_hash


def remove(tx: Connection, request: Request) -> Response:
    """Remove a subscriber's PIN: no request from a phone can be confirmed by one then."""
    pins.remove_pin(tx, request.actor, request.path["username"], request.now)
    return Response()
