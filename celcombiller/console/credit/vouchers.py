"""Vouchers: their batches, a new one whose codes are shown once, what is activated and revoked, and one by its code."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.console.credit.choices import list_offers
from celcombiller.console.page import Redirect, View, ask, prepare, read_fields, respond
from celcombiller.core.errors import InvalidValue
from celcombiller.rest.v1.selling.vouchers import Activation, make_pieces

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest

BATCHES = "/api/v1/voucher-batches"
BATCH = f"{BATCHES}/<row:id>"
CARDS_SHOWN_MAX = 2000
"""Cards of a batch that is made on a page: all of them stand on one page, in memory."""


def show(tx: Connection, request: Request) -> View:
    """Show the batches of vouchers, newest first."""
    return View("credit/vouchers.html", {"found": ask(tx, request, f"GET {BATCHES}", query=request.query)})


def show_new(tx: Connection, request: Request) -> View:
    """Show the form of a new batch."""
    return View("credit/new_vouchers.html", {"offers": list_offers(tx, request), "cards_max": CARDS_SHOWN_MAX})


async def make(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Make a batch, and show its codes this one time. The same form again shows no code."""
    of_offer = {"kind": "", "value": ""} if request.body.get("offer_id") else {}
    asked = prepare(request, f"POST {BATCHES}", body=request.body | of_offer)
    if asked.body.cards > CARDS_SHOWN_MAX:
        what = f"must be at most {CARDS_SHOWN_MAX} on this page: the command makes more"
        raise InvalidValue(f"cards {what}", {"cards": what})
    made = [each async for each in make_pieces(api, asked)]
    sheet = b"".join(piece for _, piece in made).decode()
    values = {"batch": made[0][0], "sheet": sheet, "cards": list(csv.DictReader(io.StringIO(sheet)))}
    shown = respond(request, View("credit/voucher_codes.html", values))
    return replace(shown, headers=dict(shown.headers) | {"Cache-Control": "no-store"})


def show_one(tx: Connection, request: Request) -> View:
    """Show one batch: its cards, and what was activated and revoked."""
    values = {
        "batch": ask(tx, request, f"GET {BATCH}"),
        "found": ask(tx, request, f"GET {BATCH}/vouchers", query=request.query),
    }
    return View("credit/voucher_batch.html", values)


def show_activation(tx: Connection, request: Request) -> View:
    """Show the form by which cards are activated."""
    return View("credit/activation.html", {"batch": ask(tx, request, f"GET {BATCH}")})


def show_plan(tx: Connection, request: Request) -> View:
    """Show which cards would be activated, and who would pay for them."""
    order = read_fields(Activation, request.query, ZoneInfo(request.config.schedules.zone))
    seller = None
    if order.seller is not None:
        seller = ask(tx, request, "GET /api/v1/sellers/<username>", path={"username": order.seller})
    values = {"batch": ask(tx, request, f"GET {BATCH}"), "order": order, "seller": seller}
    return View("credit/activation_plan.html", values)


def activate(tx: Connection, request: Request) -> Redirect:
    """Activate cards. The same again changes nothing."""
    if not request.body:
        raise InvalidValue("the form has no field")
    ask(tx, request, f"POST {BATCH}/activate", body=request.body)
    return Redirect(f"/ui/vouchers/{request.path['id']}", done="vouchers_activated")


def show_revocation(tx: Connection, request: Request) -> View:
    """Show the form by which cards are revoked."""
    return View("credit/revocation.html", {"batch": ask(tx, request, f"GET {BATCH}")})


def revoke(tx: Connection, request: Request) -> Redirect:
    """Revoke cards for good."""
    if not request.body:
        raise InvalidValue("the form has no field")
    ask(tx, request, f"POST {BATCH}/revoke", body=request.body)
    return Redirect(f"/ui/vouchers/{request.path['id']}", done="vouchers_revoked")


def show_find(_tx: Connection, _request: Request) -> View:
    """Show the form that finds a card by its code."""
    return View("credit/find_voucher.html", {"card": None})


def find(tx: Connection, request: Request) -> View:
    """Show the card of a code: its state, and who redeemed it."""
    return View("credit/find_voucher.html", {"card": ask(tx, request, "POST /api/v1/vouchers/find", body=request.body)})


def show_redeemed(tx: Connection, request: Request) -> View:
    """Show cards that were redeemed, newest first."""
    return View("credit/redeemed.html", {"found": ask(tx, request, "GET /api/v1/vouchers", query=request.query)})
