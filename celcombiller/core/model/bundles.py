"""Bundles: pots of seconds, messages, octets or credits, and the offers by which they are bought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celcombiller.core.model.accounts import BundleKind


@dataclass(frozen=True, slots=True)
class Offer:
    """A bundle of ``amount`` for ``valid_hours`` that can be bought for ``price`` credits.

    ``services`` and ``destinations``: what it is good for; none named: everything. One that ``renews`` is bought again
    at its end.
    """

    id: int
    name: str
    price: int
    kind: BundleKind
    amount: int
    services: tuple[str, ...]
    destinations: tuple[str, ...]
    valid_hours: int
    priority: int
    renews: bool
    enabled: bool
