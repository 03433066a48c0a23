"""Calls: the list with its filters, and one call with the reasons of its charge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show calls, newest first."""
    found = ask(tx, request, "GET /api/v1/calls", query=request.query)
    return View("operators/calls.html", {"found": found})


def show_one(tx: Connection, request: Request) -> View:
    """Show one call, and why it cost what it cost."""
    return View("operators/call.html", {"call": ask(tx, request, "GET /api/v1/calls/<row:id>/explain")})
