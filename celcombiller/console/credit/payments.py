"""Payments: the list with its filter, and one, which is given to its subscriber or reversed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.console.page import Redirect, View, ask, read_fields
from celcombiller.rest.v1.selling.payments import Assignment

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

PAYMENT = "/api/v1/payments/<row:id>"


def show(tx: Connection, request: Request) -> View:
    """Show payments, newest first."""
    return View("credit/payments.html", {"found": ask(tx, request, "GET /api/v1/payments", query=request.query)})


def show_one(tx: Connection, request: Request) -> View:
    """Show one payment."""
    return View("credit/payment.html", {"payment": ask(tx, request, f"GET {PAYMENT}")})


def show_assignment(tx: Connection, request: Request) -> View:
    """Show who would get a payment that waits."""
    order = read_fields(Assignment, request.query, ZoneInfo(request.config.schedules.zone))
    who = ask(tx, request, "GET /api/v1/subscribers/<username>", path={"username": order.username})
    return View("credit/assignment.html", {"payment": ask(tx, request, f"GET {PAYMENT}"), "who": who})


def assign(tx: Connection, request: Request) -> Redirect:
    """Credit a payment that waits to a subscriber. The same form sent again changes nothing."""
    ask(tx, request, f"POST {PAYMENT}/assignment", body=request.body)
    return Redirect(f"/ui/payments/{request.path['id']}", done="payment_assigned")


def reverse(tx: Connection, request: Request) -> Redirect:
    """Take the credit of a payment back, once."""
    ask(tx, request, f"POST {PAYMENT}/reversal", body=request.body)
    return Redirect(f"/ui/payments/{request.path['id']}", done="payment_reversed")
