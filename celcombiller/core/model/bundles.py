"""Bundles: pots of seconds, messages, octets or credits, and the offers by which they are bought."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.tariffs import Service

if TYPE_CHECKING:
    from datetime import datetime

ON_NET = "on-net"
"""The destination that stands for the numbers of this biller's subscribers; all others are prefixes."""

SERVICES_OF_KIND: dict[BundleKind, frozenset[Service]] = {
    BundleKind.SECONDS: frozenset({Service.VOICE}),
    BundleKind.MESSAGES: frozenset({Service.SMS}),
    BundleKind.OCTETS: frozenset({Service.DATA}),
    BundleKind.MONEY: frozenset({Service.VOICE, Service.SMS}),
}
"""The services that a bundle pays for where it names none. One of money pays as voice credit does."""


UNLIMITED: dict[BundleKind, int] = {
    BundleKind.SECONDS: 10**9,
    BundleKind.MESSAGES: 10**9,
    BundleKind.OCTETS: 10**15,
}
"""The amount of a bundle without limit, which no subscriber can use up: 31 years of talk, a petabyte of data.

It is an amount like any other, so an unlimited bundle is filled, held, taken from and emptied by the same laws.
"""


def is_unlimited(kind: BundleKind, amount: int) -> bool:
    """Return whether a bundle of this amount is without limit."""
    return amount == UNLIMITED.get(kind)


@dataclass(frozen=True, slots=True)
class Offer:
    """A bundle of ``amount`` for ``valid_hours`` that can be bought for ``price`` credits.

    ``services`` and ``destinations``: what it is good for; none named: everything. One that ``renews`` is bought again
    at its end. ``call_seconds_max``: the seconds of one call that a bundle of it pays at most; ``None``: all.
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
    call_seconds_max: int | None = None

    @property
    def unlimited(self) -> bool:
        """Whether a bundle of it is without limit."""
        return is_unlimited(self.kind, self.amount)


class BundleState(StrEnum):
    """A bundle is coming, then valid; it is ending while uses hold some of it after its time, and then it has ended."""

    COMING = "coming"
    VALID = "valid"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A subscriber's bundle, and what is left of it: ``posted``, of which ``held`` are set aside for uses in progress.

    ``reference`` is the id of the transfer that filled it, with the ``amount`` that it had. ``offer_id``: the offer
    that it is of. It is valid from ``valid_from`` to before ``valid_until``. It has ended (``ended_at``) when what was
    left has gone back to the operator.
    """

    account_id: int
    reference: str
    subscriber_id: int
    offer_id: int | None
    name: str
    kind: BundleKind
    amount: int
    services: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: int
    valid_from: datetime
    valid_until: datetime
    renews: bool
    ended_at: datetime | None
    posted: int
    held: int
    call_seconds_max: int | None = None

    @property
    def unlimited(self) -> bool:
        """Whether it is without limit."""
        return is_unlimited(self.kind, self.amount)

    @property
    def available(self) -> int:
        """What may still be held or taken."""
        return self.posted - self.held

    @property
    def services_paid(self) -> frozenset[Service]:
        """The services that it pays for."""
        return frozenset(map(Service, self.services)) or SERVICES_OF_KIND[self.kind]

    def state_at(self, now: datetime) -> BundleState:
        """Return its state at this time."""
        if self.ended_at is not None:
            return BundleState.ENDED
        if now < self.valid_from:
            return BundleState.COMING
        return BundleState.VALID if now < self.valid_until else BundleState.ENDING
