"""A rate as a row: what a version of a price list says of one destination at some times."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  the annotations are read
from functools import lru_cache
from typing import NamedTuple

import msgspec

from celcombiller.core.model.tariffs import Service, Step


class RateRow(NamedTuple):
    """The columns of a row of the table ``rate`` that do not belong to a version; ``steps`` is their JSON."""

    service: Service
    prefix: str
    on_net: bool
    name: str
    window: str
    valid_from: datetime | None
    valid_until: datetime | None
    connect_fee: int
    minimum_charge: int
    grace: int
    steps: str


@lru_cache(maxsize=16_384)
def encode_steps(steps: tuple[Step, ...]) -> str:
    """Return steps as the column ``steps`` has them."""
    return msgspec.json.encode([(each.start, each.increment, each.price, each.per) for each in steps]).decode()


@lru_cache(maxsize=16_384)
def decode_steps(text: str) -> tuple[Step, ...]:
    """Return the steps of a row."""
    return tuple(Step(*each) for each in msgspec.json.decode(text, type=list[tuple[int, int, int, int]]))
