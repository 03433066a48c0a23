"""One credit to a whole group, or debits of a whole group, set-wise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.ledger.rows import AMOUNT_MAX, check_amount
from celcombiller.core.schema import bulk, tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import AccountKind


def lock_accounts(accounts: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the statement that locks the accounts of a condition, in id order as every transaction does."""
    columns = tables.account.c
    rows = sa.select(columns.id).where(accounts).order_by(columns.id).with_for_update().subquery()
    return sa.select(sa.func.count()).select_from(rows)


@dataclass(frozen=True, slots=True)
class GroupCredit:
    """`Book.post` for a group of any size: the operator gives one amount to each of many locked accounts.

    One statement writes the transfers and one the balances; both must find the same number of accounts, those whose
    new balance stays within `AMOUNT_MAX`.
    """

    transfers: sa.Insert
    balances: sa.Update

    @classmethod
    def to(cls, due: sa.Subquery, *, kind: AccountKind, origin: str) -> GroupCredit:
        """Make it for the rows of ``due``: each ``account_id`` with its transfer's ``reference`` (null: no credit)."""
        table = tables.account
        amount, now = sa.bindparam("granted", type_=sa.BigInteger), sa.bindparam("now", type_=tables.Instant)
        roomy = sa.and_(table.c.kind == kind.value, table.c.posted <= AMOUNT_MAX - amount)
        facts = {
            "reference": due.c.reference,
            "debit_account_id": sa.literal(tables.OPERATOR_ACCOUNT_IDS[kind], sa.BigInteger),
            "credit_account_id": table.c.id,
            "amount": amount,
            "origin": sa.literal(origin),
            "at": now,
            "credit_posted": table.c.posted + amount,
        }
        named = due.c.reference.is_not(None)
        rows = sa.select(*facts.values()).join_from(due, table, table.c.id == due.c.account_id).where(named, roomy)
        raised = sa.update(table).where(table.c.id.in_(sa.select(due.c.account_id).where(named)), roomy)
        return cls(
            sa.insert(tables.transfer).from_select(list(facts), rows), raised.values(posted=table.c.posted + amount)
        )

    def perform(self, tx: Connection, amount: int, values: dict[str, Any]) -> int:
        """Move ``amount`` credits to each account, and return how many got them.

        ``values``: ``now``, and the parameters of ``due``. Raises `InvalidValue` and `LedgerRace`.
        """
        check_amount(amount, least=1)
        values = values | {"granted": amount}
        moved = tx.execute(self.transfers, values, execution_options={"preserve_rowcount": True}).rowcount
        if tx.execute(self.balances, values).rowcount != moved:
            raise bulk.LedgerRace(tables.account)
        return moved


@dataclass(frozen=True, slots=True)
class GroupDebit:
    """`Book.post` the other way: each of many locked accounts gives the operator an amount of its own.

    No account gives more than it has beside what is held; so none falls below 0.
    """

    transfers: sa.Insert
    balances: sa.Update

    @classmethod
    def of(cls, due: sa.Subquery, *, kind: AccountKind, origin: str) -> GroupDebit:
        """Make it for the rows of ``due``: each ``account_id`` with the ``amount`` and the transfer's ``reference``.

        Rows with an amount of 0, or none, give nothing.
        """
        table = tables.account
        mine = table.c.id == due.c.account_id
        is_enough = table.c.posted - table.c.held >= due.c.amount
        enough = sa.and_(table.c.kind == kind.value, due.c.amount > 0, is_enough)
        facts = {
            "reference": due.c.reference,
            "debit_account_id": table.c.id,
            "credit_account_id": sa.literal(tables.OPERATOR_ACCOUNT_IDS[kind], sa.BigInteger),
            "amount": due.c.amount,
            "origin": sa.literal(origin),
            "at": sa.bindparam("now", type_=tables.Instant),
            "debit_posted": table.c.posted - due.c.amount,
            "note": sa.bindparam("debit_note", type_=sa.Text),
        }
        rows = sa.select(*facts.values()).join_from(due, table, mine).where(enough)
        return cls(
            sa.insert(tables.transfer).from_select(list(facts), rows),
            sa.update(table).where(mine, enough).values(posted=table.c.posted - due.c.amount),
        )

    def perform(self, tx: Connection, values: dict[str, Any]) -> int:
        """Move the credits, and return how many accounts gave some.

        ``values``: ``now``, ``debit_note``, and the parameters of ``due``. Raises `LedgerRace`.
        """
        moved = tx.execute(self.transfers, values, execution_options={"preserve_rowcount": True}).rowcount
        if tx.execute(self.balances, values).rowcount != moved:
            raise bulk.LedgerRace(tables.account)
        return moved
