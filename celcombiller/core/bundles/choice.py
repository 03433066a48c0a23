"""Which bundles pay for a use, and how much is left of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.rating.bill import Pot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from celcombiller.core.bundles.pots import BundlePot
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.tariffs import Service


def choose_pots(
    bundles: Mapping[int, Sequence[BundlePot]],
    subscriber_id: int,
    book: Book,
    service: Service,
    number: str,
    *,
    on_net: bool,
    at: datetime,
) -> list[Pot]:
    """Return what is left of the bundles of a subscriber that are good for this use, in the order of ``bundles``.

    Of one that pays a part of each call only, no more than that.

    ``book`` has their accounts. ``number`` is empty for data, which goes to no number.
    """
    return [
        Pot(each.account_id, each.kind, each.most_of_one_use(book.accounts[each.account_id].available))
        for each in bundles.get(subscriber_id, ())
        if each.is_for(service, number, on_net=on_net, at=at)
    ]
