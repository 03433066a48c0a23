"""Selling credit: a number and an amount, a look at who gets it, and the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask, own
from celcombiller.core.schedules.due_dates import local_date

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

SELLER = "/api/v1/sellers/<username>"


def show(tx: Connection, request: Request) -> View:
    """Show the form of a sale, with one's own stock, what was sold today and the last sales."""
    midnight = f"{local_date(request.now, request.config.schedules.zone)}T00:00"
    values = {
        "seller": ask(tx, request, f"GET {SELLER}", path=own(request)),
        "today": ask(tx, request, "GET /api/v1/settlements", query=own(request) | {"since": midnight}).items[0],
        "receipts": ask(tx, request, "GET /api/v1/receipts", query=own(request) | {"limit": 10}),
        "denominations": ask(tx, request, "GET /api/v1/denominations").items,
    }
    return View("sellers/sell.html", values)


def show_plan(tx: Connection, request: Request) -> View:
    """Show who would get the credit, before it is sold."""
    planned = ask(tx, request, f"POST {SELLER}/sales/plan", path=own(request), body=request.query)
    return View("sellers/plan.html", {"plan": planned})


def sell(tx: Connection, request: Request) -> Redirect:
    """Sell credit, once for each form; the same form again leads to the same receipt."""
    sold = ask(tx, request, f"POST {SELLER}/sales", path=own(request), body=request.body)
    return Redirect(f"/ui/receipts/{sold.receipt}")


def show_receipts(tx: Connection, request: Request) -> View:
    """Show one's own sales and refills, newest first."""
    found = ask(tx, request, "GET /api/v1/receipts", query=request.query | own(request))
    return View("sellers/receipts.html", {"found": found})


def show_receipt(tx: Connection, request: Request) -> View:
    """Show one receipt, as it is printed."""
    return View("sellers/receipt.html", {"receipt": ask(tx, request, "GET /api/v1/receipts/<receipt>")})


def undo(tx: Connection, request: Request) -> Redirect:
    """Undo what a receipt is for, while the credit is still there."""
    ask(tx, request, "POST /api/v1/receipts/<receipt>/undo")
    return Redirect(f"/ui/receipts/{request.path['receipt']}", done="receipt_undone")


def show_vouchers(tx: Connection, request: Request) -> View:
    """Show the vouchers that one was handed, newest first."""
    found = ask(tx, request, f"GET {SELLER}/vouchers", path=own(request), query=request.query)
    return View("sellers/vouchers.html", {"found": found})


def show_settlement(tx: Connection, request: Request) -> View:
    """Show what one got, sold and has, in a period."""
    found = ask(tx, request, "GET /api/v1/settlements", query=request.query | own(request))
    return View("sellers/settlement.html", {"found": found})
