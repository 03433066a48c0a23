"""Staff: who administers and who helps, a new member, and one with their level and second factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import Redirect, View, ask
from celcombiller.core.model.subscribers import Level

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request


SUBSCRIBER = "/api/v1/subscribers/<username>"
LEVELS = (Level.ADMINISTRATOR, Level.COLLABORATOR)
SHOWN = 500


def show(tx: Connection, request: Request) -> View:
    """Show administrators and collaborators."""
    queries = [(level, {"level": int(level), "limit": SHOWN}) for level in LEVELS]
    found = [(level, query, ask(tx, request, "GET /api/v1/subscribers", query=query)) for level, query in queries]
    return View("system/staff.html", {"levels": found})


def show_new(_tx: Connection, _request: Request) -> View:
    """Show the form of a new member of staff."""
    return View("system/new_staff.html")


def add(tx: Connection, request: Request) -> Redirect:
    """Add a member of staff."""
    made = ask(tx, request, "POST /api/v1/subscribers", body=request.body)
    return Redirect(f"/ui/staff/{made.username}", done="staff_added")


def show_one(tx: Connection, request: Request) -> View:
    """Show one member of staff: their level and their second factor."""
    values = {
        "who": ask(tx, request, f"GET {SUBSCRIBER}"),
        "factor": ask(tx, request, f"GET {SUBSCRIBER}/second-factor"),
    }
    return View("system/staff_member.html", values)


def set_level(tx: Connection, request: Request) -> Redirect:
    """Set somebody's level."""
    ask(tx, request, f"PATCH {SUBSCRIBER}", body={"level": request.body.get("level", "")})
    return Redirect(f"/ui/staff/{request.path['username']}", done="level_set")


def reset_second_factor(tx: Connection, request: Request) -> Redirect:
    """Take somebody's second factor away, and end their sessions."""
    ask(tx, request, f"DELETE {SUBSCRIBER}/second-factor")
    return Redirect(f"/ui/staff/{request.path['username']}", done="second_factor_reset")
