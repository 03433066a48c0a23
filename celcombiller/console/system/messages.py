"""Text messages: the list with its filters, one message, and a new one to a subscriber."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show text messages, newest first."""
    return View("system/messages.html", {"found": ask(tx, request, "GET /api/v1/messages", query=request.query)})


def show_one(tx: Connection, request: Request) -> View:
    """Show one text message. Its text is kept nowhere."""
    return View("system/message.html", {"message": ask(tx, request, "GET /api/v1/messages/<row:id>")})


def show_new(_tx: Connection, request: Request) -> View:
    """Show the form of a message to one subscriber."""
    return View("system/new_message.html", {"username": request.query.get("username", "")})


def send(tx: Connection, request: Request) -> Redirect:
    """Send a message to a subscriber, free of charge. The same form sent again sends nothing."""
    path = {"username": request.body.get("username", "")}
    who = ask(tx, request, "GET /api/v1/subscribers/<username>", path=path)
    body = {"to": who.clid, "text": request.body.get("text", "")}
    made = ask(tx, request, "POST /api/v1/messages", body=body)
    return Redirect(f"/ui/messages/{made.id}", done="message_queued")
