"""The longest prefix wins, whatever other prefixes there are, and only while its rate is valid."""

import random
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.errors import NoRate
from celcombiller.core.model.tariffs import Calendar, Prices, Rate, Step, Window, flat_rate
from celcombiller.core.rating import tariff as tariff_module
from celcombiller.core.rating import text_pool
from celcombiller.core.rating.tariff import Tariff, TariffBuilder
from celcombiller.core.rating.text_pool import TextPool

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)

prefixes = st.text("0159", max_size=5) | st.text("01*#", max_size=4) | st.text("09", min_size=17, max_size=22)
numbers = st.text("0159", max_size=7) | st.text("01*#", max_size=6) | st.text("09", min_size=16, max_size=24)


def built(rates):
    builder = TariffBuilder()
    for rate in sorted(rates, key=lambda each: each.prefix):
        builder.add(rate)
    return builder.finish()


def find(tariff, number, at=None, **facts):
    try:
        return tariff.rate_for(number, at, **facts)
    except NoRate:
        return None


@given(st.sets(prefixes, max_size=20), numbers, st.booleans())
def test_the_longest_prefix_wins(found, number, plus):
    rates = {each: flat_rate(each, f"to {each}", price=place) for place, each in enumerate(found)}
    longest = max((each for each in found if number.startswith(each)), key=len, default=None)
    for tariff in (Tariff(rates.values()), built(rates.values())):
        assert len(tariff) == len(rates)
        for _ in range(2):  # made, and remembered
            assert find(tariff, "+" * plus + number) == rates.get(longest)


@given(st.integers(), st.integers(90, 1100), st.lists(numbers, min_size=1, max_size=20))
def test_the_longest_of_many_prefixes_wins(seed, count, asked):
    chance = random.Random(seed)
    found = {str(chance.randrange(10 ** chance.randrange(1, 8))) for _ in range(count)}
    tariff = built(flat_rate(each, each) for each in found)
    asked += [each + chance.choice(("", "0", "9", "5" * 12)) for each in chance.sample(sorted(found), 20)]
    for number in (*asked, "", "9" * 25):
        longest = max((number[:length] for length in range(26) if number[:length] in found), key=len, default=None)
        rate = find(tariff, number)
        assert (rate and rate.name) == longest


def test_a_number_has_a_rate_as_given():
    rates = [flat_rate("5"), flat_rate("+551"), flat_rate("#31#"), flat_rate("")]
    tariff = Tariff(rates)
    for number, rate in {"+5": 0, "5519": 1, "+5519": 1, "#31#5": 2, "*": 3, "": 3}.items():
        assert tariff.rate_for(number) is rates[rate]


moments = st.none() | st.integers(0, 9).map(lambda days: NOON + days * DAY)
rows = st.tuples(st.text("12", max_size=3) | st.just("1*"), moments, moments)


@given(st.lists(rows, max_size=12), st.text("12*", max_size=5), moments)
def test_only_a_valid_rate_is_found(found, number, at):
    builder = TariffBuilder()
    ordered = sorted(found, key=lambda each: each[0])
    for place, (prefix, since, until) in enumerate(ordered):
        builder.add(flat_rate(prefix, price=place), since, until)
    valid = [
        (len(prefix), place)
        for place, (prefix, since, until) in enumerate(ordered)
        if number.startswith(prefix)
        and ((since is None and until is None) if at is None else (since or at) <= at < (until or at + DAY))
    ]
    tariff = builder.finish()
    for _ in range(2):
        rate = find(tariff, number, at)
        assert (rate and rate.price) == (max(valid)[1] if valid else None)


def test_on_net_use_has_its_own_rate():
    builder = TariffBuilder()
    builder.add(flat_rate("", "on-net", price=0), NOON, NOON + DAY, on_net=True)
    builder.add(flat_rate("55", "Brazil"))
    tariff = builder.finish()
    names = [tariff.rate_for("5511", at, on_net=on_net).name for at in (NOON, NOON + DAY) for on_net in (True, False)]
    assert names == ["on-net", "Brazil", "Brazil", "Brazil"]


def test_a_rate_is_built_whole():
    window = (Window(frozenset({0, 7}), 60, 30), Prices(1, (Step(0, 60, 2, 7), Step(60, 1, 1, 3)), 5, 2))
    rate = Rate("55", "São Paulo", Prices(3), (window,), Calendar("America/Sao_Paulo", frozenset({NOON.date()})))
    tariff = built([rate, flat_rate("54")])
    assert tariff.rate_for("551", NOON) == rate
    assert tariff.rate_for("551", NOON) is tariff.rate_for("559", NOON)


def test_prefixes_out_of_order_are_refused():
    builder = TariffBuilder()
    for prefix in ("1", "12", "*", "12", "2"):
        builder.add(flat_rate(prefix))
    for prefix in ("12", "19999", "1"):
        with pytest.raises(ValueError, match="out of order"):
            builder.add(flat_rate(prefix))


def test_few_rates_are_remembered(monkeypatch):
    monkeypatch.setattr(tariff_module, "RATES_KNOWN", 3)
    tariff = built([flat_rate(str(each), f"name {each}", price=each) for each in range(10, 99)])
    for number in ("10", "98", "55", "77", "10", "33"):
        assert tariff.rate_for(number).name == f"name {number}"
        assert len(tariff._known) <= 3


@given(st.lists(st.binary(max_size=5), max_size=30))
def test_texts_come_back_as_added(texts):
    pool = TextPool()
    indexes = [pool.add(each) for each in texts]
    assert [pool.get(each) for each in indexes] == texts
    assert len(set(indexes)) == len(set(texts))


def test_a_pool_knows_a_limited_number(monkeypatch):
    monkeypatch.setattr(text_pool, "TEXTS_KNOWN", 2)
    pool = TextPool()
    indexes = [pool.add(each) for each in (b"a", b"b", b"c", b"a", b"c")]
    assert [pool.get(each) for each in indexes] == [b"a", b"b", b"c", b"a", b"c"]
