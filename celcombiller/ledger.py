"""The ledger: the one place where credit moves.

A transaction loads the accounts it names into a `Book` (locked, in id order), moves credit there in memory, where
every law is checked, and saves the book set-wise. So one call and a thousand are the same few statements, and the
laws can be tested on values alone. Nothing recorded is edited: a mistake is corrected by another transfer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller import schema, setwise
from celcombiller.errors import HoldNotOpen, InsufficientBalance, InvalidValue, NotFound, TransferConflict
from celcombiller.model import Account, Hold, HoldState, Kind, Transfer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection

AMOUNT_MAX = 2**53 - 1
"""No amount or balance above this: the largest whole number that every JSON reader keeps exact (RFC 8259, 6)."""

REVERSAL = "reversal"
"""The origin of a transfer that moves back another one, and the first word of its reference."""


@dataclass(slots=True)
class Book:
    """The accounts, holds and transfers that one transaction works on.

    ``transfers`` and ``holds`` hold what is recorded already under the references that were asked for, and what this
    transaction adds. A method either does all it says or raises and changes nothing.
    """

    accounts: dict[int, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    _loaded: dict[int, Account] = field(default_factory=dict)
    _new_transfers: list[Transfer] = field(default_factory=list)
    _new_holds: set[str] = field(default_factory=set)
    _ended_holds: set[str] = field(default_factory=set)

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

        The same reference and content gives the first transfer back. Raises `TransferConflict` for other content,
        `InsufficientBalance` when the debit account has less available (unless ``beyond_floor``, which is for talk
        that has happened and must have a ``note``), `InvalidValue` for an amount out of bounds.
        """
        known = self.transfers.get(reference)
        if known is not None:
            same = (known.debit_account_id, known.credit_account_id, known.amount, known.origin)
            if same != (debit_account_id, credit_account_id, amount, origin):
                raise TransferConflict(f"a transfer with the id {reference} exists and says something else")
            return known
        debit, credit = self.accounts[debit_account_id], self.accounts[credit_account_id]
        _check_amount(amount, least=1)
        if debit.kind is not credit.kind or debit.id == credit.id:
            raise InvalidValue("credit moves between two accounts of one kind")
        if not (debit.is_system or beyond_floor) and debit.available < amount:
            raise InsufficientBalance(f"{amount} asked for, {max(debit.available, 0)} available")
        if not credit.is_system:
            _check_amount(credit.posted + amount, least=-AMOUNT_MAX)
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
        return transfer

    def hold(self, reference: str, account_id: int, amount: int, *, now: datetime, expires_at: datetime) -> Hold:
        """Set ``amount`` credits aside; they stay the account's, but are not available.

        Raises `InsufficientBalance` when less is available, `TransferConflict` when the reference was used before.
        """
        account = self.accounts[account_id]
        _check_amount(amount)
        if reference in self.holds:
            raise TransferConflict(f"a hold with the id {reference} exists")
        if amount > max(account.available, 0):  # nothing may be held of an account that is below its floor
            raise InsufficientBalance(f"{amount} asked for, {max(account.available, 0)} available")
        made = Hold(reference, account_id, amount, HoldState.OPEN, opened_at=now, expires_at=expires_at)
        self.accounts[account_id] = _with(account, posted=account.posted, held=account.held + amount)
        self.holds[reference] = made
        self._new_holds.add(reference)
        return made

    def settle(self, reference: str, amount: int, *, origin: str, now: datetime, note: str = "") -> Transfer | None:
        """End an open hold by charging ``amount`` to its account; 0 charges nothing and leaves no transfer.

        What is charged may be more than was held (talk that a limit did not cut); the ``note`` must then say why.
        Raises `HoldNotOpen` when the hold ended before.
        """
        hold = self._open(reference)
        if amount > hold.amount and not note:
            raise InvalidValue(f"{amount} is more than the {hold.amount} held, and no reason is given")
        _check_amount(amount)
        account = self._end(hold, HoldState.SETTLED, now)
        if amount == 0:
            return None
        operator_id = schema.OPERATOR_ACCOUNT_IDS[account.kind]
        return self.post(
            reference, account.id, operator_id, amount, origin=origin, now=now, note=note, beyond_floor=True
        )

    def release(self, reference: str, *, now: datetime) -> None:
        """End an open hold by charging nothing. Raises `HoldNotOpen` when it ended before."""
        self._end(self._open(reference), HoldState.RELEASED, now)

    def expire(self, reference: str, *, now: datetime) -> None:
        """End an open hold because its validity ran out. Raises `HoldNotOpen` when it ended before."""
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

    # -- the book and the database ------------------------------------------------------------------------------

    def load(self, tx: Connection, account_ids: Iterable[int], holds: Collection[str] = ()) -> None:
        """Read and lock these accounts, in id order so that two transactions never wait for each other in a ring.

        The ``holds``, by their references, are read at the same time: what they are for is locked already, so they
        cannot change underneath.
        """
        for operator_id, kind in ((i, k) for k, i in schema.OPERATOR_ACCOUNT_IDS.items()):
            self.accounts[operator_id] = Account(operator_id, kind, None, 0, 0, 0)
        wanted = sorted(set(account_ids) - self.accounts.keys())
        accounts, held = setwise.read(tx, _ACCOUNTS.among(wanted), _HOLDS.among(holds))
        for columns in accounts:
            read = _account_of_columns(*columns)
            self.accounts[read.id] = self._loaded[read.id] = read
        for reference, account_id, amount, state, *times in held:
            opened_at, expires_at, ended_at = map(setwise.moment, times)
            self.holds[reference] = Hold(
                reference, account_id, amount, HoldState(state), opened_at, expires_at, ended_at
            )

    def load_transfers(self, tx: Connection, references: Collection[str]) -> None:
        """Read which of these references are recorded already."""
        if references:
            rows = tx.execute(sa.select(schema.transfer).where(schema.transfer.c.reference.in_(references)))
            self.transfers.update((row.reference, transfer_of(row)) for row in rows)

    def save(self, tx: Connection) -> None:
        """Write all that changed, set-wise."""
        setwise.write(tx, self.changes())

    def changes(self) -> setwise.Writes:
        """Give all that is to be written; each update is guarded by what was read, so a lost race is an error."""
        yield _POST, list(map(attrgetter(*_TRANSFER), self._new_transfers))
        holds = [self.holds[reference] for reference in sorted(self._new_holds | self._ended_holds)]
        yield _HOLD, [_hold_columns(each) for each in holds if each.reference in self._new_holds]
        yield (
            _END_HOLD,
            [
                (each.state.value, each.ended_at, each.reference, HoldState.OPEN.value)
                for each in holds
                if each.reference not in self._new_holds
            ],
        )
        yield (
            _MOVE,
            [
                (account.posted, account.held, was.id, was.posted, was.held)
                for was in self._loaded.values()
                for account in (self.accounts[was.id],)
                if (was.posted, was.held) != (account.posted, account.held)
            ],
        )


def locking(accounts: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Make the statement that locks the accounts of a condition, in id order as everybody does."""
    columns = schema.account.c
    rows = sa.select(columns.id).where(accounts).order_by(columns.id).with_for_update().subquery()
    return sa.select(sa.func.count()).select_from(rows)


@dataclass(frozen=True, slots=True)
class Grant:
    """`Book.post` for a group of any size: the operator gives one amount to each of many accounts, which are locked.

    One statement writes the transfers and one the balances; both must find as many accounts that have room.
    """

    transfers: sa.Insert
    balances: sa.Update

    @classmethod
    def to(cls, due: sa.Subquery, *, kind: Kind, origin: str) -> Grant:
        """Build it for what ``due`` selects: each ``account_id`` with its transfer's ``reference`` (null: nothing)."""
        table = schema.account
        amount, now = sa.bindparam("granted", type_=sa.BigInteger), sa.bindparam("now", type_=schema.Instant)
        roomy = sa.and_(table.c.kind == kind.value, table.c.posted <= AMOUNT_MAX - amount)
        facts = {
            "reference": due.c.reference,
            "debit_account_id": sa.literal(schema.OPERATOR_ACCOUNT_IDS[kind], sa.BigInteger),
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
            sa.insert(schema.transfer).from_select(list(facts), rows), raised.values(posted=table.c.posted + amount)
        )

    def perform(self, tx: Connection, amount: int, given: dict[str, Any]) -> int:
        """Move ``amount`` credits to each, and give how many got it. ``given``: ``now``, and what ``due`` asks for."""
        _check_amount(amount, least=1)
        given = given | {"granted": amount}
        moved = tx.execute(self.transfers, given, execution_options={"preserve_rowcount": True}).rowcount
        if tx.execute(self.balances, given).rowcount != moved:
            raise setwise.LedgerRace(schema.account)
        return moved


_ACCOUNT = ("id", "kind", "subscriber_id", "posted", "held", "floor")
_ACCOUNTS = setwise.Reading(
    setwise.names(_ACCOUNT),
    "from account where id {among}",
    of=schema.account.c.id,
    lock="id",
)
_HOLDS = setwise.Reading(
    "reference, account_id, amount, state, opened_at, expires_at, ended_at",
    "from hold where reference {among}",
    of=schema.hold.c.reference,
)
_TRANSFER = (
    *("reference", "debit_account_id", "credit_account_id", "amount", "origin", "at"),
    *("debit_posted", "credit_posted", "note"),
)
_POST = setwise.insert(schema.transfer, _TRANSFER)
_HOLD = setwise.insert(schema.hold, schema.hold.c.keys())
_END_HOLD = setwise.update(schema.hold, ("state", "ended_at"), key="reference", unchanged=("state",))
_MOVE = setwise.update(schema.account, ("posted", "held"), key="id", unchanged=("posted", "held"))


def _hold_columns(hold: Hold) -> setwise.Row:
    times = (hold.opened_at, hold.expires_at, hold.ended_at)
    return (hold.reference, hold.account_id, hold.amount, hold.state.value, *times)


def _with(account: Account, *, posted: int, held: int) -> Account:
    """Give the account with other balances; `dataclasses.replace` costs four times as much, and a call has four."""
    return Account(account.id, account.kind, account.subscriber_id, posted, held, account.floor)


def reverse(tx: Connection, reference: str, *, note: str, now: datetime) -> Transfer:
    """Move back what a transfer moved, once; the ``note`` says why.

    The same again gives the first answer. Raises `NotFound` for a transfer that was never made, `TransferConflict`
    when it was reversed for another reason, `InsufficientBalance` when what it gave is not there any more.
    """
    table = schema.transfer
    row = tx.execute(sa.select(table).where(table.c.reference == reference)).first()
    if row is None:
        raise NotFound(f"there is no transfer {reference}")
    back = f"{REVERSAL}:{reference}"
    book = Book()
    book.load(tx, (row.debit_account_id, row.credit_account_id))
    book.load_transfers(tx, [back])
    made = book.post(back, row.credit_account_id, row.debit_account_id, row.amount, origin=REVERSAL, now=now, note=note)
    if made.note != note:
        raise TransferConflict(f"{reference} is reversed already: {made.note}")
    book.save(tx)
    return made


def set_floor(tx: Connection, account_id: int, floor: int) -> Account:
    """Say down to which balance an account may be used: 0 for prepaid, less for a credit limit.

    What is held or was taken already stays so; only what is granted from now on knows the new floor.
    """
    if not -AMOUNT_MAX <= floor <= 0:
        raise InvalidValue(f"a floor is a whole number from -{AMOUNT_MAX} to 0")
    book = Book()
    book.load(tx, [account_id])
    tx.execute(sa.update(schema.account).where(schema.account.c.id == account_id).values(floor=floor))
    return replace(book.accounts[account_id], floor=floor)


def _check_amount(amount: int, *, least: int = 0) -> None:
    if not least <= amount <= AMOUNT_MAX:
        raise InvalidValue(f"an amount is a whole number from {least} to {AMOUNT_MAX}")


def account_of(row: Any) -> Account:
    """Make the value of an account row."""
    return _account_of_columns(*(getattr(row, name) for name in _ACCOUNT))


def _account_of_columns(
    number: int, kind: str, subscriber_id: int | None, posted: int, held: int, floor: int
) -> Account:
    return Account(number, Kind(kind), subscriber_id, posted, held, floor)


def transfer_of(row: Any) -> Transfer:
    """Make the value of a transfer row."""
    return Transfer(
        row.reference,
        row.debit_account_id,
        row.credit_account_id,
        row.amount,
        row.origin,
        row.at,
        row.debit_posted,
        row.credit_posted,
        row.note,
    )


def hold_of(row: Any) -> Hold:
    """Make the value of a hold row."""
    return Hold(
        row.reference,
        row.account_id,
        row.amount,
        HoldState(row.state),
        row.opened_at,
        row.expires_at,
        row.ended_at,
    )


def balances(tx: Connection, subscriber_id: int) -> dict[Kind, Account]:
    """Give a subscriber's accounts by kind, as they stand."""
    return by_kind(_HIS_ACCOUNTS.rows(tx, subscriber_id=subscriber_id))


def by_kind(rows: Iterable[setwise.Row]) -> dict[Kind, Account]:
    """Make accounts of rows of `ACCOUNTS`, by their kind."""
    return {each.kind: each for each in (_account_of_columns(*row) for row in rows)}


ACCOUNTS = sa.select(*(schema.account.c[name] for name in _ACCOUNT))
"""The query of accounts, for a condition."""

_HIS_ACCOUNTS = setwise.Lookup(ACCOUNTS.where(schema.account.c.subscriber_id == sa.bindparam("subscriber_id")))
# Made once: to make a statement is three times the work of asking it.
_THEIR_ACCOUNTS = sa.select(schema.account).where(
    schema.account.c.subscriber_id.in_(sa.bindparam("subscriber_ids", expanding=True))
)


def balances_of(tx: Connection, subscriber_ids: Collection[int]) -> dict[tuple[int, Kind], Account]:
    """Give the accounts of these subscribers by subscriber and kind, as they stand."""
    if not subscriber_ids:
        return {}
    rows = tx.execute(_THEIR_ACCOUNTS, {"subscriber_ids": list(subscriber_ids)})
    return {(row.subscriber_id, Kind(row.kind)): account_of(row) for row in rows}


@dataclass(frozen=True, slots=True)
class StatementLine:
    """A transfer seen from one account: ``value`` is signed, ``posted`` the balance after it."""

    id: int
    kind: Kind
    at: datetime
    value: int
    posted: int
    origin: str
    reference: str
    note: str


def statement(
    tx: Connection,
    account: Account,
    *,
    limit: int,
    before_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[StatementLine]:
    """Give the last ``limit`` movements of an account, newest first: of those before a row, or in a span of time."""
    table = schema.transfer
    columns = (table.c.id, table.c.at, table.c.origin, table.c.reference, table.c.note)
    conditions = []
    if before_id is not None:
        conditions.append(table.c.id < before_id)
    if since is not None:
        conditions.append(table.c.at >= since)
    if until is not None:
        conditions.append(table.c.at < until)

    def side(mine: sa.Column[Any], value: sa.ColumnElement[int], posted: sa.Column[Any]) -> sa.Subquery:
        rows = sa.select(*columns, value.label("value"), posted.label("posted")).where(mine == account.id, *conditions)
        return rows.order_by(table.c.id.desc()).limit(limit).subquery()

    sides = sa.union_all(
        sa.select(side(table.c.credit_account_id, table.c.amount, table.c.credit_posted)),
        sa.select(side(table.c.debit_account_id, -table.c.amount, table.c.debit_posted)),
    ).subquery()
    rows = tx.execute(sa.select(sides).order_by(sides.c.id.desc()).limit(limit))
    return [
        StatementLine(row.id, account.kind, row.at, row.value, row.posted, row.origin, row.reference, row.note)
        for row in rows
    ]
