"""The operator's first page: what happens now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

LIVE_SHOWN = 10


def show(tx: Connection, request: Request) -> View:
    """Show calls in progress, the last movements of credit, and the radio networks."""
    values = {
        "live": ask(tx, request, "GET /api/v1/live", query={"limit": LIVE_SHOWN}),
        "transfers": ask(tx, request, "GET /api/v1/transfers", query={"limit": LIVE_SHOWN}),
        "networks": ask(tx, request, "GET /api/v1/provisioning"),
    }
    return View("operators/start.html", values)
