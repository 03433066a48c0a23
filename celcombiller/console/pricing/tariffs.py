"""Tariffs, their versions, and the rates of a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

TARIFF = "/api/v1/tariffs/<row:id>"
VERSION = f"{TARIFF}/versions/<row:number>"


def show(tx: Connection, request: Request) -> View:
    """Show the tariffs, in the order in which they were made."""
    return View("pricing/tariffs.html", {"found": ask(tx, request, "GET /api/v1/tariffs", query=request.query)})


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form of a new tariff."""
    return View("pricing/tariff_form.html", {"tariff": None})


def add(tx: Connection, request: Request) -> Redirect:
    """Make a tariff, without prices."""
    made = ask(tx, request, "POST /api/v1/tariffs", body=request.body)
    return Redirect(f"/ui/tariffs/{made.id}", done="tariff_added")


def show_one(tx: Connection, request: Request) -> View:
    """Show one tariff with its versions, newest first."""
    values = {
        "tariff": ask(tx, request, f"GET {TARIFF}"),
        "versions": ask(tx, request, f"GET {TARIFF}/versions", query=request.query),
    }
    return View("pricing/tariff.html", values)


def show_change(tx: Connection, request: Request) -> View:
    """Show the form that changes a tariff."""
    return View("pricing/tariff_form.html", {"tariff": ask(tx, request, f"GET {TARIFF}")})


def change(tx: Connection, request: Request) -> Redirect:
    """Change a tariff, or make it the default."""
    ask(tx, request, f"PATCH {TARIFF}", body=request.body)
    return Redirect(f"/ui/tariffs/{request.path['id']}", done="tariff_changed")


def show_delete(tx: Connection, request: Request) -> View:
    """Ask whether a tariff is to be deleted."""
    tariff = ask(tx, request, f"GET {TARIFF}")
    return View("pricing/delete.html", {"what": "tariffs", "name": tariff.name})


def delete(tx: Connection, request: Request) -> Redirect:
    """Delete a tariff that nothing uses."""
    ask(tx, request, f"DELETE {TARIFF}")
    return Redirect("/ui/tariffs", done="tariff_deleted")


def show_version(tx: Connection, request: Request) -> View:
    """Show one version of a tariff with its rates, with a search."""
    values = {
        "tariff": ask(tx, request, f"GET {TARIFF}"),
        "version": ask(tx, request, f"GET {VERSION}"),
        "found": ask(tx, request, f"GET {TARIFF}/rates", query=request.query | {"version": request.path["number"]}),
    }
    return View("pricing/version.html", values)


def withdraw(tx: Connection, request: Request) -> Redirect:
    """Withdraw a version that is not in force yet."""
    ask(tx, request, f"DELETE {VERSION}")
    return Redirect(f"/ui/tariffs/{request.path['id']}", done="version_withdrawn")
