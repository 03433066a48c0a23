"""A notice counts only with the signature of its secret over its very time and body."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.payments.signatures import age_seconds, is_signed, sign

SECRET = "a secret of the provider"


def test_the_signature_is_that_of_openssl():
    # printf '1700000000.{"id": "1"}' | openssl dgst -sha256 -hmac 'a secret of the provider'
    expected = "cbe180b021b65c44e04a61f6083041472bfa32e7d78c6e834fe664a817e2877f"
    assert sign(SECRET, "1700000000", b'{"id": "1"}') == expected
    assert is_signed(SECRET, "1700000000", b'{"id": "1"}', expected.upper())


@given(st.binary(max_size=50), st.integers(0, 10**12 - 1), st.binary(max_size=50), st.text(max_size=30))
def test_nothing_else_has_the_signature(body, time, other, secret):
    signature = sign(SECRET, str(time), body)
    assert is_signed(SECRET, str(time), body, signature)
    assert is_signed(SECRET, str(time), other, signature) == (other == body)
    assert is_signed(secret, str(time), body, signature) == (secret == SECRET)
    assert not is_signed(SECRET, str(time + 1), body, signature)


@pytest.mark.parametrize("time", ["", "-1", " 1", "1.5", "1" * 13, "\uff11", "1\n"])
def test_a_time_is_whole_seconds(time):
    assert not is_signed(SECRET, time, b"", sign(SECRET, time, b""))


@pytest.mark.parametrize("signature", ["", "00", "g" * 64, "é" * 64, "0" * 65, "0" * 64])
def test_a_signature_is_64_right_digits(signature):
    assert not is_signed(SECRET, "1", b"", signature)


def test_an_age_may_be_of_the_future():
    assert (age_seconds("100", 105.5), age_seconds("100", 90)) == (5.5, -10)
