"""What a call would cost, and why: by the code that charges calls, with nothing recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.charging.batch import ChargingBatch
from celcombiller.core.charging.requests import Initiate
from celcombiller.core.errors import BillerError, InsufficientBalance
from celcombiller.core.model.calls import CallReport
from celcombiller.core.rating.bill import list_bill_pieces, make_bill, make_grant
from celcombiller.core.rating.pricing import price
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.charging.requests import ChargingPolicy
    from celcombiller.core.model.calls import Call
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.bill import Bill, Pot
    from celcombiller.core.rating.pricing import Piece

SECONDS_MAX = 86_400
"""The longest talk that is simulated."""

SETTINGS = "settings"
"""The name of the tariff that the settings have, which has no versions."""


@dataclass(frozen=True, slots=True)
class TrunkCost:
    """A trunk by which the call may go, in the order in which they are tried, and what it costs the operator.

    ``cost`` is None where the provider's price is not known.
    """

    name: str
    dial: str
    cost: int | None


@dataclass(frozen=True, slots=True)
class UsedTariff:
    """The tariff that prices a use, and the number of its version; the settings' own has none."""

    name: str = SETTINGS
    version: int | None = None
    currency: str = ""
    credits_per_unit: int = 1


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """What a call of ``seconds`` would cost its payer.

    ``available`` are the credits of the balance. ``affordable_seconds`` is the talk that a call would be granted for
    them and the bundles, if it begins to ring at this time: all of it is paid for, whenever it is answered.
    ``refusal``: why the call would not be granted now; its price stands all the same. ``bundle_names`` is by account.
    """

    payer: Subscriber
    call: Call
    tariff: UsedTariff
    seconds: int
    pots: tuple[Pot, ...]
    bill: Bill
    pieces: tuple[Piece, ...]
    available: int
    affordable_seconds: int
    trunks: tuple[TrunkCost, ...]
    bundle_names: Mapping[int, str]
    refusal: BillerError | None = None

    @property
    def is_on_net(self) -> bool:
        """Whether the number is a subscriber's."""
        return self.call.callee_id is not None


def simulate_call(
    tx: Connection,
    policy: ChargingPolicy,
    *,
    from_number: str,
    to_number: str,
    seconds: int,
    at: datetime,
    username: str = "",
) -> SimulatedCall:
    """Return what a call of ``seconds`` that is answered ``at`` this time would cost; nothing is recorded.

    ``username`` pays in place of who has ``from_number``. Balances and open calls are those of now, prices and bundles
    those of the time. Raises `UnknownSubscriber`, `SubscriberDisabled`, `BadNumber`, `Barred` and `NoRate`.
    """
    request = Initiate(
        server="",
        uniqueid="",
        authorization="",
        channel="",
        account_code=username,
        caller_number=from_number,
        called_number=to_number,
        answered_early=False,
        previous=CallReport(answered=False, at=at),
    )
    catalogue, today = policy.catalogue.current, at.astimezone(policy.time_zone).date()
    batch = ChargingBatch.load(tx, [request], catalogue=catalogue, today=today, numbering=policy.numbering)
    call, account, pots = batch.voice.rate_call(policy, request, at)
    refusal: BillerError | None = None
    trunks: list[TrunkCost] = []
    try:
        ways = batch.voice.admission.route(call)
        for way in ways:
            rate = batch.voice.admission.rate_of(catalogue.trunks[way.trunk_id], call.to_number, at)
            trunks.append(TrunkCost(way.name, way.dial, None if rate is None else price(rate, seconds, at)))
    except BillerError as no_trunk:
        refusal = no_trunk
    available = batch.voice.admission.spendable(call, account.spendable)
    affordable_seconds, _ = make_grant(call.rate, pots, available, at, call.granted_seconds, policy.ring_seconds)
    if affordable_seconds == 0 and refusal is None:
        refusal = InsufficientBalance(f"{max(account.spendable, 0)} available")
    payer = batch.directory.find_payer(username, from_number)
    assert payer is not None
    return SimulatedCall(
        payer=payer,
        call=call,
        tariff=find_used_tariff(catalogue, call.tariff_version_id),
        seconds=seconds,
        pots=tuple(pots),
        bill=make_bill(call.rate, seconds, at, pots),
        pieces=list_bill_pieces(call.rate, seconds, at, pots),
        available=account.spendable,
        affordable_seconds=affordable_seconds,
        trunks=tuple(trunks),
        bundle_names=_bundle_names(tx, [pot.account_id for pot in pots]),
        refusal=refusal,
    )


def find_used_tariff(catalogue: Catalogue, version_id: int | None) -> UsedTariff:
    """Return the tariff of a version, by its id; ``None`` is the settings'."""
    for tariff in catalogue.tariffs.values():
        for version in tariff.versions:
            if version.id == version_id:
                return UsedTariff(tariff.name, version.number, tariff.currency, tariff.credits_per_unit)
    return UsedTariff()


def _bundle_names(tx: Connection, account_ids: list[int]) -> dict[int, str]:
    bundle = tables.bundle
    rows = tx.execute(sa.select(bundle.c.account_id, bundle.c.name).where(bundle.c.account_id.in_(account_ids)))
    return {row.account_id: row.name for row in rows}
