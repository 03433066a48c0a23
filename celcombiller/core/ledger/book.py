"""The ledger: the one place where credit moves.

A transaction loads its accounts into a `Book` (locked, in id order), moves credit there in memory, where every law is
checked, and saves the book set-wise. So one call and a thousand calls take the same few statements, and tests can
check the laws on values alone. No record is edited: another transfer corrects a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from operator import attrgetter
from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec import structs

from celcombiller.core.errors import HoldNotOpen, InsufficientBalance, InvalidValue, TransferConflict
from celcombiller.core.ledger.rows import (
    ACCOUNT_COLUMNS,
    SPENDING_COLUMNS,
    account_from_columns,
    check_amount,
    check_balance,
)
from celcombiller.core.ledger.spending import (
    SPENDING,
    UNDO,
    Spending,
    give_back,
    remaining,
    spend,
    undo_reference,
)
from celcombiller.core.model.accounts import Account, Hold, HoldState, Transfer, is_same_credit
from celcombiller.core.schema import bulk, driver, tables
from celcombiller.core.schema.rows import value_from_row

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection

REVERSAL = "reversal"
"""The origin of a transfer that reverses another one, and the first word of its reference."""


@dataclass(slots=True)
class Book:
    """The accounts, holds and transfers that one transaction works on.

    ``transfers`` and ``holds`` are those recorded already under the loaded references, and those that this transaction
    adds. A method does all of its work, or raises and changes nothing.
    """

    accounts: dict[int, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    today: date | None = None
    """The day in the operator's time zone, for the limits of spending; without it they are not kept."""
    _loaded: dict[int, Account] = field(default_factory=dict)
    _spending: dict[int, Spending] = field(default_factory=dict)
    _spent: set[int] = field(default_factory=set)
    _new_transfers: list[Transfer] = field(default_factory=list)
    _new_holds: set[str] = field(default_factory=set)
    _ended_holds: set[str] = field(default_factory=set)
    _resized_holds: set[str] = field(default_factory=set)

    def post(
        self,
        reference: str,
        debit_account_id: int,
        credit_account_id: int,
        amount: int,
        *,
        origin: str,
        now: datetime,
        note: str = "",
        beyond_floor: bool = False,
    ) -> Transfer:
        """Move ``amount`` credits from the debit to the credit account, once for a ``reference``.

        The same reference and content returns the first transfer. Raises `TransferConflict` for other content,
        `InsufficientBalance` when the debit account has less available (unless ``beyond_floor``, which is for talk
        that has happened and must have a ``note``), `InvalidValue` for an amount out of bounds, `BalanceTooHigh`.
        """
        known = self.transfers.get(reference)
        if known is not None:
            same = (known.debit_account_id, known.credit_account_id, known.amount, known.origin)
            if same != (debit_account_id, credit_account_id, amount, origin):
                raise TransferConflict(f"a transfer with the id {reference} exists and says something else")
            return known
        debit, credit = self.accounts[debit_account_id], self.accounts[credit_account_id]
        check_amount(amount, least=1)
        if debit.id == credit.id or not is_same_credit(debit.kind, credit.kind):
            raise InvalidValue("credit moves between two accounts of one kind")
        if not (debit.is_system or beyond_floor):
            available = debit.spendable if origin in SPENDING else debit.available
            if available < amount:
                raise InsufficientBalance(f"{amount} asked for, {max(available, 0)} available")
        if not credit.is_system:
            check_balance(credit.posted + amount)
        transfer = Transfer(
            reference=reference,
            debit_account_id=debit.id,
            credit_account_id=credit.id,
            amount=amount,
            origin=origin,
            at=now,
            debit_posted=self._move(debit, -amount),
            credit_posted=self._move(credit, amount),
            note=note,
        )
        self.transfers[reference] = transfer
        self._new_transfers.append(transfer)
        if debit.id in self._spending and origin in SPENDING:
            self._spend(debit.id, amount)
        return transfer

    def undo(self, transfer: Transfer, *, spent_on: date | None = None, now: datetime, note: str = "") -> Transfer:
        """Move the credit of a transfer back, once, and give it back to the limits of the day when it was spent.

        Whether the credit is still there is the caller's to check: it may go beyond the floor.
        """
        debit, credit = transfer.credit_account_id, transfer.debit_account_id
        reference = undo_reference(transfer.reference)
        is_new = reference not in self.transfers
        why = note or "undone"
        made = self.post(reference, debit, credit, transfer.amount, origin=UNDO, now=now, note=why, beyond_floor=True)
        if is_new and credit in self._spending and spent_on is not None and transfer.origin in SPENDING:
            assert self.today is not None
            self._count(credit, give_back(self._spending[credit], transfer.amount, spent_on, self.today))
        return made

    def hold(self, reference: str, account_id: int, amount: int, *, now: datetime, expires_at: datetime) -> Hold:
        """Set ``amount`` credits aside: they remain the account's, but are not available.

        Raises `InsufficientBalance` when less is available, `TransferConflict` when the reference was used before.
        """
        account = self.accounts[account_id]
        check_amount(amount)
        if reference in self.holds:
            raise TransferConflict(f"a hold with the id {reference} exists")
        if amount > max(account.spendable, 0):  # an account below its floor has nothing to hold
            raise InsufficientBalance(f"{amount} asked for, {max(account.spendable, 0)} available")
        made = Hold(reference, account_id, amount, HoldState.OPEN, opened_at=now, expires_at=expires_at)
        self.accounts[account_id] = _with(account, posted=account.posted, held=account.held + amount)
        self.holds[reference] = made
        self._new_holds.add(reference)
        return made

    def resize(self, reference: str, amount: int, *, expires_at: datetime) -> Hold:
        """Change what an open hold sets aside, and its validity.

        Raises `HoldNotOpen` when it has ended already, `InsufficientBalance` when less is available than is added.
        """
        hold = self._open(reference)
        check_amount(amount)
        account, added = self.accounts[hold.account_id], amount - hold.amount
        if added > 0 and added > account.spendable:
            raise InsufficientBalance(f"{added} more asked for, {max(account.spendable, 0)} available")
        self.accounts[account.id] = _with(account, posted=account.posted, held=account.held + added)
        self.holds[reference] = resized = structs.replace(hold, amount=amount, expires_at=expires_at)
        self._resized_holds.add(reference)
        return resized

    def settle(self, reference: str, amount: int, *, origin: str, now: datetime, note: str = "") -> Transfer | None:
        """End an open hold by charging ``amount`` to its account; 0 charges nothing and leaves no transfer.

        The charge may be more than the hold (talk that no limit cut); then the ``note`` must say why. Raises
        `HoldNotOpen` when the hold has ended already.
        """
        hold = self._open(reference)
        if amount > hold.amount and not note:
            raise InvalidValue(f"{amount} is more than the {hold.amount} held, and no reason is given")
        check_amount(amount)
        account = self._end(hold, HoldState.SETTLED, now)
        if amount == 0:
            return None
        operator_id = tables.OPERATOR_ACCOUNT_IDS[account.kind]
        return self.post(
            reference, account.id, operator_id, amount, origin=origin, now=now, note=note, beyond_floor=True
        )

    def release(self, reference: str, *, now: datetime) -> None:
        """End an open hold by charging nothing. Raises `HoldNotOpen` when it has ended already."""
        self._end(self._open(reference), HoldState.RELEASED, now)

    def expire(self, reference: str, *, now: datetime) -> None:
        """End an open hold because its validity is over. Raises `HoldNotOpen` when it has ended already."""
        self._end(self._open(reference), HoldState.EXPIRED, now)

    def _open(self, reference: str) -> Hold:
        hold = self.holds.get(reference)
        if hold is None or hold.state is not HoldState.OPEN:
            raise HoldNotOpen(f"the hold {reference} is {hold.state if hold else 'not there'}")
        return hold

    def _end(self, hold: Hold, state: HoldState, now: datetime) -> Account:
        account = self.accounts[hold.account_id]
        account = _with(account, posted=account.posted, held=account.held - hold.amount)
        self.accounts[account.id] = account
        ended = Hold(hold.reference, hold.account_id, hold.amount, state, hold.opened_at, hold.expires_at, ended_at=now)
        self.holds[hold.reference] = ended
        self._ended_holds.add(hold.reference)
        return account

    def _move(self, account: Account, change: int) -> int | None:
        if account.is_system:
            return None
        self.accounts[account.id] = _with(account, posted=account.posted + change, held=account.held)
        return account.posted + change

    def _spend(self, account_id: int, amount: int) -> None:
        """Count a charge against the limits of an account."""
        assert self.today is not None
        self._count(account_id, spend(self._spending[account_id], amount, self.today))

    def _count(self, account_id: int, spending: Spending) -> None:
        assert self.today is not None
        self._spending[account_id] = spending
        self._spent.add(account_id)
        account, left = self.accounts[account_id], remaining(spending, self.today)
        self.accounts[account_id] = structs.replace(account, spending_left=left)

    # -- the book and the database ------------------------------------------------------------------------------

    def load(self, tx: Connection, account_ids: Collection[int], holds: Collection[str] = ()) -> None:
        """Read and lock those of these accounts that are not loaded, in id order, so that transactions cannot deadlock.

        The ``holds`` of these references are read in the same statement.
        """
        accounts, held = (
            set(account_ids) - self.accounts.keys() - _OPERATOR_ACCOUNTS.keys(),
            set(holds) - self.holds.keys(),
        )
        self.add_rows(*(bulk.read(tx, *self.queries(accounts, held)) if accounts or held else ((), ())))

    @staticmethod
    def queries(account_ids: Collection[int], holds: Collection[str]) -> tuple[bulk.BoundQuery, bulk.BoundQuery]:
        """Return the queries of these accounts and holds, which lock them; for `add_rows`.

        The holds are locked so that those are read which are there after a wait for their call, not before.
        """
        return _ACCOUNTS.with_values(sorted(account_ids)), _HOLDS.with_values(holds)

    def add_rows(self, accounts: bulk.Rows, holds: bulk.Rows) -> None:
        """Add the rows of `queries`, and the operator's accounts."""
        self.accounts.update(_OPERATOR_ACCOUNTS)
        for columns in accounts:
            read = account_from_columns(*columns[: len(ACCOUNT_COLUMNS)])
            day_limit, month_limit, spent_on, *spent = columns[len(ACCOUNT_COLUMNS) :]
            if self.today is not None and (day_limit is not None or month_limit is not None):
                last = None if spent_on is None else date.fromisoformat(spent_on)
                self._spending[read.id] = spending = Spending(day_limit, month_limit, last, *spent)
                read = structs.replace(read, spending_left=remaining(spending, self.today))
            self.accounts[read.id] = self._loaded[read.id] = read
        for reference, account_id, amount, state, *times in holds:
            opened_at, expires_at, ended_at = map(driver.parse_timestamp, times)
            self.holds[reference] = Hold(
                reference, account_id, amount, _HOLD_STATES[state], opened_at, expires_at, ended_at
            )

    def load_transfers(self, tx: Connection, references: Collection[str]) -> None:
        """Read those of these transfers that are recorded already."""
        if references:
            rows = tx.execute(sa.select(tables.transfer).where(tables.transfer.c.reference.in_(references)))
            self.transfers.update((row.reference, value_from_row(row, Transfer)) for row in rows)

    def save(self, tx: Connection) -> None:
        """Write all that changed, set-wise."""
        bulk.write(tx, self.changes())

    def changes(self) -> bulk.Writes:
        """Return all that is to be written; each update is guarded by what was read, so a lost race is an error."""
        if self._new_transfers:
            yield _POST, list(map(_transfer_columns, self._new_transfers))
        if self._new_holds:
            yield _HOLD, [_hold_columns(self.holds[reference]) for reference in sorted(self._new_holds)]
        resized = self._resized_holds - self._new_holds
        ended = self._ended_holds - self._new_holds - resized
        if ended:
            holds = [self.holds[reference] for reference in sorted(ended)]
            yield _END_HOLD, [(str(each.state), each.ended_at, each.reference, _OPEN) for each in holds]
        if resized:  # one statement changes a row once, so it says as well whether the hold has ended
            yield _RESIZE_HOLD, [_resized_columns(self.holds[reference]) for reference in sorted(resized)]
        yield (
            _MOVE,
            [
                (account.posted, account.held, was.id, was.posted, was.held)
                for was in self._loaded.values()
                for account in (self.accounts[was.id],)
                if (was.posted, was.held) != (account.posted, account.held) and was.id not in self._spent
            ],
        )
        if self._spent:
            yield _MOVE_AND_SPEND, list(map(self._spent_columns, sorted(self._spent)))

    def _spent_columns(self, account_id: int) -> driver.Row:
        was, account, spending = self._loaded[account_id], self.accounts[account_id], self._spending[account_id]
        spent_on = None if spending.spent_on is None else spending.spent_on.isoformat()
        spent = (spent_on, spending.spent_day, spending.spent_month)
        return (account.posted, account.held, *spent, was.id, was.posted, was.held)


_OPERATOR_ACCOUNTS = {
    number: Account(number, kind, None, 0, 0, 0) for kind, number in tables.OPERATOR_ACCOUNT_IDS.items()
}


_ACCOUNTS = bulk.BulkQuery(
    bulk.names((*ACCOUNT_COLUMNS, *SPENDING_COLUMNS)),
    "from account where id {among}",
    of=tables.account.c.id,
    lock="id",
)


_HOLDS = bulk.BulkQuery(
    "reference, account_id, amount, state, opened_at, expires_at, ended_at",
    "from hold where reference {among}",
    of=tables.hold.c.reference,
    lock="reference",
)


_TRANSFER = (
    *("reference", "debit_account_id", "credit_account_id", "amount", "origin", "at"),
    *("debit_posted", "credit_posted", "note"),
)


_transfer_columns = attrgetter(*_TRANSFER)


_OPEN = str(HoldState.OPEN)
_HOLD_STATES = {str(each): each for each in HoldState}


_POST = bulk.insert(tables.transfer, _TRANSFER)


_HOLD = bulk.insert(tables.hold, tables.hold.c.keys())


_END_HOLD = bulk.update(tables.hold, ("state", "ended_at"), key="reference", unchanged=("state",))


_RESIZE_HOLD = bulk.update(
    tables.hold, ("amount", "expires_at", "state", "ended_at"), key="reference", unchanged=("state",)
)


_MOVE = bulk.update(tables.account, ("posted", "held"), key="id", unchanged=("posted", "held"))


_MOVE_AND_SPEND = bulk.update(
    tables.account,
    ("posted", "held", "spent_on", "spent_day", "spent_month"),
    key="id",
    unchanged=("posted", "held"),
)


def _hold_columns(hold: Hold) -> driver.Row:
    times = (hold.opened_at, hold.expires_at, hold.ended_at)
    return (hold.reference, hold.account_id, hold.amount, str(hold.state), *times)


def _resized_columns(hold: Hold) -> driver.Row:
    return (hold.amount, hold.expires_at, str(hold.state), hold.ended_at, hold.reference, _OPEN)


def _with(account: Account, *, posted: int, held: int) -> Account:
    """Return the account with other balances."""
    return structs.replace(account, posted=posted, held=held)
