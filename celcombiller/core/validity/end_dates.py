"""Until when the credit of accounts is valid: the terms of the ledger, the last top-ups, and what the operator added.

Whoever moves credit does nothing for it. The transfers are read from a bookmark on, at no cost to the path of calls.
All that writes many rows locks the bookmark first, so that transactions cannot deadlock.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.bookmarks import begin_bookmark, move_bookmark
from celcombiller.core.ledger.spending import UNDO, undo_reference
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.schema.expressions import upsert
from celcombiller.core.validity.validity_terms import NO_TOP_UPS, KindTerms, TopUp, last_day

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Account
    from celcombiller.core.validity.validity_terms import ValidityTerms

BOOKMARK = "credit_validity"

IDS_PER_SCAN_MAX = 2_000
"""Most transfers that one transaction reads: some 30 ms on SQLite, where nobody else writes meanwhile."""

ABSENCE = timedelta(days=1)
"""After longer without a look the biller stood still, or the clock was wrong, or is now."""

PAUSE = timedelta(days=2)
"""How long no credit ends then: subscribers can top up first, and operators can set the clock."""

_LOOK_RECORDED = timedelta(hours=1)
"""A look is recorded so often."""

_account, _transfer = tables.account, tables.transfer
_terms, _validity = tables.credit_validity_terms, tables.credit_validity


# -- the terms ---------------------------------------------------------------------------------------------------------


def read_terms(tx: Connection) -> dict[Kind, KindTerms]:
    """Return the terms of the kinds whose credit ends, as they are in force."""
    return {kind: terms for kind, (terms, _) in _read_rows(tx).items()}


def _read_rows(tx: Connection, *, lock: bool = False) -> dict[Kind, tuple[KindTerms, datetime]]:
    query = sa.select(_terms).order_by(_terms.c.kind)
    rows = tx.execute(query.with_for_update() if lock else query)
    return {Kind(row.kind): (KindTerms(row.days, row.since, row.paused_until), row.looked_at) for row in rows}


def are_current(tx: Connection, days: Mapping[Kind, int], now: datetime) -> bool:
    """Return whether `update_terms` has nothing to write."""
    return not list(_changes(_read_rows(tx), days, now))


def update_terms(tx: Connection, days: Mapping[Kind, int], *, last_id: int, now: datetime) -> list[Kind]:
    """Bring the terms of the ledger into line with the settings and the clock; return the kinds that are now paused.

    A kind that is new, or has fewer days than before, counts from ``now``, so that no credit ends at once; so it does
    where the clock was set back. ``last_id``: the last transfer that all can see; older ones are never read.
    """
    at = lock_bookmark(tx)
    before = _read_rows(tx, lock=True)
    changes = list(_changes(before, days, now))
    for kind, values in changes:
        if values is None:
            tx.execute(sa.delete(_terms).where(_terms.c.kind == kind.value))
        elif kind in before:
            tx.execute(sa.update(_terms).where(_terms.c.kind == kind.value).values(values))
        else:
            tx.execute(sa.insert(_terms).values({"kind": kind.value} | values))
    if days and not before:
        begin_bookmark(tx, BOOKMARK, last_id)
        if at is not None and at < last_id:
            move_bookmark(tx, BOOKMARK, after_id=at, until_id=last_id)
    return [kind for kind, values in changes if values and kind in before and values.get("paused_until")]


def _changes(
    before: Mapping[Kind, tuple[KindTerms, datetime]], days: Mapping[Kind, int], now: datetime
) -> Iterable[tuple[Kind, dict[str, Any] | None]]:
    """Yield what changes of each kind; ``None``: its credit ends no more."""
    for kind in before.keys() - days.keys():
        yield kind, None
    for kind, its_days in days.items():
        if kind not in before:
            yield kind, {"days": its_days, "since": now, "looked_at": now}
        else:
            values = _changes_of(*before[kind], its_days, now)
            if values:
                yield kind, values


def _changes_of(terms: KindTerms, looked_at: datetime, days: int, now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if days != terms.days:
        values["days"] = days
    if days < terms.days or terms.since > now:
        values |= {"since": now, "opened_until": 0}
    gap = now - looked_at
    if gap >= _LOOK_RECORDED or gap < timedelta(0):
        values["looked_at"] = now
    paused = terms.paused_until
    if gap > ABSENCE:
        paused = now + PAUSE
    elif paused is not None:
        paused = None if paused <= now else min(paused, now + PAUSE)
    if paused != terms.paused_until:
        values["paused_until"] = paused
    return values


def open_accounts(tx: Connection, kind: Kind, *, limit: int, now: datetime) -> bool:
    """Count the time of the next accounts that have credit from ``now``; return whether there are more.

    Of those that are counted already the message is sent again, as the terms have changed.
    """
    if lock_bookmark(tx) is None:
        return False
    row = tx.execute(sa.select(_terms).where(_terms.c.kind == kind.value)).first()
    if row is None:
        return False
    which = (_account.c.id > row.opened_until, _account.c.kind == kind.value, _account.c.subscriber_id.is_not(None))
    chunk = sa.select(_account.c.id).where(*which).order_by(_account.c.id).limit(limit).subquery()
    last_id = tx.execute(sa.select(sa.func.max(chunk.c.id))).scalar()
    if last_id is None:
        return False
    rows = sa.select(_account.c.id, _account.c.kind, sa.literal(now, tables.Instant)).where(
        *which, _account.c.id <= last_id, _account.c.posted > 0
    )
    made = _insert(tx, ("account_id", "kind", "topped_up_at"), rows)
    tx.execute(made.on_conflict_do_update(index_elements=["account_id"], set_={"warned_at": None}))
    tx.execute(sa.update(_terms).where(_terms.c.kind == kind.value).values(opened_until=last_id))
    return True


# -- the transfers -----------------------------------------------------------------------------------------------------


def scan(tx: Connection, terms: ValidityTerms, *, after_id: int, until_id: int, now: datetime) -> bool:
    """Note the top-ups among the transfers after one id up to another; return False if another node was quicker.

    One that is older than `ABSENCE` counts as now: it was imported, or the biller stood still. One that was undone does
    not count: of a sale and its undoing nothing is left.

    Any other credit begins a new count where all credit has ended, else it ends with the rest.
    """
    if not move_bookmark(tx, BOOKMARK, after_id=after_id, until_id=until_id):
        return False
    span = sa.and_(_transfer.c.id > after_id, _transfer.c.id <= until_id)
    kinds = [each.value for each in terms.days]
    last_at, at_now = sa.func.max(_transfer.c.at), sa.literal(now, tables.Instant)
    rows = (
        sa.select(_account.c.id, _account.c.kind, sa.case((last_at < now - ABSENCE, at_now), else_=last_at))
        .join(_account, _account.c.id == _transfer.c.credit_account_id)
        .where(span, _account.c.kind.in_(kinds), _account.c.subscriber_id.is_not(None))
        .group_by(_account.c.id, _account.c.kind)
    )
    has_ended = _validity.c.ended_at.is_not(None)
    others = _insert(tx, ("account_id", "kind", "topped_up_at"), rows.where(sa.not_(is_top_up(terms.top_ups))))
    # An undoing counts again from `counted_before`: left from what has ended, it would end the new credit with that.
    begun = _begin(others, has_ended) | {
        "counted_before": sa.case((has_ended, others.excluded.topped_up_at), else_=_COUNTED_BEFORE)
    }
    tx.execute(others.on_conflict_do_update(index_elements=["account_id"], set_=begun))
    made = _insert(tx, ("account_id", "kind", "topped_up_at"), rows.where(is_top_up(terms.top_ups)))
    is_later = made.excluded.topped_up_at > _validity.c.topped_up_at
    begun = _begin(made, is_later) | {"counted_before": sa.case((is_later, _base(made, now)), else_=_COUNTED_BEFORE)}
    tx.execute(made.on_conflict_do_update(index_elements=["account_id"], set_=begun))
    undone = sa.select(_transfer.c.debit_account_id).where(span, _transfer.c.origin == UNDO).distinct()
    for account_id in tx.execute(undone).scalars().all():
        _count_again(tx, account_id, terms.top_ups)
    return True


_COUNTED_BEFORE = _validity.c.counted_before


def _base(made: Any, now: datetime) -> sa.ColumnElement[Any]:
    """Return from when the credit would count without the top-ups of the last day, which can be undone."""
    return sa.case(
        (_validity.c.ended_at.is_not(None), made.excluded.topped_up_at),
        (_validity.c.topped_up_at < sa.literal(now - ABSENCE, tables.Instant), _validity.c.topped_up_at),
        else_=sa.func.coalesce(_COUNTED_BEFORE, _validity.c.topped_up_at),
    )


def _count_again(tx: Connection, account_id: int, top_ups: Iterable[TopUp]) -> None:
    """Count the credit of an account from its last top-up that is left, after one was undone."""
    row = tx.execute(sa.select(_validity).where(_validity.c.account_id == account_id)).first()
    if row is None or row.counted_before is None:
        return
    left = (_transfer.c.credit_account_id == account_id, _transfer.c.at > row.counted_before, is_top_up(top_ups))
    last_at = tx.execute(sa.select(sa.func.max(_transfer.c.at)).where(*left)).scalar() or row.counted_before
    if last_at < row.topped_up_at:
        values = {"topped_up_at": last_at, "warned_at": None}
        tx.execute(sa.update(_validity).where(_validity.c.account_id == account_id).values(values))


def _begin(made: Any, when: sa.ColumnElement[bool]) -> dict[str, Any]:
    """Return the changes that begin a new count on a condition."""
    return {
        "topped_up_at": sa.case((when, made.excluded.topped_up_at), else_=_validity.c.topped_up_at),
        "warned_at": sa.case((when, sa.null()), else_=_validity.c.warned_at),
        "ended_at": None,
    }


def is_top_up(top_ups: Iterable[TopUp], transfer: Any = _transfer) -> sa.ColumnElement[bool]:
    """Return the condition on transfers to a subscriber's account that count as top-ups, and were not undone.

    What an operator gives back of credit that had expired counts, whatever the settings say: else it would end again.
    """
    chosen = set(top_ups)
    named = [each.value for each in TopUp if each is not TopUp.OPERATOR]
    ways = [transfer.c.reference.like("reversal:expiry:%")]
    if chosen - {TopUp.OPERATOR}:
        ways.append(transfer.c.origin.in_(sorted(each.value for each in chosen - {TopUp.OPERATOR})))
    if TopUp.OPERATOR in chosen:
        operators = [tables.OPERATOR_ACCOUNT_IDS[kind] for kind in Kind]
        by_operator = transfer.c.debit_account_id.in_(operators)
        ways.append(sa.and_(by_operator, transfer.c.origin.not_in([*named, *sorted(NO_TOP_UPS)])))
    undone = tables.transfer.alias()
    is_undone = sa.exists().where(undone.c.reference == sa.literal(undo_reference("")).concat(transfer.c.reference))
    return sa.and_(sa.or_(*ways), sa.not_(is_undone))


# -- one account -------------------------------------------------------------------------------------------------------


def keep_valid_until(tx: Connection, account_id: int, until: date, now: datetime) -> None:
    """Keep all credit of a balance valid through a day at least, whatever the last top-up was.

    For vouchers with a validity of their own, and for operators. The account is locked by the caller, or by what the
    caller does next. It is kept where credit does not end, too, in case the operator lets it end later.
    """
    kind = tx.execute(sa.select(_account.c.kind).where(_account.c.id == account_id)).scalar_one()
    if kind not in {each.value for each in Kind}:
        raise InvalidValue("only the credit of a balance has an end: a bundle has its own")
    facts = {"account_id": account_id, "kind": kind, "topped_up_at": now, "valid_until": until}
    made = upsert(tx, _validity).values(facts)
    before = _validity.c.valid_until
    is_later = sa.or_(before.is_(None), made.excluded.valid_until > before)
    changes = {
        "valid_until": sa.case((is_later, made.excluded.valid_until), else_=before),
        "warned_at": None,
        "ended_at": None,
    }
    tx.execute(made.on_conflict_do_update(index_elements=["account_id"], set_=changes))


def read_last_days(tx: Connection, accounts: Iterable[Account], zone: str) -> dict[int, date]:
    """Return the last day on which the credit of each account is valid; those without credit, or an end, are left out.

    ``zone`` is that of the operator's days.
    """
    terms = read_terms(tx)
    asked = {each.id: each.kind for each in accounts if each.kind in terms and each.posted > 0}
    if not asked:
        return {}
    rows = {
        row.account_id: row for row in tx.execute(sa.select(_validity).where(_validity.c.account_id.in_(list(asked))))
    }
    found = {}
    for account_id, kind in asked.items():
        its, row = terms[Kind(kind)], rows.get(account_id)
        topped_up_at, extended = (its.since, None) if row is None else (row.topped_up_at, row.valid_until)
        found[account_id] = last_day(its, topped_up_at, extended, zone)
    return found


def read_last_day(tx: Connection, account: Account, zone: str) -> date | None:
    """Return the last day on which the credit of an account is valid; ``None``: it has no end, or there is none."""
    return read_last_days(tx, [account], zone).get(account.id)


def lock_bookmark(tx: Connection) -> int | None:
    """Lock the bookmark; return the last transfer that was read, or None before the first look."""
    bookmark = tables.bookmark
    return tx.execute(sa.select(bookmark.c.transfer_id).where(bookmark.c.name == BOOKMARK).with_for_update()).scalar()


def _insert(tx: Connection, columns: tuple[str, ...], rows: sa.Select[Any]) -> Any:
    return upsert(tx, _validity).from_select(list(columns), rows)
