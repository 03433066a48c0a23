"""A file of subscribers: who it would add, then they are added."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask_served, respond

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest


def show(_tx: Connection, _request: Request) -> View:
    """Show the form that takes a file of subscribers."""
    return View("operators/subscriber_file.html", {"found": None})


async def import_file(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Show who a file would add, and what is wrong in it; from that page, add them."""
    is_sure = request.body.get("sure") == "true"
    found = await ask_served(
        api,
        http_request,
        request,
        "POST /api/v1/subscribers.csv",
        query={"dry_run": not is_sure},
        body=request.body.get("list", "").encode(),
    )
    if is_sure:
        return respond(request, Redirect("/ui/subscribers", done="subscribers_added"))
    return respond(replace(request, form=request.body), View("operators/subscriber_file.html", {"found": found}))
