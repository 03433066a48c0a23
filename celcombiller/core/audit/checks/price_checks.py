"""Checks of what calls were charged against the rate that each of them has: the price of its talk, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, list_references
from celcombiller.core.model.accounts import ACCOUNT_KINDS
from celcombiller.core.model.calls import RERATING, CallState
from celcombiller.core.rating.bill import Pot, make_bill
from celcombiller.core.rating.pricing import LATE_CUT_MS, charged_ms, price, seconds_of
from celcombiller.core.schema import tables
from celcombiller.core.voice.call_records import call_from_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.calls import Call

CHUNK_ROWS = 500
"""Calls that are priced at once, with the holds of their bundles."""

_call = tables.call

_SETTLED = _call.c.state == CallState.SETTLED

_IS_FLAT = sa.and_(_call.c.rate_detail.is_(None), _call.c.bundles.is_(None))
"""Whether the database itself can price a call: one price for each increment, all paid by the balance."""


def check_flat_prices(tx: Connection) -> Iterator[Difference]:
    """Check that a call at a flat rate, without bundles, cost the price of its talk or of its grant, if cut late."""
    granted_ms = _call.c.granted_seconds * 1000
    is_late_cut = sa.and_(_call.c.talk_ms > granted_ms, _call.c.talk_ms <= granted_ms + LATE_CUT_MS)
    of_talk, of_grant = _flat_price(_call.c.talk_ms), _flat_price(granted_ms)
    right = sa.or_(_call.c.cost == of_talk, sa.and_(is_late_cut, _call.c.cost == of_grant))
    rows = tx.execute(
        sa.select(_call.c.reference, _call.c.cost, sa.case((is_late_cut, of_grant), else_=of_talk).label("price"))
        .where(_SETTLED, _IS_FLAT, sa.not_(right))
        .order_by(_call.c.id)
    )
    for row in rows:
        yield Difference("a call costs the price of its talk", row.reference, int(row.price), row.cost)


def check_tariff_prices(tx: Connection) -> Iterator[Difference]:
    """Check that any other call cost what its rate and its bundles say, and each bundle its part."""
    wanted = sa.select(_call).where(_SETTLED, sa.not_(_IS_FLAT)).order_by(_call.c.id).limit(CHUNK_ROWS)
    last = 0
    while rows := tx.execute(wanted.where(_call.c.id > last)).all():
        last, calls = rows[-1].id, [call_from_row(row) for row in rows]
        shares = read_shares(tx, calls)
        for call in calls:
            yield from check_bill(call, shares)


def check_trunk_costs(tx: Connection) -> Iterator[Difference]:
    """Check that a settled call cost the operator what the rate of its trunk's provider says of its talk."""
    is_priced = sa.or_(_call.c.trunk_rate.is_not(None), _call.c.trunk_cost.is_not(None))
    wanted = sa.select(_call).where(is_priced).order_by(_call.c.id).limit(CHUNK_ROWS)
    last = 0
    while rows := tx.execute(wanted.where(_call.c.id > last)).all():
        last = rows[-1].id
        for call in map(call_from_row, rows):
            expected = None
            if call.state is CallState.SETTLED and call.trunk_rate is not None:
                expected = price(call.trunk_rate, seconds_of(call.talk_ms or 0), call.answered_at or call.started_at)
            if call.trunk_cost != expected:
                yield Difference("a call's trunk costs what its rate says", call.reference, expected, call.trunk_cost)


def check_reratings(tx: Connection) -> Iterator[Difference]:
    """Check that a call that was charged again paid, in all, its newest price, by one transfer for each time."""
    again, transfer = tables.rerating, tables.transfer
    reference = sa.literal(f"{RERATING}:").concat(sa.cast(again.c.version_id, sa.Text)).concat(":")
    is_owed = sa.and_(again.c.difference > 0, transfer.c.debit_account_id == _call.c.account_id)
    is_back = sa.and_(again.c.difference < 0, transfer.c.credit_account_id == _call.c.account_id)
    right = sa.and_(transfer.c.amount == sa.func.abs(again.c.difference), sa.or_(is_owed, is_back))
    rows = tx.execute(
        sa.select(again.c.call_reference, again.c.difference, transfer.c.amount)
        .join(_call, _call.c.reference == again.c.call_reference)
        .outerjoin(transfer, transfer.c.reference == reference.concat(again.c.call_reference))
        .where(sa.or_(transfer.c.id.is_(None), sa.not_(right)))
        .order_by(again.c.id)
    )
    for row in rows:
        yield Difference("a call charged again has its transfer", row.call_reference, row.difference, row.amount)
    place = sa.func.row_number().over(partition_by=again.c.call_reference, order_by=again.c.id.desc())
    total = sa.func.sum(again.c.difference).over(partition_by=again.c.call_reference)
    each = sa.select(again.c.call_reference, again.c.price, place.label("place"), total.label("total")).subquery()
    sums = tx.execute(
        sa.select(each.c.call_reference, each.c.price, (_call.c.cost + each.c.total).label("charged"))
        .join(_call, _call.c.reference == each.c.call_reference)
        .where(each.c.place == 1, _call.c.cost + each.c.total != each.c.price)
        .order_by(each.c.call_reference)
    )
    for row in sums:
        yield Difference("a call charged again paid its new price", row.call_reference, row.price, int(row.charged))
    charged = list_references(reference.concat(again.c.call_reference))
    strays = tx.execute(
        sa.select(transfer.c.reference, transfer.c.amount)
        .outerjoin(charged, charged.c.reference == transfer.c.reference)
        .where(transfer.c.origin == RERATING, charged.c.reference.is_(None))
        .order_by(transfer.c.id)
    )
    for stray in strays:
        yield Difference("a transfer of a rerating has its call", stray.reference, None, stray.amount)


def _flat_price(talk_ms: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    increment_ms = _call.c.increment_seconds * 1000
    increments = sa.case((talk_ms <= 0, 1), else_=(talk_ms + increment_ms - 1) // increment_ms)
    return _call.c.connect_fee + increments * _call.c.price


def read_shares(tx: Connection, calls: list[Call]) -> dict[str, Any]:
    """Return by reference what was held on each bundle of these calls, of which kind it is, and what it paid."""
    references = [name for call in calls for name in call.hold_references[1:]]
    hold, account, transfer = tables.hold, tables.account, tables.transfer
    paid = sa.func.coalesce(transfer.c.amount, 0).label("paid")
    rows = tx.execute(
        sa.select(hold.c.reference, hold.c.account_id, hold.c.amount, account.c.kind, paid)
        .join(account, account.c.id == hold.c.account_id)
        .outerjoin(transfer, transfer.c.reference == hold.c.reference)
        .where(hold.c.reference.in_(references))
    )
    return {row.reference: row for row in rows}


def list_possible_seconds(call: Call) -> tuple[int, ...]:
    """Return the seconds that a settled call may have been charged for, the likeliest first.

    Talk that goes a little beyond the grant counts as the grant, or whole where it was dialled with another limit.
    """
    talk_ms = call.talk_ms or 0
    return tuple(dict.fromkeys(map(seconds_of, (charged_ms(talk_ms, call.granted_seconds), talk_ms))))


def pots_of(call: Call, shares: dict[str, Any]) -> list[Pot]:
    """Return what was held for a call on each of its bundles, of what `read_shares` found."""
    known = [shares[name] for name in call.hold_references[1:] if name in shares]
    return [Pot(share.account_id, ACCOUNT_KINDS[share.kind], share.amount) for share in known]


def check_bill(call: Call, shares: dict[str, Any]) -> Iterator[Difference]:
    """Check that a settled call cost what its rate and its bundles say, and each bundle its part."""
    answered_at, pots = call.answered_at or call.started_at, pots_of(call, shares)
    if len(pots) != len(call.bundles):
        yield Difference("a call has a hold on each of its bundles", call.reference, len(call.bundles), len(pots))
        return
    bills = [make_bill(call.rate, seconds, answered_at, pots) for seconds in list_possible_seconds(call)]
    if all(bill.balance_amount != call.cost for bill in bills):
        yield Difference("a call costs the price of its talk", call.reference, bills[0].balance_amount, call.cost)
    for name in call.hold_references[1:]:
        share = shares[name]
        if all(bill.takes.get(share.account_id, 0) != share.paid for bill in bills):
            expected = bills[0].takes.get(share.account_id, 0)
            yield Difference("a bundle pays its part of a call", share.reference, expected, share.paid)
