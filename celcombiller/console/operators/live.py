"""Calls in progress, and the order to end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask, ask_served, respond

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest


def show(tx: Connection, request: Request) -> View:
    """Show the calls in progress."""
    return View("operators/live.html", {"found": ask(tx, request, "GET /api/v1/live", query=request.query)})


async def hang_up(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """End a call in progress."""
    await ask_served(api, http_request, request, "DELETE /api/v1/live/<row:id>", body=request.body)
    return respond(request, Redirect("/ui/live", done="hangup_ordered"))
