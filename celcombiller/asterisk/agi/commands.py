"""The commands of AGI on a session, under starpy's names; and as functions what starpy lacks or does wrong."""

from __future__ import annotations

import re
from os import urandom
from typing import Protocol

from twisted.internet.defer import Deferred

from celcombiller.asterisk.agi.codec import AgiCommandRefused, AgiProtocolError, command_text

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_PLAYED = re.compile(r"([0-9]{1,18}) endpos=([0-9]{1,18})")


class AgiAsker(Protocol):
    """A session that can ask a command."""

    def sendCommand(self, commandString: str) -> Deferred[str]:
        """Ask one command; fires with what follows ``200 result=``."""


class AgiSession(AgiAsker, Protocol):
    """What a script may count on, on our protocol and on starpy's."""

    variables: dict[str, str]
    hungup: bool
    """Whether the caller has hung up."""

    def finish(self) -> None:
        """End the session; the dialplan goes on."""


async def full_variable(agi: AgiAsker, expression: str) -> str:
    """Evaluate a dialplan expression on the channel, such as ``${DIALSTATUS}|${HANGUPCAUSE}``: one round trip."""
    return _value(await agi.sendCommand(command_text("GET FULL VARIABLE", expression)))


async def ask(agi: AgiSession, *expressions: str) -> list[str]:
    """Evaluate expressions on the channel in one round trip that only this channel's Asterisk can answer."""
    nonce = urandom(8).hex()
    answer = await full_variable(agi, "|".join((nonce, *expressions)))
    first, *values = answer.split("|")
    if first != nonce or len(values) != len(expressions):
        raise AgiProtocolError("the answer is not to the question that was asked")
    return values


def arguments_of(agi: AgiSession) -> list[str]:
    """Return the arguments of the dialplan's AGI() line."""
    found: list[str] = []
    while (value := agi.variables.get(f"agi_arg_{len(found) + 1}")) is not None:
        found.append(value)
    return found


def argument_of(agi: AgiSession, pattern: re.Pattern[str]) -> str | None:
    """Return the group of the first argument that is all of this pattern, such as ``stamp=(...)``."""
    found = next(filter(None, map(pattern.fullmatch, arguments_of(agi))), None)
    return None if found is None else found[1]


async def set_variable(agi: AgiSession, name: str, value: str) -> None:
    """Set a channel variable; starpy's own ``setVariable`` quotes twice, and a value with a space breaks it."""
    await agi.sendCommand(command_text("SET VARIABLE", name, value))


class AgiCommands:
    """Starpy's commands, for a protocol that can ask one."""

    def sendCommand(self, commandString: str) -> Deferred[str]:
        """Ask one command; fires with what follows ``200 result=``."""
        raise NotImplementedError

    def _ask(self, verb: str, *arguments: object, failure: str | None = None) -> Deferred[str]:
        answer = self.sendCommand(command_text(verb, *map(str, arguments)))
        return answer if failure is None else answer.addCallback(_checked, failure)

    def answer(self) -> Deferred[int]:
        """Answer the channel. On PJSIP this takes half a second when no media comes."""
        return self._ask("ANSWER", failure="-1").addCallback(_integer)

    def hangup(self, channel: str | None = None) -> Deferred[int]:
        """Hang up this channel, or another by name."""
        arguments = () if channel is None else (channel,)
        return self._ask("HANGUP", *arguments, failure="-1").addCallback(_integer)

    def channelStatus(self, channel: str | None = None) -> Deferred[int]:
        """Ask the channel's state: 4 ringing, 6 up."""
        arguments = () if channel is None else (channel,)
        return self._ask("CHANNEL STATUS", *arguments, failure="-1").addCallback(_integer)

    def getVariable(self, variable: str) -> Deferred[str]:
        """Read one variable, at most 1023 characters of it; one that is not set is an `AgiCommandRefused`."""
        return self._ask("GET VARIABLE", variable).addCallback(_value)

    def getFullVariable(self, expression: str) -> Deferred[str]:
        """Evaluate a dialplan expression; starpy lacks this, see `full_variable`."""
        return Deferred.fromCoroutine(full_variable(self, expression))

    def setVariable(self, variable: str, value: object) -> Deferred[int]:
        """Set a channel variable; the value is taken literally."""
        return self._ask("SET VARIABLE", variable, value).addCallback(_integer)

    def execute(self, application: str, *options: object, comma_delimiter: bool = True) -> Deferred[str]:
        """Run a dialplan application with its options; one that does not exist is an `AgiCommandRefused`."""
        arguments = [("," if comma_delimiter else "|").join(map(str, options))] if options else []
        return self._ask(f"EXEC {application}", *arguments, failure="-2")

    def setAutoHangup(self, time: float) -> Deferred[int]:
        """Ask Asterisk to hang up this channel after this many seconds; 0 cancels."""
        return self._ask("SET AUTOHANGUP", time, failure="-1").addCallback(_integer)

    def streamFile(self, filename: str, escapeDigits: str = "", offset: int = 0) -> Deferred[tuple[int, int]]:
        """Play a sound; fires with the digit that ended it and the sample it ended at."""
        answer = self._ask("STREAM FILE", filename, escapeDigits, offset, failure="-1")
        return answer.addCallback(_played, offset)

    def noop(self, message: str | None = None) -> Deferred[int]:
        """Do nothing, and learn that the session lives."""
        arguments = () if message is None else (message,)
        return self._ask("NOOP", *arguments, failure="-1").addCallback(_integer)

    def verbose(self, message: str, level: int | None = None) -> Deferred[int]:
        """Write a line to Asterisk's own log."""
        arguments: tuple[object, ...] = (message,) if level is None else (message, level)
        return self._ask("VERBOSE", *arguments).addCallback(_integer)


def _checked(text: str, failure: str) -> str:
    if text.partition(" ")[0] == failure:
        raise AgiCommandRefused(200, text)
    return text


def _integer(text: str) -> int:
    number = text.partition(" ")[0]
    if not _NUMBER.fullmatch(number):
        raise AgiCommandRefused(200, text)
    return int(number)


def _value(text: str) -> str:
    result, _, value = text.partition(" ")
    if result != "1" or not (value.startswith("(") and value.endswith(")")):
        raise AgiCommandRefused(200, text)
    return value[1:-1]


def _played(text: str, offset: int) -> tuple[int, int]:
    match = _PLAYED.fullmatch(text)
    if match is None or int(match[2]) == offset:  # nothing was played: the file is not there
        raise AgiCommandRefused(200, text)
    return int(match[1]), int(match[2])
