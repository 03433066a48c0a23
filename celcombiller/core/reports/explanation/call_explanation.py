"""Collect all that went into the charge of a call, and check that it adds up. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller.core.audit.checks.price_checks import check_bill, list_possible_seconds, pots_of, read_shares
from celcombiller.core.ledger.book import REVERSAL
from celcombiller.core.model.accounts import ACCOUNT_KINDS, BundleKind
from celcombiller.core.model.calls import RERATING, CallState
from celcombiller.core.rating.bill import list_bill_pieces, make_bill
from celcombiller.core.rating.pricing import price, seconds_of
from celcombiller.core.reports import history
from celcombiller.core.reports.call_price import view_piece
from celcombiller.core.reports.explanation.call_text import describe_call, list_remarks
from celcombiller.core.reports.explanation.call_views import (
    CallExplanation,
    HoldPartView,
    MovementView,
    OrderView,
    PricesView,
    RenewalView,
    ReratingView,
    TriedTrunkView,
    WitnessView,
)
from celcombiller.core.reports.explanation.prices_text import view_prices
from celcombiller.core.reports.explanation.tariff_choice import find_tariff_choice
from celcombiller.core.reports.views import make_view
from celcombiller.core.schema import tables
from celcombiller.core.tariffs.price_format import count_credits
from celcombiller.core.voice.dialled_numbers import decode_dialled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.calls import Call
    from celcombiller.core.rating.pricing import Piece
    from celcombiller.core.reports.history import RecordedCall

BALANCE = "balance"
"""The name of who pays what no bundle does."""


@dataclass(frozen=True, slots=True)
class _Payer:
    """An account that may pay for the call: its name, what it counts, and how much a settled hold may take."""

    name: str
    unit: str


def explain_call(tx: Connection, found: RecordedCall, zone: tzinfo, *, with_trunks: bool = True) -> CallExplanation:
    """Return the explanation of a call, its words with times of this zone.

    Subscribers get it without trunks and the names of operators: both are for staff only.
    """
    call = found.call
    payers = _find_payers(tx, call)
    shares = read_shares(tx, [call])
    pieces = _list_pieces(call, shares)
    movements = _list_movements(tx, call, payers)
    names = {account_id: payer.name for account_id, payer in payers.items()}
    tariff = find_tariff_choice(tx, call.tariff_version_id, call.subscriber_id, call.started_at)
    made = make_view(
        CallExplanation,
        call,
        id=found.id,
        username=found.username,
        name=found.name,
        **_dialled_of(call),
        on_net=call.callee_id is not None,
        tariff=tariff,
        prefix=call.rate.prefix,
        destination=call.rate.name,
        prices=[make_view(PricesView, each) for each in view_prices(call.rate, tariff)],
        text="",
        charged_seconds=_find_charged_seconds(call, shares) if call.state is CallState.SETTLED else None,
        pieces=[view_piece(each, names) for each in pieces],
        price=sum(each.credits for each in pieces),
        paid_by_bundles=sum(share.paid for share in shares.values() if ACCOUNT_KINDS[share.kind] is BundleKind.MONEY),
        money="" if call.cost is None else tariff.money(call.cost),
        charged=sum(each.amount for each in movements if each.payer == BALANCE),
        balance_at_start=_find_balance_at_start(tx, call),
        movements=movements,
        holds=_list_holds(tx, call, payers),
        renewals=_list_rows(tx, tables.call_renewal, call, RenewalView),
        orders=[_hide_actor(each, with_trunks) for each in _list_rows(tx, tables.call_order, call, OrderView)],
        trunks=_list_trunks(tx, call) if with_trunks else [],
        reratings=_list_reratings(tx, call),
        witnesses=[make_view(WitnessView, each) for each in history.list_witness_reports(tx, call.reference)],
        remarks=[],
        adds_up=True,
        differences=[],
    )
    made.differences = list(_list_differences(call, made, shares))
    made.adds_up = not made.differences
    made.remarks = list(list_remarks(made))
    made.text = describe_call(made, zone)
    return made


def _dialled_of(call: Call) -> dict[str, str]:
    """Return what Asterisk sent of who calls and of the number; a row without it has just these."""
    if call.dialled is None:
        return {"dialled": call.to_number, "caller_number": call.from_number, "account_code": ""}
    sent = decode_dialled(call.dialled)
    return {"dialled": sent.called_number, "caller_number": sent.caller_number, "account_code": sent.account_code}


def _find_payers(tx: Connection, call: Call) -> dict[int, _Payer]:
    """Return who pays for a call, by account: the balance, and each bundle by its name."""
    account, bundle = tables.account, tables.bundle
    rows = tx.execute(
        sa.select(account.c.id, account.c.kind, bundle.c.name)
        .join(bundle, bundle.c.account_id == account.c.id)
        .where(account.c.id.in_(call.bundles))
    )
    bundles = {row.id: _Payer(row.name, "credits" if row.kind == BundleKind.MONEY else row.kind) for row in rows}
    return {call.account_id: _Payer(BALANCE, "credits")} | bundles


def _list_pieces(call: Call, shares: dict[str, Any]) -> tuple[Piece, ...]:
    if call.state is not CallState.SETTLED:
        return ()
    answered_at = call.answered_at or call.started_at
    return list_bill_pieces(call.rate, _find_charged_seconds(call, shares), answered_at, pots_of(call, shares))


def _find_charged_seconds(call: Call, shares: dict[str, Any]) -> int:
    """Return the seconds whose price was charged; where none fits, those that should have been."""
    answered_at, pots = call.answered_at or call.started_at, pots_of(call, shares)
    possible = list_possible_seconds(call)
    for seconds in possible:
        if make_bill(call.rate, seconds, answered_at, pots).balance_amount == call.cost:
            return seconds
    return possible[0]


def _list_movements(tx: Connection, call: Call, payers: dict[int, _Payer]) -> list[MovementView]:
    """Return the transfers of a call in the order in which they were made."""
    transfer, again = tables.transfer, tables.rerating
    versions = tx.execute(sa.select(again.c.version_id).where(again.c.call_reference == call.reference)).scalars()
    charges = [*call.hold_references, *(f"{RERATING}:{each}:{call.reference}" for each in versions)]
    references = [*charges, *(f"{REVERSAL}:{each}" for each in charges)]
    rows = tx.execute(sa.select(transfer).where(transfer.c.reference.in_(references)).order_by(transfer.c.id))
    return [_view_movement(row, payers) for row in rows]


def _view_movement(row: Any, payers: dict[int, _Payer]) -> MovementView:
    is_debit = row.debit_account_id in payers
    payer = payers[row.debit_account_id if is_debit else row.credit_account_id]
    amount = row.amount if is_debit else -row.amount
    after = row.debit_posted if is_debit else row.credit_posted
    return MovementView(
        reference=row.reference,
        at=row.at,
        payer=payer.name,
        unit=payer.unit,
        amount=amount,
        before=after + amount,
        after=after,
        note=row.note,
    )


def _find_balance_at_start(tx: Connection, call: Call) -> int:
    """Return the balance when a call began: after the last transfer until then, its own charge excluded."""
    transfer, last = tables.transfer, (0, 0)
    is_before = sa.and_(transfer.c.at <= call.started_at, transfer.c.reference != call.reference)
    for side, posted in (
        (transfer.c.debit_account_id, transfer.c.debit_posted),
        (transfer.c.credit_account_id, transfer.c.credit_posted),
    ):
        newest = sa.select(transfer.c.id, posted).where(side == call.account_id, is_before)
        for row in tx.execute(newest.order_by(transfer.c.id.desc()).limit(1)):
            last = max(last, (row[0], row[1]))
    return last[1]


def _list_holds(tx: Connection, call: Call, payers: dict[int, _Payer]) -> list[HoldPartView]:
    hold = tables.hold
    rows = tx.execute(sa.select(hold).where(hold.c.reference.in_(call.hold_references)))
    found = {row.reference: row for row in rows}
    return [
        make_view(HoldPartView, row, payer=payers[row.account_id].name, unit=payers[row.account_id].unit)
        for row in (found[reference] for reference in call.hold_references if reference in found)
    ]


def _list_rows(tx: Connection, table: sa.Table, call: Call, view: type[Any]) -> list[Any]:
    rows = tx.execute(sa.select(table).where(table.c.reference == call.reference).order_by(table.c.id))
    return [make_view(view, row) for row in rows]


def _hide_actor(order: OrderView, shown: bool) -> OrderView:  # noqa: FBT001
    return order if shown else msgspec.structs.replace(order, actor="")


def _list_trunks(tx: Connection, call: Call) -> list[TriedTrunkView]:
    if call.trunk_id is None:
        return []
    names = history.find_trunk_names(tx, [call])
    tried = [TriedTrunkView(name=names[each], failed=True, cost=None, margin=None) for each in call.trunks_tried]
    last = TriedTrunkView(name=names[call.trunk_id], failed=False, cost=call.trunk_cost, margin=call.margin)
    return [*tried, last]


def _list_reratings(tx: Connection, call: Call) -> list[ReratingView]:
    again, version, tariff = tables.rerating, tables.tariff_version, tables.tariff
    rows = tx.execute(
        sa.select(again, tariff.c.name.label("tariff"), version.c.number.label("version"))
        .join(version, version.c.id == again.c.version_id)
        .join(tariff, tariff.c.id == version.c.tariff_id)
        .where(again.c.call_reference == call.reference)
        .order_by(again.c.id)
    )
    return [make_view(ReratingView, row) for row in rows]


def _list_differences(call: Call, made: CallExplanation, shares: dict[str, Any]) -> Iterator[str]:
    """Yield where the parts of a charge do not sum to what was charged, by the laws of `audit`."""
    if call.state is CallState.SETTLED:
        for each in check_bill(call, shares):
            yield f"{each.law}: expected {each.expected}, found {each.found}"
        if made.price - made.paid_by_bundles != call.cost:
            yield f"the pieces sum to {made.price}, of which bundles paid {made.paid_by_bundles}; it cost {call.cost}"
    first = sum(each.amount for each in made.movements if each.reference == call.reference)
    cost = call.cost if call.state is CallState.SETTLED else 0
    if first != cost:
        yield f"it cost {cost}, and {first} were charged to the balance"
    states = sorted({str(each.state) for each in made.holds if each.state != str(call.state)})
    if states:
        yield f"the call is {call.state}, and a hold of it is {states[0]}"
    if made.reratings:
        owed = (call.cost or 0) + sum(each.difference for each in made.reratings)
        if owed != made.reratings[-1].price:
            yield f"with its reratings it was charged {owed}; by the last of them it costs {made.reratings[-1].price}"
    yield from _list_renewal_differences(made)
    if call.trunk_rate is not None and call.state is CallState.SETTLED:
        cost = price(call.trunk_rate, seconds_of(call.talk_ms or 0), call.answered_at or call.started_at)
        if cost != call.trunk_cost:
            yield f"by its trunk's rate the talk costs the operator {cost}, and {call.trunk_cost} is recorded"


def _list_renewal_differences(made: CallExplanation) -> Iterator[str]:
    for earlier, later in zip(made.renewals, made.renewals[1:], strict=False):
        if (earlier.seconds_after, earlier.held_after) != (later.seconds_before, later.held_before):
            yield f"the renewal of {later.at:%H:%M:%S} does not begin where the one before ended"
    if made.renewals and made.holds:
        last = made.renewals[-1]
        if (last.seconds_after, last.held_after) != (made.granted_seconds, made.holds[0].amount):
            yield (
                f"the last renewal granted {last.seconds_after} s for {count_credits(last.held_after)}; the call has"
                f" {made.granted_seconds} s and {count_credits(made.holds[0].amount)}"
            )
