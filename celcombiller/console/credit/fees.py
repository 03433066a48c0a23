"""Fees: the list with its filter, and one, which is paid or waived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask
from celcombiller.core.model.schedules import FeeState

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

FEE = "/api/v1/fees/<row:id>"


def show(tx: Connection, request: Request) -> View:
    """Show fees, newest first. Those that are overdue are chosen as if that were a state."""
    query = dict(request.query)
    if query.get("state") == "overdue":
        query |= {"state": "", "overdue": "true"}
    return View("credit/fees.html", {"found": ask(tx, request, "GET /api/v1/fees", query=query)})


def show_one(tx: Connection, request: Request) -> View:
    """Show one fee."""
    return View("credit/fee.html", {"fee": ask(tx, request, f"GET {FEE}")})


def pay(tx: Connection, request: Request) -> Redirect:
    """Take what is owed of a fee, as far as the credit goes. What is paid is not taken again."""
    if ask(tx, request, f"GET {FEE}").state != FeeState.PAID:
        ask(tx, request, f"POST {FEE}/pay")
    return Redirect(f"/ui/fees/{request.path['id']}", done="fee_taken")


def waive(tx: Connection, request: Request) -> Redirect:
    """Waive a fee, once: what was paid of it is given back."""
    ask(tx, request, f"POST {FEE}/waive", body=request.body)
    return Redirect(f"/ui/fees/{request.path['id']}", done="fee_waived")
