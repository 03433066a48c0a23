"""Sellers: the list, a new one, and one with their limits, refills and receipts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

SELLER = "/api/v1/sellers/<username>"


def show(tx: Connection, request: Request) -> View:
    """Show sellers, by username."""
    return View("operators/sellers.html", {"found": ask(tx, request, "GET /api/v1/sellers", query=request.query)})


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form by which a subscriber becomes a seller."""
    return View("operators/new_seller.html")


def add(tx: Connection, request: Request) -> Redirect:
    """Make a subscriber a seller."""
    made = ask(tx, request, "POST /api/v1/sellers", body=request.body)
    return Redirect(f"/ui/sellers/{made.username}", done="seller_added")


def show_one(tx: Connection, request: Request) -> View:
    """Show one seller, with their last receipts."""
    values = {
        "seller": ask(tx, request, f"GET {SELLER}"),
        "receipts": ask(tx, request, "GET /api/v1/receipts", query={"username": request.path["username"], "limit": 10}),
        "handed": ask(tx, request, f"GET {SELLER}/vouchers", query={"limit": 10}),
        "settlement": ask(tx, request, "GET /api/v1/settlements", query={"username": request.path["username"]}),
    }
    return View("operators/seller.html", values)


def change(tx: Connection, request: Request) -> Redirect:
    """Change the terms and limits of a seller, or whether they may sell."""
    ask(tx, request, f"PATCH {SELLER}", body=request.body)
    return Redirect(f"/ui/sellers/{request.path['username']}", done="seller_changed")


def show_refill_plan(tx: Connection, request: Request) -> View:
    """Show what is to be paid for a refill, before it is made."""
    planned = ask(tx, request, f"POST {SELLER}/refills/plan", body=request.query)
    return View("operators/refill_plan.html", {"plan": planned, "note": request.query.get("note", "")})


def refill(tx: Connection, request: Request) -> Redirect:
    """Refill a seller. The same form sent again changes nothing."""
    made = ask(tx, request, f"POST {SELLER}/refills", body=request.body)
    return Redirect(f"/ui/receipts/{made.receipt}")
