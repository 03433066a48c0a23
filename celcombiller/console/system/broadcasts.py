"""Broadcasts to groups: the list, a new one with a second look, and one with how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.credit.choices import list_groups
from celcombiller.console.page import Redirect, View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

BROADCASTS = "/api/v1/broadcasts"
BROADCAST = f"{BROADCASTS}/<row:id>"


def show(tx: Connection, request: Request) -> View:
    """Show broadcasts, newest first."""
    return View("system/broadcasts.html", {"found": ask(tx, request, f"GET {BROADCASTS}", query=request.query)})


def show_one(tx: Connection, request: Request) -> View:
    """Show one broadcast, and how many of its messages are in each state."""
    return View("system/broadcast.html", {"broadcast": ask(tx, request, f"GET {BROADCAST}")})


def show_new(tx: Connection, request: Request) -> View:
    """Show the form of a text to all members of a group."""
    return View("system/new_broadcast.html", {"groups": list_groups(tx, request)})


def show_plan(tx: Connection, request: Request) -> View:
    """Show how many would get the text, and how many short messages that takes, before it is sent."""
    planned = ask(tx, request, f"POST {BROADCASTS}/plan", body=request.query)
    return View("system/broadcast_plan.html", {"plan": planned, "text": request.query["text"]})


def send(tx: Connection, request: Request) -> Redirect:
    """Send the text. The same form sent again sends nothing."""
    made = ask(tx, request, f"POST {BROADCASTS}", body=request.body)
    return Redirect(f"/ui/broadcasts/{made.id}", done="broadcast_made")


def cancel(tx: Connection, request: Request) -> Redirect:
    """Send no more of a broadcast."""
    ask(tx, request, f"POST {BROADCAST}/cancellation")
    return Redirect(f"/ui/broadcasts/{request.path['id']}", done="broadcast_cancelled")
