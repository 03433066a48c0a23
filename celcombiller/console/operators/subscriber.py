"""One subscriber, and their credit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.credit.choices import list_offers
from celcombiller.console.page import Redirect, View, ask
from celcombiller.core.errors import InvalidValue

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


def show(tx: Connection, request: Request) -> View:
    """Show one subscriber with their balances, their tariff and bundles, and their last movements."""
    who = ask(tx, request, "GET /api/v1/subscribers/<username>")
    tariff = {"id": who.tariff_id}
    values = {
        "who": who,
        "tariff": ask(tx, request, "GET /api/v1/tariffs/<row:id>", path=tariff) if who.tariff_id else None,
        "bundles": ask(tx, request, "GET /api/v1/subscribers/<username>/bundles").items,
        "statement": ask(tx, request, "GET /api/v1/subscribers/<username>/statement", query={"limit": 10}),
    }
    return View("operators/subscriber.html", values)


def show_statement(tx: Connection, request: Request) -> View:
    """Show all movements of a subscriber's credit, newest first."""
    values = {
        "who": ask(tx, request, "GET /api/v1/subscribers/<username>"),
        "found": ask(tx, request, "GET /api/v1/subscribers/<username>/statement", query=request.query),
    }
    return View("operators/statement.html", values)


def show_schedules(tx: Connection, request: Request) -> View:
    """Show the schedules and fees that a subscriber is in, with the next date of each."""
    found = ask(tx, request, "GET /api/v1/subscribers/<username>/memberships", query=request.query)
    one = "GET /api/v1/schedules/<row:id>"
    values = {
        "who": ask(tx, request, "GET /api/v1/subscribers/<username>"),
        "found": found,
        "schedules": {each.schedule_id: ask(tx, request, one, path={"id": each.schedule_id}) for each in found.items},
        "offers": list_offers(tx, request),
    }
    return View("operators/subscriber_schedules.html", values)


def show_change(tx: Connection, request: Request) -> View:
    """Show the form that changes a subscriber."""
    return View("operators/change_subscriber.html", {"who": ask(tx, request, "GET /api/v1/subscribers/<username>")})


def change(tx: Connection, request: Request) -> Redirect:
    """Change a subscriber. Without a new password the old one stays."""
    given = _read_changes(request, kept_if_empty="password")
    changed = ask(tx, request, "PATCH /api/v1/subscribers/<username>", body=given)
    return Redirect(f"/ui/subscribers/{changed.username}", done="subscriber_changed")


def show_account(tx: Connection, request: Request) -> View:
    """Show the limits of one account of a subscriber, in the form that changes them."""
    accounts = ask(tx, request, "GET /api/v1/subscribers/<username>/accounts").items
    kind = request.path["kind"]
    values = {
        "who": ask(tx, request, "GET /api/v1/subscribers/<username>"),
        "account": next(each for each in accounts if each.kind == kind),
    }
    return View("operators/change_account.html", values)


def change_account(tx: Connection, request: Request) -> Redirect:
    """Change the limits of an account. Without a day its credit stays valid as long as it is."""
    given = _read_changes(request, kept_if_empty="valid_until")
    ask(tx, request, "PATCH /api/v1/subscribers/<username>/accounts/<any(voice,data,sms):kind>", body=given)
    return Redirect(f"/ui/subscribers/{request.path['username']}", done="limits_changed")


def _read_changes(request: Request, *, kept_if_empty: str) -> dict[str, str]:
    """Return the fields of a form, without this one if it is empty. Raises `InvalidValue` for a form without fields."""
    if not request.body:
        raise InvalidValue("the form has no field")
    return {name: text for name, text in request.body.items() if text or name != kept_if_empty}


def show_delete(tx: Connection, request: Request) -> View:
    """Ask whether a subscriber is to be deleted."""
    return View("operators/delete_subscriber.html", {"who": ask(tx, request, "GET /api/v1/subscribers/<username>")})


def delete(tx: Connection, request: Request) -> Redirect:
    """Delete a subscriber. Their records stay."""
    if request.body.get("username") != request.path["username"]:
        raise InvalidValue("the form does not name the subscriber of its page")
    ask(tx, request, "DELETE /api/v1/subscribers/<username>")
    return Redirect("/ui/subscribers", done="subscriber_deleted")


def show_credit(tx: Connection, request: Request) -> View:
    """Show the form by which a subscriber gets credit."""
    values = {
        "who": ask(tx, request, "GET /api/v1/subscribers/<username>"),
        "denominations": ask(tx, request, "GET /api/v1/denominations").items,
    }
    return View("operators/credit.html", values)


def show_credit_plan(tx: Connection, request: Request) -> View:
    """Show who would get the credit, before it is given."""
    planned = ask(tx, request, "POST /api/v1/transfers/plan", body=request.query | request.path)
    return View("operators/credit_plan.html", {"plan": planned, "note": request.query.get("note", "")})


def credit(tx: Connection, request: Request) -> Redirect:
    """Credit a subscriber. The same form sent again changes nothing. Only credit for calls gets a receipt."""
    order = request.body | request.path
    is_sold = order.get("kind") == "voice" and not order.get("value", "").strip().startswith("-")
    made = ask(tx, request, "POST /api/v1/transfers", body=order | {"receipt": is_sold})
    return Redirect(f"/ui/receipts/{made.receipt}" if made.receipt else f"/ui/transfers/{made.id}", done="credit_given")
