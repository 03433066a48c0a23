"""Browser sessions: one's own, or for administrators those of anybody, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show sessions, newest first."""
    return View("system/sessions.html", {"found": ask(tx, request, "GET /api/v1/sessions", query=request.query)})


def end(tx: Connection, request: Request) -> Redirect:
    """End a session."""
    ask(tx, request, "DELETE /api/v1/sessions/<id>")
    return Redirect("/ui/sessions", done="session_ended", query={"username": request.body.get("username", "")})
