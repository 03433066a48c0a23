"""A rate in the columns of a call's row, and back."""

from hypothesis import given
from msgspec import structs

from celcombiller.core.model.tariffs import Calendar
from celcombiller.core.rating import rate_columns
from celcombiller.core.rating.rate_columns import columns_of_rate, rate_from_columns, rate_from_text, text_of_rate
from tests.core.rating.rates import any_rates


@given(any_rates)
def test_another_process_reads_the_rate_back(rate):
    columns = columns_of_rate(rate)
    rate_columns._KNOWN.clear()
    read = rate_from_columns(*columns)
    if not rate.windows:  # without them the calendar means nothing
        read, rate = (structs.replace(each, calendar=Calendar()) for each in (read, rate))
    assert read == rate


@given(any_rates)
def test_a_rate_read_again_is_the_same(rate):
    text = text_of_rate(rate)
    assert rate_from_text(text) is rate_from_text(text) is rate
    rate_columns._KNOWN.clear()
    assert rate_from_text(text) is rate_from_text(text)


def test_rates_beyond_those_known_are_forgotten(monkeypatch):
    monkeypatch.setattr(rate_columns, "RATES_KNOWN", 2)
    monkeypatch.setattr(rate_columns, "_KNOWN", {})
    texts = [f'{{"prefix":"{digit}"}}' for digit in range(9)]
    assert [rate_from_text(each).prefix for each in texts] == list("012345678")
    assert len(rate_columns._KNOWN) <= 2
