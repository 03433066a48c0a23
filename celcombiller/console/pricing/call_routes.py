"""Routes of calls: by which trunks numbers of a prefix are reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.console.page import Redirect, View, ask
from celcombiller.console.pricing.trunks import CHOICES_MAX
from celcombiller.core.routing.route_records import TRUNKS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

ROUTE = "/api/v1/routes/<row:id>"
PLACES_FREE = 3
"""Places of trunks that a form has besides those in use."""

NUMBER_DIGITS_MAX = 16
"""What is longer is no number of a trunk; the API says what is wrong with it."""


def show(tx: Connection, request: Request) -> View:
    """Show the routes, in the order in which they were made."""
    values = {
        "found": ask(tx, request, "GET /api/v1/routes", query=request.query),
        "trunks": dict(_list_trunks(tx, request)),
    }
    return View("pricing/routes.html", values)


def show_new(tx: Connection, request: Request) -> View:
    """Show the form of a new route."""
    return _show_form(tx, request, None)


def add(tx: Connection, request: Request) -> Redirect:
    """Make a route."""
    ask(tx, request, "POST /api/v1/routes", body=_join_trunks(request.body))
    return Redirect("/ui/routes", done="route_added")


def show_change(tx: Connection, request: Request) -> View:
    """Show the form that changes a route."""
    return _show_form(tx, request, ask(tx, request, f"GET {ROUTE}"))


def change(tx: Connection, request: Request) -> Redirect:
    """Change a route, from the next call on."""
    ask(tx, request, f"PATCH {ROUTE}", body=_join_trunks(request.body))
    return Redirect("/ui/routes", done="route_changed")


def show_delete(tx: Connection, request: Request) -> View:
    """Ask whether a route is to be deleted."""
    return View("pricing/delete.html", {"what": "routes", "name": ask(tx, request, f"GET {ROUTE}").prefix})


def delete(tx: Connection, request: Request) -> Redirect:
    """Delete a route. Its numbers then have that of a shorter prefix."""
    ask(tx, request, f"DELETE {ROUTE}")
    return Redirect("/ui/routes", done="route_deleted")


def _show_form(tx: Connection, request: Request, route: Any) -> View:
    used = [] if route is None else route.trunks
    places = [(each.trunk_id, each.weight) for each in used] + [("", 1)] * PLACES_FREE
    values = {"route": route, "places": places[:TRUNKS_MAX], "trunks": _list_trunks(tx, request)}
    return View("pricing/route_form.html", values)


def _list_trunks(tx: Connection, request: Request) -> list[tuple[int, str]]:
    found = ask(tx, request, "GET /api/v1/trunks", query={"limit": CHOICES_MAX})
    return [(each.id, each.name) for each in found.items]


def _join_trunks(given: Mapping[str, str]) -> dict[str, Any]:
    """Return a form with one list of trunks, of the places that are in use. An empty form stays empty."""
    trunks = [
        {"trunk_id": _read_number(chosen), "weight": _read_number(given.get(f"weight_{place}", "1"))}
        for place in range(1, TRUNKS_MAX + 1)
        if (chosen := given.get(f"trunk_{place}"))
    ]
    return {**given, "trunks": trunks} if given else {}


def _read_number(text: str) -> int | str:
    return int(text) if text.isdecimal() and len(text) <= NUMBER_DIGITS_MAX else text
