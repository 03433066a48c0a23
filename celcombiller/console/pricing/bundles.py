"""Bundles of subscribers: the list, one with its movements, one to give, and one to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask
from celcombiller.console.pricing.offers import join_services

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

BUNDLE = "/api/v1/bundles/<row:id>"


def show(tx: Connection, request: Request) -> View:
    """Show bundles, newest first; without another wish, those that have not ended."""
    found = ask(tx, request, "GET /api/v1/bundles", query={"ended": "false"} | request.query)
    return View("pricing/bundles.html", {"found": found})


def show_one(tx: Connection, request: Request) -> View:
    """Show one bundle with its movements, newest first."""
    values = {
        "bundle": ask(tx, request, f"GET {BUNDLE}"),
        "statement": ask(tx, request, f"GET {BUNDLE}/statement", query=request.query),
    }
    return View("pricing/bundle.html", values)


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form by which a subscriber gets a bundle."""
    return View("pricing/new_bundle.html")


def show_plan(tx: Connection, request: Request) -> View:
    """Show who would get the bundle, before it is given."""
    planned = ask(tx, request, "POST /api/v1/bundles/plan", body=join_services(request.query))
    return View("pricing/bundle_plan.html", {"plan": planned})


def give(tx: Connection, request: Request) -> Redirect:
    """Record a free bundle of a subscriber. A form that is sent twice gives one bundle."""
    made = ask(tx, request, "POST /api/v1/bundles", body=join_services(request.body))
    return Redirect(f"/ui/bundles/{made.id}", done="bundle_given")


def show_end(tx: Connection, request: Request) -> View:
    """Ask whether a bundle is to end before its time."""
    return View("pricing/end_bundle.html", {"bundle": ask(tx, request, f"GET {BUNDLE}")})


def end(tx: Connection, request: Request) -> Redirect:
    """End a bundle before its time. The same again changes nothing."""
    ask(tx, request, f"POST {BUNDLE}/end", body=request.body)
    return Redirect(f"/ui/bundles/{request.path['id']}", done="bundle_ended")
