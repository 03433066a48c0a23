"""The AGI codec, on values alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.asterisk.agi.codec import (
    ARGUMENTS_MAX,
    COMMAND_BYTES_MAX,
    ENVIRONMENT_BYTES_MAX,
    LINE_BYTES_MAX,
    USAGE_LINES_MAX,
    AgiCommandInvalid,
    AgiDecoder,
    AgiProtocolError,
    AgiReply,
    Environment,
    Hangup,
    command,
    command_line,
)
from tests.support.work_measures import is_cheap

VALUES = {
    "agi_network": "yes",
    "agi_network_script": "caller",
    "agi_request": "agi://127.0.0.1:4573/caller",
    "agi_channel": "PJSIP/1001-00000000",
    "agi_language": "en",
    "agi_type": "PJSIP",
    "agi_uniqueid": "1795387182.0",
    "agi_version": "22.10.1",
    "agi_callerid": "1001",
    "agi_calleridname": "Al Ice",
    "agi_callingpres": "0",
    "agi_callingani2": "0",
    "agi_callington": "0",
    "agi_callingtns": "0",
    "agi_dnid": "2000",
    "agi_rdnis": "unknown",
    "agi_context": "caller",
    "agi_extension": "2000",
    "agi_priority": "2",
    "agi_enhanced": "0.0",
    "agi_accountcode": "",
    "agi_threadid": "140690053187264",
}


def environment(values=VALUES, arguments=()):
    lines = [f"{key}: {value}\n" for key, value in values.items()]
    lines += [f"agi_arg_{i}: {value}\n" for i, value in enumerate(arguments, 1)]
    return "".join([*lines, "\n"]).encode()


def chunks_of(data):
    """One stream as the network may deliver it: whole, byte by byte, and cut anywhere."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    cuts = sorted(random.Random(len(data)).choices(range(len(data) + 1), k=5))
    yield [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def run(cut, parts):
    """Events of an environment and then of each part as the answer to one command."""
    decoder, events = AgiDecoder(), []
    for number, part in enumerate(parts):
        if number:
            decoder.expect_reply()
        for chunk in list(chunks_of(part))[cut]:
            events += decoder.receive(chunk)
    return events


def decode(*parts, trailing=b""):
    """The same however the parts are cut."""
    parts = [*parts[:-1], parts[-1] + trailing]
    whole, *cut = [run(i, parts) for i in range(3)]
    assert cut == [whole, whole]
    return whole


def answers(*parts):
    return decode(environment(), *parts, trailing=b"HANG")[1:]


def fault_of(*parts):
    faults = set()
    for cut in range(3):
        with pytest.raises(AgiProtocolError) as caught:
            run(cut, parts)
        faults.add(str(caught.value))
    assert len(faults) == 1
    return faults.pop()


# ---- environment ----


def test_the_environment_keeps_argument_order():
    (event,) = decode(environment(arguments=["2000", "", "a b"]), trailing=b"HANGU")
    assert event == Environment(VALUES, ("2000", "", "a b"))
    assert list(event.values) == list(VALUES)


def test_a_missing_path_has_no_script_name():
    without = {key: value for key, value in VALUES.items() if key != "agi_network_script"}
    assert decode(environment(without)) == [Environment(without, ())]


@pytest.mark.parametrize("missing", [key for key in VALUES if key != "agi_network_script"])
def test_an_environment_that_lacks_a_key_is_refused(missing):
    fault = fault_of(environment({key: value for key, value in VALUES.items() if key != missing}))
    assert f"where {missing} was due" in fault


@pytest.mark.parametrize("number", range(len(VALUES) - 1))
def test_an_environment_in_another_order_is_refused(number):
    items = list(VALUES.items())
    items[number], items[number + 1] = items[number + 1], items[number]
    fault_of(environment(dict(items)))


def injected(key, text):
    return environment({**VALUES, key: text})


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (injected("agi_callerid", "1001\nagi_accountcode: VIP"), "agi_accountcode where agi_calleridname"),
        (injected("agi_callerid", "1001\nagi_callerid: 1002"), "agi_callerid where agi_calleridname"),
        (injected("agi_extension", "2000\nagi_arg_1: evil"), "agi_arg_1 where agi_priority"),
        (injected("agi_callerid", "1001\n\n200 result=1 (PWNED)"), "ended where agi_calleridname"),
        (injected("agi_callerid", "1001\nfive five 5551234"), "a line that is no variable where"),
        (environment(arguments=["line1\nline2"]), "a line that is no variable where agi_arg_2"),
        (environment(arguments=["x\nagi_arg_3: y"]), "agi_arg_3 where agi_arg_2"),
        (environment(arguments=["x\nagi_accountcode: VIP"]), "agi_accountcode where agi_arg_2"),
    ],
)
def test_injected_environment_lines_are_refused(data, found):
    assert found in fault_of(data)


def test_a_fault_shows_no_text_of_the_phone():
    assert "5551234" not in fault_of(injected("agi_callerid", "1001\n5551234: x"))


FORGED_END = "2\nagi_priority: 1\nagi_enhanced: 0.0\nagi_accountcode: V\nagi_threadid: 1\n"


def test_a_forged_environment_end_is_refused():
    assert len(FORGED_END) <= 79
    with pytest.raises(AgiProtocolError, match="answers no command"):
        AgiDecoder().receive(injected("agi_extension", FORGED_END))


def test_a_forged_environment_end_answers_no_command():
    """The limit of what can be known: cut at the worst place, the script begins before the rest comes."""
    data = injected("agi_extension", FORGED_END)
    end = data.index(b"\n\n") + 2
    decoder = AgiDecoder()
    (event,) = decoder.receive(data[:end])
    assert event.values["agi_accountcode"] == "V"
    decoder.expect_reply()
    with pytest.raises(AgiProtocolError, match="is no answer"):
        decoder.receive(data[end:])


def test_bytes_not_utf8_keep_the_session():
    data = environment().replace(b"Al Ice", b"Jos\xe9")
    (event,) = decode(data)
    assert event.values["agi_calleridname"] == "Jos\uefe9"


def test_a_carriage_return_is_data():
    (event,) = decode(environment({**VALUES, "agi_calleridname": "a\rb\r"}))
    assert event.values["agi_calleridname"] == "a\rb\r"


def test_at_most_asterisks_arguments_are_read():
    (event,) = decode(environment(arguments=["x"] * ARGUMENTS_MAX))
    assert len(event.arguments) == ARGUMENTS_MAX
    assert "arguments" in fault_of(environment(arguments=["x"] * (ARGUMENTS_MAX + 1)))


def test_the_environment_has_a_limit_of_bytes():
    room = ENVIRONMENT_BYTES_MAX - len(environment())
    (event,) = decode(environment({**VALUES, "agi_calleridname": "Al Ice" + "x" * room}))
    assert len(event.values["agi_calleridname"]) == room + 6
    assert "of environment" in fault_of(environment({**VALUES, "agi_calleridname": "Al Ice" + "x" * (room + 1)}))


def test_an_environment_reads_the_same_wherever_cut():
    data = environment(arguments=["2000"])
    for cut in range(len(data) + 1):
        decoder = AgiDecoder()
        assert decoder.receive(data[:cut]) + decoder.receive(data[cut:]) == [Environment(VALUES, ("2000",))]


@pytest.mark.parametrize(
    "data",
    [
        environment()[:-2],
        environment().replace(b"agi_threadid", b"agi_threadie"),
        environment(dict.fromkeys(VALUES, " " * 20))[:-2],
    ],
    ids=["its last line feed is to come", "its last key is wrong", "its values are blanks"],
)
def test_an_environment_that_fails_late_is_cheap(data):
    assert is_cheap(lambda: AgiDecoder().receive(data), lambda: AgiDecoder().receive(environment()))


# ---- answers ----


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("200 result=0", AgiReply(200, "result=0")),
        ("200 result=-1", AgiReply(200, "result=-1")),
        ("200 result=1 (ANSWER|2002)", AgiReply(200, "result=1 (ANSWER|2002)")),
        ("200 result=1 ()", AgiReply(200, "result=1 ()")),
        ("200 result=1 (a (b) c)", AgiReply(200, "result=1 (a (b) c)")),
        ("200 result=0 (timeout) endpos=8", AgiReply(200, "result=0 (timeout) endpos=8")),
        ("200 result=0 endpos=8", AgiReply(200, "result=0 endpos=8")),
        ("510 Invalid or unknown command", AgiReply(510, "Invalid or unknown command")),
        ("511 Command Not Permitted", AgiReply(511, "Command Not Permitted")),
        ("520 Invalid command syntax.", AgiReply(520, "Invalid command syntax.")),
    ],
)
def test_an_answer_is_read_into_its_parts(line, reply):
    assert answers(line.encode() + b"\n") == [reply]


def test_a_multi_line_answer_is_one_answer():
    usage = (
        b"520-Invalid command syntax.  Proper usage follows:\n Usage: GET VARIABLE\n"
        b"200 result=1 (x)\nHANGUP\n\n520 End of proper usage.\n"
    )
    assert answers(usage, b"200 result=0\n") == [
        AgiReply(520, "Invalid command syntax.  Proper usage follows:"),
        AgiReply(200, "result=0"),
    ]


def test_a_hangup_is_no_answer():
    assert answers(b"HANGUP\n200 result=1 (ANSWER)\n", b"HANGUP\n200 result=-1\n") == [
        Hangup(),
        AgiReply(200, "result=1 (ANSWER)"),
        Hangup(),
        AgiReply(200, "result=-1"),
    ]


def test_a_hangup_may_come_when_no_command_waits():
    assert decode(environment() + b"HANGUP\n")[1:] == [Hangup()]


def test_an_unexpected_line_is_refused():
    assert "answers no command" in fault_of(environment() + b"200 result=1 (PWNED)\n")


def test_of_two_answers_neither_is_believed():
    decoder = AgiDecoder()
    decoder.receive(environment())
    decoder.expect_reply()
    with pytest.raises(AgiProtocolError, match="answers no command"):
        decoder.receive(b"200 result=1 (x)\n200 result=1 (PWNED)\n")


@pytest.mark.parametrize("line", ["", "hello", "20 result=1", "2000 result=1", "200", "agi_arg_1: x", "200\tresult=1"])
def test_a_line_that_is_no_answer_is_refused(line):
    assert "is no answer" in fault_of(environment(), line.encode() + b"\n")


def test_an_answer_cut_by_line_feed_is_refused():
    assert "within its parentheses" in fault_of(environment(), b"200 result=1 (line1\n")


def test_a_line_has_a_limit():
    value = "x" * (LINE_BYTES_MAX - len("200 result=1 ()"))
    (reply,) = answers(f"200 result=1 ({value})\n".encode())
    assert reply.text == f"result=1 ({value})"
    assert "in a line" in fault_of(environment(), f"200 result=1 (x{value})\n".encode())
    assert "in a line" in fault_of(environment(), b"2" * (LINE_BYTES_MAX + 1))


def test_an_answer_of_several_lines_has_a_limit():
    head, end = b"520-Usage:\n", b"520 End\n"
    assert len(answers(head + b"x\n" * (USAGE_LINES_MAX - 1) + end)) == 1
    assert "lines in an answer" in fault_of(environment(), head + b"x\n" * USAGE_LINES_MAX)


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"HANGUP\n", b"200 result=1 (", b")\n", b"520-x\n", b"\n"])))
def test_only_codec_errors_leave_the_decoder(parts):
    for beginning in (b"", environment()):
        decoder = AgiDecoder()
        decoder.receive(beginning)
        for part in parts:
            decoder.expect_reply()
            try:
                decoder.receive(part)
            except AgiProtocolError:
                break


# ---- commands ----


def parsed(line):
    """Split as ``parse_args`` of res_agi.c does."""
    words, word, quoted, escaped = [], None, False, False
    for char in line:
        if char == '"' and not escaped:
            quoted = not quoted
            word = "" if word is None else word
        elif char in " \t" and not quoted and not escaped:
            words += [] if word is None else [word]
            word = None
        elif char == "\\" and not escaped:
            escaped = True
        else:
            word, escaped = (word or "") + char, False
    return words + ([] if word is None else [word])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("NOOP",), b"NOOP\n"),
        (("GET VARIABLE", "DIALSTATUS"), b"GET VARIABLE DIALSTATUS\n"),
        (("SET VARIABLE", "X", "a b"), b'SET VARIABLE X "a b"\n'),
        (("SET VARIABLE", "X", ""), b'SET VARIABLE X ""\n'),
        (("SET VARIABLE", "X", 'say "hi" \\ back'), b'SET VARIABLE X "say \\"hi\\" \\\\ back"\n'),
        (("EXEC DIAL", "PJSIP/1002,30,L(2000)"), b'EXEC DIAL "PJSIP/1002,30,L(2000)"\n'),
        (("VERBOSE", "Jos\u00e9"), b'VERBOSE "Jos\xc3\xa9"\n'),
    ],
)
def test_arguments_are_quoted_where_asterisk_needs_it(words, line):
    assert command(*words) == line


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40), max_size=6))
def test_asterisk_reads_the_arguments_that_were_given(arguments):
    line = command("SET VARIABLE", *arguments)
    assert line.count(b"\n") == 1
    assert parsed(line.decode().removesuffix("\n")) == ["SET", "VARIABLE", *arguments]


@given(st.text(max_size=60))
def test_any_text_makes_one_line_or_none(text):
    try:
        line = command("VERBOSE", text)
    except AgiCommandInvalid:
        return
    assert line.endswith(b"\n")
    assert not any(byte < 32 or byte == 127 for byte in line[:-1])


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\t", "\x1b", "\x7f", "\ud800"])
def test_what_would_break_a_command_is_refused(character):
    with pytest.raises(AgiCommandInvalid):
        command("SET VARIABLE", "X", f"a{character}b")
    with pytest.raises(ValueError, match="cannot be sent"):
        command_line(f"VERBOSE a{character}b")


@pytest.mark.parametrize("verb", ["", " NOOP", 'EXEC "DIAL"', "EXEC DIAL x,y", "NOOP  X", "NOOP\n"])
def test_a_verb_is_plain_words(verb):
    with pytest.raises(AgiCommandInvalid):
        command(verb)


def test_a_command_fits_the_oldest_asterisks_buffer():
    room = COMMAND_BYTES_MAX - len("VERBOSE ")
    assert len(command("VERBOSE", "x" * room)) == COMMAND_BYTES_MAX + 1
    with pytest.raises(AgiCommandInvalid):
        command("VERBOSE", "x" * (room + 1))
    assert command("VERBOSE", "x" * (room + 1), limit=8191)
