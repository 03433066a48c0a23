"""RADIUS datagrams to values."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrad import packet as pyrad

from celcombiller.core.data.accounting_reports import Conditions
from celcombiller.radius.codec import DICTIONARY, DiscardPacket, identities_of, read, report_of
from tests.support.fakes.nas import VALID, damage, report, signed_datagram
from tests.support.properties import share
from tests.support.radius_biller import CLIENT, HERE

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
CONDITIONS = Conditions()


@pytest.mark.parametrize(("days", "is_dated"), [(0.9, True), (1.1, False), (-0.9, True), (-1.1, False)])
def test_a_date_far_from_our_clock_is_none(days, is_dated):
    dated_at = NOW + timedelta(days=days)
    packet = report("Start", Event_Timestamp=int(dated_at.timestamp()), Acct_Delay_Time=60)
    told = report_of(packet, CLIENT, HERE, CONDITIONS, NOW)
    assert told.dated_at == (dated_at if is_dated else None)
    assert told.at == NOW - timedelta(seconds=60)


def test_a_realm_is_stripped_where_so_set():
    assert identities_of("ana@example.org", "keep") == ("ana@example.org", "IMSIana@example.org")
    assert identities_of("ana@example.org", "strip")[2] == "ana"
    assert identities_of("EX\\ana", "strip")[2] == "ana"
    assert identities_of("@", "strip") == ("@", "IMSI@")


@given(place=st.integers(0, 500), value=st.integers(0, 255))
@share(3)
def test_a_changed_octet_of_a_report_is_noticed(place, value):
    datagram = VALID[pyrad.AccountingRequest]
    place %= len(datagram)
    if datagram[place] == value:
        return
    with pytest.raises(DiscardPacket):
        read(damage(datagram, place, value, 0), CLIENT, pyrad.AccountingRequest)


def test_attribute_numbers_are_those_of_freeradius():
    """FreeRADIUS' own dictionary, where it is installed, says the same of each."""
    theirs = Path("/usr/share/freeradius")
    if not theirs.is_dir():
        pytest.skip("no FreeRADIUS here")
    known = {}
    for file in theirs.glob("dictionary*"):
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) >= 4 and words[0] == "ATTRIBUTE":
                known.setdefault(words[1], words[2])
    for name, attribute in DICTIONARY.attributes.items():
        if name in known:
            assert str(attribute.code) == known[name], name


@pytest.mark.parametrize("attribute", [b"\x01\x02", b"\x1f\x05:::", b"\x2c\x03\xff", b"\x1a\x09\0\0\x28\xaf\x01\x03x"])
def test_decoding_takes_time_linear_in_length(attribute):
    """Four times the octets: about four times the time, and by no means sixteen times."""
    times = {}
    for octets in (1000, 4000):
        body = attribute * (octets // len(attribute))
        datagram = signed_datagram(4, [(40, b"\0\0\0\3"), (44, b"A"), (1, b"ana")], body)
        spent = []
        for _ in range(9):
            began = time.process_time()
            report_of(read(datagram, CLIENT, pyrad.AccountingRequest), CLIENT, HERE, CONDITIONS, NOW)
            spent.append(time.process_time() - began)
        times[octets] = statistics.median(spent)
    assert times[4000] < 10 * times[1000]
