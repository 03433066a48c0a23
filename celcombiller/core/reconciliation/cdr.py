"""What Asterisk's call detail records say of a channel. Pure.

A channel has several records: one for each Dial and each transfer, others by ForkCDR and ResetCDR, and one more for
what ran after the hangup. They are joined by the channel's uniqueid before anything is compared:

- A record counts as talk if it is ANSWERED and has a second channel. Without one, nobody was called: it is of a prompt,
  of voice mail, or of the extension ``h``. Where a source has no column for it, the application must have called.
- Of the halves of a Local channel only ``;2`` runs a dialplan. ``;1`` is a copy of the same call.
- Records whose times overlap are one talk (forks and copies). So are those to one number that follow one another
  (the pieces of an optimised or transferred call). The first one names the number.

A CDR counts from the answer of the caller's channel, in whole seconds, cut off: never bill from it where there is a
witness. Measured on Asterisk 16 and 22.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from celcombiller.core.voice.evidence import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

CALLING_APPLICATIONS = frozenset({"", "dial", "queue", "followme", "pickup", "bridge", "parkedcall"})
"""The applications that connect a caller with somebody; no name: the source does not say."""

HANGUP_EXTENSION = "h"

PIECES_APART = timedelta(seconds=1)
"""Pieces of one talk that follow one another are at most so far apart: their times are whole seconds."""


@dataclass(frozen=True, slots=True)
class CdrRow:
    """One call detail record. ``place`` is its line, or its number in a table.

    ``destination_channel`` is ``None`` where the source has no such column. ``talk_seconds`` is Asterisk's billsec.
    """

    place: int
    uniqueid: str
    channel: str
    destination_channel: str | None
    account_code: str
    caller: str
    dialled: str
    context: str
    application: str
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime
    talk_seconds: float
    answered: bool

    @property
    def is_talk(self) -> bool:
        """Whether somebody answered what this channel called."""
        if not self.answered or self.answered_at is None or is_copy(self.channel):
            return False
        if self.destination_channel is None:
            return self.dialled != HANGUP_EXTENSION and self.application.lower() in CALLING_APPLICATIONS
        return self.destination_channel != ""


@dataclass(frozen=True, slots=True)
class Talk:
    """A talk to one ``number``, as the records say: ``ended_at`` is the answer and the seconds of talk."""

    number: str
    answered_at: datetime
    ended_at: datetime

    @property
    def talk_ms(self) -> int:
        """The milliseconds of talk."""
        return milliseconds(self.answered_at, self.ended_at)


@dataclass(frozen=True, slots=True)
class ChannelCdr:
    """All records of one channel, joined. ``ended_at``: when the last of them ended; the channel is over since.

    ``is_whole``: there is more than what ran after the hangup, whose record may be found alone.
    """

    uniqueid: str
    channel: str
    account_code: str
    caller: str
    context: str
    place: int
    started_at: datetime
    ended_at: datetime
    talks: tuple[Talk, ...]
    is_whole: bool = True


def is_copy(channel: str) -> bool:
    """Return whether a channel is the half of a Local channel that runs no dialplan."""
    return channel.startswith("Local/") and channel.endswith(";1")


def join_rows(rows: Sequence[CdrRow]) -> ChannelCdr:
    """Return what the records of one channel say together. There is at least one."""
    ordered = sorted(rows, key=lambda row: (row.started_at, row.place))
    talking = [row for row in ordered if row.is_talk]
    first = (talking or ordered)[0]
    return ChannelCdr(
        uniqueid=first.uniqueid,
        channel=first.channel,
        account_code=first.account_code,
        caller=first.caller,
        context=first.context,
        place=first.place,
        started_at=ordered[0].started_at,
        ended_at=max(row.ended_at for row in ordered),
        talks=_join_talks(talking),
        is_whole=any(row.dialled != HANGUP_EXTENSION for row in ordered),
    )


def _join_talks(rows: Iterable[CdrRow]) -> tuple[Talk, ...]:
    talks: list[Talk] = []
    pieces = [
        Talk(row.dialled, row.answered_at, row.answered_at + timedelta(seconds=row.talk_seconds))
        for row in rows
        if row.answered_at is not None
    ]
    for piece in sorted(pieces, key=lambda each: each.answered_at):  # stable: of two that began at once, the first
        last = talks[-1] if talks else None
        if last is not None and _is_same(last, piece):
            talks[-1] = replace(last, ended_at=max(last.ended_at, piece.ended_at))
        else:
            talks.append(piece)
    return tuple(talks)


def _is_same(talk: Talk, piece: Talk) -> bool:
    if piece.answered_at < talk.ended_at or piece.answered_at == talk.answered_at:
        return True
    return piece.number == talk.number and piece.answered_at <= talk.ended_at + PIECES_APART
