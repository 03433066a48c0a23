"""A balance as a channel hears it: in Asterisk's own sounds and numbers, in the language of the channel.

The sounds are those of Debian's and Digium's ``core-sounds`` packages. A language may lack one, and may not have the
grammar of big numbers: then the rest is said all the same, a number at least digit by digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionClosed

from celcombiller.asterisk.agi.codec import DEAD, AgiCommandRefused, command_text
from celcombiller.core.ledger.balance_format import BalanceStyle, decimal_parts, minutes_and_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


NUMBER_MAX = 999_999_999
"""SAY NUMBER has no word for more in English (say.c); the command itself reads 32 bits."""

MINUS = "digits/minus"
POINT = "letters/dot"
AND = "vm-and"

_BARE = BalanceStyle(as_time=False)


class Verb(StrEnum):
    """What the channel is asked to play."""

    SOUND = "STREAM FILE"
    NUMBER = "SAY NUMBER"
    DIGITS = "SAY DIGITS"


@dataclass(frozen=True, slots=True)
class Word:
    """One thing to be heard: a sound's name, or the digits of a number."""

    verb: Verb
    what: str


def balance(available: int, style: BalanceStyle, *, intro: str, unit: str) -> Iterator[Word]:
    """Return the words of a voice balance: ``intro`` before it, ``unit`` after a number (sounds; empty: none)."""
    if intro:
        yield Word(Verb.SOUND, intro)
    if available < 0:
        yield Word(Verb.SOUND, MINUS)
    if style.as_time:
        minutes, seconds = minutes_and_seconds(available)
        if minutes:
            yield from (_number(minutes), Word(Verb.SOUND, "minute" if minutes == 1 else "minutes"))
        if seconds or not minutes:
            yield from (_number(seconds), Word(Verb.SOUND, "second" if seconds == 1 else "seconds"))
        return
    said = decimal_parts(available, style.scale)
    yield _number(said.whole)
    if said.decimals:
        yield from (Word(Verb.SOUND, POINT), Word(Verb.DIGITS, said.decimals))
    if unit:
        yield Word(Verb.SOUND, unit)


def messages(available: int, *, unit: str) -> Iterator[Word]:
    """Return the words of the credit for text messages, a number, which follow a voice balance."""
    return balance(available, _BARE, intro=AND, unit=unit)


def bundles(seconds: int | None, messages: int | None, *, intro: str, unit: str) -> Iterator[Word]:
    """Return the words of what bundles have left (``None``: there is none of this kind), which follow a balance."""
    if seconds is None and messages is None:
        return
    yield Word(Verb.SOUND, intro)
    if seconds is not None:
        yield from balance(seconds, BalanceStyle(), intro="", unit="")
    if messages is not None:
        yield from balance(messages, _BARE, intro="" if seconds is None else AND, unit=unit)


def _number(value: int) -> Word:
    return Word(Verb.NUMBER if value <= NUMBER_MAX else Verb.DIGITS, str(value))


async def say(agi: Any, words: Iterable[Word]) -> list[Word]:
    """Play these one after the other; return those that the channel did not play. A hangup ends the list."""
    lacking = []
    try:
        for word in words:
            if await _played(agi, word) or await _played_otherwise(agi, word):
                continue
            lacking.append(word)
    except _HungUp:
        return []
    return lacking


class _HungUp(Exception):
    """The caller hung up: the rest is not played."""


async def _played_otherwise(agi: Any, word: Word) -> bool:
    return word.verb is Verb.NUMBER and await _played(agi, Word(Verb.DIGITS, word.what))


async def _played(agi: Any, word: Word) -> bool:
    """Play one; no key on the phone cuts it short."""
    if agi.hungup:
        raise _HungUp
    try:
        answer = await agi.sendCommand(command_text(word.verb, word.what, ""))
    except AgiCommandRefused as refusal:
        if refusal.status == DEAD:
            raise _HungUp from None
        return False
    except ConnectionClosed:
        raise _HungUp from None
    result, _, rest = str(answer).partition(" ")
    # A sound that is not there is no failure to Asterisk: it says that it ended where it began.
    return result != "-1" and rest != "endpos=0"
