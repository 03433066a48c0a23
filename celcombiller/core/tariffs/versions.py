"""Versions of a tariff: written once, in force from a moment on, never changed then. On an open transaction.

A row of ``rate`` belongs to the versions from ``since_version`` to before ``until_version``: a new version closes and
adds only what differs from the rows that are not closed. A version without a moment was withdrawn, or never finished;
no later one builds on it.

A large version is written in several transactions, so that no call waits for it (`write_in_steps`). Who begins another
version of the tariff meanwhile takes its place; the unfinished one then stays without a moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import sqlalchemy as sa

from celcombiller.core.errors import InvalidValue, UnknownTariff, VersionConflict
from celcombiller.core.model.text import UNPRINTABLE
from celcombiller.core.rating.windows import format_holidays, parse_holidays
from celcombiller.core.schema import bulk, tables
from celcombiller.core.schema.catalogue_change import record_change
from celcombiller.core.schema.rows import value_from_row
from celcombiller.core.tariffs import tariff_records
from celcombiller.core.tariffs.rate_checks import check_destination, name_rate, normalise_rate
from celcombiller.core.tariffs.rate_records import CHUNK, list_destination_rates, list_rates, place_of
from celcombiller.core.tariffs.rate_row import RateRow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.tariffs import Service
    from celcombiller.core.tariffs.rate_records import RatePlace, StoredRate

T = TypeVar("T")

SWITCH_SECONDS = 1.0
"""How long before it takes effect a version is written: all nodes must have read it by then."""

SWITCH_RATES_PER_SECOND = 20_000
"""How many of its rates a node reads in a second at least: a version with many new ones needs longer."""

ROWS_IN_ONE_TRANSACTION = 2000
"""Rates that are written in one transaction of several: calls wait for it."""

_IDS_IN_ONE_STATEMENT = 500
_NOTE_CHARACTERS_MAX = 200
_NOTE = re.compile(rf"[^{UNPRINTABLE}]{{0,{_NOTE_CHARACTERS_MAX}}}")

_version = tables.tariff_version
_rate = tables.rate
_INSERT_RATES = bulk.insert(_rate, ("tariff_id", "since_version", *RateRow._fields))


class VersionState(StrEnum):
    """Where a version stands: it waits for its moment, is in force, was, or never was (withdrawn or unfinished)."""

    WAITING = "waiting"
    IN_FORCE = "in_force"
    PAST = "past"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version of a tariff without its rates. ``holidays`` are dates, separated by spaces."""

    id: int
    tariff_id: int
    number: int
    effective_at: datetime | None
    holidays: str
    created_at: datetime
    created_by: str
    note: str


class RateKey(NamedTuple):
    """What names a rate: of one key a version has at most one."""

    service: Service
    prefix: str
    on_net: bool
    window: str
    valid_from: datetime | None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a version is to be. ``rates`` are set, ``removed`` are taken out, all others stay as they are.

    ``whole``: ``rates`` are all, no others stay. ``holidays``: ``None`` leaves those of the version before.
    ``effective_at``: ``None`` is as soon as all nodes can have it.
    """

    rates: Sequence[RateRow] = ()
    removed: Sequence[RateKey] = ()
    whole: bool = False
    holidays: frozenset[date] | None = None
    effective_at: datetime | None = None
    author: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class VersionChanges:
    """What a version changes of the one before: rates added, changed (before and after) and removed.

    ``closed`` are the ids of the rows that end.
    """

    added: list[RateRow]
    changed: list[tuple[RateRow, RateRow]]
    removed: list[RateRow]
    closed: list[int]

    @property
    def count(self) -> int:
        """The number of rates that differ."""
        return len(self.added) + len(self.changed) + len(self.removed)

    @property
    def new_rows(self) -> list[RateRow]:
        """The rows to be written, in the order of a version's list."""
        return sorted(self.added + [after for _, after in self.changed], key=lambda each: each[:2])


@dataclass(frozen=True, slots=True)
class VersionWritten:
    """A version that was written, and what it changed; without a version: nothing differed."""

    version: VersionRecord | None
    changes: VersionChanges


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that is being written, with the rates of the version ``base``.

    ``is_behind``: versions after that one were withdrawn or never finished, so some of its rows must be made again.
    """

    id: int
    tariff_id: int
    number: int
    base: int
    is_behind: bool


def key_of(rate: RateRow) -> RateKey:
    """Return the key of a rate."""
    return RateKey(rate.service, rate.prefix, rate.on_net, rate.window, rate.valid_from)


# -- reading ---------------------------------------------------------------------------------------------------------


def list_versions(
    tx: Connection, tariff_id: int, *, before: int | None = None, limit: int | None = None
) -> list[VersionRecord]:
    """Return the versions of a tariff, the newest first, those with a lower number than ``before``."""
    wanted = [_version.c.tariff_id == tariff_id]
    if before is not None:
        wanted.append(_version.c.number < before)
    rows = tx.execute(sa.select(_version).where(*wanted).order_by(_version.c.number.desc()).limit(limit))
    return [value_from_row(row, VersionRecord) for row in rows]


def find_version(tx: Connection, tariff_id: int, number: int) -> VersionRecord:
    """Return the version of this number. Raise `UnknownTariff` if there is none."""
    row = tx.execute(sa.select(_version).where(_version.c.tariff_id == tariff_id, _version.c.number == number)).first()
    if row is None:
        raise UnknownTariff(f"the tariff has no version {number}")
    return value_from_row(row, VersionRecord)


def find_version_at(tx: Connection, tariff_id: int, at: datetime) -> VersionRecord | None:
    """Return the version of a tariff that is, was or will be in force at this time, as far as is known now."""
    return _newest(tx, tariff_id, _version.c.effective_at <= at)


def find_next_version(tx: Connection, tariff_id: int, at: datetime) -> VersionRecord | None:
    """Return the version that takes effect next after this time, or None."""
    which = (_version.c.tariff_id == tariff_id, _version.c.effective_at > at)
    row = tx.execute(sa.select(_version).where(*which).order_by(_version.c.number).limit(1)).first()
    return None if row is None else value_from_row(row, VersionRecord)


def find_last_version(tx: Connection, tariff_id: int) -> VersionRecord | None:
    """Return the last version that is or will be in force: the one on which the next one builds."""
    return _newest(tx, tariff_id, _version.c.effective_at.is_not(None))


def _newest(tx: Connection, tariff_id: int, which: sa.ColumnElement[bool]) -> VersionRecord | None:
    row = tx.execute(
        sa.select(_version).where(_version.c.tariff_id == tariff_id, which).order_by(_version.c.number.desc()).limit(1)
    ).first()
    return None if row is None else value_from_row(row, VersionRecord)


def state_of(version: VersionRecord, in_force: VersionRecord | None, now: datetime) -> VersionState:
    """Return the state of a version, beside the one that is in force ``now``."""
    if version.effective_at is None:
        return VersionState.WITHDRAWN
    if version.effective_at > now:
        return VersionState.WAITING
    is_in_force = in_force is not None and in_force.number == version.number
    return VersionState.IN_FORCE if is_in_force else VersionState.PAST


# -- writing ---------------------------------------------------------------------------------------------------------


def write_version(tx: Connection, tariff_id: int, new: NewVersion, now: datetime) -> VersionWritten:
    """Write a version of a tariff in this transaction; one that would change nothing is not made.

    Raises `UnknownTariff`, `InvalidValue`, and `VersionConflict` when it would take effect before the last one.
    """
    steps = write_in_steps(tariff_id, new, lambda: now)
    try:
        work = next(steps)
        while True:
            work = steps.send(work(tx))
    except StopIteration as end:
        written: VersionWritten = end.value
        return written


def write_in_steps(
    tariff_id: int,
    new: NewVersion,
    clock: Callable[[], datetime],
    record: Callable[[Connection, VersionWritten, datetime], None] = lambda *_: None,
) -> Generator[Callable[[Connection], Any], Any, VersionWritten]:
    """Yield the transactions that write a version, one after the other; send each one's result back.

    Each may be repeated when its outcome is unknown. The last one also calls ``record``. Raises as `write_version`
    does.
    """
    wanted = [*map(normalise_rate, new.rates)]
    _check_note(new.note)
    base: int = yield lambda tx: _find_base(tx, tariff_id, new, clock())
    changes = yield from _compare_in_steps(tariff_id, base, new, wanted)
    if not changes.count and not (yield lambda tx: _changes_holidays(tx, tariff_id, new)):
        return VersionWritten(None, changes)
    draft: Draft = yield lambda tx: begin_version(tx, tariff_id, new, clock())
    if draft.is_behind:
        yield from _restore_in_steps(draft)
    if draft.is_behind or draft.base != base:
        changes = yield from _compare_in_steps(tariff_id, draft.number, new, wanted)
    for closed in _cut(changes.closed, ROWS_IN_ONE_TRANSACTION):
        yield partial(_close_rates, draft=draft, ids=closed)
    last_id = 0
    for rows in _cut(changes.new_rows, ROWS_IN_ONE_TRANSACTION):
        last_id = last_id or (yield _find_last_id)
        last_id = yield partial(_add_rates, draft=draft, rates=rows, last_id=last_id)
    written: VersionWritten = yield lambda tx: _finish_version(tx, draft, new.effective_at, changes, clock(), record)
    return written


def _cut(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def find_changes(tx: Connection, tariff_id: int, new: NewVersion, now: datetime) -> VersionChanges:
    """Return what a version would change of the last one, without writing it. Raises as `write_version` does."""
    wanted = [*map(normalise_rate, new.rates)]
    _check_note(new.note)
    return _compare_with_last(tx, tariff_id, new, wanted, now)[1]


def begin_version(tx: Connection, tariff_id: int, new: NewVersion, now: datetime) -> Draft:
    """Make a version that has no moment yet, and begins with the rates of the last one."""
    tariff_records.find_by_id(tx, tariff_id, lock=True)
    _check_moment(tx, tariff_id, new.effective_at, now)
    base = find_last_version(tx, tariff_id)
    last = _last_number(tx, tariff_id)
    holidays = new.holidays
    values = {
        "tariff_id": tariff_id,
        "number": last + 1,
        "holidays": format_holidays(holidays) if holidays is not None else base.holidays if base is not None else "",
        "created_at": now,
        "created_by": new.author,
        "note": new.note,
    }
    version_id = tx.execute(sa.insert(_version).values(values).returning(_version.c.id)).scalar_one()
    number = 0 if base is None else base.number
    return Draft(version_id, tariff_id, last + 1, number, is_behind=number != last)


def withdraw(tx: Connection, tariff_id: int, number: int, now: datetime) -> VersionRecord:
    """Withdraw a version that waits for its moment: it never takes effect.

    Raises `UnknownTariff`, and `VersionConflict` for one that is not the last, or that nodes may be about to use.
    """
    tariff_records.find_by_id(tx, tariff_id, lock=True)
    was = find_version(tx, tariff_id, number)
    if was.effective_at is None:
        raise VersionConflict(f"version {number} was withdrawn before, or was never finished")
    if was.effective_at <= now + timedelta(seconds=SWITCH_SECONDS):
        raise VersionConflict(f"version {number} has taken effect, or does within a second: write a new one")
    last = find_last_version(tx, tariff_id)
    if last is not None and last.number != number:
        raise VersionConflict(f"version {last.number} builds on version {number}: withdraw it first")
    tx.execute(sa.update(_version).where(_version.c.id == was.id).values(effective_at=None))
    record_change(tx)
    return was


# -- the steps of writing --------------------------------------------------------------------------------------------


def _compare_with_last(
    tx: Connection, tariff_id: int, new: NewVersion, wanted: list[RateRow], now: datetime
) -> tuple[int, VersionChanges]:
    """Return the number of the last version (0: there is none), and what the new rates change of it."""
    number = _find_base(tx, tariff_id, new, now)
    steps = _compare_in_steps(tariff_id, number, new, wanted)
    try:
        work = next(steps)
        while True:
            work = steps.send(work(tx))
    except StopIteration as end:
        return number, end.value


def _find_base(tx: Connection, tariff_id: int, new: NewVersion, now: datetime) -> int:
    """Return the number of the version on which a new one builds; 0: there is none."""
    tariff_records.find_by_id(tx, tariff_id)
    _check_moment(tx, tariff_id, new.effective_at, now)
    base = find_last_version(tx, tariff_id)
    return 0 if base is None else base.number


def _compare_in_steps(
    tariff_id: int, number: int, new: NewVersion, wanted: list[RateRow]
) -> Generator[Callable[[Connection], Any], Any, VersionChanges]:
    """Yield the transactions that read the rates of a version, as far as new ones can change them; compare these."""
    rows: list[StoredRate] = []
    if new.whole:
        place: RatePlace | None = None
        while chunk := (yield partial(list_rates, tariff_id=tariff_id, number=number, after=place, limit=CHUNK)):
            rows += chunk
            place = place_of(chunk[-1])
    else:
        touched = sorted({each.prefix for each in wanted} | {each.prefix for each in new.removed})
        for start in range(0, len(touched), CHUNK):
            prefixes = touched[start : start + CHUNK]
            rows += yield partial(_list_rates_of, tariff_id=tariff_id, number=number, prefixes=prefixes)
    return _compare(rows, new, wanted)


def _list_rates_of(tx: Connection, *, tariff_id: int, number: int, prefixes: Sequence[str]) -> list[StoredRate]:
    return [*list_destination_rates(tx, tariff_id, number, prefixes)]


def _compare(rows: Iterable[StoredRate], new: NewVersion, wanted: list[RateRow]) -> VersionChanges:
    """Return what the new rates change of the rows before, and check them beside those that stay."""
    before = {key_of(each.row): each for each in rows}
    after = {} if new.whole else {key: each.row for key, each in before.items()}
    for key in new.removed:
        if after.pop(key, None) is None:
            raise InvalidValue(f"there is no such rate: {_describe_key(key)}", {"prefix": "has no such rate"})
    given: set[RateKey] = set()
    for rate in wanted:
        key = key_of(rate)
        if key in given:
            raise InvalidValue(f"{name_rate(rate)} is there twice", {"prefix": "is there twice"})
        given.add(key)
        after[key] = rate
    for _, of_one in groupby(sorted(after.values(), key=_destination_of), _destination_of):
        check_destination([*of_one])
    return _changes_of(before, after)


def _changes_of(before: dict[RateKey, StoredRate], after: dict[RateKey, RateRow]) -> VersionChanges:
    found = VersionChanges([], [], [], [])
    for key, row in after.items():
        was = before.get(key)
        if was is None:
            found.added.append(row)
        elif was.row != row:
            found.changed.append((was.row, row))
            found.closed.append(was.id)
    for key, stored in before.items():
        if key not in after:
            found.removed.append(stored.row)
            found.closed.append(stored.id)
    return found


def _destination_of(rate: RateRow) -> tuple[str, str, bool]:
    return rate.service, rate.prefix, rate.on_net


def _changes_holidays(tx: Connection, tariff_id: int, new: NewVersion) -> bool:
    if new.holidays is None:
        return False
    last = find_last_version(tx, tariff_id)
    return new.holidays != parse_holidays("" if last is None else last.holidays)


def _restore_in_steps(draft: Draft) -> Generator[Callable[[Connection], Any], Any, None]:
    """Yield the transactions that let the open rows be those of the base: without what was withdrawn behind it."""
    after_id = 0
    while ended := (yield partial(_close_withdrawn, draft=draft, after_id=after_id)):
        after_id = ended[-1]
    after_id, last_id = 0, (yield _find_last_id)
    while made := (yield partial(_add_closed, draft=draft, after_id=after_id, last_id=last_id)):
        after_id, last_id = made[-1], (yield _find_last_id)


def _close_withdrawn(tx: Connection, draft: Draft, after_id: int) -> Sequence[int]:
    """End the next rows of withdrawn versions, those behind ``after_id``; return their ids."""
    _check_newest(tx, draft)
    ids = _list_ids(tx, draft, after_id, _rate.c.since_version > draft.base, _rate.c.until_version.is_(None))
    for some in _cut(ids, _IDS_IN_ONE_STATEMENT):
        tx.execute(sa.update(_rate).where(_rate.c.id.in_(some)).values(until_version=draft.number))
    return ids


def _add_closed(tx: Connection, draft: Draft, after_id: int, last_id: int) -> Sequence[int]:
    """Make the next rows of the base again that withdrawn versions ended, those behind ``after_id``; return their ids.

    Unless they were made before: behind ``last_id`` there are none of the draft then.
    """
    _check_newest(tx, draft)
    ids = _list_ids(tx, draft, after_id, _rate.c.since_version <= draft.base, _rate.c.until_version > draft.base)
    if not _has_rates(tx, draft, last_id):
        columns = (_rate.c.tariff_id, sa.literal(draft.number), *(_rate.c[name] for name in RateRow._fields))
        for some in _cut(ids, _IDS_IN_ONE_STATEMENT):
            rows = sa.select(*columns).where(_rate.c.id.in_(some)).order_by(_rate.c.id)
            tx.execute(sa.insert(_rate).from_select(("tariff_id", "since_version", *RateRow._fields), rows))
    return ids


def _list_ids(tx: Connection, draft: Draft, after_id: int, *which: sa.ColumnElement[bool]) -> Sequence[int]:
    """Return the ids of the next rows of the tariff behind ``after_id``, in their order.

    Not by an index of the tariff's: to sort all of its rows each time would take the square of their number.
    """
    of_tariff = _rate.c.tariff_id + 0 == draft.tariff_id
    rows = sa.select(_rate.c.id).where(of_tariff, _rate.c.id > after_id, *which).order_by(_rate.c.id)
    return tx.execute(rows.limit(ROWS_IN_ONE_TRANSACTION)).scalars().all()


def _close_rates(tx: Connection, draft: Draft, ids: Sequence[int]) -> None:
    """End rows with the version before the draft; those that the draft itself has made again are deleted."""
    _check_newest(tx, draft)
    for some in _cut(ids, _IDS_IN_ONE_STATEMENT):
        which = (_rate.c.id.in_(some), _rate.c.until_version.is_(None))
        tx.execute(sa.delete(_rate).where(*which, _rate.c.since_version == draft.number))
        tx.execute(sa.update(_rate).where(*which).values(until_version=draft.number))


def _find_last_id(tx: Connection) -> int:
    found: int | None = tx.execute(sa.select(sa.func.max(_rate.c.id))).scalar()
    return found or 0


def _add_rates(tx: Connection, draft: Draft, rates: Sequence[RateRow], last_id: int) -> int:
    """Add rows, unless they were added before: behind ``last_id`` there are none of the draft. Return the last id."""
    _check_newest(tx, draft)
    if not _has_rates(tx, draft, last_id):
        bulk.write(tx, [(_INSERT_RATES, [(draft.tariff_id, draft.number, *each) for each in rates])])
    return _find_last_id(tx)


def _has_rates(tx: Connection, draft: Draft, last_id: int) -> bool:
    """Return whether the draft has a row behind this id."""
    own = (_rate.c.id > last_id, _rate.c.tariff_id == draft.tariff_id, _rate.c.since_version == draft.number)
    return tx.execute(sa.select(_rate.c.id).where(*own).limit(1)).first() is not None


def _finish_version(
    tx: Connection,
    draft: Draft,
    effective_at: datetime | None,
    changes: VersionChanges,
    now: datetime,
    record: Callable[[Connection, VersionWritten, datetime], None],
) -> VersionWritten:
    """Give a version its moment, from which on it is in force; once, if it is repeated."""
    _check_newest(tx, draft)
    done = find_version(tx, draft.tariff_id, draft.number)
    if done.effective_at is None:
        _check_moment(tx, draft.tariff_id, effective_at, now)
        soonest = now + timedelta(seconds=SWITCH_SECONDS + changes.count / SWITCH_RATES_PER_SECOND)
        moment = soonest if effective_at is None else max(soonest, effective_at)
        tx.execute(sa.update(_version).where(_version.c.id == draft.id).values(effective_at=moment))
        done = find_version(tx, draft.tariff_id, draft.number)
        record(tx, VersionWritten(done, changes), now)
        record_change(tx)
    return VersionWritten(done, changes)


def _check_moment(tx: Connection, tariff_id: int, effective_at: datetime | None, now: datetime) -> None:
    """Raise `VersionConflict` for a moment before that of the last version, `InvalidValue` for one that is past."""
    if effective_at is not None and effective_at < now - timedelta(seconds=SWITCH_SECONDS):
        what = "must not be past: what was charged stays as it was charged"
        raise InvalidValue(f"effective_at {what}", {"effective_at": what})
    last = find_last_version(tx, tariff_id)
    if last is not None and last.effective_at is not None and (effective_at or now) < last.effective_at:
        if effective_at is None and last.effective_at <= now + timedelta(seconds=SWITCH_SECONDS):
            return  # it takes effect in a moment, and the new one after it
        at = last.effective_at.isoformat(" ", "seconds")
        raise VersionConflict(f"version {last.number} takes effect at {at}; withdraw it or choose a later time")


def _check_newest(tx: Connection, draft: Draft) -> None:
    """Raise `VersionConflict` if another version was begun after the draft; lock the tariff."""
    tariff_records.find_by_id(tx, draft.tariff_id, lock=True)
    last = _last_number(tx, draft.tariff_id)
    if last != draft.number:
        raise VersionConflict(f"version {last} was begun while version {draft.number} was written: do it again")


def _last_number(tx: Connection, tariff_id: int) -> int:
    last: int | None = tx.execute(
        sa.select(sa.func.max(_version.c.number)).where(_version.c.tariff_id == tariff_id)
    ).scalar()
    return last or 0


def _check_note(note: str) -> None:
    if not _NOTE.fullmatch(note):
        what = f"must be at most {_NOTE_CHARACTERS_MAX} characters on one line"
        raise InvalidValue(f"note {what}", {"note": what})


def _describe_key(key: RateKey) -> str:
    parts = [key.service, "on-net" if key.on_net else f"prefix {key.prefix or '(all numbers)'}"]
    parts += [key.window] if key.window else []
    parts += [f"from {key.valid_from.isoformat()}"] if key.valid_from is not None else []
    return ", ".join(parts)
