"""Codes of vouchers: each slip is caught, and what people type is read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celcombiller.core.errors import UnknownVoucher
from celcombiller.core.vouchers.voucher_codes import (
    DIGITS,
    ENTROPY_BYTES,
    RANDOM_DIGITS,
    check_digit,
    format_code,
    hash_code,
    make_codes,
    parse_code,
)

CODES = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES).map(lambda entropy: make_codes(entropy)[0])


@given(CODES, st.integers(0, DIGITS - 1), st.integers(1, 9))
def test_every_wrong_digit_is_caught(code: str, place: int, added: int) -> None:
    wrong = f"{code[:place]}{(int(code[place]) + added) % 10}{code[place + 1 :]}"
    with pytest.raises(UnknownVoucher, match="mistyped"):
        parse_code(wrong)


@given(CODES, st.integers(0, DIGITS - 2))
def test_every_swap_of_neighbours_is_caught(code: str, place: int) -> None:
    swapped = f"{code[:place]}{code[place + 1]}{code[place]}{code[place + 2 :]}"
    if swapped != code:
        with pytest.raises(UnknownVoucher, match="mistyped"):
            parse_code(swapped)


def test_check_digits_have_no_exception() -> None:
    """From every interim digit, no two digits and no two neighbours swapped lead on to the same."""
    starts = {check_digit(f"{number:02}"): f"{number:02}" for number in range(100)}
    assert starts.keys() == set(range(10))
    for start in starts.values():
        assert len({check_digit(f"{start}{each}") for each in range(10)}) == 10
        for pair in range(100):
            first, second = f"{pair:02}"
            same = check_digit(f"{start}{first}{second}") == check_digit(f"{start}{second}{first}")
            assert same == (first == second)


@given(CODES, st.sampled_from(["", " ", "-", "\u00a0", ".", " - ", "\u2013", "\t"]), st.integers(1, 5))
def test_code_is_read_in_any_groups(code: str, between: str, size: int) -> None:
    groups = [code[start : start + size] for start in range(0, DIGITS, size)]
    assert parse_code(f"  {between.join(groups)}\n") == parse_code(format_code(code)) == code


@given(
    CODES, st.sampled_from(["Oo", "0\uff10", "\u0660\u06f0"]), st.sampled_from(["Il", "iL", "|\uff11", "\u0661\u06f1"])
)
def test_letters_like_digits_are_read(code: str, zeros: str, ones: str) -> None:
    typed = "".join(
        {"0": zeros, "1": ones}.get(each, each)[place % 2 if each in "01" else 0] for place, each in enumerate(code)
    )
    assert parse_code(typed) == code


@given(st.text(max_size=300))
@example("²" * DIGITS)
@example("0" * 10_000)
@example("x" * DIGITS)
def test_any_text_is_code_or_refused(typed: str) -> None:
    try:
        code = parse_code(typed)
    except UnknownVoucher:
        return
    assert (len(code), code.isascii(), code.isdecimal()) == (DIGITS, True, True)


def test_codes_use_all_their_entropy() -> None:
    ends = make_codes(b"\0" * ENTROPY_BYTES + (10**RANDOM_DIGITS - 1).to_bytes(ENTROPY_BYTES))
    assert ends == ["0" * DIGITS, f"{'9' * RANDOM_DIGITS}{check_digit('9' * RANDOM_DIGITS)}"]
    assert 10**RANDOM_DIGITS > 2**64
    assert len(set(map(hash_code, ends))) == 2
