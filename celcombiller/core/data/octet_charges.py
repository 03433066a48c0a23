"""What the octets of a data session cost: which a bundle paid for, and which the balance, at what prices.

A session that has no rate of a tariff, and never had a bundle, is priced by its total alone (`octets_price`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from celcombiller.core.errors import NoRate
from celcombiller.core.model.tariffs import Prices, Rate, Service, Step
from celcombiller.core.rating.pricing import octets_price
from celcombiller.core.rating.rate_columns import rate_from_text
from celcombiller.core.rating.segments import price_segments
from celcombiller.core.rating.windows import find_window

if TYPE_CHECKING:
    from datetime import datetime

    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.data.session import DataSession
    from celcombiller.core.model.subscribers import Subscriber

OUTSIDE = -1
"""The window of octets that were reported outside all windows of the rate."""


@dataclass(frozen=True, slots=True)
class OctetUse:
    """The octets that are accounted for: those of bundles, and those of the balance by window, in order."""

    bundled: int = 0
    paid: tuple[tuple[int, int], ...] = ()

    @property
    def octets(self) -> int:
        """All that is accounted for."""
        return self.bundled + sum(octets for _, octets in self.paid)

    def with_paid(self, window: int, octets: int) -> OctetUse:
        """Return the use with more octets that the balance pays for, reported in this window."""
        if octets == 0:
            return self
        if self.paid and self.paid[-1][0] == window:
            return OctetUse(self.bundled, (*self.paid[:-1], (window, self.paid[-1][1] + octets)))
        return OctetUse(self.bundled, (*self.paid, (window, octets)))


def find_data_rate(catalogue: Catalogue, payer: Subscriber, at: datetime) -> tuple[Rate | None, int | None]:
    """Return the rate of data in a payer's tariff and its version; ``None``: the settings' price counts.

    It counts too where the tariff has a price of data at other times only: no octet is free by an oversight.
    """
    tariff, version_id = catalogue.tariff_for(payer, Service.DATA, at)
    if version_id is None:
        return None, None
    try:
        return tariff.rate_for("", at), version_id
    except NoRate:
        return None, None


def encode_use(use: OctetUse) -> str:
    """Return a use as the text of its column."""
    return msgspec.json.encode((use.bundled, use.paid)).decode()


def use_of(session: DataSession) -> OctetUse:
    """Return what is accounted for; all that was reported, where the session is priced by its total alone."""
    if session.pieces is None:
        return OctetUse(0, ((OUTSIDE, session.octets),) if session.octets else ())
    bundled, paid = msgspec.json.decode(session.pieces, type=tuple[int, tuple[tuple[int, int], ...]])
    return OctetUse(bundled, paid)


def price_use(session: DataSession, use: OctetUse) -> int:
    """Return the credits that the balance pays for a use of this session."""
    rate = None if session.rate_detail is None else rate_from_text(session.rate_detail)

    def prices_of(window: int) -> Prices:
        if rate is None:
            return Prices(steps=(Step(0, 1, 1, session.octets_per_credit),))
        return rate.prices if window == OUTSIDE else rate.windows[window][1]

    return price_segments((prices_of(window), octets) for window, octets in use.paid)


def window_of(session: DataSession, at: datetime) -> int:
    """Return the window of the session's rate in which a report of this time is."""
    if session.rate_detail is None:
        return OUTSIDE
    rate = rate_from_text(session.rate_detail)
    windows = tuple(window for window, _ in rate.windows)
    window = find_window(windows, rate.calendar, at) if windows else None
    return OUTSIDE if window is None else window


def price_octets(session: DataSession, octets: int, at: datetime) -> int:
    """Return what the balance pays in all once it pays for so many more octets, reported at this time."""
    if session.pieces is None:
        return octets_price(session.octets + octets, session.octets_per_credit)
    return price_use(session, use_of(session).with_paid(window_of(session, at), octets))
