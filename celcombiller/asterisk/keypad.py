"""A caller's keys: what they enter, between what they hear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionClosed

from celcombiller.asterisk.agi.codec import DEAD, AgiCommandRefused, command_text
from celcombiller.asterisk.balance_prompts import Verb, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


DIGITS = "0123456789"
KEYS = f"{DIGITS}*#"
END = "#"
FAILED = "-1"
"""Asterisk's result of what could not be played, and of any wait on a channel that has hung up."""


_SILENCE = Word(Verb.SOUND, "silence/1")
"""A second of nothing, while the first key is waited for."""


class CallerGone(Exception):
    """The caller has hung up."""


class Keypad:
    """The keys of one channel. Any key ends what is being said, and counts.

    ``seconds`` is how long a key is waited for. Every method raises `CallerGone`.
    """

    def __init__(self, agi: Any, seconds: int) -> None:
        self._agi = agi
        self._milliseconds = seconds * 1000

    async def say(self, words: Iterable[Word]) -> str:
        """Play the sounds until a key is pressed; return that key, or an empty text. Missing sounds are left out."""
        for word in words:
            result = await self._ask(word.verb, word.what, KEYS)
            if result == FAILED and word.verb is Verb.NUMBER:  # a language without the grammar of big numbers
                result = await self._ask(Verb.DIGITS, word.what, KEYS)
            if result != FAILED and _key_of(result):
                return _key_of(result)
        return ""

    async def read(self, words: Sequence[Word], *, digits_max: int, allowed: str = DIGITS) -> str | None:
        """Play the sounds, and return the keys up to ``#`` or a pause; ``None`` for no keys, or for keys not allowed.

        One command collects all of them: between two, Asterisk throws keys away.
        """
        *before, last = [*words, _SILENCE]
        first = await self.say(before)
        if first in (END, "") or first in allowed:
            entered = "" if first == END else first + await self._collect(last.what, digits_max - len(first))
            return entered if entered and set(entered) <= set(allowed) else None
        return None

    async def _collect(self, sound: str, digits_max: int) -> str:
        if digits_max < 1:
            return ""
        result = await self._ask("GET DATA", sound, str(self._milliseconds), str(digits_max))
        if result == FAILED:
            raise CallerGone
        return result

    async def read_key(self) -> str:
        """Return the next key, or nothing where none comes in time."""
        result = await self._ask("WAIT FOR DIGIT", str(self._milliseconds))
        if result == FAILED:
            raise CallerGone
        return _key_of(result)

    async def _ask(self, *command: str) -> str:
        """Return the result of a command: the ASCII code of the key that ended it, 0, or `FAILED`."""
        if self._agi.hungup:
            raise CallerGone
        try:
            return str(await self._agi.sendCommand(command_text(*command))).partition(" ")[0]
        except AgiCommandRefused as refusal:
            if self._agi.hungup or refusal.status == DEAD:
                raise CallerGone from None
            return FAILED
        except ConnectionClosed:
            raise CallerGone from None


def _key_of(result: str) -> str:
    key = chr(int(result)) if result.isascii() and result.isdigit() and len(result) <= 3 else ""  # noqa: PLR2004
    return key if key in KEYS else ""
