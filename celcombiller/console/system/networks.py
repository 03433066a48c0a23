"""Radio networks: their state, what differs, and the order to remove the differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask, ask_served, respond
from celcombiller.core.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest


NETWORK = "/api/v1/provisioning/<name>"


def show(tx: Connection, request: Request) -> View:
    """Show the radio networks and their queues."""
    return View("system/networks.html", {"found": ask(tx, request, "GET /api/v1/provisioning")})


def show_one(tx: Connection, request: Request) -> View:
    """Show one radio network, and the changes that fail."""
    for each in ask(tx, request, "GET /api/v1/provisioning").items:
        if each.name == request.path["name"]:
            return View("system/network.html", {"network": each})
    raise NotFound("there is no such network")


async def compare(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Show what differs between a network and the biller."""
    found = await ask_served(api, http_request, request, f"GET {NETWORK}/diff")
    return respond(request, View("system/network_diff.html", {"drift": found}))


async def preview(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Show what a synchronization would do, before it is ordered."""
    order = {"dry_run": "true", "remove_unknown": request.query.get("remove_unknown", "")}
    found = await ask_served(api, http_request, request, f"POST {NETWORK}/sync", body=order)
    values = {"drift": found.drift, "queued": found.queued, "remove_unknown": order["remove_unknown"]}
    return respond(request, View("system/network_sync.html", values))


async def synchronize(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Queue the changes that remove the differences."""
    order = {"remove_unknown": request.body.get("remove_unknown", "")}
    await ask_served(api, http_request, request, f"POST {NETWORK}/sync", body=order)
    return respond(request, Redirect(f"/ui/networks/{request.path['name']}", done="sync_queued"))
