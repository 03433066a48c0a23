"""A rate in the columns of a row: the fee, price and increment of a flat one, and the whole of any other as JSON."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import msgspec
from msgspec import structs

from celcombiller.core.model.tariffs import Rate, flat_rate

RATES_KNOWN = 16_384
"""A network calls some thousand destinations at most; each may have a rate, and one of each trunk."""

T = TypeVar("T")
RateColumns = tuple[str, str, int, int, int, str | None]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Rate).decode


def columns_of_rate(rate: Rate) -> RateColumns:
    """Return prefix, name, connect fee, price and increment of the first step, and the whole as JSON if it has more."""
    prices, step = rate.prices, rate.prices.steps[0]
    is_flat = not rate.windows and prices == flat_rate("", "", prices.connect_fee, step.price, step.increment).prices
    detail = None if is_flat else text_of_rate(rate)
    return rate.prefix, rate.name, prices.connect_fee, step.price, step.increment, detail


def text_of_rate(rate: Rate) -> str:
    """Return the whole of a rate as JSON."""
    text = _encode(rate).decode()
    _remember(text, rate)
    return text


def rate_from_text(text: str) -> Rate:
    """Return the rate of `text_of_rate`. Those with equal windows and calendars share them."""
    rate = _KNOWN.get(text)
    if rate is None:
        rate = _decode(text)
        rate = structs.replace(rate, windows=_share(rate.windows), calendar=_share(rate.calendar))
        _remember(text, rate)
    return rate


_KNOWN: dict[str, Rate] = {}
"""The rates that were written or read last: who ends a call reads the rate that its beginning wrote."""


def _remember(text: str, rate: Rate) -> None:
    if len(_KNOWN) >= RATES_KNOWN:
        _KNOWN.clear()
    _KNOWN[text] = rate


@lru_cache(maxsize=RATES_KNOWN)
def _share(value: T) -> T:
    """Return the first of the values that are equal to this one."""
    return value


def rate_from_columns(prefix: str, name: str, connect_fee: int, price: int, increment: int, detail: str | None) -> Rate:
    """Return the rate of these columns."""
    if detail is None:
        return flat_rate(prefix, name, connect_fee, price, increment)
    return rate_from_text(detail)
