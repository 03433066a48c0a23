"""What octets of data would cost a subscriber, and why: as data sessions are charged, with nothing recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.core.bundles.choice import choose_pots
from celcombiller.core.bundles.pots import load_pots
from celcombiller.core.charging.simulation import find_used_tariff
from celcombiller.core.data.octet_charges import find_data_rate
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.tariffs import Prices, Rate, Service, Step
from celcombiller.core.rating.pricing import affordable, list_pieces, rate_at

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.charging.simulation import UsedTariff
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.rating.pricing import Piece


@dataclass(frozen=True, slots=True)
class SimulatedOctets:
    """What so many octets would cost: ``bundled`` of them bundles pay for, the balance ``cost`` credits for the rest.

    ``affordable_octets`` are those that bundles and the ``available`` credits pay for.
    """

    payer: Subscriber
    tariff: UsedTariff
    octets: int
    bundled: int
    pieces: tuple[Piece, ...]
    cost: int
    available: int
    affordable_octets: int


def simulate_octets(
    tx: Connection, catalogue: Catalogue, payer: Subscriber, octets: int, octets_per_credit: int, at: datetime
) -> SimulatedOctets:
    """Return what the octets of a new data session, all reported ``at`` this time, would cost.

    ``octets_per_credit`` is the settings' price, which counts where the payer's tariff has none.
    """
    rate, version_id = find_data_rate(catalogue, payer, at)
    if rate is None:
        rate = Rate(prices=Prices(steps=(Step(0, 1, 1, octets_per_credit),)))
    rate = rate_at(rate, at)
    account = balances(tx, payer.id)[Kind.DATA]
    known = load_pots(tx, [payer.id])
    book = Book()
    book.load(tx, [pot.account_id for pots in known.values() for pot in pots])
    pots = choose_pots(known, payer.id, book, Service.DATA, "", on_net=False, at=at)
    in_bundles = sum(max(pot.amount, 0) for pot in pots)
    bundled = min(octets, in_bundles)
    pieces = list_pieces(rate, octets - bundled, at) if octets > bundled else ()
    return SimulatedOctets(
        payer=payer,
        tariff=find_used_tariff(catalogue, version_id),
        octets=octets,
        bundled=bundled,
        pieces=pieces,
        cost=sum(piece.credits for piece in pieces),
        available=account.available,
        affordable_octets=in_bundles + affordable(rate, max(account.available, 0), at, AMOUNT_MAX),
    )
