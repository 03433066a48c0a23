"""Data sessions: the list with its filters, and one session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show data sessions, newest first."""
    found = ask(tx, request, "GET /api/v1/data-sessions", query=request.query)
    return View("system/data_sessions.html", {"found": found})


def show_one(tx: Connection, request: Request) -> View:
    """Show one data session."""
    return View("system/data_session.html", {"session": ask(tx, request, "GET /api/v1/data-sessions/<row:id>")})
