"""The first page of each role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect
from celcombiller.core.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.console.page import View
    from celcombiller.http.route import Request

OF_STAFF = "/ui/start"
OF_SELLERS = "/ui/sell"
OF_SUBSCRIBERS = "/ui/me"


def refuse_address(_tx: Connection, _request: Request) -> View:
    """Raise `NotFound`: no page has this address."""
    raise NotFound("there is no such page")


def show(_tx: Connection, request: Request) -> View | Redirect:
    """Send the reader to the first page of their role."""
    who = request.principal
    if who.is_staff:
        return Redirect(OF_STAFF)
    return Redirect(OF_SELLERS if who.sells else OF_SUBSCRIBERS)
