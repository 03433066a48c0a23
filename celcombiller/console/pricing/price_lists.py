"""A price list: what it would change in a tariff, then the version that it becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask, ask_served, respond
from celcombiller.console.pricing.tariffs import TARIFF

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.reports.import_views import ImportView
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest


def show(tx: Connection, request: Request) -> View:
    """Show the form that takes a price list."""
    return View("pricing/price_list.html", {"name": ask(tx, request, f"GET {TARIFF}").name, "found": None})


async def preview(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Show what a price list would change, and what is wrong in it."""
    found = await _import(api, http_request, request, is_dry=True)
    view = View("pricing/price_list.html", {"name": found.tariff, "found": found})
    return respond(replace(request, form=request.body), view)


async def write(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Make a price list the next version of a tariff. The same list again changes nothing."""
    made = await _import(api, http_request, request, is_dry=False)
    done = "version_written" if made.written else "version_same"
    return respond(request, Redirect(f"/ui/tariffs/{request.path['id']}", done=done))


async def _import(api: Api, http_request: HttpRequest, request: Request, *, is_dry: bool) -> ImportView:
    method = "POST" if request.body.get("others") == "stay" else "PUT"
    found: ImportView = await ask_served(
        api,
        http_request,
        request,
        f"{method} {TARIFF}/rates",
        query=request.body | {"dry_run": is_dry},
        body=request.body.get("list", "").encode(),
    )
    return found
