"""Data sessions: what a network access server (NAS) says that a subscriber used, charged once whatever is repeated.

A session is told of again and again, each time with its total so far, and any of it may come twice, late, in another
order or not at all. So a session is charged for the highest total that was ever told, and each charge is what that
total costs less what was charged before: nothing depends on how many reports came, or which.

A session holds a part of the credit for what it uses until the next report. Like talk that no limit cut, what was used
beyond all credit is charged too, below the floor, and the transfer's note says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from celcombiller.core.data.accounting_reports import AcctStatusType, NasRestart, Report, StaleSession, Usage
from celcombiller.core.data.session import (
    DISABLED,
    GONE,
    HOLD_MARGIN,
    ORIGIN,
    REORDERED,
    SPENT,
    Closing,
    DataSession,
    DataState,
    find_payer,
)
from celcombiller.core.errors import InvalidValue, UnknownSubscriber
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.rating import octets_price
from celcombiller.core.schema import bulk, driver, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from celcombiller.core.data.accounting_reports import Conditions
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.accounts import Account
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.subscribers.directory import Directory


@dataclass(slots=True)
class DataSessionRecords:
    """The sessions that one transaction works on: the last of each key it names, and what changes."""

    _last: dict[str, DataSession] = field(default_factory=dict)
    _loaded: dict[str, DataSession] = field(default_factory=dict)
    _new: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)
    _by_reference: dict[str, DataSession] = field(default_factory=dict)

    @staticmethod
    def questions(reports: Sequence[Report]) -> tuple[bulk.BoundQuery, bulk.BoundQuery]:
        """Ask for the sessions of these, and lock them (after messages, before accounts: that order is everybody's)."""
        keys = {each.key for each in reports if not isinstance(each, NasRestart)}
        restarted = {each.nas for each in reports if isinstance(each, NasRestart)}
        return _OF_KEYS.with_values(keys), _OF_NASES.with_values(restarted)

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[Any]]) -> DataSessionRecords:
        """Make it of the answers."""
        sessions = cls()
        for row in rows:
            read = _session_of_columns(row)
            sessions._loaded[read.reference] = sessions._last[read.key] = read
            sessions._by_reference[read.reference] = read
        return sessions

    @staticmethod
    def named(reports: Iterable[Report]) -> set[str]:
        """Give the words under which their subscribers are looked for."""
        return {word for each in reports if isinstance(each, Usage) for word in each.identities}

    def account_ids(self, reports: Iterable[Report], directory: Directory) -> set[int]:
        """Give the accounts that these reports may move."""
        payers = (find_payer(directory, each.identities) for each in reports if isinstance(each, Usage))
        paying = {directory.account_ids[payer.id, Kind.DATA] for payer in payers if payer is not None}
        return paying | {each.account_id for each in self._last.values()}

    def hold_references(self) -> set[str]:
        """Give the open holds of these sessions."""
        return {each.hold_reference for each in self._last.values() if each.state is DataState.OPEN}

    def changes(self) -> bulk.Writes:
        """Give all that is to be written."""
        found = self._by_reference
        yield _BEGIN, [_columns_of(found[reference]) for reference in sorted(self._new)]
        yield (
            _CHANGE,
            [
                (*_changing_of(found[reference]), reference, was.state.value, was.holds)
                for reference in sorted(self._changed)
                for was in (self._loaded[reference],)
            ],
        )

    # -- what is told ------------------------------------------------------------------------------------------------

    def plan(
        self, book: Book, directory: Directory, report: Report, now: datetime
    ) -> DataSession | list[DataSession] | None:
        """Do one of the reports."""
        match report:
            case Usage():
                return self.apply_usage(book, directory, report, now)
            case NasRestart():
                return self.close_nas_sessions(book, report, now)
            case StaleSession():
                return self.close_stale(book, report, now)

    def apply_usage(self, book: Book, directory: Directory, usage: Usage, now: datetime) -> DataSession:
        """Charge what a report says beyond what was charged, and hold for what comes next.

        Raises `UnknownSubscriber` for a session that is not known, of somebody who is not either, `InvalidValue` for
        more octets than anything can have used; then nothing is changed.
        """
        if usage.octets > AMOUNT_MAX:
            raise InvalidValue(f"{usage.octets} octets are more than a session can have used")
        session = self._last.get(usage.key)
        who = find_payer(directory, usage.identities)
        if session is None or _is_anew(session, usage):
            if who is None:
                raise UnknownSubscriber("nobody here has the name of this data session's user")
            session = self._begin(book, directory, who, usage, session, now)
        if session.state is DataState.CLOSED:
            return self._late(book, session, usage, who, now)
        session = self._progressed(session, usage, now)
        if usage.told is AcctStatusType.STOP:
            return self._close(book, session, Closing.STOP, usage.cause, ended_at=usage.at, now=now)
        return self._go_on(book, session, usage, who, now)

    def close_nas_sessions(self, book: Book, request: NasRestart, now: datetime) -> list[DataSession]:
        """Close the sessions of a NAS that began before it restarted, with what was last known of each."""
        return [
            self._close(book, self._dated(each, request.dated_at), Closing.RESTART, request.cause, request.at, now)
            for each in list(self._last.values())
            if each.nas == request.nas and each.state is DataState.OPEN and _was_before(each, request)
        ]

    def close_stale(self, book: Book, request: StaleSession, now: datetime) -> DataSession | None:
        """Close a session of which nobody tells any more, unless somebody has since."""
        session = self._last.get(request.key)
        if session is None or session.state is not DataState.OPEN or session.heard_at >= request.heard_before:
            return None
        note = f"nobody told of its end; it was heard last at {session.heard_at:%Y-%m-%d %H:%M:%S} UTC"
        session = self._put(session, note=_joined(session.note, note))
        return self._close(book, session, Closing.SILENCE, "", session.heard_at, now)

    def _begin(
        self,
        book: Book,
        directory: Directory,
        who: Subscriber,
        usage: Usage,
        before: DataSession | None,
        now: datetime,
    ) -> DataSession:
        began = DataSession(
            key=usage.key,
            generation=0 if before is None else before.generation + 1,
            nas=usage.nas,
            session_id=usage.session_id,
            username=usage.username,
            subscriber_id=who.id,
            account_id=directory.account_ids[who.id, Kind.DATA],
            octets_per_credit=usage.conditions.octets_per_credit,
            started_at=usage.at,
            heard_at=now,
            note="" if usage.told is AcctStatusType.START else "its beginning was not told",
        )
        self._new.add(began.reference)
        self._keep(began)
        return self._hold(book, began, usage.conditions, now)

    def _go_on(
        self, book: Book, session: DataSession, usage: Usage, who: Subscriber | None, now: datetime
    ) -> DataSession:
        """Settle the hold by what was used of it, and hold anew; or keep it, where it still serves."""
        hold, account = book.holds[session.hold_reference], book.accounts[session.account_id]
        due = _due(session)
        wanted = _quota(session, usage.conditions, account, already=hold.amount)
        is_old = hold.expires_at < now + usage.conditions.silence + HOLD_MARGIN
        if due or is_old or hold.amount < wanted:
            session = self._hold(book, self._settle(book, session, now), usage.conditions, now)
        return self._want_end(book, session, who, now)

    def _close(
        self, book: Book, session: DataSession, by: Closing, cause: str, ended_at: datetime, now: datetime
    ) -> DataSession:
        session = self._settle(book, session, now)
        return self._put(
            session,
            state=DataState.CLOSED,
            ended_at=max(ended_at, session.started_at),
            closed_by=by,
            cause=cause,
            disconnect_at=None,
        )

    def _late(
        self, book: Book, session: DataSession, usage: Usage, who: Subscriber | None, now: datetime
    ) -> DataSession:
        """Charge what is told of a session that was closed; one that goes on although it was not stopped, opens again.

        A report of no more than was charged does nothing.
        """
        if usage.octets <= session.octets:
            if usage.told is AcctStatusType.STOP and session.closed_by is not Closing.STOP:
                return self._put(session, closed_by=Closing.STOP, cause=usage.cause)
            return session
        session = self._progressed(session, usage, now)
        due = _due(session)
        if due:
            session = self._put(session, holds=session.holds + 1, charged=session.charged + due)
            why = f"told after the session was closed ({session.closed_by})"
            book.post(
                session.hold_reference,
                session.account_id,
                tables.OPERATOR_ACCOUNT_IDS[Kind.DATA],
                due,
                origin=ORIGIN,
                now=now,
                note=why,
                beyond_floor=True,
            )
        session = self._put(session, note=_joined(session.note, "more was told after it was closed"))
        if usage.told is AcctStatusType.STOP:
            return self._put(
                session, closed_by=Closing.STOP, cause=usage.cause, ended_at=max(usage.at, session.started_at)
            )
        if session.closed_by is Closing.STOP:
            return session
        session = self._put(session, state=DataState.OPEN, ended_at=None, closed_by=None, cause="", disconnect="")
        return self._want_end(book, self._hold(book, session, usage.conditions, now), who, now)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _progressed(self, session: DataSession, usage: Usage, now: datetime) -> DataSession:
        """Take over what is new in a report; the highest total counts."""
        facts: dict[str, Any] = {"heard_at": max(session.heard_at, now)}
        if usage.octets > session.octets:
            facts |= {"octets": usage.octets, "octets_in": usage.octets_in, "octets_out": usage.octets_out}
        for name in ("client", "nas_address", "framed_address", "station"):
            if getattr(usage, name):
                facts[name] = getattr(usage, name)
        return self._dated(self._put(session, **facts), usage.dated_at)

    def _dated(self, session: DataSession, dated_at: datetime | None) -> DataSession:
        if dated_at is None or (session.dated_at is not None and session.dated_at >= dated_at):
            return session
        return self._put(session, dated_at=dated_at)

    def _settle(self, book: Book, session: DataSession, now: datetime) -> DataSession:
        """End the open hold by charging what is due."""
        due, hold = _due(session), book.holds[session.hold_reference]
        if due == 0:
            book.release(hold.reference, now=now)
            return session
        note = f"{due} for the octets, {hold.amount} were held" if due > hold.amount else ""
        book.settle(hold.reference, due, origin=ORIGIN, now=now, note=note)
        return self._put(session, charged=session.charged + due)

    def _hold(self, book: Book, session: DataSession, conditions: Conditions, now: datetime) -> DataSession:
        session = self._put(session, holds=session.holds + 1)
        account = book.accounts[session.account_id]
        amount = _quota(session, conditions, account)
        expires_at = now + 2 * conditions.silence + HOLD_MARGIN
        book.hold(session.hold_reference, account.id, amount, now=now, expires_at=expires_at)
        return session

    def _want_end(self, book: Book, session: DataSession, who: Subscriber | None, now: datetime) -> DataSession:
        """Want the NAS to end a session that may not go on, and not any more when it may again."""
        if who is None or who.id != session.subscriber_id:
            # He has another name by now, or is gone; `disconnects.want` knows that by his number.
            why = session.disconnect if session.disconnect in (GONE, DISABLED) else ""
        else:
            why = "" if who.enabled else DISABLED
        if not why and book.holds[session.hold_reference].amount == 0:
            why = SPENT
        if why == session.disconnect:
            return session
        at = now if why else None
        return self._put(session, disconnect=why, disconnect_at=at, disconnect_tries=0, disconnect_said="")

    def _put(self, session: DataSession, **facts: Any) -> DataSession:
        changed = replace(session, **facts)
        if changed != session:
            self._keep(changed)
        return changed

    def _keep(self, session: DataSession) -> None:
        self._last[session.key] = self._by_reference[session.reference] = session
        if session.reference not in self._new:
            self._changed.add(session.reference)


def _is_anew(session: DataSession, usage: Usage) -> bool:
    """Tell whether a report begins another session under an id that was used before.

    Only a Start can, and only one that was made after the end of the session before. What has no date is taken for a
    repeat for a while after a Stop: a Start that is taken for new in vain holds credit until it is found silent, and
    charges nothing.
    """
    if session.state is DataState.OPEN or usage.told is not AcctStatusType.START:
        return False
    if usage.dated_at is not None and session.dated_at is not None:
        # Dates are whole seconds. What closed it at a restart is older than that, whose date it has now.
        restarted = session.closed_by is Closing.RESTART and usage.dated_at == session.dated_at
        return usage.dated_at > session.dated_at or restarted
    ended_at = session.ended_at or session.heard_at
    return usage.at > ended_at + (REORDERED if session.closed_by is Closing.STOP else timedelta(0))


def _was_before(session: DataSession, restart: NasRestart) -> bool:
    """Tell whether a session was there before its NAS restarted."""
    if restart.dated_at is not None and session.dated_at is not None:
        return session.dated_at < restart.dated_at
    return session.started_at <= restart.at


def _due(session: DataSession) -> int:
    """Credits that the session owes beyond what it was charged."""
    return octets_price(session.octets, session.octets_per_credit) - session.charged


def _quota(session: DataSession, conditions: Conditions, account: Account, *, already: int = 0) -> int:
    """Credits to hold: the quota, or what is there; no quota is all of it."""
    there = max(account.available + already, 0)
    if conditions.quota_octets == 0:
        return there
    return min(octets_price(conditions.quota_octets, session.octets_per_credit), there)


def _joined(*notes: str) -> str:
    """Put notes together, each once."""
    parts = [part for note in notes for part in note.split("; ") if part]
    return "; ".join(dict.fromkeys(parts))


_TABLE = tables.data_session


_COLUMNS = tuple(each.name for each in _TABLE.c if each.name not in ("id", "reference"))


_CHANGING = (
    *("heard_at", "client", "nas_address", "framed_address", "station", "octets_in", "octets_out", "octets"),
    *("charged", "holds", "state", "dated_at", "ended_at", "closed_by", "cause", "note"),
    *("disconnect", "disconnect_at", "disconnect_tries", "disconnect_said"),
)


_LAST = "generation = (select max(generation) from data_session as later where later.key = data_session.key)"


_OF_KEYS = bulk.BulkQuery(
    bulk.names(_COLUMNS),
    f"from data_session where key {{among}} and {_LAST}",
    of=_TABLE.c.key,
    lock="id",
)


_OF_NASES = bulk.BulkQuery(  # not by the index of a NAS's sessions, which has all that it ever had
    bulk.names(_COLUMNS),
    "from data_session where state = 'open' and nas || '' {among}",
    of=_TABLE.c.nas,
    lock="id",
)


_BEGIN = bulk.insert(_TABLE, ("reference", *_COLUMNS))


_CHANGE = bulk.update(_TABLE, _CHANGING, key="reference", unchanged=("state", "holds"))


_all_of = attrgetter("reference", *_COLUMNS)


_some_of = attrgetter(*_CHANGING)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value


def _columns_of(session: DataSession) -> driver.Row:
    return tuple(map(_plain, _all_of(session)))


def _changing_of(session: DataSession) -> driver.Row:
    return tuple(map(_plain, _some_of(session)))


def _session_of_columns(row: Sequence[Any]) -> DataSession:
    facts = dict(zip(_COLUMNS, row, strict=True))
    for name in ("started_at", "heard_at", "dated_at", "ended_at", "disconnect_at"):
        facts[name] = driver.parse_timestamp(facts[name])
    closed_by = facts.pop("closed_by")
    return DataSession(
        **facts | {"state": DataState(facts["state"])}, closed_by=None if closed_by is None else Closing(closed_by)
    )


def session_from_row(row: Any) -> DataSession:
    """Make the value of a row."""
    return _session_of_columns([getattr(row, name) for name in _COLUMNS])
