"""PDUs are read whatever optional parameters they have, and however they are cut."""

from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from smpplib import consts
from smpplib.smpp import make_pdu

from celcombiller.smpp.pdu import PDU_BYTES_MAX, BrokenStream, read_pdu, take_pdus
from tests.support.fakes.smsc import parameter, raw_pdu

SEQUENCES = SimpleNamespace(sequence=1, next_sequence=lambda: 1)
SUBMIT_SM_RESP, DELIVER_SM, GENERIC_NACK = 0x80000004, 5, 0x80000000
PARAMETERS = st.lists(
    st.tuples(st.integers(0, 0xFFFF) | st.sampled_from(list(consts.OPTIONAL_PARAMS.values())), st.binary(max_size=40)),
    max_size=5,
)
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


def written(command, **facts):
    return make_pdu(command, client=SEQUENCES, **facts).generate()


def with_parameters(raw, parameters):
    more = b"".join(parameter(tag, value) for tag, value in parameters)
    return raw_pdu(int.from_bytes(raw[4:8], "big"), body=raw[16:] + more)


@given(TEXTS, TEXTS, st.binary(max_size=254), st.integers(0, 255), st.integers(0, 255), PARAMETERS)
def test_deliver_sm_is_read_with_any_parameters(source, destination, text, coding, esm_class, parameters):
    facts = {"source_addr": source, "destination_addr": destination, "short_message": text}
    raw = written("deliver_sm", **facts, data_coding=coding, esm_class=esm_class)
    pdu = read_pdu(with_parameters(raw, parameters))
    assert (pdu.source_addr, pdu.destination_addr) == (source.encode(), destination.encode())
    assert (pdu.short_message, pdu.data_coding, pdu.esm_class) == (text, coding, esm_class)
    assert pdu.parameters == dict(reversed(parameters))
    assert not pdu.is_cut


@given(TEXTS, TEXTS, st.integers(0, 255), PARAMETERS)
def test_data_sm_is_read_with_any_parameters(source, destination, coding, parameters):
    addresses = b"\0\1\1" + source.encode() + b"\0\1\1" + destination.encode() + b"\0"
    raw = raw_pdu(0x103, body=addresses + bytes((4, 0, coding)))
    pdu = read_pdu(with_parameters(raw, parameters))
    assert (pdu.command, pdu.source_addr, pdu.destination_addr) == ("data_sm", source.encode(), destination.encode())
    assert (pdu.esm_class, pdu.data_coding) == (4, coding)
    assert pdu.parameters == dict(reversed(parameters))


@given(TEXTS, PARAMETERS)
@example("id1", [(0x001D, b"ok\0")])
def test_id_is_read_with_any_parameters(network_id, parameters):
    pdu = read_pdu(with_parameters(written("submit_sm_resp", message_id=network_id), parameters))
    assert (pdu.is_response, pdu.message_id) == (True, network_id.encode())
    assert pdu.parameters == dict(reversed(parameters))


@pytest.mark.parametrize("tag", sorted(consts.OPTIONAL_PARAMS.values()))
@pytest.mark.parametrize("size", [0, 1, 3, 300, 65_535])
def test_no_standard_parameter_costs_an_id(tag, size):
    body = b"id1\0" + parameter(tag, bytes(size))
    assert read_pdu(raw_pdu(SUBMIT_SM_RESP, body=body)).message_id == b"id1"


@pytest.mark.parametrize(
    ("body", "network_id"),
    [(b"", b""), (b"\0", b""), (b"id1", b"id1"), (b"id1\0", b"id1"), (b"id1\0\0\x1d", b"id1")],
)
def test_response_may_lack_parts(body, network_id):
    pdu = read_pdu(raw_pdu(SUBMIT_SM_RESP, body=body, status=0x58))
    assert (pdu.message_id, pdu.status, pdu.sequence) == (network_id, 0x58, 1)


@given(st.integers(0, 0xFFFFFFFF) | st.sampled_from([5, 0x103, SUBMIT_SM_RESP]), st.binary(max_size=300))
def test_any_bytes_are_some_pdu(command_id, body):
    pdu = read_pdu(raw_pdu(command_id, body=body))
    assert pdu.command_id == command_id
    assert isinstance(pdu.text, bytes)
    assert isinstance(pdu.reason, str)
    assert pdu.number("message_state") is None or pdu.number("message_state") >= 0


def test_a_cut_message_is_seen_as_cut():
    raw = written("deliver_sm", source_addr="1", destination_addr="2", short_message=b"hello")
    whole = read_pdu(raw)
    assert (whole.is_cut, whole.short_message) == (False, b"hello")
    for size in range(16, len(raw)):
        assert read_pdu(raw[:size]).is_cut


@given(st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.binary(max_size=60)), max_size=6), st.data())
def test_pdus_are_found_however_they_arrive(pdus, data):
    stream = b"".join(raw_pdu(command_id, body=body) for command_id, body in pdus)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    received, found = bytearray(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += stream[start:end]
        found += take_pdus(received)
    assert [each.command_id for each in found] == [command_id for command_id, _ in pdus]
    assert received == b""


@pytest.mark.parametrize("length", [0, 15, PDU_BYTES_MAX + 1, 0xFFFFFFFF])
def test_a_length_that_cannot_be_ends_the_stream(length):
    received = bytearray(raw_pdu(0x15) + length.to_bytes(4, "big") + bytes(12))
    found = take_pdus(received)
    assert next(found).command == "enquire_link"
    with pytest.raises(BrokenStream, match=str(length)):
        next(found)
