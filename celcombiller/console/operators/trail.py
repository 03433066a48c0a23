"""The trail: who changed what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show what was changed, newest first."""
    return View("operators/trail.html", {"found": ask(tx, request, "GET /api/v1/trail", query=request.query)})
