"""The columns of a back end of Asterisk's, and a record of the values in them. Pure.

The names are those of cdr_adaptive_odbc and cdr_pgsql, the order that of cdr_csv (cdr/cdr_csv.c, ``build_csv_record``).
Local times have no zone. What a clock that is set back shows twice is decided by the channel's uniqueid, which begins
with the second in which the channel was made, and by the seconds of the record.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celcombiller.core.errors import InvalidValue
from celcombiller.core.reconciliation.cdr import CdrRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

CSV_COLUMNS = (
    *("accountcode", "src", "dst", "dcontext", "clid", "channel", "dstchannel", "lastapp", "lastdata"),
    *("start", "answer", "end", "duration", "billsec", "disposition", "amaflags"),
)
"""The columns of every Master.csv. Then follow uniqueid, userfield (``loguniqueid``, ``loguserfield`` in cdr.conf), and
peeraccount, linkedid, sequence (``newcdrcolumns``)."""

_NEW_COLUMNS = ("peeraccount", "linkedid", "sequence")

_OTHER_NAMES = {"calldate": "start", "date": "start", "source": "src", "destination": "dst", "context": "dcontext"}
_OTHER_NAMES |= {"destinationcontext": "dcontext", "destinationchannel": "dstchannel", "account": "accountcode"}

_ANSWERED = frozenset({"ANSWERED", "ANSWER", "8"})
_NOT_ANSWERED = frozenset({"NO ANSWER", "NOANSWER", "BUSY", "FAILED", "CONGESTION", "CANCEL", "0", "1", "2", "4", "16"})
"""The words of ``disposition``, and the numbers that ``CDR(disposition,u)`` gives (``AST_CDR_*``, cdr.h)."""

_UNIQUEID = re.compile(r"(?:.{0,120}-)?([0-9]{9,11})\.[0-9]{1,12}", re.ASCII | re.DOTALL)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_EPOCH = re.compile(r"[0-9]{9,11}(?:\.[0-9]{1,9})?", re.ASCII)

TEXT_MAX = 255
"""Characters of a value that is used; Asterisk's own limit is 80, or 256 for an account code."""

SLACK = timedelta(seconds=2)
"""How far the whole seconds of a record may be apart from its times."""

_NO_TIME = ("", "0000-00-00 00:00:00")


class CdrError(InvalidValue):
    """A record cannot be read: the message says why."""


def name_csv_columns(cells: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """Return the names of the columns of a CSV file by its first record, and whether that is a header.

    Raises `CdrError` if the records have no uniqueid, or are no CDRs.
    """
    names = tuple(_name(cell) for cell in cells)
    if "uniqueid" in names and "dst" in names:
        return names, True
    known, more = len(CSV_COLUMNS), len(cells) - len(CSV_COLUMNS)
    if more < 0 or more > len(_NEW_COLUMNS) + 2:
        raise CdrError(
            f"the first row has {len(cells)} values: neither those of cdr_csv nor the names of columns;"
            " name them with --columns"
        )
    if more in (0, len(_NEW_COLUMNS)) or not _UNIQUEID.fullmatch(cells[known]):
        raise CdrError("the records have no uniqueid: set loguniqueid=yes in [csv] of cdr.conf, or name the columns")
    tail = ("uniqueid", "userfield")[: more if more <= 2 else more - len(_NEW_COLUMNS)]  # noqa: PLR2004
    return (*CSV_COLUMNS, *tail, *(_NEW_COLUMNS if more > 2 else ())), False  # noqa: PLR2004


def _name(cell: object) -> str:
    name = str(cell).strip().lower().removeprefix("cdr(").removesuffix(")")
    return _OTHER_NAMES.get(name, name)


class CdrColumns:
    """Reads records whose values stand in columns of these names. ``zone``: that of times without one.

    ``now``: no record can be of later. Raises `CdrError` where a column is missing.
    """

    def __init__(self, names: Sequence[str], zone: tzinfo, now: datetime) -> None:
        places = {_name(name): place for place, name in reversed(list(enumerate(names)))}
        missing = [name for name in ("uniqueid", "dst", "start", "channel", "src") if name not in places]
        if not missing and not places.keys() & {"end", "duration"}:
            missing = ["end"]
        if not missing and not places.keys() & {"disposition", "answer", "billsec"}:
            missing = ["disposition"]
        if missing:
            raise CdrError(f"there is no column {' and none '.join(missing)}")
        self._places = places
        self._count = len(names)
        self._zone = zone
        self._latest = now + timedelta(minutes=5)
        self.has_party = "dstchannel" in places

    def read(self, place: int, cells: Sequence[Any]) -> CdrRow:
        """Return the record of these values. Raises `CdrError`."""
        if len(cells) < self._count:
            raise CdrError(f"has {len(cells)} values where {self._count} are expected")
        uniqueid = self._text(cells, "uniqueid")
        if not uniqueid:
            raise CdrError("has no uniqueid")
        try:
            return self._read(place, uniqueid, cells)
        except OverflowError:
            raise CdrError("has a time that does not exist") from None

    def _read(self, place: int, uniqueid: str, cells: Sequence[Any]) -> CdrRow:
        made_at = instant_of(uniqueid)
        started_at = self._time(cells, "start", made_at)
        if started_at is None:
            raise CdrError("has no start")
        duration, talk = self._seconds(cells, "duration"), self._seconds(cells, "billsec")
        ended_at = self._end(cells, started_at, duration)
        answered_at = self._time(cells, "answer", started_at)
        answered = self._is_answered(cells, answered_at, talk)
        if answered and answered_at is None:
            answered_at = ended_at - timedelta(seconds=talk or 0)
        if answered and talk is None and answered_at is not None:
            talk = (ended_at - answered_at).total_seconds()
        self._check(made_at, started_at, answered_at if answered else None, ended_at, talk if answered else None)
        return CdrRow(
            place=place,
            uniqueid=uniqueid,
            channel=self._text(cells, "channel"),
            destination_channel=self._text(cells, "dstchannel") if self.has_party else None,
            account_code=self._text(cells, "accountcode"),
            caller=self._text(cells, "src"),
            dialled=self._text(cells, "dst"),
            context=self._text(cells, "dcontext"),
            application=self._text(cells, "lastapp"),
            started_at=started_at,
            answered_at=answered_at if answered else None,
            ended_at=ended_at,
            talk_seconds=talk or 0.0 if answered else 0.0,
            answered=answered,
        )

    def _end(self, cells: Sequence[Any], started_at: datetime, duration: float | None) -> datetime:
        ended_at = self._time(cells, "end", started_at)
        if duration is None:
            if ended_at is None:
                raise CdrError("has no end")
            return ended_at
        counted_at = started_at + timedelta(seconds=duration)
        if ended_at is None:
            return counted_at
        if abs(ended_at - counted_at) <= SLACK:
            return ended_at
        other = self._time(cells, "end", counted_at - SLACK)
        if other is not None and abs(other - counted_at) <= SLACK:
            return other
        raise CdrError("its times and its seconds disagree")

    def _check(
        self,
        made_at: datetime | None,
        started_at: datetime,
        answered_at: datetime | None,
        ended_at: datetime,
        talk: float | None,
    ) -> None:
        if ended_at < started_at - SLACK:
            raise CdrError("ends before it begins")
        if ended_at > self._latest:
            raise CdrError("ends in the future: is the time zone right?")
        if made_at is not None and started_at < made_at - timedelta(minutes=1):
            early = made_at - started_at
            raise CdrError(f"begins {early} before its channel was made: is the time zone right?")
        if answered_at is None or talk is None:
            return
        if answered_at < started_at - SLACK or answered_at > ended_at + SLACK:
            raise CdrError("is answered before it begins or after it ends")
        if timedelta(seconds=talk) > ended_at - answered_at + SLACK:
            raise CdrError("talks for longer than it lasts")

    def _is_answered(self, cells: Sequence[Any], answered_at: datetime | None, talk: float | None) -> bool:
        word = self._text(cells, "disposition").strip().upper()
        if word in _ANSWERED:
            return True
        if word in _NOT_ANSWERED:
            return False
        if word:
            raise CdrError(f"has the unknown disposition {word[:40]!r}")
        return answered_at is not None or bool(talk)

    def _text(self, cells: Sequence[Any], name: str) -> str:
        place = self._places.get(name)
        value = None if place is None else cells[place]
        if value is None:
            return ""
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
        if len(text) > TEXT_MAX or not text.isprintable():
            if len(text) > TEXT_MAX:
                raise CdrError(f"has a {name} of more than {TEXT_MAX} characters")
            raise CdrError(f"has a {name} with characters that cannot be printed")
        return text

    def _seconds(self, cells: Sequence[Any], name: str) -> float | None:
        place = self._places.get(name)
        value = None if place is None else cells[place]
        if value is None or value == "":
            return None
        if not _SECONDS.fullmatch(str(value)):
            raise CdrError(f"has a {name} that is no number of seconds")
        return float(value)

    def _time(self, cells: Sequence[Any], name: str, reference: datetime | None) -> datetime | None:
        """Return a time in UTC; of two that a local clock showed alike the first that is not before ``reference``."""
        place = self._places.get(name)
        value = None if place is None else cells[place]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if value is None or value in _NO_TIME:
            return None
        written = value if isinstance(value, datetime) else _parse(str(value).strip(), name)
        if written.tzinfo is not None:
            return written.astimezone(UTC)
        local = written.replace(tzinfo=self._zone)
        found = local.astimezone(UTC)
        if reference is not None and found < reference - SLACK:
            second = local.replace(fold=1).astimezone(UTC)
            if second != found:
                return second
        return found


def _parse(text: str, name: str) -> datetime:
    try:
        if _EPOCH.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise CdrError(f"has a {name} that is no time: {text[:40]!r}") from None


def instant_of(uniqueid: str) -> datetime | None:
    """Return when a channel was made, by its uniqueid; ``None`` if it was given by a program."""
    found = _UNIQUEID.fullmatch(uniqueid)
    return None if found is None else datetime.fromtimestamp(int(found[1]), UTC)


class ZoneCheck:
    """Sees whether the times of many records are shifted from those in their uniqueids: by a wrong time zone."""

    def __init__(self) -> None:
        self._rows = 0
        self._shifted: dict[int, int] = {}

    def add(self, row: CdrRow) -> None:
        """Count a record. Shifts are counted in quarters of an hour, as zones differ by these."""
        made_at = instant_of(row.uniqueid)
        if made_at is None:
            return
        self._rows += 1
        quarters, rest = divmod((row.started_at - made_at).total_seconds() + 30, 900)
        if quarters >= 1 and rest <= 60:  # noqa: PLR2004  the channel waits some seconds before it is called
            self._shifted[int(quarters)] = self._shifted.get(int(quarters), 0) + 1

    def check(self) -> None:
        """Raise `CdrError` if most of the records are shifted alike."""
        quarters, count = max(self._shifted.items(), key=lambda each: each[1], default=(0, 0))
        if count * 2 > self._rows:
            hours, minutes = divmod(quarters * 15, 60)
            raise CdrError(
                f"the times of {count} of {self._rows} records are {hours}:{minutes:02} later than those of their"
                " channels: state the time zone of the file"
            )
