"""AMI as a manager client sees it: the bytes of Asterisk into messages, actions into bytes.

Knows no socket, no clock and no Twisted.

What a phone sends is in this stream too. A line feed in a From header cuts an event off in the middle, lines of the
phone's own follow (which may be whole events), and then the rest of the true one. Asterisk writes an event at once and
writes the lines of a channel, the *snapshot*, always all and in one order (``manager_channels.c``, the same from
version 16 to 22). So a snapshot that is not whole shows the cut, and the decoder marks as suspect everything from
there until the missing keys have come. A response that has our ActionID directly after its first line is always
believed: the ActionID is random, and nothing of a phone stands before it. An event with it is not: cut in its last
variable, the item of a list gives its ActionID to whatever line the phone ended with.

What this cannot see, so that a message alone must never move credit:

- text that spells out the rest of the event itself. From PJSIP a number has at most 79 bytes (AST_CHANNEL_NAME,
  AST_MAX_EXTENSION); the rest after CallerIDNum is over 140, but after Exten only 36 in events that end there;
- text in the last value of a message: nothing of the true one comes after it (DialString, the Value of a Getvar);
- events without a snapshot, whose form we do not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.asterisk import wire_text
from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

LINE_BYTES_MAX = 65_536
"""A channel variable in a VarSet may be long; 70,000 were seen in AGI. What we listen to has some hundred."""
FIELDS_MAX = 1024
"""Of one message. ListCommands answers about 200, a Status with all variables of a channel less."""
MESSAGE_BYTES_MAX = 1_048_576
SUSPECTS_MAX = 32
"""Messages after a cut one. 79 bytes make no more than a dozen; over it we have lost the thread, and reconnect."""
ACTION_LINE_BYTES_MAX = 1022
"""Asterisk's input buffer is 1024 bytes with the line end (``inbuf`` in manager.c)."""

_GREETING = "Asterisk Call Manager/"
_KEY = re.compile(r"[\w-]+", re.ASCII)
_LINE_BREAK = re.compile(r"[\r\n\x00]")

_SNAPSHOT = (
    "channel",
    "channelstate",
    "channelstatedesc",
    "calleridnum",
    "calleridname",
    "connectedlinenum",
    "connectedlinename",
    "language",
    "accountcode",
    "context",
    "exten",
    "priority",
    "uniqueid",
    "linkedid",
)
_SNAPSHOTS_OF: Mapping[str, tuple[str, ...]] = {
    "newchannel": ("",),
    "newstate": ("",),
    "newcallerid": ("",),
    "newconnectedline": ("",),
    "newaccountcode": ("",),
    "newexten": ("",),
    "hangup": ("",),
    "hanguprequest": ("",),
    "softhanguprequest": ("",),
    "bridgeenter": ("",),
    "bridgeleave": ("",),
    "status": ("",),
    # The caller's own is missing when AMI or a call file dialled.
    "dialbegin": ("dest",),
    "dialstate": ("dest",),
    "dialend": ("dest",),
}
"""The prefixes of the snapshots an event must have. Any other event must finish the ones it begins."""
_ENDS_OF: Mapping[str, tuple[str, ...]] = {
    "hangup": ("cause", "cause-txt"),
    "status": ("seconds", "actionid"),
    "dialbegin": ("dialstring",),
    "dialstate": ("dialstatus",),
    "dialend": ("dialstatus",),
}
"""What must come after the snapshots."""
_REPEATABLE = ("variable", "chanvariable", "output", "filename")


class AmiProtocolError(BillerError):
    """What came is not AMI, is over a limit, can no longer be trusted, or did not come in time."""

    code = "AMI_PROTOCOL"


class AmiRefused(BillerError):
    """Asterisk answered an action with an error."""

    code = "AMI_REFUSED"


class AmiActionInvalid(BillerError, ValueError):
    """An action that must not be sent: it would be read as two, or cut."""

    code = "AMI_INVALID"


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first line Asterisk sends."""

    version: str


@dataclass(frozen=True, slots=True)
class AmiMessage:
    """One event or response. ``suspect``: text of a phone may have made it or changed it."""

    fields: tuple[tuple[str, str], ...]
    suspect: bool = False

    def get(self, key: str) -> str | None:
        """Return the first value of a key, in whatever case it is written."""
        key = key.lower()
        return next((value for name, value in self.fields if name.lower() == key), None)

    @property
    def event(self) -> str | None:
        """The event's name, if this is an event."""
        return self._at(0, "event")

    @property
    def response(self) -> str | None:
        """What a response says, if this is one: Success, Error, Goodbye."""
        return self._at(0, "response")

    @property
    def action_id(self) -> str | None:
        """The ActionID, wherever it stands."""
        return self.get("ActionID")

    @property
    def answers(self) -> str | None:
        """The ActionID directly after the first line, where no text of a phone can stand before it."""
        return self._at(1, "actionid")

    def _at(self, index: int, key: str) -> str | None:
        if index < len(self.fields) and self.fields[index][0].lower() == key:
            return self.fields[index][1]
        return None


class AmiDecoder:
    """One connection's bytes into a greeting and messages. After an error it is of no more use.

    ``ours`` has the ActionIDs that we wait for; its owner keeps it up to date.
    """

    __slots__ = ("_debt", "_fields", "_greeted", "_message_bytes", "_ours", "_rest", "_suspects")

    def __init__(self, ours: Container[str] = ()) -> None:
        self._ours = ours
        self._rest = bytearray()
        self._greeted = False
        self._fields: list[tuple[str, str]] = []
        self._message_bytes = 0
        self._debt: tuple[str, ...] = ()  # the keys that a cut event still owes
        self._suspects = 0

    def receive(self, data: bytes) -> list[Greeting | AmiMessage]:
        """Take what arrived and return what it completes."""
        done: list[Greeting | AmiMessage] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            _limit(len(self._rest) + len(line), LINE_BYTES_MAX, "bytes in a line")
            whole = self._line(bytes(self._rest) + line if self._rest else line)
            self._rest.clear()
            if whole is not None:
                done.append(whole)
        self._rest += rest
        _limit(len(self._rest), LINE_BYTES_MAX, "bytes in a line")
        return done

    def _line(self, line: bytes) -> Greeting | AmiMessage | None:
        text = wire_text.decode(line.removesuffix(b"\r"))
        if not self._greeted:
            if not text.startswith(_GREETING):
                raise AmiProtocolError("the peer does not greet as Asterisk does")
            self._greeted = True
            return Greeting(text.removeprefix(_GREETING).strip())
        if text:
            key, colon, value = text.partition(":")
            # A line without a colon is no field of Asterisk's, but the rest of some value.
            self._fields.append((key.strip(), value.strip()) if colon else ("", text))
            self._message_bytes += len(line)
            _limit(len(self._fields), FIELDS_MAX, "lines in a message")
            _limit(self._message_bytes, MESSAGE_BYTES_MAX, "bytes in a message")
            return None
        if not self._fields:
            return None
        fields, self._fields, self._message_bytes = tuple(self._fields), [], 0
        message = AmiMessage(fields)
        return AmiMessage(fields, suspect=True) if self._is_suspect(message) else message

    def _is_suspect(self, message: AmiMessage) -> bool:
        if message.response is not None and message.answers is not None and message.answers in self._ours:
            return False
        keys = [key.lower() for key, _ in message.fields]
        if self._debt:
            self._debt = _unpaid(self._debt, keys)
            self._suspects += 1
            _limit(self._suspects, SUSPECTS_MAX, "messages that cannot be believed")
            return True
        expected, is_orderly = _form(keys, (message.event or "").lower())
        self._debt = _unpaid(expected, keys)
        self._suspects = 0
        return bool(self._debt) or not is_orderly or keys[0] not in ("event", "response")


def _form(keys: Sequence[str], event: str) -> tuple[tuple[str, ...], bool]:
    """Return the keys that an event with these must have, and whether what it has is in order and there once."""
    single = [key for key in keys if not key.endswith(_REPEATABLE)]
    is_orderly = len(single) == len(set(single))
    prefixes: list[str] = []
    for index, key in enumerate(keys):
        prefix = key.removesuffix("channelstate")
        if prefix != key and index and keys[index - 1] == prefix + "channel":
            prefixes.append(prefix)
            block = [prefix + name for name in _SNAPSHOT]
            is_orderly = is_orderly and list(keys[index - 1 : index - 1 + len(block)]) == block
    prefixes += [prefix for prefix in _SNAPSHOTS_OF.get(event, ()) if prefix not in prefixes]
    expected = [prefix + name for prefix in prefixes for name in _SNAPSHOT]
    return (*expected, *_ENDS_OF.get(event, ())), is_orderly


def _unpaid(expected: Sequence[str], keys: Iterable[str]) -> tuple[str, ...]:
    """Return the end of what is expected that has not come yet, in its order."""
    paid = 0
    for key in keys:
        if paid < len(expected) and key == expected[paid]:
            paid += 1
    return tuple(expected[paid:])


def _limit(count: int, count_max: int, what: str) -> None:
    if count > count_max:
        raise AmiProtocolError(f"more than {count_max} {what}")


def action(name: str, fields: Iterable[tuple[str, str]], action_id: str) -> bytes:
    """Write one action; a key may come more than once (Variable)."""
    lines = [_action_line(key, value) for key, value in (("Action", name), ("ActionID", action_id), *fields)]
    return b"".join(lines) + b"\r\n"


def _action_line(key: str, value: str) -> bytes:
    if not _KEY.fullmatch(key):
        raise AmiActionInvalid(f"{key!r} is no AMI key")
    if _LINE_BREAK.search(value):
        raise AmiActionInvalid(f"a line break or NUL cannot be sent in {key}")
    try:
        line = wire_text.encode(f"{key}: {value}")
    except UnicodeEncodeError as error:
        raise AmiActionInvalid(f"a lone surrogate cannot be sent in {key}") from error
    if len(line) > ACTION_LINE_BYTES_MAX:
        raise AmiActionInvalid(f"{key} of {len(line)} bytes is over the {ACTION_LINE_BYTES_MAX} that Asterisk reads")
    return line + b"\r\n"


def is_whole_list(items: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a list has the number of events that its last one says; not so if text of a phone cut one."""
    count = sum("event" in item for item in items) - 1
    return items[-1].get("listitems", str(count)) == str(count)
