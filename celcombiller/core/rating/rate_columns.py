"""A rate in the columns of a row: the fee, price and increment of a flat one, and the whole of any other as JSON."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from celcombiller.core.model.tariffs import Prices, Rate, Step, flat_rate
from celcombiller.core.rating.rate_memo import RATES_KNOWN, RateMemo

RateColumns = tuple[str, str, int, int, int, str | None]


_COLUMNS = RateMemo[RateColumns]()
_TEXTS = RateMemo[str]()


def columns_of_rate(rate: Rate) -> RateColumns:
    """Return prefix, name, connect fee, price and increment of the first step, and the whole as JSON if it has more."""
    return _COLUMNS.get(rate) or _COLUMNS.put(rate, _make_columns(rate))


def _make_columns(rate: Rate) -> RateColumns:
    prices, step = rate.prices, rate.prices.steps[0]
    flat = Prices(prices.connect_fee, (Step(0, step.increment, step.price, step.increment),))
    is_flat = not rate.windows and prices == flat
    detail = None if is_flat else text_of_rate(rate)
    return rate.prefix, rate.name, prices.connect_fee, step.price, step.increment, detail


def text_of_rate(rate: Rate) -> str:
    """Return the whole of a rate as JSON."""
    return _TEXTS.get(rate) or _TEXTS.put(rate, msgspec.json.encode(rate).decode())


@lru_cache(maxsize=RATES_KNOWN)
def rate_from_text(text: str) -> Rate:
    """Return the rate of `text_of_rate`."""
    return msgspec.json.decode(text, type=Rate)


@lru_cache(maxsize=RATES_KNOWN)
def rate_from_columns(prefix: str, name: str, connect_fee: int, price: int, increment: int, detail: str | None) -> Rate:
    """Return the rate of these columns."""
    if detail is None:
        return flat_rate(prefix, name, connect_fee, price, increment)
    return rate_from_text(detail)
