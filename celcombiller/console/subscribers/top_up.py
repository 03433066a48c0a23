"""What subscribers do with their own credit: redeem a voucher, buy an offer, hand credit on, pay a fee."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask, ask_served, own, respond
from celcombiller.core.errors import InvalidValue

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest

PLANS, TRANSFER, OWN = "/ui/me/plans", "/ui/me/transfer", "/ui/me"


def show_plans(tx: Connection, request: Request) -> View:
    """Show the offers, the form of a voucher, and the fees that are owed."""
    values = {
        "offers": [each for each in ask(tx, request, "GET /api/v1/offers").items if each.enabled],
        "fees": ask(tx, request, "GET /api/v1/fees", query=own(request) | {"state": "owed"}),
    }
    return View("subscribers/plans.html", values)


def show_plan(tx: Connection, request: Request) -> View:
    """Show what an offer gives and costs, before it is bought."""
    values = {
        "offer": ask(tx, request, "GET /api/v1/offers/<row:id>"),
        "me": ask(tx, request, "GET /api/v1/subscribers/<username>", path=own(request)),
    }
    return View("subscribers/plan.html", values)


async def redeem(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Redeem a voucher. The same code again changes nothing."""
    await ask_served(api, http_request, request, "POST /api/v1/me/vouchers", body=request.body)
    return respond(request, Redirect(OWN, done="voucher_redeemed"))


def buy(tx: Connection, request: Request) -> Redirect:
    """Buy an offer, once for each form."""
    ask(tx, request, "POST /api/v1/me/bundles", body=request.body)
    return Redirect(OWN, done="offer_bought")


def pay_fee(tx: Connection, request: Request) -> Redirect:
    """Pay a fee that is owed, as far as the credit goes."""
    ask(tx, request, "POST /api/v1/fees/<row:id>/pay")
    return Redirect(PLANS, done="fee_paid")


def show_transfer(tx: Connection, request: Request) -> View:
    """Show the form by which credit is handed on, and the last of these transfers."""
    found = ask(tx, request, "GET /api/v1/credit-transfers", query=own(request) | {"limit": 10})
    return View("subscribers/transfer.html", {"found": found})


def show_transfer_plan(tx: Connection, request: Request) -> View:
    """Show who would get the credit, and what it costs, before it is handed on."""
    planned = ask(tx, request, "POST /api/v1/me/credit-transfers/plan", body=request.query)
    return View("subscribers/transfer_plan.html", {"plan": planned})


def transfer(tx: Connection, request: Request) -> Redirect:
    """Ask for a transfer to another subscriber, once for each form."""
    made = ask(tx, request, "POST /api/v1/me/credit-transfers", body=request.body)
    return Redirect(TRANSFER, done="transfer_made" if made.state == "made" else "transfer_asked")


async def confirm(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Confirm a transfer by the code that came as a text message."""
    name = "POST /api/v1/me/credit-transfers/<row:id>/confirm"
    await ask_served(api, http_request, request, name, body=request.body)
    return respond(request, Redirect(TRANSFER, done="transfer_made"))


def show_password(_tx: Connection, _request: Request) -> View:
    """Show the form of a new password."""
    return View("subscribers/password.html")


def set_language(tx: Connection, request: Request) -> Redirect:
    """Set the language in which one reads pages."""
    given = {"language": request.body.get("language", "")}
    ask(tx, request, "PATCH /api/v1/subscribers/<username>", path=own(request), body=given)
    return Redirect("/ui/me/password", done="language_set")


def set_password(tx: Connection, request: Request) -> Redirect:
    """Set one's own password; the other sessions end."""
    given = {name: request.body.get(name, "") for name in ("password", "old_password")}
    missing = {name: "is missing" for name, value in given.items() if not value}
    if missing:
        raise InvalidValue("both passwords are needed", missing)
    ask(tx, request, "PATCH /api/v1/subscribers/<username>", path=own(request), body=given)
    return Redirect(OWN, done="password_set")
