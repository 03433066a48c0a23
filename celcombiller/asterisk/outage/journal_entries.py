"""What the journal says of the calls that went without the ledger: its lines, and the calls that they are about. Pure.

A line is one JSON object. A line that cannot be read was torn by a crash while it was written: what it was to allow was
never dialled.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from celcombiller.core.charging.outage import Exposure
from celcombiller.core.charging.requests import Initiate, Terminate
from celcombiller.core.model.calls import CallReport, Witness

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Line(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower, omit_defaults=True):
    """A line of the file; ``id`` is the authorization of its call."""


class Went(_Line, frozen=True):
    """A call goes without the ledger, for ``seconds`` of talk that cost at most ``credits``.

    ``owner`` is the process that let it go, ``caller`` whose exposure it is. With a ``leg`` it is a call that the
    ledger knows, and that goes on to so many seconds since its answer.
    """

    id: str
    at: datetime
    owner: str
    caller: str
    seconds: int
    credits: int
    ring_seconds: int
    server: str
    uniqueid: str
    channel: str
    account_code: str
    caller_number: str
    called_number: str
    answered_early: bool = False
    leg: int | None = None

    @property
    def started_at(self) -> datetime:
        """When it began."""
        return self.at

    @property
    def granted_seconds(self) -> int:
        """The seconds that it may talk."""
        return self.seconds

    @property
    def request(self) -> Initiate:
        """The request that the ledger did not answer."""
        return Initiate(
            server=self.server,
            uniqueid=self.uniqueid,
            authorization=self.id,
            channel=self.channel,
            account_code=self.account_code,
            caller_number=self.caller_number,
            called_number=self.called_number,
            answered_early=self.answered_early,
            previous=CallReport(answered=False, at=self.at),
        )


class Seen(_Line, frozen=True):
    """The calls without an end that this owner has in hand were alive; or the one call of this ``id``.

    ``answers``: an answer of theirs would have been seen.
    """

    at: datetime
    owner: str = ""
    id: str = ""
    answers: bool = False


class Lost(_Line, frozen=True):
    """Its owner has it in hand no more: the session of its channel broke off."""

    id: str


class Talks(_Line, frozen=True):
    """The callee has answered, at this time or before."""

    id: str
    at: datetime


class Ended(_Line, frozen=True):
    """A witness reported the end; the call may have cost so many ``credits``."""

    id: str
    witness: Witness
    credits: int
    answered: bool
    at: datetime
    talk_ms: int | None = None
    answered_at: datetime | None = None
    outcome: str = ""
    note: str = ""
    lasted_ms: int | None = None
    ahead: timedelta = timedelta()

    @property
    def report(self) -> CallReport:
        """What the witness reported."""
        return CallReport(
            answered=self.answered,
            at=self.at,
            talk_ms=self.talk_ms,
            answered_at=self.answered_at,
            outcome=self.outcome,
            note=self.note,
            lasted_ms=self.lasted_ms,
            ahead=self.ahead,
        )


class Done(_Line, frozen=True):
    """The ledger has it, or will never take it; then ``refusal`` says why."""

    id: str
    refusal: str = ""


Line = Went | Seen | Lost | Talks | Ended | Done

_DECODER = msgspec.json.Decoder(Line)


def text_of_line(line: Line) -> bytes:
    """Return a line as it stands in the file."""
    return msgspec.json.encode(line) + b"\n"


def line_from_text(text: bytes) -> Line | None:
    """Return what a line says; ``None``: it is torn."""
    try:
        line: Line = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None
    return line


def ended_line(authorization: str, witness: Witness, report: CallReport, cost: int) -> Ended:
    """Return the line of a reported end."""
    return Ended(
        id=authorization,
        witness=witness,
        credits=cost,
        answered=report.answered,
        at=report.at,
        talk_ms=report.talk_ms,
        answered_at=report.answered_at,
        outcome=report.outcome,
        note=report.note,
        lasted_ms=report.lasted_ms,
        ahead=report.ahead,
    )


@dataclass(slots=True)
class JournalEntry:
    """A call that went without the ledger and that waits to be charged."""

    went: Went
    seen_at: datetime
    """When it was last known to be alive."""
    talks_since: datetime | None = None
    answers_are_seen: bool = False
    """Whether its answer would have been seen when it was last known to be alive."""
    is_lost: bool = False
    ended: Ended | None = None

    def apply(self, line: Seen | Lost | Talks | Ended) -> None:
        """Apply what a line says of this call; after its end nothing more is believed."""
        if self.ended is not None:
            return
        match line:
            case Seen():
                self.seen_at = max(self.seen_at, line.at)
                self.answers_are_seen = line.answers
            case Talks():
                self.seen_at = max(self.seen_at, line.at)
                self.talks_since = self.talks_since or line.at
            case Lost():
                self.is_lost = True
            case Ended():
                self.ended = line

    @property
    def exposure(self) -> Exposure:
        """What it may cost, or has cost."""
        if self.ended is None:
            return Exposure(self.went.caller, self.went.credits, is_open=True)
        return Exposure(self.went.caller, self.ended.credits, is_open=False)

    def terminate(self, witness: Witness, report: CallReport) -> Terminate:
        """Return the request that charges it, as a witness reports its end."""
        went = self.went
        return Terminate(
            went.server,
            went.uniqueid,
            witness,
            report,
            unauthorized_request=went.request if went.leg is None else None,
            leg=went.leg,
            limit_seconds=went.seconds,
        )


class JournalEntries:
    """The calls that wait, by the ids of their authorizations."""

    def __init__(self) -> None:
        self._waiting: dict[str, JournalEntry] = {}
        self.torn = 0
        """Lines that could not be read."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(self._waiting.values())

    def find(self, authorization: str) -> JournalEntry | None:
        """Return the entry of a call that waits."""
        return self._waiting.get(authorization)

    @property
    def exposures(self) -> Iterable[Exposure]:
        """What the calls that wait may cost."""
        return (each.exposure for each in self._waiting.values())

    def read(self, text: bytes) -> None:
        """Apply a line as it stands in the file."""
        if text.strip():
            line = line_from_text(text)
            if line is None:
                self.torn += 1
            else:
                self.apply(line)

    def apply(self, line: Line) -> None:
        """Apply what a line says; of a call that does not wait (any more) nothing is known."""
        if isinstance(line, Went):
            self._waiting[line.id] = JournalEntry(line, seen_at=line.at)
        elif isinstance(line, Done):
            self._waiting.pop(line.id, None)
        elif isinstance(line, Seen) and not line.id:
            for each in self._waiting.values():
                if each.went.owner == line.owner and not each.is_lost:
                    each.apply(line)
        elif line.id in self._waiting:
            self._waiting[line.id].apply(line)
