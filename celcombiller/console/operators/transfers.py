"""One movement of credit, and its reversal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show one movement of credit, as it is printed."""
    return View("operators/transfer.html", {"transfer": ask(tx, request, "GET /api/v1/transfers/<row:id>")})


def reverse(tx: Connection, request: Request) -> Redirect:
    """Reverse a movement, for a reason. The same again changes nothing."""
    made = ask(tx, request, "POST /api/v1/transfers/<row:id>/reversal", body=request.body)
    return Redirect(f"/ui/transfers/{made.id}", done="transfer_reversed")
