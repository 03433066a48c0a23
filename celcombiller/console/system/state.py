"""The state of the biller: its settings, the proof of its ledger, and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import View, ask_served, respond

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Response
    from celcombiller.http.transport.http_request import HttpRequest


async def show_settings(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Show the settings in force, without secrets."""
    found = await ask_served(api, http_request, request, "GET /api/v1/settings")
    return respond(request, View("system/settings.html", {"found": found}))


def show_audit(_tx: Connection, _request: Request) -> View:
    """Show the button that has the ledger recomputed."""
    return View("system/audit.html", {"report": None})


async def run_audit(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Have the ledger recomputed, beside the thread that charges, and show what differs."""
    report = await ask_served(api, http_request, request, "POST /api/v1/audit")
    return respond(request, View("system/audit.html", {"report": report}))


async def show_doctor(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Show what the biller says of itself, and the command that tries everything.

    The command waits for each peer and has a reactor of its own, so it does not run in this process.
    """
    values = {
        "state": await ask_served(api, http_request, request, "GET /readyz"),
        "file": (await ask_served(api, http_request, request, "GET /api/v1/settings")).file,
    }
    return respond(request, View("system/doctor.html", values))
