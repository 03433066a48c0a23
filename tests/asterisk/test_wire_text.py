"""Bytes of Asterisk as text, and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.asterisk import wire_text
from celcombiller.asterisk.agi import codec as agi_codec
from celcombiller.asterisk.ami import codec as ami_codec
from tests.asterisk.agi.test_codec import environment
from tests.asterisk.ami.test_codec import GREETING, hangup, written

NOT_NUL = st.integers(1, 255)


@given(st.lists(NOT_NUL).map(bytes))
def test_every_name_comes_back_as_its_bytes(name):
    text = wire_text.decode(name)
    assert wire_text.encode(text) == name
    assert json.loads(json.dumps(text).encode()) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_right_utf8_is_read_as_what_it_says(text):
    if not any("\uef80" <= each <= "\uefff" for each in text):
        assert wire_text.decode(text.encode()) == text


@pytest.mark.parametrize("name", [b"jos\xe9", "jos\u00e9".encode(), b"\xff\x80", "\uefe9".encode()])
def test_a_channel_is_named_by_its_bytes(name):
    channel = b"PJSIP/" + name + b"-00000001"
    decoder = ami_codec.AmiDecoder()
    (*_, message) = decoder.receive(GREETING + written(hangup(channel="X")).replace(b"X", channel))
    (started,) = agi_codec.AgiDecoder().receive(environment().replace(b"PJSIP/1001-00000000", channel))
    assert message.get("Channel") == started.values["agi_channel"]
    assert b"Channel: " + channel + b"\r\n" in ami_codec.action("Status", [("Channel", message.get("Channel"))], "1")
    assert channel in agi_codec.command("CHANNEL STATUS", started.values["agi_channel"])


def test_a_nul_reaches_no_database():
    assert "\0" not in wire_text.decode(b"a\0b")
    (*_, message) = ami_codec.AmiDecoder().receive(GREETING + written(hangup(uniqueid="1.0\0")))
    (started,) = agi_codec.AgiDecoder().receive(environment().replace(b"Al Ice", b"Al\0Ice"))
    assert "\0" not in repr((message.fields, started.values["agi_calleridname"]))


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ami_codec.AmiActionInvalid):
        ami_codec.action("Status", [("Channel", "PJSIP/\udce9")], "1")
