"""The operator's first page: what happens now, and what needs a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

TRANSFERS_SHOWN = 10


def show(tx: Connection, request: Request) -> View:
    """Show the figures of today, what needs a person, the last 30 days, and the last movements of credit."""
    values = {
        "overview": ask(tx, request, "GET /api/v1/overview"),
        "days": ask(tx, request, "GET /api/v1/reports/days", query={"account": "voice"}),
        "transfers": ask(tx, request, "GET /api/v1/transfers", query={"limit": TRANSFERS_SHOWN}),
    }
    return View("operators/start.html", values)
