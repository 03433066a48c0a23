"""The ways of calls to other networks: trunks, and the routes that choose among them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class TrunkChoice(StrEnum):
    """How a route orders its trunks: as they stand, by weight, or the cheapest first."""

    ORDER = "order"
    WEIGHT = "weight"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Trunk:
    """A way out. ``dial`` is its dial string; ``strip`` and ``prepend`` rewrite the number that is dialled.

    ``tariff_id``: the price list of its provider. ``calls_max``: its calls at once; ``None``: any number.
    """

    id: int
    name: str
    dial: str
    strip: str
    prepend: str
    caller_id: str
    tariff_id: int | None
    calls_max: int | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class RouteTrunk:
    """A trunk of a route. Of two, the one with twice the ``weight`` comes first twice as often."""

    trunk_id: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class CallRoute:
    """The trunks for numbers that begin with ``prefix``, in their order."""

    id: int
    prefix: str
    choose: TrunkChoice
    trunks: tuple[RouteTrunk, ...]


class TrunkDial(msgspec.Struct, frozen=True):
    """How one call is dialled by a trunk: its dial string with the number in it.

    ``caller_id``: the number that is shown; empty: the caller's own, as it is.
    """

    trunk_id: int
    name: str
    dial: str
    caller_id: str = ""
