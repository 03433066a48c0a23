"""Receipts are read as SMSCs of many makes write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.model.messages import MessageState
from celcombiller.core.sms.encoding import DefaultAlphabet
from celcombiller.smpp.pdu import read_pdu
from celcombiller.smpp.receipts import is_receipt, parse_receipt
from tests.support.fakes.smsc import named, raw_pdu

DELIVERED, FAILED = MessageState.DELIVERED, MessageState.FAILED
BY_THE_BOOK = "id:{id} sub:001 dlvrd:001 submit date:2611241200 done date:2611241201 stat:{state} err:000 text:hello"
DELIVER_SM, DATA_SM = 0x05, 0x103


def packed(text):
    """Return septets as the radio network packs them (TS 23.038, 6.1.2.1)."""
    bits = sum(ord(each) << (7 * n) for n, each in enumerate(text))
    return bits.to_bytes((7 * len(text) + 7) // 8, "little")


def delivered(text=b"", parameters=b"", *, coding=0, esm_class=4, command=DELIVER_SM):
    """Return a receipt as it is read."""
    head = b"\0\1\1" + b"5599\0" + b"\1\1" + b"2001\0" + bytes((esm_class,))
    if command == DATA_SM:
        body = head + bytes((0, coding)) + named("message_payload", text)
    else:
        body = head + bytes((0, 0, 0, 0, 0, 0, coding, 0, len(text))) + text
    return read_pdu(raw_pdu(command, body=body + parameters))


def says(network_id="1A2B3C4D", state="UNDELIV", form=BY_THE_BOOK):
    return form.format(id=network_id, state=state)


MAKES = {
    "appendix B": delivered(says("0439041101").encode()),
    "hexadecimal": delivered(says("1A2B3C4D").encode()),
    "lower case, padded": delivered(says("000000001a2b3c4d").encode()),
    "no fields but two": delivered(b"id:1A2B3C4D stat:UNDELIV"),
    "keys in capitals, spaces": delivered(b"ID: 1A2B3C4D Sub: 001 Dlvrd: 000 Stat: Undeliv Err: 001 Text: hello"),
    "equal signs, commas": delivered(b"id=1A2B3C4D,sub=001,stat=UNDELIVERABLE,err=5"),
    "other order": delivered(b"stat:UNDELIV err:027 done date:2611241201 id:1A2B3C4D sub:001"),
    "line ends": delivered(b"id:1A2B3C4D\r\nstat:UNDELIVERED\r\ntext:hello"),
    "message payload": delivered(parameters=named("message_payload", says().encode())),
    "parameters only": delivered(
        parameters=named("receipted_message_id", b"1A2B3C4D\0") + named("message_state", b"\5")
    ),
    "parameters without the last zero, wide state": delivered(
        b"ok", named("message_state", b"\0\0\0\5") + named("receipted_message_id", b"1A2B3C4D")
    ),
    "parameters before the text": delivered(
        says("77", "DELIVRD").encode(), named("receipted_message_id", b"1A2B3C4D\0") + named("message_state", b"\5")
    ),
    "id by parameter, state by text": delivered(
        says("", "UNDELIV").encode(), named("receipted_message_id", b"1A2B3C4D\0") + named("message_state", b"")
    ),
    "UCS-2": delivered(says(form="id:{id} stat:{state} text:hé").encode("utf-16-be"), coding=8),
    "UCS-2 that is not announced": delivered(says(form="id:{id} stat:{state}").encode("utf-16-be")),
    "UCS-2, the other way round": delivered(says(form="id:{id} stat:{state}").encode("utf-16-le"), coding=8),
    "ASCII announced as UCS-2": delivered(says().encode(), coding=8),
    "ASCII announced as octets": delivered(says().encode(), coding=4),
    "packed septets": delivered(packed(says()), coding=0),
    "Latin-1": delivered("id:1A2B3C4D stat:UNDELIV text:não".encode("latin-1"), coding=3),
    "data_sm": delivered(says().encode(), command=DATA_SM),
    "data_sm, parameters only": delivered(
        parameters=named("receipted_message_id", b"1A2B3C4D\0") + named("message_state", b"\5"), command=DATA_SM
    ),
    "with a header": delivered(b"\5\0\3\7\1\1" + says().encode(), esm_class=0x44),
    "state as a number": delivered(says(state="5").encode()),
}


@pytest.mark.parametrize("make", MAKES)
def test_receipts_of_all_makes_name_part_and_failure(make):
    receipt = parse_receipt(MAKES[make])
    assert receipt.network_ids[0].upper().lstrip("0") in ("1A2B3C4D", "439041101")
    assert (receipt.outcome, receipt.numbers) == (FAILED, {"5599", "2001"})
    assert receipt.note.startswith("receipt: ")
    assert receipt.note.isprintable()


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        *((each, DELIVERED) for each in ("DELIVRD", "delivrd", "DELIVERED", "DELIV", "DLVRD", "Delivered", "2", "002")),
        *((each, FAILED) for each in ("UNDELIV", "UNDELIVERED", "EXPIRED", "expird", "DELETED", "REJECTD", "Rejected")),
        *((each, FAILED) for each in ("FAILED", "CANCELLED", "SKIPPED", "3", "4", "5", "8", "9")),
        *((each, None) for each in ("ACCEPTD", "ENROUTE", "UNKNOWN", "BUFFERED", "SCHEDULED", "0", "1", "6", "7", "X")),
    ],
)
def test_states_are_known_by_their_first_letters(state, outcome):
    assert parse_receipt(delivered(says(state=state).encode())).outcome is outcome


@pytest.mark.parametrize(
    ("state", "outcome"), [(0, None), (1, None), (2, DELIVERED), (5, FAILED), (7, None), (99, None)]
)
def test_message_state_decides_where_it_is_final(state, outcome):
    parameters = named("receipted_message_id", b"m1\0") + named("message_state", bytes((state,)))
    assert parse_receipt(delivered(parameters=parameters)).outcome is outcome
    assert parse_receipt(delivered(says(state="EXPIRED").encode(), parameters)).outcome is (outcome or FAILED)


@pytest.mark.parametrize(
    "text",
    [
        b"id: sub:001 dlvrd:000 stat:",
        b"hello",
        b"text:id:m1 stat:UNDELIV",
        b"",
        b"\0" * 40,
        b"Your order id 5 has a stat of UNDELIV",
    ],
)
def test_what_says_nothing_is_of_no_part(text):
    receipt = parse_receipt(delivered(text))
    assert (receipt.network_ids, receipt.outcome) == ((), None)


def test_the_senders_text_says_nothing():
    receipt = parse_receipt(delivered(b"id:m1 sub:001 text:id:m2 stat:UNDELIV"))
    assert (receipt.network_ids, receipt.outcome) == (("m1",), None)


def test_an_id_is_read_in_each_alphabet():
    receipt = parse_receipt(delivered(b"id:a_b$ stat:DELIVRD"), DefaultAlphabet.GSM)
    assert "a_b$" in receipt.network_ids
    assert "a_b" in parse_receipt(delivered(b"id:a\x11b stat:DELIVRD")).network_ids


@pytest.mark.parametrize(
    ("parameters", "is_one"),
    [
        (named("receipted_message_id", b"m1\0") + named("message_state", b"\2"), True),
        (named("receipted_message_id", b"m1\0"), False),
        (named("message_state", b"\2"), False),
        (b"", False),
    ],
)
def test_a_receipt_is_known_by_its_parameters_too(parameters, is_one):
    assert is_receipt(delivered(says().encode(), parameters, esm_class=0)) is is_one


@given(st.binary(max_size=254), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=30))
def test_any_bytes_are_some_receipt(text, coding, esm_class, parameters):
    receipt = parse_receipt(delivered(text, parameters, coding=coding, esm_class=esm_class))
    assert all(each and "\0" not in each and len(each) <= 255 for each in receipt.network_ids)
    assert receipt.note.isprintable()
