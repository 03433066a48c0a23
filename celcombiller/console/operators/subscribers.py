"""Subscribers: the list with its search, and a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask
from celcombiller.rest.v1.subscribers import SubscriberFilter

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show subscribers, with a search."""
    found = ask(tx, request, "GET /api/v1/subscribers", query=request.query)
    chosen = {name: text for name, text in request.query.items() if name in SubscriberFilter.__struct_fields__}
    return View("operators/subscribers.html", {"found": found, "chosen": chosen})


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form of a new subscriber."""
    return View("operators/new_subscriber.html")


def add(tx: Connection, request: Request) -> Redirect:
    """Add a subscriber."""
    made = ask(tx, request, "POST /api/v1/subscribers", body=request.body)
    return Redirect(f"/ui/subscribers/{made.username}", done="subscriber_added")
