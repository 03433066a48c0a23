"""The second factor of one's own logins: its state, its secret as a QR code, and its recovery codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import segno

from celcombiller.console.page import View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

STATE = "GET /api/v1/me/second-factor"


def show(tx: Connection, request: Request) -> View:
    """Show whether a second factor is set."""
    return View("second_factor.html", {"state": ask(tx, request, STATE), "secret": "", "codes": None, "image": ""})


def show_secret(tx: Connection, request: Request) -> View:
    """Show a secret, and the form of its first code. A refused form keeps its secret."""
    made = ask(tx, request, "GET /api/v1/me/second-factor/secret")
    secret = request.form.get("secret") or made.secret
    image = segno.make(made.uri.replace(made.secret, secret), error="m").svg_data_uri(scale=4, light="#fff")
    values = {"state": ask(tx, request, STATE), "secret": secret, "codes": None, "image": image}
    return View("second_factor.html", values)


def set_up(tx: Connection, request: Request) -> View:
    """Set the second factor, and show the recovery codes, once."""
    given = ask(tx, request, "POST /api/v1/me/second-factor", body=request.body)
    values = {"state": ask(tx, request, STATE), "secret": "", "codes": given.recovery_codes, "image": ""}
    return View("second_factor.html", values)
