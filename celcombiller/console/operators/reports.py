"""Reports: what was sold and used by day and month, by seller, by destination and by trunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.console.page import Redirect, View, ask
from celcombiller.console.rendering import make_address

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show_first(_tx: Connection, _request: Request) -> Redirect:
    """Send the reader to the report by day."""
    return Redirect("/ui/reports/days")


def show_days(tx: Connection, request: Request) -> View:
    """Show what was sold and used by day or month, newest first."""
    return _show(tx, request, "days", {"account": "voice"} | dict(request.query))


def show_sellers(tx: Connection, request: Request) -> View:
    """Show what each seller sold on each day."""
    return _show(tx, request, "sellers", request.query)


def show_destinations(tx: Connection, request: Request) -> View:
    """Show the calls to each destination, and what they left."""
    return _show(tx, request, "destinations", request.query)


def show_trunks(tx: Connection, request: Request) -> View:
    """Show the calls by each trunk, and what they left."""
    return _show(tx, request, "trunks", request.query)


def _show(tx: Connection, request: Request, name: str, query: dict[str, Any]) -> View:
    found = ask(tx, request, f"GET /api/v1/reports/{name}", query=query)
    file = make_address(f"/api/v1/reports/{name}.csv", **{each: query.get(each) for each in FIELDS})
    values = {"found": found, "file": make_address("/ui/password", next=file), "query": query}
    return View(f"reports/{name}.html", values)


FIELDS = ("from", "until", "by", "account")
