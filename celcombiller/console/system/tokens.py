"""Tokens: the list, a new one whose secret is shown once, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask
from celcombiller.core.errors import AlreadyTaken

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show all tokens, without their secrets."""
    return View("system/tokens.html", {"found": ask(tx, request, "GET /api/v1/tokens")})


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form of a new token."""
    return View("system/new_token.html", {"made": None})


def add(tx: Connection, request: Request) -> View:
    """Make a token, and show its secret, once. A name in use is refused, so a reload makes no second."""
    name, owner = request.body.get("name", ""), request.body.get("username") or request.principal.username
    for each in ask(tx, request, "GET /api/v1/tokens").items:
        if (each.name, each.username, each.revoked_at) == (name, owner, None):
            what = "a token has this name; its secret was shown when it was made"
            raise AlreadyTaken(what, {"name": what})
    made = ask(tx, request, "POST /api/v1/tokens", body=request.body)
    return View("system/new_token.html", {"made": made})


def revoke(tx: Connection, request: Request) -> Redirect:
    """Revoke a token for good."""
    ask(tx, request, "DELETE /api/v1/tokens/<row:id>")
    return Redirect("/ui/tokens", done="token_revoked")
