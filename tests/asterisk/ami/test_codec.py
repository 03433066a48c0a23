"""The AMI codec, on values alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.asterisk.ami.codec import (
    ACTION_LINE_BYTES_MAX,
    FIELDS_MAX,
    LINE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    SUSPECTS_MAX,
    AmiActionInvalid,
    AmiDecoder,
    AmiMessage,
    AmiProtocolError,
    Greeting,
    action,
)

GREETING = b"Asterisk Call Manager/11.0.0\r\n"
REAL = "1795387182.0"
OURS = "8d1f0c"
PHONE_BYTES_MAX = 79
"""What PJSIP keeps of a From user or a dialled number: AST_CHANNEL_NAME and AST_MAX_EXTENSION are 80."""


def snapshot(prefix="", number="1001", exten="2000", uniqueid=REAL, channel="PJSIP/1001-00000000"):
    values = {
        "Channel": channel,
        "ChannelState": "6",
        "ChannelStateDesc": "Up",
        "CallerIDNum": number,
        "CallerIDName": "Al",
        "ConnectedLineNum": "<unknown>",
        "ConnectedLineName": "<unknown>",
        "Language": "en",
        "AccountCode": "",
        "Context": "caller",
        "Exten": exten,
        "Priority": "2",
        "Uniqueid": uniqueid,
        "Linkedid": uniqueid,
    }
    return [(prefix + key, value) for key, value in values.items()]


def event(name, *fields):
    return [("Event", name), ("Privilege", "call,all"), *fields]


def newchannel(**values):
    return event("Newchannel", *snapshot(**values))


def hangup(**values):
    return event("Hangup", *snapshot(**values), ("Cause", "16"), ("Cause-txt", "Normal Clearing"))


def hangup_request(**values):
    return event("HangupRequest", *snapshot(**values))


def bridge_enter(**values):
    bridge = [("BridgeUniqueid", "5ad7"), ("BridgeType", "basic"), ("BridgeNumChannels", "1")]
    return event("BridgeEnter", *bridge, *snapshot(**values))


def dial_end(**values):
    callee = snapshot("Dest", uniqueid="1795387182.1", channel="PJSIP/1002-00000001")
    return event("DialEnd", *snapshot(**values), *callee, ("DialStatus", "ANSWER"))


def status(action_id=OURS, **values):
    rest = [("DNID", "2000"), ("Application", "Dial"), ("Data", "PJSIP/1002,30"), ("Seconds", "2")]
    return event(
        "Status", *snapshot(**values), *rest, ("Variable", "A=1"), ("Variable", "B=2"), ("ActionID", action_id)
    )


EVENTS = [newchannel, hangup, hangup_request, bridge_enter, dial_end, status]


def written(*messages):
    return "".join("".join(f"{key}: {value}\r\n" for key, value in fields) + "\r\n" for fields in messages).encode()


def decode(data, ours=(), trailing=b""):
    """Messages after the greeting; the same whole, byte by byte, and cut anywhere."""
    data = GREETING + data + trailing
    cuts = sorted(random.Random(len(data)).choices(range(len(data) + 1), k=5))
    results = []
    for chunks in (
        [data],
        [data[i : i + 1] for i in range(len(data))],
        [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)],
    ):
        decoder = AmiDecoder(ours)
        results.append([message for chunk in chunks for message in decoder.receive(chunk)])
    assert results[0] == results[1] == results[2]
    assert results[0][0] == Greeting("11.0.0")
    return results[0][1:]


def believed(data, ours=()):
    return [message for message in decode(data, ours) if not message.suspect]


# ---- form ----


def test_messages_keep_fields_and_order():
    fields = [("Event", "Cdr"), ("Privilege", "cdr,all"), ("Variable", "a: b"), ("variable", "c"), ("Empty", "")]
    (message,) = decode(written(fields), trailing=b"Event: ")
    assert message == AmiMessage(tuple(fields))
    assert message.get("VARIABLE") == "a: b"
    assert message.get("none") is None
    assert (message.event, message.response, message.action_id) == ("Cdr", None, None)


def test_lines_may_end_with_a_line_feed_alone():
    data = written(newchannel(), hangup())
    assert decode(data.replace(b"\r\n", b"\n")) == decode(data)


def test_a_response_has_one_believed_action_id():
    first, last = decode(
        written(
            [("Response", "Success"), ("ActionID", "a")], [("Event", "StatusComplete"), ("X", "y"), ("ActionID", "a")]
        )
    )
    assert (first.response, first.answers, first.action_id) == ("Success", "a", "a")
    assert (last.event, last.answers, last.action_id) == ("StatusComplete", None, "a")


def test_a_peer_that_does_not_greet_is_refused():
    for data in (b"SSH-2.0-OpenSSH\r\n", b"\r\n", b"Event: Hangup\r\n"):
        with pytest.raises(AmiProtocolError, match="greet"):
            AmiDecoder().receive(data)


def test_bytes_not_utf8_keep_the_connection():
    (message,) = decode(written(newchannel()).replace(b"Al", b"Jos\xe9"))
    assert message.get("CallerIDName") == "Jos\uefe9"
    assert not message.suspect


def test_a_line_has_a_limit():
    def line(room):
        return GREETING + b"X: " + b"y" * (room - 4)

    assert AmiDecoder().receive(line(LINE_BYTES_MAX) + b"\r\n\r\n")
    for over in (line(LINE_BYTES_MAX + 1) + b"\r\n", line(LINE_BYTES_MAX + 2)):
        with pytest.raises(AmiProtocolError, match="in a line"):
            AmiDecoder().receive(over)


def test_a_message_has_a_limit_of_lines():
    assert len(decode(b"Output: x\r\n" * FIELDS_MAX + b"\r\n")) == 1
    with pytest.raises(AmiProtocolError, match="lines in a message"):
        AmiDecoder().receive(GREETING + b"Output: x\r\n" * (FIELDS_MAX + 1))


def test_a_message_has_a_limit_of_bytes():
    line = b"Output: " + b"x" * (MESSAGE_BYTES_MAX // 32 - 9) + b"\r\n"
    assert len(AmiDecoder().receive(GREETING + line * 32 + b"\r\n")) == 2
    with pytest.raises(AmiProtocolError, match="bytes in a message"):
        AmiDecoder().receive(GREETING + line * 32 + b"A: b\r\n")


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n", b"Event: Hangup\r\n", b"ActionID: 1\r\n", b": "])))
def test_only_codec_errors_leave_the_decoder(parts):
    for beginning in (b"", GREETING, GREETING + b"Event: Hangup\r\nChannel: x\r\nChannelState: 6\r\n"):
        decoder = AmiDecoder()
        decoder.receive(beginning)
        for part in parts:
            try:
                decoder.receive(part)
            except AmiProtocolError:
                break


# ---- what a phone puts in ----


@pytest.mark.parametrize("true", EVENTS)
def test_what_asterisk_writes_is_believed(true):
    messages = decode(written(true(), true(number="", exten="h")), ours=[OURS])
    assert [message.suspect for message in messages] == [False, False]


@pytest.mark.parametrize(
    "fields",
    [
        event("DialEnd", *snapshot("Dest"), ("DialStatus", "ANSWER")),
        event("HangupRequest", *snapshot(), ("Cause", "16"), ("TechCause", "200")),
        event("Newchannel", *snapshot(), ("Tenantid", "t"), ("ChanVariable", "a=1"), ("ChanVariable", "b=2")),
        [("Event", "Hangup"), ("Privilege", "call"), ("Timestamp", "1.2"), ("SystemName", "pbx1"), *hangup()[2:]],
        event("AttendedTransfer", *snapshot("OrigTransferer"), *snapshot("SecondTransferer", uniqueid="2.2")),
        event("FullyBooted", ("Uptime", "16"), ("Status", "Fully Booted")),
        [("Response", "Success"), ("ActionID", "another's"), ("Message", "Timeout Set")],
    ],
)
def test_what_versions_and_settings_change_is_believed(fields):
    (message,) = decode(written(fields))
    assert not message.suspect


def test_a_forged_event_taints_what_it_cuts():
    """The attack as it was run against a real Asterisk: the rest of the true event ends up in the forged one."""
    text = "1001\r\n\r\nEvent: Hangup\r\nUniqueid: FAKE2"
    messages = decode(written(newchannel(number=text), hangup(number=text), hangup()))
    assert [message.suspect for message in messages] == [True, True, True, True, False]


def test_a_rest_without_a_beginning_is_suspect():
    messages = decode(written(newchannel(number="1001\r\n\r\nEvent: Hangup\r\nUniqueid: FAKE\r\n\r\nx: y")))
    assert [message.suspect for message in messages] == [True, True, True]
    (rest,) = decode(b"CallerIDName: Al\r\nUniqueid: 1\r\n\r\n")
    assert rest.suspect


def test_a_whole_forged_event_is_suspect():
    forged = written(hangup(uniqueid="FAKE")).decode().removesuffix("\r\n\r\n")
    for text in (f"1001\r\n\r\n{forged}", f"1001\r\n\r\n{forged}\r\n\r\n", f"1001\n\n{forged}\n\nA: b"):
        assert believed(written(newchannel(number=text), hangup(uniqueid="next"))) == believed(
            written(hangup(uniqueid="next"))
        )


def test_a_key_that_comes_twice_is_suspect():
    (message,) = decode(written(hangup(number="1001\r\nUniqueid: FAKE")))
    assert message.suspect
    (message,) = decode(written(event("PeerStatus", ("Peer", "a"), ("peer", "b"))))
    assert message.suspect


@pytest.mark.parametrize("true", EVENTS)
def test_an_extra_snapshot_line_is_suspect(true):
    first, second = decode(written(true(number="1001\r\nX: y"), true()))
    assert first.suspect
    assert not second.suspect


@pytest.mark.parametrize("true", EVENTS)
def test_an_event_missing_its_snapshot_is_suspect(true):
    (message,) = decode(written([*true()[:2], ("Uniqueid", "FAKE")]))
    assert message.suspect


def test_a_hangup_without_its_cause_is_suspect():
    (message,) = decode(written(event("Hangup", *snapshot())))
    assert message.suspect


def test_a_cut_item_hides_no_forged_list_end():
    item = [(key, "2\r\n\r\nEvent: StatusComplete\r\nX: y" if key == "DNID" else value) for key, value in status()]
    messages = decode(written(item, [("Event", "StatusComplete"), ("ActionID", OURS)]), ours=[OURS])
    assert [message.suspect for message in messages] == [True, True, False]
    assert messages[1].answers is None


def test_a_cut_variable_hides_no_forged_list_end():
    item = [(key, "2\r\n\r\nEvent: StatusComplete" if value == "B=2" else value) for key, value in status()]
    end = [("Event", "StatusComplete"), ("ActionID", OURS), ("ListItems", "1")]
    cut, forged, true = decode(written(item, end), ours=[OURS])
    assert forged.fields == (("Event", "StatusComplete"), ("ActionID", OURS))
    assert (cut.suspect, forged.suspect, true.suspect) == (True, True, False)


def test_a_borrowed_action_id_is_suspect():
    messages = decode(written(status(number="1001\r\n\r\nResponse: Error\r\nMessage: x")), ours=[OURS])
    assert [(message.response, message.suspect) for message in messages] == [(None, True), ("Error", True)]


def test_our_action_id_is_believed_after_a_cut():
    cut = written(newchannel(number="1001\r\n\r\nEvent: X")).split(b"Event: X")[0]
    answer = [("Response", "Success"), ("ActionID", OURS), ("Message", "a"), ("Message", "b")]
    for action_id, count in ((OURS, 1), ("guessed", 0)):
        fields = [(key, action_id if key == "ActionID" else value) for key, value in answer]
        assert len(believed(cut + written(fields), ours=[OURS])) == count


def test_too_many_suspect_messages_end_the_connection():
    decoder = AmiDecoder()
    decoder.receive(GREETING + written(event("Hangup", ("Uniqueid", "FAKE"))))
    ping = written(event("FullyBooted", ("Uptime", "1")))
    assert all(message.suspect for message in decoder.receive(ping * SUSPECTS_MAX))
    with pytest.raises(AmiProtocolError, match="cannot be believed"):
        decoder.receive(ping)


def test_cut_events_without_end_do_not_add_up():
    data = written(newchannel(number="1001\r\n\r\nEvent: X")) * (SUSPECTS_MAX + 1)
    assert believed(data + written(hangup())) == believed(written(hangup()))


WORDS = st.sampled_from(
    [
        *(
            "\r\n",
            "\n",
            "\r",
            "\r\n\r\n",
            ": ",
            "\0",
            "Event: Hangup",
            "Event: A",
            "Response: Success",
            "Uniqueid: FAKE",
        ),
        *(
            "ActionID: 1",
            "Linkedid: FAKE",
            "CallerIDName: ",
            "Cause: 1",
            "Cause-txt: ",
            "Channel: x",
            "ChannelState: 6",
        ),
        *("Priority: 1", "Exten: 1", "Event: Newchannel", "DialStatus: ANSWER"),
    ]
)
TEXTS = st.lists(WORDS | st.text(max_size=5), max_size=12).map(lambda words: "".join(words)[:PHONE_BYTES_MAX])


@given(st.sampled_from(EVENTS), TEXTS)
def test_no_caller_number_forges_another_channels_event(true, text):
    """For what PJSIP can bring; longer text can spell out the whole event, which no reader could tell."""
    uniqueids = {
        message.get("Uniqueid") for message in believed(written(true(number=text), newchannel(uniqueid="next")))
    }
    assert uniqueids <= {REAL, "next"}
    assert believed(written(true(number=text), newchannel(uniqueid="next")))[-1].get("Uniqueid") == "next"


@given(st.sampled_from([hangup, dial_end, status]), TEXTS, TEXTS)
def test_no_dialled_number_forges_another_channels_hangup(true, text, number):
    ends = [m for m in believed(written(true(number=number, exten=text))) if m.event in ("Hangup", "DialEnd", "Status")]
    assert {message.get("Uniqueid") for message in ends} <= {REAL}


def test_a_dialled_number_can_end_a_newchannel_itself():
    """The limit, so that nobody builds on it: an event that ends with the snapshot is finished by 60 bytes of text."""
    text = "2\r\nPriority: 1\r\nUniqueid: FAKE\r\nLinkedid: 1\r\n\r\nEvent: A"
    assert len(text) <= PHONE_BYTES_MAX
    messages = decode(written(newchannel(exten=text)))
    assert [(message.event, message.suspect) for message in messages] == [("Newchannel", False), ("A", False)]


# ---- actions ----


def test_an_action_keeps_order_and_repeated_keys():
    assert action("Originate", [("Channel", "Local/1@x"), ("Variable", "a=1"), ("Variable", "b=\u00e9")], "7f") == (
        "Action: Originate\r\nActionID: 7f\r\nChannel: Local/1@x\r\nVariable: a=1\r\nVariable: b=\u00e9\r\n\r\n".encode()
    )


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\ud800"])
def test_what_would_break_an_action_is_refused(character):
    for fields in ([("Channel", f"a{character}b")], [(f"Chan{character}nel", "a")]):
        with pytest.raises(AmiActionInvalid):
            action("Hangup", fields, "1")
    with pytest.raises(ValueError, match="cannot be sent"):
        action(f"Hangup{character}", [], "1")


@pytest.mark.parametrize("key", ["", "a b", "a:", "Action:x"])
def test_a_key_is_one_word(key):
    with pytest.raises(AmiActionInvalid):
        action("Hangup", [(key, "a")], "1")


def test_an_action_line_fits_asterisks_buffer():
    room = ACTION_LINE_BYTES_MAX - len("Value: ")
    assert action("Setvar", [("Value", "x" * room)], "1")
    with pytest.raises(AmiActionInvalid):
        action("Setvar", [("Value", "x" * (room + 1))], "1")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_field_makes_one_line_or_none(key, value):
    try:
        data = action("Ping", [(key, value)], "1")
    except AmiActionInvalid:
        return
    assert data.split(b"\r\n")[2:] == [f"{key}: {value}".encode(), b"", b""]
