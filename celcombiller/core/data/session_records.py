"""The data sessions that one transaction works on, and their rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.core.data.session import Closing, DataSession, DataState
from celcombiller.core.schema import bulk, driver, tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence


@dataclass(slots=True)
class DataSessionRecords:
    """The sessions that one transaction works on: the latest of each key that it names, and what changes."""

    _loaded: dict[str, DataSession] = field(default_factory=dict)
    _new: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)
    _by_reference: dict[str, DataSession] = field(default_factory=dict)

    @staticmethod
    def queries(keys: Collection[str], restarted: Collection[str]) -> tuple[bulk.BoundQuery, bulk.BoundQuery]:
        """Return the queries of the sessions of these keys, and of all open ones of the restarted NASes.

        They lock what they find: after messages and before accounts, the same order in every transaction.
        """
        return _OF_KEYS.with_values(keys), _OF_NASES.with_values(restarted)

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any]]) -> DataSessionRecords:
        """Make the records of the rows of both `queries`."""
        sessions = cls()
        for row in rows:
            session = _session_from_columns(row)
            sessions._loaded[session.reference] = sessions._by_reference[session.reference] = session
        return sessions

    def __iter__(self) -> Iterator[DataSession]:
        return iter(self._by_reference.values())

    def get(self, reference: str) -> DataSession | None:
        """Return the session of a reference, or None."""
        return self._by_reference.get(reference)

    def of_key(self, key: str) -> list[DataSession]:
        """Return the sessions of a key, the oldest first."""
        return sorted((each for each in self if each.key == key), key=attrgetter("generation"))

    def next_generation(self, key: str) -> int:
        """Return the generation of a new session of a key."""
        return max((each.generation + 1 for each in self if each.key == key), default=0)

    def add(self, session: DataSession) -> DataSession:
        """Add a new session."""
        self._new.add(session.reference)
        self._keep(session)
        return session

    def change(self, session: DataSession, **facts: Any) -> DataSession:
        """Record new facts of a session, and return it with them."""
        changed = replace(session, **facts)
        if changed != session:
            self._keep(changed)
        return changed

    def _keep(self, session: DataSession) -> None:
        self._by_reference[session.reference] = session
        if session.reference not in self._new:
            self._changed.add(session.reference)

    def changes(self) -> bulk.Writes:
        """Return all that is to be written."""
        found = self._by_reference
        if self._new:
            yield _INSERT, [_columns_of(found[reference]) for reference in sorted(self._new)]
        if self._changed:
            changed = [(each, self._loaded[each]) for each in sorted(self._changed)]
            yield _UPDATE, [(*_changing_of(found[each]), each, was.state.value, was.holds) for each, was in changed]


_TABLE = tables.data_session


_COLUMNS = tuple(each.name for each in _TABLE.c if each.name not in ("id", "reference"))


GENERATIONS = 16
"""The latest sessions of a key that are read: an older one gets no late report."""


_CHANGING = (
    *("heard_at", "client", "nas_address", "framed_address", "station", "octets_in", "octets_out", "octets"),
    *("dated_at", "began_at", "reported_at", "session_seconds", "packets_in", "packets_out"),
    *("charged", "holds", "state", "ended_at", "closed_by", "cause", "note"),
    *("disconnect", "disconnect_at", "disconnect_tries", "disconnect_said", "shares", "pieces"),
)


_LAST = "(select max(generation) from data_session as later where later.key = data_session.key)"


_OF_KEYS = bulk.BulkQuery(
    bulk.names(_COLUMNS),
    f"from data_session where key {{among}} and (state = 'open' or generation > {_LAST} - {GENERATIONS})",
    of=_TABLE.c.key,
    lock="id",
)


_OF_NASES = bulk.BulkQuery(  # nas || '': the index of a NAS's sessions holds all that it ever had, so it is not used
    bulk.names(_COLUMNS),
    "from data_session where state = 'open' and nas || '' {among}",
    of=_TABLE.c.nas,
    lock="id",
)


_INSERT = bulk.insert(_TABLE, ("reference", *_COLUMNS))


_UPDATE = bulk.update(_TABLE, _CHANGING, key="reference", unchanged=("state", "holds"))


_all_of = attrgetter("reference", *_COLUMNS)


_some_of = attrgetter(*_CHANGING)


def _database_value(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    return (msgspec.json.encode(value).decode() if value else None) if isinstance(value, tuple) else value


def _columns_of(session: DataSession) -> driver.Row:
    return tuple(map(_database_value, _all_of(session)))


def _changing_of(session: DataSession) -> driver.Row:
    return tuple(map(_database_value, _some_of(session)))


def _session_from_columns(row: Sequence[Any]) -> DataSession:
    facts = dict(zip(_COLUMNS, row, strict=True))
    for name in ("started_at", "heard_at", "dated_at", "began_at", "reported_at", "ended_at", "disconnect_at"):
        facts[name] = driver.parse_timestamp(facts[name])
    closed_by, shares = facts.pop("closed_by"), facts.pop("shares")
    facts["shares"] = () if shares is None else msgspec.json.decode(shares, type=tuple[tuple[int, int], ...])
    return DataSession(
        **facts | {"state": DataState(facts["state"])}, closed_by=None if closed_by is None else Closing(closed_by)
    )


def session_from_row(row: Any) -> DataSession:
    """Return the session of a row."""
    return _session_from_columns([getattr(row, name) for name in _COLUMNS])
