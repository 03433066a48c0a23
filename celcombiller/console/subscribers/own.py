"""One's own account: balances, bundles, movements and calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask, own

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

OWN = "GET /api/v1/subscribers/<username>"


def show(tx: Connection, request: Request) -> View:
    """Show one's own balances, bundles and last movements."""
    values = {
        "accounts": ask(tx, request, f"{OWN}/accounts", path=own(request)),
        "statement": ask(tx, request, f"{OWN}/statement", path=own(request), query={"limit": 10}),
    }
    return View("subscribers/own.html", values)


def show_statement(tx: Connection, request: Request) -> View:
    """Show one's own movements, newest first."""
    found = ask(tx, request, f"{OWN}/statement", path=own(request), query=request.query)
    return View("subscribers/statement.html", {"found": found})


def show_calls(tx: Connection, request: Request) -> View:
    """Show one's own calls, newest first."""
    found = ask(tx, request, "GET /api/v1/calls", query=request.query | own(request))
    return View("subscribers/calls.html", {"found": found})


def show_call(tx: Connection, request: Request) -> View:
    """Show one call, and why it cost what it cost."""
    return View("subscribers/call.html", {"call": ask(tx, request, "GET /api/v1/calls/<row:id>/explain")})


def show_messages(tx: Connection, request: Request) -> View:
    """Show one's own text messages, newest first."""
    found = ask(tx, request, "GET /api/v1/messages", query=request.query | own(request))
    return View("subscribers/messages.html", {"found": found})


def show_data(tx: Connection, request: Request) -> View:
    """Show one's own data sessions, newest first."""
    found = ask(tx, request, "GET /api/v1/data-sessions", query=request.query | own(request))
    return View("subscribers/data.html", {"found": found})
