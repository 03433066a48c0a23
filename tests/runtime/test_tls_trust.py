"""The certificates of a file of authorities."""

import pytest
import trustme

from celcombiller.runtime.tls_trust import certificates
from tests.support.work_measures import is_cheap

BEGIN, END = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"


def test_certificates_that_do_not_end_are_cheap():
    pem = BEGIN * 4000
    assert is_cheap(lambda: certificates(pem), lambda: certificates(pem + END), times=100)


def test_a_certificate_that_does_not_end_is_none():
    authority = trustme.CA().cert_pem.bytes()
    assert len(certificates(b"# ours\n" + authority + authority + BEGIN + b"abcd\n")) == 2
    with pytest.raises(ValueError, match="no certificate"):
        certificates(BEGIN + b"abcd\n")
