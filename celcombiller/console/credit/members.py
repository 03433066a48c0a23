"""Members of a schedule: the list, a new one, and one with their runs left, their renewals and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask
from celcombiller.core.errors import InvalidValue, VersionConflict

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

SCHEDULE = "/api/v1/schedules/<row:id>"
MEMBER = f"{SCHEDULE}/members/<username>"


def show(tx: Connection, request: Request) -> View:
    """Show the members of a schedule, and the form of a new one."""
    values = {
        "schedule": ask(tx, request, f"GET {SCHEDULE}"),
        "found": ask(tx, request, f"GET {SCHEDULE}/members", query=request.query),
    }
    return View("credit/members.html", values)


def add(tx: Connection, request: Request) -> Redirect:
    """Add a subscriber to a schedule."""
    ask(tx, request, f"POST {SCHEDULE}/members", body=request.body)
    return Redirect(f"/ui/schedules/{request.path['id']}/members", done="member_added")


def show_one(tx: Connection, request: Request) -> View:
    """Show one member: the runs left, and the renewals."""
    values = {"schedule": ask(tx, request, f"GET {SCHEDULE}"), "member": ask(tx, request, f"GET {MEMBER}")}
    return View("credit/member.html", values)


def change(tx: Connection, request: Request) -> Redirect:
    """Change the number of runs that a member has left."""
    ask(tx, request, f"PATCH {MEMBER}", body=request.body)
    return _done(request, "member_changed")


def show_renewal(tx: Connection, request: Request) -> View:
    """Show the form that renews a membership."""
    values = {"schedule": ask(tx, request, f"GET {SCHEDULE}"), "member": ask(tx, request, f"GET {MEMBER}")}
    return View("credit/renewal.html", values)


def renew(tx: Connection, request: Request) -> Redirect:
    """Renew a membership, once for each form: it says how many renewals there were when it was shown."""
    known = ask(tx, request, f"GET {MEMBER}").contracts
    given = request.body
    if given.get("renewals") == str(len(known)):
        ask(tx, request, f"POST {MEMBER}/renewals", body=given)
    elif "renewals" not in given:
        raise InvalidValue("the form has no field")
    elif given["renewals"] != str(len(known) - 1) or given.get("months", "").strip() != str(known[-1].months):
        raise VersionConflict("somebody else has renewed it meanwhile")
    return _done(request, "member_renewed")


def remove(tx: Connection, request: Request) -> Redirect:
    """End a membership."""
    ask(tx, request, f"DELETE {MEMBER}")
    return Redirect(f"/ui/schedules/{request.path['id']}/members", done="member_removed")


def _done(request: Request, done: str) -> Redirect:
    return Redirect(f"/ui/schedules/{request.path['id']}/members/{request.path['username']}", done=done)
