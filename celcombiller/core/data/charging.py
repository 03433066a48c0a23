"""Charge data sessions for what a network access server (NAS) reports, once whatever is repeated.

A NAS reports a session again and again, each time with its total so far. Any report may come twice, late, out of order
or not at all. So a session is charged for the highest total ever reported, and each charge is what that total costs
less what was charged before: it does not matter how many reports came, or which. `report_order` decides of which
session a report is, where a NAS uses an id again.

A session holds a part of the credit for what it uses until the next report. Octets used beyond all credit are charged
too, below the floor, as talk is that no limit cut; the transfer's note says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from celcombiller.core.bundles.choice import choose_pots
from celcombiller.core.data.accounting_reports import AcctStatusType, NasRestart, Report, StaleSession, Usage
from celcombiller.core.data.octet_charges import (
    OctetUse,
    encode_use,
    find_data_rate,
    price_octets,
    use_of,
    window_of,
)
from celcombiller.core.data.report_order import ROUNDING, Relation, began_together, count_octets, is_newer, place_report
from celcombiller.core.data.session import (
    BEGINNING_UNKNOWN,
    DISABLED,
    GONE,
    HOLD_MARGIN,
    ORIGIN,
    SPENT,
    SUSPENDED,
    Closing,
    DataSession,
    DataState,
    find_payer,
)
from celcombiller.core.errors import InvalidValue, UnknownSubscriber
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import share_reference
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.pricing import octets_price
from celcombiller.core.rating.rate_columns import text_of_rate
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from celcombiller.core.bundles.pots import BundlePot
    from celcombiller.core.catalogue.catalogue import Catalogue
    from celcombiller.core.data.accounting_reports import Conditions
    from celcombiller.core.data.session_records import DataSessionRecords
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.accounts import Account
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.subscribers.directory import Directory


@dataclass(slots=True)
class DataCharging:
    """The charging of data sessions, on what one batch has loaded."""

    directory: Directory
    book: Book
    sessions: DataSessionRecords
    pots: Mapping[int, Sequence[BundlePot]] = field(default_factory=dict)
    """The bundles of each subscriber that pays for something new, in the order in which they are spent."""
    catalogue: Catalogue | None = None
    """Has the tariff of a payer; where that has no price of data, the settings' price counts."""

    def process(self, report: Report, now: datetime) -> DataSession | list[DataSession] | None:
        """Apply one report. Raises what its own method does."""
        match report:
            case Usage():
                return self.apply_usage(report, now)
            case NasRestart():
                return self.close_nas_sessions(report, now)
            case StaleSession():
                return self.close_stale(report, now)

    def apply_usage(self, usage: Usage, now: datetime) -> DataSession:
        """Charge what a report says beyond what was charged, and hold for what comes next.

        Raises `UnknownSubscriber` for a new session of an unknown user, `InvalidValue` for more octets than are
        possible; then nothing changes.
        """
        if usage.octets > AMOUNT_MAX:
            raise InvalidValue(f"{usage.octets} octets are more than a session can have used")
        payer = find_payer(self.directory, usage.identities)
        sessions = self._sessions_of(usage, payer)
        relation, session = place_report(sessions, usage, now) if sessions else (Relation.LATER, None)
        if relation is Relation.LATER or session is None:
            if payer is None:
                raise UnknownSubscriber("nobody here has the name of this data session's user")
            if session is not None and session.state is DataState.OPEN:
                self._supersede(session, usage, now)
            session = self._begin(payer, usage, now)
        elif relation is Relation.EARLIER:
            return session
        if session.state is DataState.CLOSED:
            return self._apply_late(session, usage, payer, now, may_reopen=session is sessions[-1])
        session = self._update(session, usage, now)
        if usage.status_type is AcctStatusType.STOP:
            return self._close(session, Closing.STOP, usage.cause, ended_at=usage.at, now=now)
        return self._continue(session, usage, payer, now)

    def close_nas_sessions(self, request: NasRestart, now: datetime) -> list[DataSession]:
        """Close the sessions of a NAS that began before it restarted, with the last known total of each."""
        return [
            self._close(self._date(each, request.dated_at), Closing.RESTART, request.cause, request.at, now)
            for each in list(self.sessions)
            if each.nas == request.nas and each.state is DataState.OPEN and _was_before(each, request)
        ]

    def close_stale(self, request: StaleSession, now: datetime) -> DataSession | None:
        """Close a session without reports since ``heard_before``; ``None``: it is closed, or was heard since."""
        session = self.sessions.get(request.reference)
        if session is None or session.state is not DataState.OPEN or session.heard_at >= request.heard_before:
            return None
        note = f"nobody told of its end; it was heard last at {session.heard_at:%Y-%m-%d %H:%M:%S} UTC"
        session = self.sessions.change(session, note=_join_notes(session.note, note))
        return self._close(session, Closing.SILENCE, "", session.heard_at, now)

    def _sessions_of(self, usage: Usage, payer: Subscriber | None) -> list[DataSession]:
        """Return the known sessions that a report may belong to, the oldest first.

        They are the payer's, whatever name the report gives them. A session of someone who was renamed or deleted
        meanwhile is known by the name that the NAS goes on to give; a report without any name by its id alone, where
        all sessions of that id are of one subscriber.
        """
        new, old = usage.keys
        known = [*self.sessions.of_key(old), *self.sessions.of_key(new)]
        own = [each for each in known if payer is not None and each.subscriber_id == payer.id]
        if own:
            return own
        if usage.username:
            return [each for each in known if each.username == usage.username]
        return known if len({each.subscriber_id for each in known}) == 1 else []

    def _supersede(self, session: DataSession, usage: Usage, now: datetime) -> None:
        """Close a session whose id the NAS uses again: it must have restarted without a word."""
        session = self.sessions.change(session, note=_join_notes(session.note, "its id was used again"))
        self._close(session, Closing.RESTART, "", usage.started_at, now)

    def _begin(self, payer: Subscriber, usage: Usage, now: datetime) -> DataSession:
        rate, version_id = (None, None) if self.catalogue is None else find_data_rate(self.catalogue, payer, now)
        session = DataSession(
            key=usage.key,
            generation=self.sessions.next_generation(usage.key),
            nas=usage.nas,
            session_id=usage.session_id,
            username=usage.username,
            subscriber_id=payer.id,
            account_id=self.directory.account_ids[payer.id, Kind.DATA],
            octets_per_credit=usage.conditions.octets_per_credit,
            started_at=usage.started_at,
            heard_at=now,
            note="" if usage.status_type is AcctStatusType.START else BEGINNING_UNKNOWN,
            rate_detail=None if rate is None else text_of_rate(rate),
            tariff_version_id=version_id,
            pieces=None if rate is None else encode_use(OctetUse()),
        )
        return self._hold(self.sessions.add(session), usage.conditions, now)

    def _continue(self, session: DataSession, usage: Usage, payer: Subscriber | None, now: datetime) -> DataSession:
        """Settle the hold for what was used of it and hold again, or keep the hold where it still serves."""
        hold, account = self.book.holds[session.hold_reference], self.book.accounts[session.account_id]
        due = _due(session, now) or session.octets != use_of(session).octets
        wanted = self._quota(session, usage.conditions, account, now, already=hold.amount)
        is_old = hold.expires_at < now + usage.conditions.silence + HOLD_MARGIN
        if due or is_old or (hold.amount < wanted and not session.shares):
            session = self._hold(self._settle(session, now), usage.conditions, now)
        return self._mark_disconnect(session, payer, now)

    def _close(
        self, session: DataSession, closed_by: Closing, cause: str, ended_at: datetime, now: datetime
    ) -> DataSession:
        session = self._settle(session, now)
        return self.sessions.change(
            session,
            state=DataState.CLOSED,
            ended_at=max(ended_at, session.started_at),
            closed_by=closed_by,
            cause=cause,
            disconnect_at=None,
        )

    def _apply_late(
        self, session: DataSession, usage: Usage, payer: Subscriber | None, now: datetime, *, may_reopen: bool
    ) -> DataSession:
        """Charge a report of a closed session; open the session again when it goes on and no Stop has closed it.

        A report of no more than was charged moves no credit.
        """
        if sum(count_octets(session, usage)) <= session.octets:
            if usage.status_type is AcctStatusType.STOP and session.closed_by is not Closing.STOP:
                return self.sessions.change(session, closed_by=Closing.STOP, cause=usage.cause)
            return session
        session = self._update(session, usage, now)
        due, session = _due(session, now), self._account(session, now)
        if due:
            session = self.sessions.change(session, holds=session.holds + 1, charged=session.charged + due)
            self.book.post(
                session.hold_reference,
                session.account_id,
                tables.OPERATOR_ACCOUNT_IDS[Kind.DATA],
                due,
                origin=ORIGIN,
                now=now,
                note=f"told after the session was closed ({session.closed_by})",
                beyond_floor=True,
            )
        session = self.sessions.change(session, note=_join_notes(session.note, "more was told after it was closed"))
        if usage.status_type is AcctStatusType.STOP:
            return self.sessions.change(
                session, closed_by=Closing.STOP, cause=usage.cause, ended_at=max(usage.at, session.started_at)
            )
        if session.closed_by is Closing.STOP or not may_reopen:
            return session
        session = self.sessions.change(
            session, state=DataState.OPEN, ended_at=None, closed_by=None, cause="", disconnect=""
        )
        return self._mark_disconnect(self._hold(session, usage.conditions, now), payer, now)

    # -- steps -------------------------------------------------------------------------------------------------------

    def _update(self, session: DataSession, usage: Usage, now: datetime) -> DataSession:
        """Record what is new in a report; the highest total counts. Raises `InvalidValue` for too many octets."""
        facts: dict[str, Any] = {"heard_at": max(session.heard_at, now)} | _times(session, usage)
        octets_in, octets_out = count_octets(session, usage)
        octets = octets_in + octets_out
        if octets > AMOUNT_MAX:
            raise InvalidValue(f"{octets} octets are more than a session can have used")
        if octets > session.octets:
            facts |= {"octets": octets, "octets_in": octets_in, "octets_out": octets_out}
        if octets > session.octets or is_newer(session, usage):
            facts |= {"packets_in": usage.packets_in, "packets_out": usage.packets_out}
        for name in ("client", "nas_address", "framed_address", "station"):
            if getattr(usage, name):
                facts[name] = getattr(usage, name)
        return self.sessions.change(session, **facts)

    def _date(self, session: DataSession, dated_at: datetime | None) -> DataSession:
        if dated_at is None or (session.dated_at is not None and session.dated_at >= dated_at):
            return session
        return self.sessions.change(session, dated_at=dated_at)

    def _settle(self, session: DataSession, now: datetime) -> DataSession:
        """End the open hold by charging what is due."""
        session = self._take_shares(session, now)
        due, hold = _due(session, now), self.book.holds[session.hold_reference]
        session = self._account(session, now)
        if due == 0:
            self.book.release(hold.reference, now=now)
            return session
        note = f"{due} for the octets, {hold.amount} were held" if due > hold.amount else ""
        self.book.settle(hold.reference, due, origin=ORIGIN, now=now, note=note)
        return self.sessions.change(session, charged=session.charged + due)

    def _hold(self, session: DataSession, conditions: Conditions, now: datetime) -> DataSession:
        session = self.sessions.change(session, holds=session.holds + 1)
        account = self.book.accounts[session.account_id]
        expires_at = now + 2 * conditions.silence + HOLD_MARGIN
        wanted, shares = conditions.quota_octets, []
        for pot in choose_pots(self.pots, session.subscriber_id, self.book, Service.DATA, "", on_net=False, at=now):
            octets = pot.amount if conditions.quota_octets == 0 else min(pot.amount, wanted)
            if octets > 0:
                wanted -= octets
                shares.append((pot.account_id, octets))
        if shares:
            session = self.sessions.change(session, shares=tuple(shares), pieces=encode_use(use_of(session)))
            for account_id, octets in shares:
                reference = share_reference(account_id, session.hold_reference)
                self.book.hold(reference, account_id, octets, now=now, expires_at=expires_at)
        amount = self._quota(session, conditions, account, now, octets=max(wanted, 0))
        self.book.hold(session.hold_reference, account.id, amount, now=now, expires_at=expires_at)
        return session

    def _take_shares(self, session: DataSession, now: datetime) -> DataSession:
        """End the holds of bundles by taking the new octets out of them, as far as they go.

        A NAS may report more than was held for it: then a bundle gives what else it has.
        """
        if not session.shares:
            return session
        use = use_of(session)
        new = session.octets - use.octets
        for account_id, held in session.shares:
            taken = min(held + max(self.book.accounts[account_id].available, 0), new)
            reference = share_reference(account_id, session.hold_reference)
            note = f"{taken} octets, {held} were held" if taken > held else ""
            self.book.settle(reference, taken, origin=ORIGIN, now=now, note=note)
            new, use = new - taken, replace(use, bundled=use.bundled + taken)
        return self.sessions.change(session, shares=(), pieces=encode_use(use))

    def _account(self, session: DataSession, now: datetime) -> DataSession:
        """Account for the octets that no bundle paid for, in the window of this time."""
        if session.pieces is None:
            return session
        use = use_of(session)
        use = use.with_paid(window_of(session, now), session.octets - use.octets)
        return self.sessions.change(session, pieces=encode_use(use))

    def _quota(
        self,
        session: DataSession,
        conditions: Conditions,
        account: Account,
        now: datetime,
        *,
        already: int = 0,
        octets: int | None = None,
    ) -> int:
        """Return the credits to hold for ``octets``, else for the quota; at most what is available.

        A quota of 0 means all that is available.
        """
        available = max(account.spendable + already, 0)
        if conditions.quota_octets == 0:
            return available
        more = conditions.quota_octets if octets is None else octets
        if session.pieces is None:
            return min(octets_price(more, session.octets_per_credit), available)
        return min(price_octets(session, more, now) - session.charged, available)

    def _mark_disconnect(self, session: DataSession, payer: Subscriber | None, now: datetime) -> DataSession:
        """Mark a session that the NAS must end, or remove the mark when it may go on."""
        if payer is None or payer.id != session.subscriber_id:
            # The subscriber was renamed or deleted; `request_disconnects` finds that by their id.
            why = session.disconnect if session.disconnect in (GONE, DISABLED, SUSPENDED) else ""
        else:
            why = DISABLED if not payer.enabled else SUSPENDED if payer.suspended else ""
        if not why and self.book.holds[session.hold_reference].amount == 0 and not session.shares:
            why = SPENT
        if why == session.disconnect:
            return session
        at = now if why else None
        return self.sessions.change(session, disconnect=why, disconnect_at=at, disconnect_tries=0, disconnect_said="")


def _times(session: DataSession, usage: Usage) -> dict[str, Any]:
    """Return the times that a session has after a report."""
    seconds, known = usage.session_seconds, session.session_seconds
    times: dict[str, Any] = {"reported_at": max(usage.at, session.reported_at or usage.at)}
    if seconds is not None:
        times["session_seconds"] = max(seconds, known or 0)
    if usage.dated_at is None:
        return times
    times["dated_at"] = max(usage.dated_at, session.dated_at or usage.dated_at)
    began_at = usage.began_at or session.began_at
    if began_at is None or session.began_at is None or usage.status_type is AcctStatusType.START:
        known_beginnings = [each for each in (began_at, session.began_at) if each is not None]
        return times | {"began_at": min(known_beginnings, default=None)}
    is_reset = abs(began_at - session.began_at) > ROUNDING and began_together(session, usage)
    if is_reset and (seconds or 0) > (known or 0):  # the NAS's clock was set
        times |= {"began_at": began_at, "dated_at": usage.dated_at}
    return times


def _was_before(session: DataSession, restart: NasRestart) -> bool:
    """Return whether a session began before its NAS restarted."""
    if restart.dated_at is not None and session.dated_at is not None:
        return session.dated_at < restart.dated_at
    return session.started_at <= restart.at


def _due(session: DataSession, now: datetime) -> int:
    """Return the credits that the session owes beyond what it was charged."""
    new = 0 if session.pieces is None else session.octets - use_of(session).octets
    return price_octets(session, new, now) - session.charged


def _join_notes(*notes: str) -> str:
    """Join notes, each once."""
    parts = [part for note in notes for part in note.split("; ") if part]
    return "; ".join(dict.fromkeys(parts))
