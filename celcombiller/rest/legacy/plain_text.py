"""Routes of the original program that answer in plain text: the user, and balances by IMSI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.errors import BrokenRequest, UnknownSubscriber
from celcombiller.core.ledger import accounts
from celcombiller.core.model.accounts import Kind
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def name(_tx: Connection, request: Request) -> Response:
    """Return who is logged in."""
    return Response(request.principal.username)


def test(_tx: Connection, _request: Request) -> Response:
    """Return a text, to show that the login holds."""
    return Response("test")


def user(_tx: Connection, request: Request) -> Response:
    """Return who is logged in, in the words of the original."""
    return Response(f"<User {request.principal.username!r}>")


def voice_balance(tx: Connection, request: Request) -> Response:
    """Return the voice balance of an IMSI."""
    return _balance(tx, request, Kind.VOICE)


def data_balance(tx: Connection, request: Request) -> Response:
    """Return the data balance of an IMSI."""
    return _balance(tx, request, Kind.DATA)


def _balance(tx: Connection, request: Request, kind: Kind) -> Response:
    imsi = request.body.get("imsi")
    if type(imsi) not in (str, int):
        raise BrokenRequest('send {"imsi": "…"}')
    try:
        who = subscriber_records.find_by_imsi(tx, str(imsi))
    except UnknownSubscriber:
        return Response("none")
    return Response(str(accounts.balances(tx, who.id)[kind].posted))
