"""Subscribers: the list with its search, and a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask, ask_served, respond
from celcombiller.core.errors import InvalidValue
from celcombiller.rest.v1.subscribers import SubscriberFilter
from celcombiller.runtime.languages import mark_text as _

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest

TICKED_MAX = 50
"""Subscribers that are changed at once: so many the list has on a page."""
_NONE_TICKED = _("Tick at least one subscriber.")
_TOO_MANY_TICKED = _("Tick at most 50 subscribers.")


def show(tx: Connection, request: Request) -> View:
    """Show subscribers, with a search."""
    found = ask(tx, request, "GET /api/v1/subscribers", query=request.query)
    chosen = {name: text for name, text in request.query.items() if name in SubscriberFilter.__struct_fields__}
    return View("operators/subscribers.html", {"found": found, "chosen": chosen})


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form of a new subscriber."""
    return View("operators/new_subscriber.html")


async def show_seen(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Show the phones that the radio networks have seen and that no subscriber has."""
    found = await ask_served(api, http_request, request, "GET /api/v1/provisioning/unknown-phones")
    return respond(request, View("operators/seen_phones.html", {"found": found}))


def add(tx: Connection, request: Request) -> Redirect:
    """Add a subscriber."""
    made = ask(tx, request, "POST /api/v1/subscribers", body=request.body)
    return Redirect(f"/ui/subscribers/{made.username}", done="subscriber_added")


def show_ticked(tx: Connection, request: Request) -> View:
    """Show who would be enabled or disabled, before it is done."""
    one = "GET /api/v1/subscribers/<username>"
    found = [ask(tx, request, one, path={"username": each}) for each in _list_ticked(request.query)]
    return View("operators/ticked_subscribers.html", {"found": found})


def change_ticked(tx: Connection, request: Request) -> Redirect:
    """Enable or disable those who were ticked: all, or none of them."""
    change = {"enabled": request.path["action"] == "enable"}
    for each in _list_ticked(request.body):
        ask(tx, request, "PATCH /api/v1/subscribers/<username>", path={"username": each}, body=change)
    return Redirect("/ui/subscribers", done="subscribers_changed")


def _list_ticked(fields: Mapping[str, str]) -> list[str]:
    """Return the usernames of the boxes that were ticked."""
    found = [username for name, username in fields.items() if name.startswith("subscriber-")]
    if not 0 < len(found) <= TICKED_MAX:
        raise InvalidValue(_TOO_MANY_TICKED if found else _NONE_TICKED)
    return found
