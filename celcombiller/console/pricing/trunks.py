"""Trunks, by which calls go out to providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

TRUNK = "/api/v1/trunks/<row:id>"
CHOICES_MAX = 500


def show(tx: Connection, request: Request) -> View:
    """Show the trunks, in the order in which they were made."""
    values = {
        "found": ask(tx, request, "GET /api/v1/trunks", query=request.query),
        "tariffs": dict(_list_tariffs(tx, request)),
    }
    return View("pricing/trunks.html", values)


def show_new(tx: Connection, request: Request) -> View:
    """Show the form of a new trunk."""
    return View("pricing/trunk_form.html", {"trunk": None, "tariffs": _list_tariffs(tx, request)})


def add(tx: Connection, request: Request) -> Redirect:
    """Make a trunk."""
    ask(tx, request, "POST /api/v1/trunks", body=request.body)
    return Redirect("/ui/trunks", done="trunk_added")


def show_change(tx: Connection, request: Request) -> View:
    """Show the form that changes a trunk."""
    values = {"trunk": ask(tx, request, f"GET {TRUNK}"), "tariffs": _list_tariffs(tx, request)}
    return View("pricing/trunk_form.html", values)


def change(tx: Connection, request: Request) -> Redirect:
    """Change a trunk, from the next call on."""
    ask(tx, request, f"PATCH {TRUNK}", body=request.body)
    return Redirect("/ui/trunks", done="trunk_changed")


def show_delete(tx: Connection, request: Request) -> View:
    """Ask whether a trunk is to be deleted."""
    return View("pricing/delete.html", {"what": "trunks", "name": ask(tx, request, f"GET {TRUNK}").name})


def delete(tx: Connection, request: Request) -> Redirect:
    """Delete a trunk that no route has."""
    ask(tx, request, f"DELETE {TRUNK}")
    return Redirect("/ui/trunks", done="trunk_deleted")


def _list_tariffs(tx: Connection, request: Request) -> list[tuple[int, str]]:
    found = ask(tx, request, "GET /api/v1/tariffs", query={"limit": CHOICES_MAX})
    return [(each.id, each.name) for each in found.items]
