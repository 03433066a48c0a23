"""Accounts below their floor: which transfers took each there, and why each of them could. Read only.

A hold, and a debit by an operator, never take more than is available. Only what has happened already is charged beyond
that: talk and octets that no limit cut, a charge that came late, a dearer price. Or the floor was raised. So the rows
are read back, newest first, until what they took beyond their holds explains how far the account is below its floor.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from celcombiller.core.data.session import ORIGIN as DATA
from celcombiller.core.ledger.rows import ACCOUNT_COLUMNS, account_from_columns
from celcombiller.core.ledger.statement import StatementLine, statement
from celcombiller.core.model.accounts import Account, Kind
from celcombiller.core.model.calls import RERATING
from celcombiller.core.schema import tables
from celcombiller.core.tariffs.price_format import count_credits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection

PAGE_ROWS = 200
"""The transfers of an account that are read at once."""

ROWS_MAX = 10_000
"""How far an account's transfers are read back."""

DEBTS = 100
"""The accounts that are read at once."""


class DebtRow(msgspec.Struct, kw_only=True):
    """A transfer of an account that is below its floor."""

    id: Annotated[int, Meta(description="the number of the transfer")]
    at: Annotated[datetime, Meta(tz=True, description="when (RFC 3339, UTC)")]
    value: Annotated[int, Meta(description="credits; negative: taken")]
    posted: Annotated[int, Meta(description="the balance after it")]
    origin: str
    reference: Annotated[str, Meta(description="its id in the ledger")]
    note: str
    held: Annotated[int, Meta(description="credits that were held for it; null: it had no hold")] | None
    beyond: Annotated[int, Meta(description="credits that it took beyond what was held or available")]
    why: Annotated[str, Meta(description="why it could take so much")]


class RaisedFloor(msgspec.Struct, kw_only=True):
    """A change that let the account owe less."""

    at: Annotated[datetime, Meta(tz=True, description="when (RFC 3339, UTC)")]
    actor: Annotated[str, Meta(description="who did it")]
    before: Annotated[int, Meta(description="the credit limit before: what the account could owe")]
    after: Annotated[int, Meta(description="the credit limit since")]


class Debt(msgspec.Struct, kw_only=True):
    """An account below its floor, and the rows that took it there."""

    username: str
    name: Annotated[str, Meta(description="the subscriber's name")]
    kind: Annotated[Kind, Meta(description="which account: voice, data or sms")]
    posted: Annotated[int, Meta(description="the balance")]
    credit_limit: Annotated[int, Meta(description="what it may owe; 0: nothing")]
    below: Annotated[int, Meta(description="credits that it is below its floor")]
    rows: Annotated[
        list[DebtRow],
        Meta(description="all its transfers since it had enough, the oldest first: the causes and others"),
    ]
    raised: Annotated[list[RaisedFloor], Meta(description="changes since then that let it owe less")]
    explained: Annotated[bool, Meta(description="whether rows and changes explain how far below it is")]


def list_debts(tx: Connection, *, subscriber_id: int | None = None, after_id: int = 0) -> list[tuple[int, Debt]]:
    """Return up to `DEBTS` accounts below their floors, in the order of their ids, each with its id."""
    account, subscriber = tables.account, tables.subscriber
    conditions = [account.c.posted < account.c.floor, account.c.kind.in_(Kind), account.c.id > after_id]
    if subscriber_id is not None:
        conditions.append(account.c.subscriber_id == subscriber_id)
    rows = tx.execute(
        sa.select(*(account.c[name] for name in ACCOUNT_COLUMNS), subscriber.c.username, subscriber.c.name)
        .join(subscriber, subscriber.c.id == account.c.subscriber_id)
        .where(*conditions)
        .order_by(account.c.id)
        .limit(DEBTS)
    ).all()
    return [
        (row[0], _explain(tx, account_from_columns(*row[: len(ACCOUNT_COLUMNS)]), row.username, row.name))
        for row in rows
    ]


def describe_debt(debt: Debt) -> list[str]:
    """Return the lines that say how an account came below its floor."""
    causes = [row for row in debt.rows if row.beyond]
    others = len(debt.rows) - len(causes)
    lines = [
        f"{debt.username} ({debt.name}), {debt.kind}: {count_credits(debt.posted)}, {debt.below} below its floor of"
        f" {-debt.credit_limit}.",
        *(
            f"  {row.at.isoformat(' ', 'seconds')}  {row.value:+}, {row.posted} after it: {row.why} ({row.reference})."
            + (f" Note: {row.note}." if row.note else "")
            for row in causes
        ),
        *(
            f"  {each.at.isoformat(' ', 'seconds')}  {each.actor} lowered its credit limit from {each.before} to"
            f" {each.after}."
            for each in debt.raised
        ),
    ]
    if others:
        lines.append(f"  {others} other transfers since then were within what was held or available.")
    if not debt.explained:
        lines.append("  These do not explain all of it: see `celcombiller audit`.")
    return lines


def _explain(tx: Connection, account: Account, username: str, name: str) -> Debt:
    below, taken, rows = account.floor - account.posted, 0, list[DebtRow]()
    raisings = _list_raised_floors(tx, username, account)
    raised: list[RaisedFloor] = []
    explained = False
    for row in _list_back(tx, account):
        rows.append(row)
        taken += row.beyond
        raised = [each for each in raisings if each.at >= row.at]
        explained = taken + sum(each.before - each.after for each in raised) >= below
        if explained and row.posted - row.value >= account.floor:
            break
    return Debt(
        username=username,
        name=name,
        kind=Kind(account.kind),
        posted=account.posted,
        credit_limit=-account.floor,
        below=below,
        rows=rows[::-1],
        raised=raised,
        explained=explained,
    )


def _list_back(tx: Connection, account: Account) -> Iterator[DebtRow]:
    """Yield the transfers of an account, newest first, each with what it took beyond its hold."""
    last, count = None, 0
    while count < ROWS_MAX and (lines := statement(tx, account, limit=PAGE_ROWS, before_id=last)):
        last, count = lines[-1].id, count + len(lines)
        yield from _with_reasons(tx, account, lines)


def _with_reasons(tx: Connection, account: Account, lines: Sequence[StatementLine]) -> list[DebtRow]:
    references = [line.reference for line in lines if line.value < 0]
    hold, call = tables.hold, tables.call
    holds = tx.execute(sa.select(hold.c.reference, hold.c.amount).where(hold.c.reference.in_(references)))
    held = {row.reference: row.amount for row in holds}
    facts = (call.c.reference, call.c.talk_ms, call.c.granted_seconds, call.c.note)
    calls = {row.reference: row for row in tx.execute(sa.select(*facts).where(call.c.reference.in_(references)))}
    rows = []
    for line in lines:
        amount, its_hold = -line.value, held.get(line.reference)
        if amount < 0:
            beyond = 0
        elif its_hold is not None:
            beyond = max(amount - its_hold, 0)
        else:
            beyond = amount if line.origin in _BEYOND_WITHOUT_HOLD or line.posted < account.floor else 0
        why = _find_reason(line, beyond, its_hold, calls.get(line.reference))
        rows.append(
            DebtRow(
                id=line.id,
                at=line.at,
                value=line.value,
                posted=line.posted,
                origin=line.origin,
                reference=line.reference,
                note=line.note,
                held=its_hold,
                beyond=beyond,
                why=why,
            )
        )
    return rows


def _find_reason(line: StatementLine, beyond: int, held: int | None, call: Any) -> str:
    if line.value > 0:
        return "credit"
    if beyond == 0:
        return "within what was held for it" if held is not None else "a debit of what was available"
    if call is None:
        return _BEYOND_WITHOUT_HOLD.get(line.origin, _UNAVAILABLE) if held is None else _describe_excess(line, held)
    if held == 0:
        return "a late charge: the talk had happened before any credit was held for it"
    return (
        f"talk that no limit cut: {call.talk_ms} ms of talk, {call.granted_seconds} s were granted, {held} credits were"
        " held"
    )


_UNAVAILABLE = "it was taken although it was not available"

_BEYOND_WITHOUT_HOLD = {
    DATA: "octets that were reported after the data session was closed",
    RERATING: "a call was charged again by a dearer version of a tariff",
}
"""Why a transfer without a hold could take what was not available, by its origin."""


def _describe_excess(line: StatementLine, held: int) -> str:
    what = "octets beyond the credit" if line.origin == DATA else "more was used than was held"
    return f"{what}: {held} credits were held"


def _list_raised_floors(tx: Connection, username: str, account: Account) -> list[RaisedFloor]:
    """Return the changes that let an account owe less, the oldest first, as the audit trail has them."""
    trail = tables.trail
    rows = tx.execute(
        sa.select(trail.c.at, trail.c.actor, trail.c.before, trail.c.after)
        .where(trail.c.subject == f"subscriber:{username}", trail.c.action == f"change {account.kind} credit limit")
        .order_by(trail.c.id)
    )
    changes = [(row, msgspec.json.decode(row.before), msgspec.json.decode(row.after)) for row in rows]
    return [
        RaisedFloor(at=row.at, actor=row.actor, before=-before["floor"], after=-after["floor"])
        for row, before, after in changes
        if before["id"] == account.id and after["floor"] > before["floor"]
    ]
