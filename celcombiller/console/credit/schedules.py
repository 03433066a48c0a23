"""Schedules: the list, a new one, and one with its forecast, its runs and their undoing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from celcombiller.console.credit.choices import list_offers
from celcombiller.console.page import Redirect, View, ask, read_fields
from celcombiller.core.errors import InvalidValue
from celcombiller.rest.v1.schedules import FeeTerms

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

SCHEDULES = "/api/v1/schedules"
SCHEDULE = f"{SCHEDULES}/<row:id>"
RUN = "/api/v1/runs/<row:id>"


def show(tx: Connection, request: Request) -> View:
    """Show schedules, in the order in which they were made."""
    values = {"found": ask(tx, request, f"GET {SCHEDULES}", query=request.query), "offers": list_offers(tx, request)}
    return View("credit/schedules.html", values)


def show_new(tx: Connection, request: Request) -> View:
    """Show the form of a new schedule."""
    return View("credit/new_schedule.html", {"offers": list_offers(tx, request)})


def add(tx: Connection, request: Request) -> Redirect:
    """Make a schedule."""
    made = ask(tx, request, f"POST {SCHEDULES}", body=_read_terms(request, takes=request.body.get("takes") == "true"))
    return Redirect(f"/ui/schedules/{made.id}", done="schedule_added")


def show_one(tx: Connection, request: Request) -> View:
    """Show one schedule, and its runs."""
    values = {
        "schedule": ask(tx, request, f"GET {SCHEDULE}"),
        "found": ask(tx, request, f"GET {SCHEDULE}/runs", query=request.query),
        "offers": list_offers(tx, request),
    }
    return View("credit/schedule.html", values)


def show_change(tx: Connection, request: Request) -> View:
    """Show the form that changes a schedule, and the one that deletes it."""
    values = {"schedule": ask(tx, request, f"GET {SCHEDULE}"), "offers": list_offers(tx, request)}
    return View("credit/change_schedule.html", values)


def change(tx: Connection, request: Request) -> Redirect:
    """Change a schedule."""
    if not request.body:
        raise InvalidValue("the form has no field")
    was = ask(tx, request, f"GET {SCHEDULE}")
    ask(tx, request, f"PATCH {SCHEDULE}", body=_read_terms(request, takes=was.fee is not None))
    return Redirect(f"/ui/schedules/{was.id}", done="schedule_changed")


def delete(tx: Connection, request: Request) -> Redirect:
    """Delete a schedule, and end its memberships."""
    ask(tx, request, f"DELETE {SCHEDULE}")
    return Redirect("/ui/schedules", done="schedule_deleted")


def show_forecast(tx: Connection, request: Request) -> View:
    """Show what a schedule would give or take until a day."""
    values = {
        "schedule": ask(tx, request, f"GET {SCHEDULE}"),
        "forecast": ask(tx, request, f"GET {SCHEDULE}/due", query=request.query),
    }
    return View("credit/forecast.html", values)


def show_run(tx: Connection, request: Request) -> View:
    """Show one run, and the members that it did not credit."""
    return View("credit/run.html", {"run": ask(tx, request, f"GET {RUN}")})


def undo_run(tx: Connection, request: Request) -> Redirect:
    """Have all given back that a run took."""
    ask(tx, request, f"POST {RUN}/undo", body=request.body)
    return Redirect(f"/ui/schedules/runs/{request.path['id']}", done="run_undone")


def _read_terms(request: Request, *, takes: bool) -> dict[str, Any]:
    """Return the fields of a form as the API has them: without an empty offer, and the terms of a fee as one."""
    given = {name: text for name, text in request.body.items() if text or name != "offer_id"}
    if not takes:
        return given
    days = given.get("remind_days", "").replace(",", " ").split()
    terms = given | {"remind_days": [int(each) if each in _DAYS else each for each in days]}
    fee = read_fields(FeeTerms, terms, ZoneInfo(request.config.schedules.zone))
    return given | {"fee": msgspec.to_builtins(fee)}


_DAYS = frozenset(map(str, range(1000)))
