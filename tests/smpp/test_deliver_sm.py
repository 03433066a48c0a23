"""Messages that the centre brings: read whatever they are written in, queued once for a phone of ours, refused else."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from smpplib import consts
from smpplib.smpp import make_pdu
from twisted.internet.defer import Deferred

from celcombiller.config.tables import Asterisk, Sms
from celcombiller.core.charging import messages
from celcombiller.core.charging.messages import REPEATED
from celcombiller.core.errors import BadNumber, InvalidValue, StoreUnavailable, UnknownSubscriber
from celcombiller.core.model.messages import MessageOrigin, MessageState, Route
from celcombiller.core.schema import tables
from celcombiller.core.sms import encoding, outbox_queue
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy
from celcombiller.core.sms.encoding import DefaultAlphabet
from celcombiller.core.sms.inbound_message import InboundMessage
from celcombiller.smpp.deliver_sm import inbound_from_pdu
from celcombiller.smpp.pdu import Pdu, read_pdu
from tests.core.ledger.test_book import NOW, database, proved
from tests.core.sms.test_message_properties import ROUTES
from tests.smpp.test_client import House, until

NUMBERS = SimpleNamespace(next_sequence=lambda: 1)
ARRIVAL = InboundMessage("k" * 32, "5599", "1002", "hello")
SAR = {"sar_msg_ref_num": 7, "sar_total_segments": 3, "sar_segment_seqnum": 2}
PHONES = {
    "sms": Sms(on_net_route="asterisk", off_net_route="smpp", sender="Rede"),
    "asterisk": (Asterisk(name="pbx1", host="127.0.0.1", port=1, username="x", secret="x"),),
}


def delivered(**facts):
    """Return a deliver_sm as it is read."""
    whole = {"source_addr": "5599", "destination_addr": "1002", "short_message": b"hello"} | facts
    made = make_pdu("deliver_sm", client=NUMBERS, **whole)
    return read_pdu(made.generate())


# -- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "hello"),
        ({"short_message": b"\x00 \x1be \x11"}, "@ € _"),
        ({"short_message": b"a\x00\x07b", "data_coding": 3}, "a  b"),
        ({"short_message": b"caf\xe9", "data_coding": 3}, "café"),
        ({"short_message": b"caf\xe9", "data_coding": 1}, "caf�"),
        ({"short_message": b"\xbf", "data_coding": 6}, "П"),
        ({"short_message": "Привет 😀".encode("utf-16-be"), "data_coding": 8}, "Привет 😀"),
        ({"short_message": b"\xd8\x3d", "data_coding": 8}, "�"),
        ({"short_message": b"", "message_payload": b"x" * 400}, "x" * 400),
        ({"short_message": b"\x03\x25\x01\x0epart", "esm_class": 0x40}, "part"),
        ({"short_message": b"\x02\x7f\x00part", "esm_class": 0x40}, "part"),
        ({"short_message": b"\x00part", "esm_class": 0x40}, "part"),
    ],
)
def test_a_text_is_decoded_without_its_header(facts, text):
    assert inbound_from_pdu(delivered(**facts)).text == text


@pytest.mark.parametrize(
    ("facts", "place"),
    [
        ({"short_message": b"\x05\x00\x03\x07\x02\x01part", "esm_class": 0x40}, (1, 2)),
        ({"short_message": b"\x06\x08\x04\x01\x07\x03\x02part", "esm_class": 0x40}, (2, 3)),
        ({"short_message": b"\x08\x24\x01\x01\x00\x03\x07\x02\x02part", "esm_class": 0x40}, (2, 2)),
        ({"short_message": b"part", **SAR}, (2, 3)),
        ({"short_message": b"\x05\x00\x03\x07\x02\x01part", "esm_class": 0x40, **SAR}, (1, 2)),
    ],
)
def test_a_part_says_its_place(facts, place):
    part = inbound_from_pdu(delivered(**facts))
    assert (part.number, part.total, part.payload) == (*place, b"part")


@pytest.mark.parametrize(
    "facts",
    [
        {"short_message": b"\x05\x00\x03\x07\x02\x03part", "esm_class": 0x40},
        {"short_message": b"\x05\x00\x03\x07\x02\x00part", "esm_class": 0x40},
        {"short_message": b"\x05\x00\x03\x07\x00\x00part", "esm_class": 0x40},
        {"short_message": b"\x05\x00\x03\x07\x01\x01part", "esm_class": 0x40},
        {"short_message": b"\x04\x00\x02\x07\x02part", "esm_class": 0x40},
        {"short_message": b"part", "sar_msg_ref_num": 7},
        {"short_message": b"part", **SAR, "sar_total_segments": 1, "sar_segment_seqnum": 1},
    ],
)
def test_a_place_that_cannot_be_is_none(facts):
    message = inbound_from_pdu(delivered(**facts))
    assert isinstance(message, InboundMessage)
    assert message.text == "part"


@pytest.mark.parametrize(
    "facts",
    [
        {"data_coding": 4},
        {"data_coding": 0x14},
        {"data_coding": 0x21},
        {"data_coding": 0xF5},
        {"short_message": b"\x06\x05\x04\x0b\x84\x23\xf0wap", "esm_class": 0x40},
        {"short_message": b"\x05\x00\x03\x07", "esm_class": 0x40},
        {"short_message": b"\x01\x00x", "esm_class": 0x40},
        {"short_message": b"", "esm_class": 0x40},
    ],
)
def test_what_is_no_text_is_none(facts):
    with pytest.raises(InvalidValue, match="no text"):
        inbound_from_pdu(delivered(**facts))


GSM, UCS2, NO_TEXT = b"\x00\x11", "é@".encode("utf-16-be"), None
GROUPS = {
    **dict.fromkeys((0x00, 0x0C, 0x0F, 0x10, 0x11, 0x13, 0x1C, 0x40, 0x51, 0x80, 0x9F, 0xBF, 0xC0, 0xC8), GSM),
    **dict.fromkeys((0xCB, 0xD0, 0xDB, 0xF0, 0xF1, 0xF3, 0xF8), GSM),
    **dict.fromkeys((0x08, 0x18, 0x19, 0x1B, 0x48, 0x59, 0xE0, 0xE8), UCS2),
    **dict.fromkeys((0x02, 0x04, 0x09, 0x14, 0x17, 0x20, 0x2A, 0x31, 0x38, 0x44, 0x55, 0x61, 0x7F), NO_TEXT),
    **dict.fromkeys((0xF4, 0xF5, 0xF7, 0xFC), NO_TEXT),
}
"""TS 23.038, section 4, and SMPP 3.4, 5.2.19, below 0x10."""


@pytest.mark.parametrize(("coding", "data"), GROUPS.items())
def test_data_coding_is_read_by_its_group(coding, data):
    pdu = delivered(data_coding=coding, short_message=data or b"x")
    if data is NO_TEXT:
        with pytest.raises(InvalidValue, match="no text"):
            inbound_from_pdu(pdu)
    else:
        assert inbound_from_pdu(pdu).text == ("@_" if data is GSM else "é@")


@pytest.mark.parametrize(
    ("alphabet", "data", "text"),
    [
        (DefaultAlphabet.GSM, b"\x00\x11", "@_"),
        (DefaultAlphabet.LATIN1, b"caf\xe9@_", "café@_"),
        (DefaultAlphabet.ASCII, b"a@_\xe9", "a@_�"),
    ],
)
def test_coding_0_is_as_the_smsc_takes_it(alphabet, data, text):
    assert inbound_from_pdu(delivered(short_message=data), alphabet).text == text
    assert inbound_from_pdu(delivered(short_message=b"\x00\x11", data_coding=0xF0), alphabet).text == "@_"


@pytest.mark.parametrize(
    ("source", "destination", "read"),
    [
        ("5599", "+1002", ("5599", "+1002")),
        ("My Bank", "IMSI724000000000001", ("MyBank", "IMSI724000000000001")),
        ("+55 99", "1002;phone-context=+5599", ("+5599", "1002")),
        ("tel:+5599", "sip:1002@smsc.example", ("+5599", "1002")),
        ("5599", "My Bank", ("5599", "")),
        ("", "", ("unknown", "")),
        ("5599\r\nTo: x", "1002", ("5599Tox", "1002")),
        ('"<>"', "*100#", ("unknown", "*100#")),
    ],
)
def test_only_valid_parts_of_addresses_are_kept(source, destination, read):
    found = inbound_from_pdu(delivered(source_addr=source, destination_addr=destination))
    assert (found.from_number, found.to_number) == read


@given(st.binary(max_size=200), st.integers(0, 255), st.sampled_from([0, 0x40]), st.sampled_from(DefaultAlphabet))
def test_any_bytes_give_a_sendable_text_or_none(data, coding, header, alphabet):
    pdu = Pdu(
        5, source_addr=b"5599", destination_addr=b"1002", short_message=data, data_coding=coding, esm_class=header
    )
    try:
        text = inbound_from_pdu(pdu, alphabet).text
    except InvalidValue:
        return
    assert not text or encoding.split(text)


def test_all_fields_of_a_message_identify_it():
    facts = [
        {},
        {"source_addr": "5598"},
        {"destination_addr": "1003"},
        {"short_message": b"hallo"},
        {"data_coding": 3},
        {"short_message": b"\x05\x00\x03\x01\x02\x01hello", "esm_class": 0x40},
        {"short_message": b"\x05\x00\x03\x02\x02\x01hello", "esm_class": 0x40},
        {"user_message_reference": 1},
        {"user_message_reference": 2},
        {"receipted_message_id": "m1"},
    ]
    keys = [inbound_from_pdu(delivered(**each)).key for each in facts]
    assert len(set(keys)) == len(facts)
    assert keys == [inbound_from_pdu(delivered(**each)).key for each in facts]


# -- what becomes of it ----------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "arrivals.sqlite")
    yield made
    proved(made)
    made.dispose()


def arrive(engine, arrival=ARRIVAL, now=NOW, terms=ROUTES):
    with engine.begin() as tx:
        return messages.accept_inbound(tx, terms, arrival, now)


def test_a_message_for_a_subscriber_is_queued_free(engine):
    message = arrive(engine).message
    assert (message.origin, message.subscriber_id, message.cost) == (MessageOrigin.PHONE, None, 0)
    assert (message.from_number, message.to_number, message.text) == ("5599", "1002", "hello")
    assert (message.route, message.state) == (Route.ASTERISK, MessageState.QUEUED)
    with engine.begin() as tx:
        (due,) = outbox_queue.claim(tx, Route.ASTERISK, "me", NOW, limit=9, lease=timedelta(minutes=5))
    assert (due.message.reference, due.callee.clid) == (message.reference, "1002")


@pytest.mark.parametrize("begun", [timedelta(0), timedelta(minutes=30), timedelta(minutes=59, seconds=59)])
def test_the_same_message_within_an_hour_is_repeated(engine, begun):
    at = NOW.replace(minute=0) + begun
    first = arrive(engine, now=at)
    for later in (timedelta(0), timedelta(minutes=29), REPEATED - timedelta(seconds=1)):
        again = arrive(engine, now=at + later)
        assert (again.first, again.message.reference) == (False, first.message.reference)
    other = arrive(engine, now=at + REPEATED)
    assert (first.first, other.first) == (True, True)
    assert other.message.reference != first.message.reference


def test_a_sent_message_that_repeats_is_not_resent(engine):
    reference = arrive(engine).message.reference
    with engine.begin() as tx:
        messages.record_outcome(tx, MessageOutcome(reference, MessageState.ACCEPTED), NOW)
    again = arrive(engine)
    assert (again.first, again.message.state) == (False, MessageState.ACCEPTED)


@pytest.mark.parametrize(
    ("arrival", "terms", "refusal"),
    [
        (InboundMessage("k", "5599", "1009", "hello"), ROUTES, UnknownSubscriber),
        (InboundMessage("k", "5599", "", "hello"), ROUTES, UnknownSubscriber),
        (InboundMessage("k", "5599", "1002", ""), ROUTES, InvalidValue),
        (InboundMessage("k", "5599", "1002", "x" * 1000), ROUTES, InvalidValue),
        (ARRIVAL, MessagePolicy(on_net_route=Route.SMPP), BadNumber),
        (ARRIVAL, MessagePolicy(off_net_route=Route.SMPP), BadNumber),
    ],
)
def test_an_undeliverable_message_is_refused_and_leaves_nothing(engine, arrival, terms, refusal):
    with pytest.raises(refusal):
        arrive(engine, arrival, terms=terms)
    with engine.begin() as tx:
        assert tx.execute(tables.message.select()).all() == []


# -- what the centre is told -----------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path, sections=PHONES)
    yield pytest_twisted.blockon(Deferred.fromCoroutine(made.begin()))
    report = made.biller.audit()
    pytest_twisted.blockon(Deferred.fromCoroutine(made.end()))
    assert report.ok, report.differences


async def bring(house, **facts):
    whole = {"source_addr": "5599", "destination_addr": "1002", "short_message": b"hello"}
    return await house.centre.deliver(**whole | facts)


@pytest_twisted.ensureDeferred
async def test_the_smsc_is_answered_after_the_commit(house, monkeypatch):
    assert await bring(house) == consts.SMPP_ESME_ROK
    (row,) = house.biller.rows(tables.message)
    assert (row["from_number"], row["to_number"], row["text"], row["state"]) == ("5599", "1002", "hello", "queued")
    assert await bring(house) == consts.SMPP_ESME_ROK
    assert len(house.biller.rows(tables.message)) == 1
    held, asked = Deferred(), []
    right = house.biller.service.store.transact

    def later(work):
        asked.append(work)
        return held.addCallback(lambda _: right(work))

    monkeypatch.setattr(house.biller.service.store, "transact", later)
    answer = Deferred.fromCoroutine(bring(house, short_message=b"other"))
    await until(lambda: asked, "it is asked")
    assert not answer.called
    held.callback(None)
    assert await answer == consts.SMPP_ESME_ROK
    assert len(house.biller.rows(tables.message)) == 2


@pytest.mark.parametrize("form", ["1002", "+1002", "001002", "1002;phone-context=+55", "10-02", "IMSI724000000001002"])
@pytest_twisted.ensureDeferred
async def test_a_phone_is_known_in_each_form(house, form):
    (row,) = [each for each in house.biller.rows(tables.subscriber) if each["clid"] == "1002"]
    assert await bring(house, destination_addr=form.replace("724000000001002", row["imsi"])) == consts.SMPP_ESME_ROK
    (message,) = house.biller.rows(tables.message)
    assert (message["to_number"], message["callee_id"]) == ("1002", row["id"])


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"destination_addr": "7777"}, consts.SMPP_ESME_RINVDSTADR),
        ({"destination_addr": ""}, consts.SMPP_ESME_RINVDSTADR),
        ({"destination_addr": "IMSI724000000007777"}, consts.SMPP_ESME_RINVDSTADR),
        ({"data_coding": 4}, consts.SMPP_ESME_RX_P_APPN),
        ({"short_message": b""}, consts.SMPP_ESME_RX_P_APPN),
        ({"message_payload": b"x" * 5000, "short_message": b""}, consts.SMPP_ESME_RX_P_APPN),
        ({"esm_class": 0x08}, consts.SMPP_ESME_RX_P_APPN),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_message_without_recipient_is_refused_with_reason(house, facts, status):
    assert await bring(house, **facts) == status
    assert house.biller.rows(tables.message) == []


@pytest_twisted.ensureDeferred
async def test_parts_reach_a_phone_as_one(house):
    for header in (b"\x05\x00\x03\x07\x02\x02", b"\x05\x00\x03\x07\x02\x02", b"\x05\x00\x03\x07\x02\x01"):
        text = b"to you" if header.endswith(b"\x02") else b"good day "
        assert await bring(house, short_message=header + text, esm_class=0x40) == consts.SMPP_ESME_ROK
    assert [row["text"] for row in house.biller.rows(tables.message)] == ["good day to you"]


@pytest_twisted.ensureDeferred
async def test_an_unavailable_database_makes_the_smsc_retry(house, monkeypatch):
    right = house.biller.service.store.transact

    def away(_work):
        raise StoreUnavailable("away")

    monkeypatch.setattr(house.biller.service.store, "transact", away)
    assert await bring(house) == consts.SMPP_ESME_RX_T_APPN
    monkeypatch.setattr(house.biller.service.store, "transact", right)
    assert await bring(house) == consts.SMPP_ESME_ROK
    assert len(house.biller.rows(tables.message)) == 1
