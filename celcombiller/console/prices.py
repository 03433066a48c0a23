"""What a call costs, before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show the form that asks for the price of a call, and the price once it was asked."""
    is_asked = "to_number" in request.query
    price = ask(tx, request, "POST /api/v1/rate", body=request.query) if is_asked else None
    return View("prices.html", {"price": price})
