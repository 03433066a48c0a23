"""Differences between Asterisk's call detail records and the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show the differences that were found, newest first."""
    found = ask(tx, request, "GET /api/v1/cdr-differences", query=request.query)
    return View("system/cdr_differences.html", {"found": found})
