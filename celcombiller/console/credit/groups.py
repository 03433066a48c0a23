"""Groups of subscribers: the list, a new one, and one with its limits and members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.credit.choices import list_tariffs
from celcombiller.console.page import Redirect, View, ask
from celcombiller.core.errors import InvalidValue

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

GROUPS = "/api/v1/groups"
GROUP = f"{GROUPS}/<row:id>"
SUBSCRIBER = "/api/v1/subscribers/<username>"


def show(tx: Connection, request: Request) -> View:
    """Show groups, in the order in which they were made."""
    values = {"found": ask(tx, request, f"GET {GROUPS}", query=request.query), "tariffs": list_tariffs(tx, request)}
    return View("credit/groups.html", values)


def show_new(tx: Connection, request: Request) -> View:
    """Show the form of a new group."""
    return View("credit/new_group.html", {"tariffs": list_tariffs(tx, request)})


def add(tx: Connection, request: Request) -> Redirect:
    """Make a group."""
    made = ask(tx, request, f"POST {GROUPS}", body=request.body)
    return Redirect(f"/ui/groups/{made.id}", done="group_added")


def show_one(tx: Connection, request: Request) -> View:
    """Show one group: its limits and its members."""
    group = ask(tx, request, f"GET {GROUP}")
    members = ask(tx, request, "GET /api/v1/subscribers", query=dict(request.query) | {"group_id": group.id})
    return View("credit/group.html", {"group": group, "found": members, "tariffs": list_tariffs(tx, request)})


def show_change(tx: Connection, request: Request) -> View:
    """Show the form that changes a group, and the one that deletes it."""
    values = {"group": ask(tx, request, f"GET {GROUP}"), "tariffs": list_tariffs(tx, request)}
    return View("credit/change_group.html", values)


def change(tx: Connection, request: Request) -> Redirect:
    """Change a group. A limit that is emptied is gone."""
    if not request.body:
        raise InvalidValue("the form has no field")
    ask(tx, request, f"PATCH {GROUP}", body=request.body)
    return _done(request, "group_changed")


def delete(tx: Connection, request: Request) -> Redirect:
    """Delete a group without members."""
    ask(tx, request, f"DELETE {GROUP}")
    return Redirect("/ui/groups", done="group_deleted")


def add_member(tx: Connection, request: Request) -> Redirect:
    """Put a subscriber into a group. Who is in another one leaves it."""
    group = ask(tx, request, f"GET {GROUP}")
    username = request.body.get("username", "").strip()
    if not username:
        raise InvalidValue("username is missing", {"username": "is missing"})
    ask(tx, request, f"PATCH {SUBSCRIBER}", path={"username": username}, body={"group_id": group.id})
    return _done(request, "member_added")


def remove_member(tx: Connection, request: Request) -> Redirect:
    """Take a subscriber out of a group."""
    if ask(tx, request, f"GET {SUBSCRIBER}").group_id == request.path["id"]:
        ask(tx, request, f"PATCH {SUBSCRIBER}", body={"group_id": ""})
    return _done(request, "member_removed")


def _done(request: Request, done: str) -> Redirect:
    return Redirect(f"/ui/groups/{request.path['id']}", done=done)
