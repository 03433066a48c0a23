"""AGI as a FastAGI server sees it: the bytes of Asterisk into events, commands into bytes.

Knows no socket, no clock and no Twisted. The form of everything is that of Asterisk's ``res_agi.c``, the same from
version 16 to 22. Asterisk ends lines with LF alone; a CR is data here as it is there.

What a phone sends is in this stream: a line feed in a From header or a dialled number becomes lines of the
environment or of an answer. So the environment is taken in its one order only, an answer only when a command
waits for it, and every fault ends the session. One forgery no reader can see: a dialled number (79 bytes) that spells
out all the lines after ``agi_extension`` and the blank line. What is left of the true environment then comes where an
answer belongs and ends the session, but it may come after the script has begun.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from celcombiller.asterisk import wire_text
from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_BYTES_MAX = 65_536
"""Of an answer or a variable. Asterisk has no limit (70,000 were seen); ours ask for a dozen short variables."""
ENVIRONMENT_BYTES_MAX = 65_536
"""Of all the environment. The dialplan expands the arguments of one application into 8 KiB or less."""
ARGUMENTS_MAX = 128
"""MAX_ARGS of res_agi.c."""
USAGE_LINES_MAX = 256
"""Of a 520 answer, which quotes a command's documentation; the longest in res_agi.c has about 40."""
COMMAND_BYTES_MAX = 2046
"""Without the line feed. Asterisk 16 runs what is over it as a second command; 22 does so from 8191 on."""

DEAD = 511
"""Asterisk's answer to a command that a channel which has hung up cannot do."""
UNIQUEID_CHARACTERS_MAX = 150
"""AST_MAX_PUBLIC_UNIQUEID of Asterisk's channel.h, with room for a systemname."""

_KEYS = (
    "agi_network",
    "agi_network_script",
    "agi_request",
    "agi_channel",
    "agi_language",
    "agi_type",
    "agi_uniqueid",
    "agi_version",
    "agi_callerid",
    "agi_calleridname",
    "agi_callingpres",
    "agi_callingani2",
    "agi_callington",
    "agi_callingtns",
    "agi_dnid",
    "agi_rdnis",
    "agi_context",
    "agi_extension",
    "agi_priority",
    "agi_enhanced",
    "agi_accountcode",
    "agi_threadid",
)
_OPTIONAL = "agi_network_script"  # not sent for agi://host and agi://host/
_UNIQUEID = _KEYS.index("agi_uniqueid") + 1
_A_KEY = re.compile(r"agi_[a-z0-9_]{1,28}")

_KNOWN = re.compile("".join(f"(?:{key}: ?+(.*+)\n){'?' if key == _OPTIONAL else ''}" for key in _KEYS))
"""All the variables at once, as they nearly always come; a line at a time is three times the work.

Possessive: a line matches in one way only. Otherwise each line doubles the time of an environment that fails late.
"""

_REPLY = re.compile(r"(\d{3})([ -])(.*)", re.DOTALL)
_OPEN_RESULT = re.compile(r"result=\S* \([^)]*", re.DOTALL)

_VERB = re.compile(r"\w+(?: \w+)*", re.ASCII)
_PLAIN_ARGUMENT = re.compile(r"[\w.:/@+=,*#-]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class AgiProtocolError(BillerError):
    """Asterisk, or who speaks in its place, said what it may not say now, or nothing in time. The session is over."""

    code = "AGI_PROTOCOL"


class AgiCommandRefused(BillerError):
    """Asterisk answered a command with a failure; the session goes on."""

    code = "AGI_REFUSED"

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"Asterisk answered {status} {text!r}")
        self.status = status
        self.text = text


class AgiCommandInvalid(BillerError, ValueError):
    """A command that must not be sent: it would be read as two, or cut."""

    code = "AGI_INVALID"


@dataclass(frozen=True, slots=True)
class Environment:
    """What Asterisk says first: the variables in their order, and the arguments of AGI() in the dialplan."""

    values: Mapping[str, str]
    arguments: tuple[str, ...]


class AgiReply(msgspec.Struct, frozen=True):
    """The answer to the one command outstanding.

    ``text`` is all after the code; of a 520 answer of several lines, its first.
    """

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Hangup:
    """The channel hung up. Sent unasked, so it answers nothing; it may come twice."""


Event = Environment | AgiReply | Hangup


class AgiDecoder:
    """One session's bytes into events. After an error it is of no more use."""

    __slots__ = ("_arguments", "_environment_bytes", "_position", "_reply_expected", "_rest", "_usage", "_values")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._values: dict[str, str] | None = {}
        self._arguments: list[str] = []
        self._position = 0
        self._environment_bytes = 0
        self._reply_expected = False
        self._usage: list[str] | None = None

    def expect_reply(self) -> None:
        """Take one reply from now on: a command has been sent."""
        self._reply_expected = True

    def receive(self, data: bytes) -> list[Event]:
        """Take what arrived and return what it completes.

        All of it is judged before any of it is returned: of two answers where one was due, neither is believed.
        """
        if self._values == {} and not self._rest and len(data) <= LINE_BYTES_MAX and wire_text.is_plain(data):
            data = self._known(data.decode("ascii"))
        if data.endswith(b"\n") and not self._rest and data.find(b"\n") == len(data) - 1 <= LINE_BYTES_MAX:
            event = self._line(data[:-1])  # one line and nothing else, as nearly all of it comes
            return [] if event is None else [event]
        events: list[Event] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            _limit(len(self._rest) + len(line), LINE_BYTES_MAX, "bytes in a line")
            event = self._line(bytes(self._rest) + line if self._rest else line)
            self._rest.clear()
            if event is not None:
                events.append(event)
        self._rest += rest
        _limit(len(self._rest), LINE_BYTES_MAX, "bytes in a line")
        return events

    def _known(self, text: str) -> bytes:
        """Take the variables if they are all there, in their order; give what is left, or all of it."""
        known = _KNOWN.match(text)
        if known is None or len(known[_UNIQUEID]) > UNIQUEID_CHARACTERS_MAX:
            return text.encode()
        self._values = {key: value for key, value in zip(_KEYS, known.groups(), strict=True) if value is not None}
        self._position = len(_KEYS)
        self._environment_bytes = known.end()
        return text[known.end() :].encode()

    def _line(self, line: bytes) -> Event | None:
        text = wire_text.decode(line)
        if self._values is not None:
            self._environment_bytes += len(line) + 1
            _limit(self._environment_bytes, ENVIRONMENT_BYTES_MAX, "bytes of environment")
            return self._environment_line(text, self._values)
        if self._usage is not None:
            return self._usage_line(text, self._usage)
        if text == "HANGUP":
            return Hangup()
        return self._reply_line(text)

    def _environment_line(self, text: str, values: dict[str, str]) -> Environment | None:
        if not text:
            if self._position < len(_KEYS):
                raise AgiProtocolError(f"the environment ended where {_KEYS[self._position]} was due")
            self._values = None
            return Environment(values, tuple(self._arguments))
        key, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if self._position == len(_KEYS):
            _expect(key, f"agi_arg_{len(self._arguments) + 1}")
            self._arguments.append(value)
            _limit(len(self._arguments), ARGUMENTS_MAX, "arguments")
            return None
        if _KEYS[self._position] == _OPTIONAL != key:
            self._position += 1
        expected = _KEYS[self._position]
        _expect(key, expected)
        if expected == "agi_uniqueid":
            _limit(len(value), UNIQUEID_CHARACTERS_MAX, "characters of uniqueid")
        values[expected] = value  # the one string of the key for all sessions: 15,000 of them are held at once
        self._position += 1
        return None

    def _reply_line(self, text: str) -> AgiReply | None:
        if not self._reply_expected:
            raise AgiProtocolError(f"a line of {len(text)} characters answers no command")
        if text.startswith("200 "):
            return self._reply(200, text[4:])
        match = _REPLY.fullmatch(text)
        if match is None:
            raise AgiProtocolError(f"a line of {len(text)} characters is no answer")
        code, mark, rest = match.groups()
        if mark == "-":
            self._usage = [rest]
            return None
        return self._reply(int(code), rest)

    def _usage_line(self, text: str, usage: list[str]) -> AgiReply | None:
        # The lines between are free text, and one of them reads like an answer ("200 result=1 ...").
        if text.startswith("520 "):
            self._usage = None
            return self._reply(520, usage[0])
        usage.append("")
        _limit(len(usage), USAGE_LINES_MAX, "lines in an answer")
        return None

    def _reply(self, code: int, text: str) -> AgiReply:
        self._reply_expected = False
        if "(" in text and not text.endswith(")") and _OPEN_RESULT.fullmatch(text):
            # The value has a line feed in it; what follows would be taken for later answers.
            raise AgiProtocolError("an answer ends within its parentheses")
        return AgiReply(code, text)


def _limit(count: int, count_max: int, what: str) -> None:
    if count > count_max:
        raise AgiProtocolError(f"more than {count_max} {what}")


def _expect(key: str, expected: str) -> None:
    if key != expected:
        # Other text than a key may hold a number of somebody, and goes to the log.
        found = key if _A_KEY.fullmatch(key) else "a line that is no variable"
        raise AgiProtocolError(f"the environment has {found} where {expected} was due")


def command(verb: str, *arguments: str, limit: int = COMMAND_BYTES_MAX) -> bytes:
    """Write one command: the verb as it is (``SET VARIABLE``, ``EXEC DIAL``), each argument quoted where needed."""
    return command_line(command_text(verb, *arguments), limit=limit)


def command_text(verb: str, *arguments: str) -> str:
    """Write a command for `command_line`, or for a library that ends the line itself."""
    if not _VERB.fullmatch(verb):
        raise AgiCommandInvalid(f"{verb!r} is no AGI verb")
    return " ".join([verb, *map(_quoted, arguments)])


def command_line(text: str, *, limit: int = COMMAND_BYTES_MAX) -> bytes:
    """Write a command that is quoted already; refuse what Asterisk would read as another command or cut."""
    if not text.isprintable() and _CONTROL.search(text):
        raise AgiCommandInvalid("a control character cannot be sent in an AGI command")
    try:
        line = wire_text.encode(text)
    except UnicodeEncodeError as error:
        raise AgiCommandInvalid("a lone surrogate cannot be sent in an AGI command") from error
    if len(line) > limit:
        raise AgiCommandInvalid(f"an AGI command of {len(line)} bytes is over the {limit} that Asterisk reads")
    return line + b"\n"


def _quoted(argument: str) -> str:
    if _PLAIN_ARGUMENT.fullmatch(argument):
        return argument
    return '"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"'
