"""A price list in memory: the rates of one service, of which a number has the one with the longest prefix of it.

A million rates are a few arrays. Names and prices are shared, and a `Rate` is made when a number needs it. A list is
built rate by rate, and no step of that holds the interpreter's lock for long: a thread can do it while calls go on.
"""

from __future__ import annotations

from array import array
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from celcombiller.core.errors import NoRate
from celcombiller.core.model.tariffs import Calendar, Prices, Rate, Window
from celcombiller.core.rating.prefix_index import DIGITS_MAX, PrefixIndex
from celcombiller.core.rating.text_pool import TextPool

if TYPE_CHECKING:
    from collections.abc import Iterable

RATES_KNOWN = 4096
"""The rates that are kept as values: those of the destinations that were called last."""

TERMS_KNOWN = 8192
"""The price lists that are kept as values: many prefixes share one."""

_Valid = tuple[datetime | None, datetime | None, Rate]
_Terms = tuple[datetime | None, datetime | None, Prices, tuple[tuple[Window, Prices], ...], Calendar]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Terms).decode


class TariffBuilder:
    """Takes the rates of one service in the order of their prefixes, as sorted text has them, and makes the `Tariff`.

    A prefix may come several times, valid at different times; where two are valid, the later one counts. A prefix with
    ``*`` or ``#``, or of more than `DIGITS_MAX` digits, may come at any place; there are few, and they stay values.
    """

    def __init__(self) -> None:
        self.index = PrefixIndex()
        self.names, self.terms = array("I"), array("I")
        self.name_texts, self.terms_texts = TextPool(), TextPool()
        self.special: dict[str, list[_Valid]] = {}
        self.on_net: list[_Valid] = []

    def add(
        self,
        rate: Rate,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        *,
        on_net: bool = False,
    ) -> None:
        """Add a rate. Raises `ValueError` if its prefix comes before the last one."""
        prefix = rate.prefix.removeprefix("+")
        if on_net:
            self.on_net.insert(0, (valid_from, valid_until, rate))
        elif prefix and not (prefix.isdecimal() and prefix.isascii() and len(prefix) <= DIGITS_MAX):
            self.special.setdefault(prefix, []).insert(0, (valid_from, valid_until, rate))
        else:
            self.index.add(prefix)
            self.names.append(self.name_texts.add(rate.name.encode()))
            terms = (valid_from, valid_until, rate.prices, rate.windows, rate.calendar)
            self.terms.append(self.terms_texts.add(_encode(terms)))

    def finish(self) -> Tariff:
        """Return the tariff of these rates. The builder takes no more."""
        self.close()
        return Tariff(builder=self)

    def close(self) -> None:
        """Forget what is needed to add rates, and make them ready to be found."""
        self.index.close()
        self.name_texts.close()
        self.terms_texts.close()


class Tariff:
    """The rates of one service, found by prefix: those given, or those of a builder."""

    def __init__(self, rates: Iterable[Rate] = (), *, builder: TariffBuilder | None = None) -> None:
        self._known: dict[int, _Valid] = {}
        self._terms_known: dict[int, _Terms] = {}
        if builder is None:
            builder = TariffBuilder()
            for rate in sorted(rates, key=lambda each: each.prefix.removeprefix("+")):
                self._known[len(builder.index)] = (None, None, rate)
                builder.add(rate)
            builder.close()
        self._index, self._names, self._terms = builder.index, builder.names, builder.terms
        self._name_texts, self._terms_texts = builder.name_texts, builder.terms_texts
        self._special, self._on_net = builder.special, builder.on_net
        self._special_longest = max(map(len, self._special), default=0)

    def __len__(self) -> int:
        """Return the number of rates."""
        return len(self._index) + sum(map(len, self._special.values())) + len(self._on_net)

    def rate_for(self, number: str, at: datetime | None = None, *, on_net: bool = False) -> Rate:
        """Return the rate of ``number`` (with or without ``+``) that is valid ``at`` this time, or raise `NoRate`.

        It is the one of the longest prefix that has a valid one; ``on_net``: the rate of such use, if one is valid.
        Without a time only rates without limits of time are found.
        """
        digits = number.removeprefix("+")
        if on_net or self._special:
            for valid in self._list_first(digits, on_net=on_net):
                if _is_valid(valid, at):
                    return valid[2]
        place, length = self._index.find(digits)
        while place >= 0:
            valid = self._known.get(place) or self._make_rate(place, digits[:length])
            if valid[0] is valid[1] is None or _is_valid(valid, at):
                return valid[2]
            place, length = self._index.find(digits, below=place)
        raise NoRate("no rate for this number: add one to the tariff, or [[rates]] to the settings")

    def on_net_rate(self, at: datetime | None = None) -> Rate | None:
        """Return the on-net rate that is valid at this time, or None."""
        return next((rate for since, until, rate in self._on_net if _is_valid((since, until, rate), at)), None)

    def _list_first(self, digits: str, *, on_net: bool) -> Iterable[_Valid]:
        """Yield what comes before the prefixes of digits: on-net rates, and special prefixes, which are longer."""
        if on_net:
            yield from self._on_net
        for length in range(min(len(digits), self._special_longest), 0, -1):
            yield from self._special.get(digits[:length], ())

    def _make_rate(self, place: int, prefix: str) -> _Valid:
        """Return the rate at a place of the index, and remember it."""
        terms = self._terms[place]
        since, until, prices, windows, calendar = self._terms_known.get(terms) or self._read_terms(terms)
        name = self._name_texts.get(self._names[place]).decode()
        if len(self._known) >= RATES_KNOWN:
            self._known.clear()
        valid = self._known[place] = (since, until, Rate(prefix, name, prices, windows, calendar))
        return valid

    def _read_terms(self, index: int) -> _Terms:
        """Return prices and their validity, and remember them: they are those of many prefixes."""
        if len(self._terms_known) >= TERMS_KNOWN:
            self._terms_known.clear()
        terms: _Terms = _decode(self._terms_texts.get(index))
        self._terms_known[index] = terms
        return terms


def _is_valid(valid: _Valid, at: datetime | None) -> bool:
    since, until, _ = valid
    if at is None:
        return since is until is None
    return (since is None or since <= at) and (until is None or at < until)
