"""Offers, which subscribers buy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask
from celcombiller.core.model.tariffs import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

OFFER = "/api/v1/offers/<row:id>"


def show(tx: Connection, request: Request) -> View:
    """Show the offers, in the order in which they were made."""
    return View("pricing/offers.html", {"found": ask(tx, request, "GET /api/v1/offers", query=request.query)})


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form of a new offer."""
    return View("pricing/offer_form.html", {"offer": None})


def add(tx: Connection, request: Request) -> Redirect:
    """Make an offer."""
    ask(tx, request, "POST /api/v1/offers", body=join_services(request.body))
    return Redirect("/ui/offers", done="offer_added")


def show_change(tx: Connection, request: Request) -> View:
    """Show the form that changes an offer."""
    return View("pricing/offer_form.html", {"offer": ask(tx, request, f"GET {OFFER}")})


def change(tx: Connection, request: Request) -> Redirect:
    """Change an offer, for the bundles that are bought from then on."""
    ask(tx, request, f"PATCH {OFFER}", body=join_services(request.body))
    return Redirect("/ui/offers", done="offer_changed")


def show_delete(tx: Connection, request: Request) -> View:
    """Ask whether an offer is to be deleted."""
    return View("pricing/delete.html", {"what": "offers", "name": ask(tx, request, f"GET {OFFER}").name})


def delete(tx: Connection, request: Request) -> Redirect:
    """Delete an offer. Bundles of it go on."""
    ask(tx, request, f"DELETE {OFFER}")
    return Redirect("/ui/offers", done="offer_deleted")


def join_services(given: Mapping[str, str]) -> dict[str, str]:
    """Return a form with one list of services, of the boxes that were ticked. An empty form stays empty."""
    chosen = " ".join(each for each in Service if f"services.{each}" in given)
    return {**given, "services": chosen} if given else {}
