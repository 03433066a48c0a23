"""Who holds the service."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from celcombiller.core.model.text import fold_text

if TYPE_CHECKING:
    from collections.abc import Mapping


class Level(IntEnum):
    """Who a subscriber is to the operator, with the numbers of the original program."""

    ADMINISTRATOR = 0
    SUBSCRIBER = 1
    COLLABORATOR = 2


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Who holds the service. Identity numbers are text: leading zeros count.

    ``tariff_id``, ``calls_max``, ``barred`` and ``allowed`` (prefixes) stand before those of the group, where they are
    not ``None``. Who is ``suspended``, because a fee is unpaid, may call some numbers only. ``language`` is the
    locale that they chose for pages, such as ``pt_BR``; empty: none.
    """

    id: int
    username: str
    name: str
    clid: str
    imsi: str
    cpf: str | None
    address: str
    level: Level
    enabled: bool
    tariff_id: int | None = None
    group_id: int | None = None
    calls_max: int | None = None
    barred: tuple[str, ...] | None = None
    allowed: tuple[str, ...] | None = None
    suspended: bool = False
    language: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Subscribers with a tariff and limits in common; ``None``: no tariff of their own, no limit.

    ``calls_max``: calls at once of all together, ``subscriber_calls_max``: of each. ``barred`` and ``allowed`` are
    prefixes; none allowed: all that are not barred.
    """

    id: int
    name: str
    tariff_id: int | None = None
    calls_max: int | None = None
    subscriber_calls_max: int | None = None
    barred: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    call_seconds_max: int | None = None
    call_cost_max: int | None = None


_SEARCHED = ("username", "name", "clid", "imsi", "cpf")


def make_search_text(subscriber: Mapping[str, Any]) -> str:
    """Return the names and numbers of a subscriber, who is given by field, as they are searched: each in a line."""
    return fold_text("\n".join(subscriber.get(each) or "" for each in _SEARCHED))
