"""OsmoHLR's control interface and its console's list, on bytes that osmo-hlr 1.5 was seen to send."""

import contextlib
import itertools
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.provisioning import osmocom_ctrl
from celcombiller.provisioning.osmocom_ctrl import CtrlDecoder, CtrlReply
from tests.support.work_measures import is_cheap

INFO = (
    "\nid\t1\nimsi\t724000000002001\nmsisdn\t2001\nnam_cs\t1\nnam_ps\t1\nms_purged_cs\t0\nms_purged_ps\t0"
    "\nperiodic_lu_timer\t0\nperiodic_rau_tau_timer\t0\nlmsi\t00000000"
)
SEEN = [
    (b"\x00SET_REPLY 1 subscriber.create 1", CtrlReply("1", "1")),
    (b"\x00SET_REPLY 2 subscriber.by-imsi-724000000002001.msisdn OK", CtrlReply("2", "OK")),
    (f"\x00GET_REPLY 3 subscriber.by-imsi-724000000002001.info {INFO}".encode(), CtrlReply("3", INFO)),
    (b"\x00ERROR 12 No such subscriber.", CtrlReply("12", error="No such subscriber.")),
    (b"\x00ERROR err Request type unknown", CtrlReply("err", error="Request type unknown")),
]
HEADER = """ID     MSISDN        IMSI              IMEI              NAM
-----  ------------  ----------------  ----------------  -----
"""
LIST = f"""show subscribers all
{HEADER}1      12            724000000002001    -------------      PS  
2      none          724000            357613004448485         
3      551100000000000  724100000000000    -------------    CSPS  
 Subscribers Shown: 3
OsmoHLR> """.replace("\n", "\r\n").encode()  # noqa: W291  as it is sent


def framed(payload, stream=0xEE):
    return len(payload).to_bytes(2, "big") + bytes([stream]) + payload


def test_a_request_has_an_ipa_frame():
    assert osmocom_ctrl.request(7, "SET", "subscriber.create", "724000000002001") == (
        b"\x00\x28\xee\x00SET 7 subscriber.create 724000000002001"
    )
    assert (
        osmocom_ctrl.request(8, "GET", "subscriber.by-msisdn-2001.info")[3:]
        == b"\x00GET 8 subscriber.by-msisdn-2001.info"
    )


@pytest.mark.parametrize("value", ["a b", "1\n", "1\x00", "7,comp128v1", "é", "-1"])
def test_a_request_takes_letters_and_digits_only(value):
    with pytest.raises(ValueError, match="letters and digits"):
        osmocom_ctrl.request(1, "SET", "subscriber.create", value)
    with pytest.raises(ValueError, match="letters and digits"):
        osmocom_ctrl.request(1, "GET", f"subscriber.by-imsi-{value} .info")


@given(st.data())
def test_replies_are_independent_of_tcp_segments(data):
    stream = b"".join(framed(payload) for payload, _ in SEEN)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)) | {0, len(stream)})
    decoder = CtrlDecoder()
    got = [reply for a, b in itertools.pairwise(cuts) for reply in decoder.receive(stream[a:b])]
    assert got == [reply for _, reply in SEEN]


def test_traps_and_other_streams_are_no_answer():
    assert CtrlDecoder().receive(framed(b"\x00", 0xFE) + framed(b"\x03x") + framed(b"\x00TRAP 0 a b")) == []


@given(st.binary(max_size=400))
def test_only_codec_errors_leave_the_decoder(data):
    with contextlib.suppress(NetworkUnavailable):
        CtrlDecoder().receive(data)


def test_the_info_of_a_subscriber_is_read():
    assert osmocom_ctrl.entry_of(INFO) == ProvisioningEntry("724000000002001", "2001")
    assert osmocom_ctrl.entry_of("\nid\t2\nimsi\t724000") == ProvisioningEntry("724000", "")
    assert osmocom_ctrl.entry_of("\nimsi\t724000\nmsisdn\t+2001") == ProvisioningEntry("724000", "2001")
    assert osmocom_ctrl.entry_of("\nimsi\t724000\nmsisdn\tx") == ProvisioningEntry("724000", "")
    for wrong in ("", "\nimsi\t1", "\nimsi\t72400a"):
        assert osmocom_ctrl.entry_of(wrong) is None


# -- the list --------------------------------------------------------------------------------------------------------


def test_the_list_of_all_is_read():
    assert osmocom_ctrl.listed(LIST).entries == [
        ProvisioningEntry("724000000002001", "12"),
        ProvisioningEntry("724000", ""),
        ProvisioningEntry("724100000000000", "551100000000000"),
    ]
    nobody = f"show subscribers all\n{HEADER}% No matching subscriber(s)\nOsmoHLR> "
    assert osmocom_ctrl.listed(nobody.encode()) == osmocom_ctrl.ConsoleList([], [])


def test_the_list_has_numbers_in_other_forms():
    found = osmocom_ctrl.listed(LIST.replace(b" 12 ", b"+12 "))
    assert (found.entries[0].msisdn, found.unreadable) == ("12", [])


def test_the_titles_come_again_below_a_long_list():
    head, tail = HEADER.strip().split("\n")
    text = LIST.decode().replace(" Subscribers Shown", f"{tail}\r\n{head}\r\n Subscribers Shown")
    assert len(osmocom_ctrl.listed(text.encode()).entries) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("Shown: 3", "Shown: 4"),
        lambda text: text.replace(" Subscribers Shown: 3\r\n", ""),
        lambda text: text.replace("PS  \r\n", "PS  \r\n% Something went wrong\r\n", 1),
        lambda text: text.replace("IMEI  ", "NEW   "),
        lambda text: "show subscribers all\r\n% Unknown command.\r\nOsmoHLR> ",
        lambda text: "show subscribers all\r\nOsmoHLR> ",
        lambda text: text.replace("OsmoHLR> ", "4      1  724001    -------------    CSPS\r\nOsmoHLR> "),
    ],
)
def test_a_list_is_understood_whole_or_refused(damage):
    with pytest.raises(NetworkUnavailable):
        osmocom_ctrl.listed(damage(LIST.decode()).encode())


@pytest.mark.parametrize(
    ("right", "wrong", "entry"),
    [
        ("724000            357613004448485", "724000            3576130044484x5", ProvisioningEntry("724000", "")),
        ("724000            357613004448485", "724000            \xe9", ProvisioningEntry("724000", "")),
        ("2      none          724000 ", "2      nobody        724000 ", ProvisioningEntry("724000", "")),
        ("2      none          724000 ", "2      none          72400x ", None),
        ("2      none          724000 ", "2                           ", None),
    ],
)
def test_one_bad_row_hides_no_other(right, wrong, entry):
    whole = LIST.decode()
    assert right in whole
    found = osmocom_ctrl.listed(whole.replace(right, wrong).encode("latin-1"))
    others = [each for each in osmocom_ctrl.listed(LIST).entries if each.imsi != "724000"]
    assert [each for each in found.entries if each.imsi != "724000"] == others
    assert [each for each in found.entries if each.imsi == "724000"] == ([entry] if entry else [])
    (bad,) = found.unreadable
    assert bad.text.startswith("2 ")


def test_a_row_of_many_blanks_is_cheap():
    row = b"1 none 724000000002001 -" + b" " * 16_000
    right, wrong = (LIST.replace(b" Subscribers", row + end + b"\r\n Subscribers") for end in (b"", b"x"))
    assert is_cheap(lambda: osmocom_ctrl.listed(wrong), lambda: osmocom_ctrl.listed(right), times=100)


def test_a_prompt_differs_from_output_before_it():
    assert osmocom_ctrl.at_prompt(LIST)
    assert osmocom_ctrl.at_prompt(b'There is NO WARRANTY\r\n\xff\xfb\x01\xff\xfb\x03\xff\xfe"\xff\xfd\x1fOsmoHLR> ')
    assert not osmocom_ctrl.at_prompt(LIST[:-3])
    assert not osmocom_ctrl.at_prompt(b"")


def test_ages_are_read_from_the_list():
    rows = [
        "ID     MSISDN        IMSI              IMEI              NAM    LAST SEEN",
        "3      none          724000000002002    -------------    CSPS   (2d4s ago)",
        "1      2001          724000000002001    357613004448485    PS   (5m ago)",
        "4      none          724000000002003    -------------    CSPS   (invalid timestamp)",
        "OsmoHLR> ",
    ]
    assert osmocom_ctrl.read_ages("\r\n".join(rows).encode()) == {
        "724000000002002": timedelta(days=2, seconds=4),
        "724000000002001": timedelta(minutes=5),
    }


@given(st.binary(max_size=200) | st.text("0123456789dhms() agonex-", max_size=200).map(str.encode))
def test_any_list_of_ages_is_read(data):
    osmocom_ctrl.read_ages(data)
