"""What a form chooses among: offers, groups and tariffs, by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import ask

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

CHOICES_MAX = 500


def list_offers(tx: Connection, request: Request) -> dict[int, str]:
    """Return the names of offers by their numbers."""
    return _list_names(tx, request, "GET /api/v1/offers")


def list_groups(tx: Connection, request: Request) -> dict[int, str]:
    """Return the names of groups by their numbers."""
    return _list_names(tx, request, "GET /api/v1/groups")


def list_tariffs(tx: Connection, request: Request) -> dict[int, str]:
    """Return the names of tariffs by their numbers."""
    return _list_names(tx, request, "GET /api/v1/tariffs")


def _list_names(tx: Connection, request: Request, route: str) -> dict[int, str]:
    return {each.id: each.name for each in ask(tx, request, route, query={"limit": CHOICES_MAX}).items}
