"""Turns: what a run brings each member, and the statements that write a chunk of them set-wise.

A chunk is written by the same few statements however many members it has. They are built once for each kind of
schedule and given their values at each use, as building them costs more than running them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.ledger import group_credit
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import CreditOutcome, Run, ScheduleKind
from celcombiller.core.schema import bulk, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

ORIGIN = "schedule"

_membership, _credit, _subscriber = tables.membership, tables.schedule_credit, tables.subscriber


def reference_of(schedule_id: int, subscriber_id: int, due_on: date, kind: Kind) -> str:
    """Give the id of the transfer by which a due date credits a member."""
    return f"schedule:{schedule_id}:{subscriber_id}:{due_on}:{kind}"


@dataclass(frozen=True, slots=True)
class RunParameters:
    """What a turn depends on beside the member, as a run's values or as places for them in a statement."""

    schedule_id: Any
    due_on: Any
    value: Any
    after_id: Any

    @classmethod
    def of(cls, run: Run) -> RunParameters:
        """Take them from a run."""
        return cls(run.schedule_id, run.due_on, run.value, run.last_membership_id)

    def not_yet_processed(self) -> sa.ColumnElement[bool]:
        """Tell which memberships have not had their turn."""
        columns = _membership.c
        return sa.and_(columns.schedule_id == self.schedule_id, columns.ended_at.is_(None), columns.id > self.after_id)

    def due(self) -> sa.ColumnElement[bool]:
        """Tell which of them it is the date of: who had joined by then, and has nothing for it yet."""
        columns = _membership.c
        # A look-up for each member and no EXISTS, which PostgreSQL may turn into a read of all rows of the date.
        has_it = sa.select(_credit.c.subscriber_id).where(
            _credit.c.schedule_id == self.schedule_id,
            _credit.c.due_on == self.due_on,
            _credit.c.subscriber_id == columns.subscriber_id,
        )
        return sa.and_(self.not_yet_processed(), columns.joined_on <= self.due_on, has_it.scalar_subquery().is_(None))


def account_of_member(account: Any, kind: Kind) -> sa.ColumnElement[bool]:
    """Tell which account of a kind is the member's."""
    return sa.and_(account.c.subscriber_id == _membership.c.subscriber_id, account.c.kind == kind)


def skip_reasons(
    kind: ScheduleKind, pots: dict[Kind, Any], amount: Any
) -> Iterator[tuple[sa.ColumnElement[bool], CreditOutcome, str]]:
    """Give the reasons, the weightiest first, for which a member gets nothing. This is the one place that has them."""
    yield sa.not_(_subscriber.c.enabled), CreditOutcome.PASSED, "disabled"
    for each in kind.kinds:
        yield pots[each].c.id.is_(None), CreditOutcome.FAILED, f"there is no {each} account"
        full = pots[each].c.posted > AMOUNT_MAX - amount
        yield full, CreditOutcome.FAILED, f"the {each} balance would pass {AMOUNT_MAX}"


def members(kind: ScheduleKind) -> tuple[sa.FromClause, dict[Kind, Any]]:
    """Join memberships, their subscribers and the accounts that a kind of schedule fills."""
    pots = {each: tables.account.alias(f"{each}_account") for each in kind.kinds}
    source: sa.FromClause = _membership.join(_subscriber, _subscriber.c.id == _membership.c.subscriber_id)
    for each, account in pots.items():
        source = source.outerjoin(account, account_of_member(account, each))
    return source, pots


def _given(name: str, type_: Any) -> sa.BindParameter[Any]:
    """Make a place for a value; no column may have its name, or an update would take it for what to set."""
    return sa.bindparam(name, type_=type_)


_FACTS = RunParameters(
    _given("run_schedule_id", sa.BigInteger),
    _given("run_due_on", sa.Date),
    _given("run_value", sa.BigInteger),
    _given("run_after_id", sa.BigInteger),
)
_NOW = _given("now", tables.Instant)
_FAULT = _given("fault", sa.Text)
_CHUNK = sa.and_(_FACTS.not_yet_processed(), _membership.c.id <= _given("run_last_id", sa.BigInteger))
_MINE = sa.and_(
    _credit.c.schedule_id == _FACTS.schedule_id,
    _credit.c.due_on == _FACTS.due_on,
    _credit.c.subscriber_id == _membership.c.subscriber_id,
    _credit.c.membership_id == _membership.c.id,
)
"""The credit row that this chunk wrote for a member of it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The statements for a chunk of one kind of schedule."""

    lock_accounts: sa.Select[Any]
    write: sa.Insert
    grants: tuple[group_credit.GroupCredit, ...]

    @classmethod
    @lru_cache
    def of(cls, kind: ScheduleKind) -> Chunk:
        """Build them, once."""
        account = tables.account.c
        mine = account.subscriber_id.in_(sa.select(_membership.c.subscriber_id).where(_CHUNK))
        lock_accounts = group_credit.lock_accounts(sa.and_(mine, account.kind.in_([each.value for each in kind.kinds])))
        return cls(lock_accounts, cls._write(kind), tuple(map(cls._grant, kind.kinds)))

    @staticmethod
    def _write(kind: ScheduleKind) -> sa.Insert:
        source, pots = members(kind)
        reasons = [(_FAULT != "", CreditOutcome.FAILED, _FAULT), *skip_reasons(kind, pots, _FACTS.value)]
        outcome = sa.case(
            *((condition, outcome.value) for condition, outcome, _ in reasons), else_=CreditOutcome.CREDITED.value
        )
        turns = (
            sa.select(
                _membership.c.id,
                _membership.c.subscriber_id,
                outcome.label("outcome"),
                sa.case(*((condition, note) for condition, _, note in reasons), else_="").label("note"),
            )
            .select_from(source)
            .where(_CHUNK, _FACTS.due(), _membership.c.count > 0, _subscriber.c.deleted_at.is_(None))
            .order_by(_membership.c.id)
            .subquery()
        )
        before, after = _given("reference_before", sa.Text), _given("reference_after", sa.Text)

        def reference(each: Kind) -> sa.ColumnElement[Any]:
            if each not in kind.kinds:
                return sa.null()
            made = before + sa.cast(turns.c.subscriber_id, sa.Text) + after + each.value
            return sa.case((turns.c.outcome == CreditOutcome.CREDITED.value, made), else_=None)

        row = {
            "schedule_id": _FACTS.schedule_id,
            "subscriber_id": turns.c.subscriber_id,
            "due_on": _FACTS.due_on,
            "membership_id": turns.c.id,
            "outcome": turns.c.outcome,
            "voice_reference": reference(Kind.VOICE),
            "data_reference": reference(Kind.DATA),
            "sms_reference": reference(Kind.SMS),
            "at": _NOW,
            "note": turns.c.note,
        }
        return sa.insert(_credit).from_select(list(row), sa.select(*row.values()))

    @staticmethod
    def _grant(kind: Kind) -> group_credit.GroupCredit:
        reference = sa.select(_credit.c[f"{kind}_reference"]).where(_MINE).scalar_subquery()
        due = (
            sa.select(tables.account.c.id.label("account_id"), reference.label("reference"))
            .select_from(_membership.join(tables.account, account_of_member(tables.account, kind)))
            .where(_CHUNK)
        )
        return group_credit.GroupCredit.to(due.subquery(), kind=kind, origin=ORIGIN)


_NEXT = sa.select(
    sa.func.max(
        sa.select(_membership.c.id)
        .where(_FACTS.not_yet_processed())
        .order_by(_membership.c.id)
        .limit(_given("chunk_size", sa.Integer))
        .subquery()
        .c.id
    )
)
_ODD = (
    sa.select(_credit.c.subscriber_id, _credit.c.outcome, _credit.c.note)
    .join_from(_membership, _credit, _MINE)
    .where(_CHUNK, _credit.c.outcome != CreditOutcome.CREDITED.value)
    .order_by(_credit.c.id)
)
_COUNT_DOWN = (
    sa.update(_membership)
    .where(
        _CHUNK,
        sa.or_(
            _membership.c.count == 0,
            sa.select(_credit.c.outcome).where(_MINE).scalar_subquery().in_(sa.bindparam("used_up", expanding=True)),
        ),
    )
    .values(
        count=sa.case((_membership.c.count > 0, _membership.c.count - 1), else_=0),
        ended_at=sa.case((_membership.c.count <= 1, _NOW), else_=None),
    )
)
_BY_KEY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_NEXT_BY_KEY = _NEXT.add_columns(*(sa.func.set_config(*each, True) for each in _BY_KEY.items()))
"""A chunk is some rows of big tables, found by their keys. PostgreSQL, whose statistics may be from before the group
was made or before today's rows, must not come to think in this transaction that reading tables whole is quicker. (To
force custom plans as well would do so for the check of each foreign key of each row.)"""


@dataclass(frozen=True, slots=True)
class CreditedChunk:
    """A chunk that was written: how many were credited, and who was not, with outcome and reason."""

    credited: int
    odd: list[tuple[int, CreditOutcome, str]]


def next_chunk_end(tx: Connection, run: Run, size: int) -> int | None:
    """Give the id of the last of the next ``size`` memberships in line; ``None``: there is none.

    The schedule is locked, as by everybody who changes its memberships, so they need no lock of their own.
    """
    given = {"run_schedule_id": run.schedule_id, "run_after_id": run.last_membership_id, "chunk_size": size}
    statement = _NEXT_BY_KEY if tx.dialect.name == "postgresql" else _NEXT
    last_id: int | None = tx.execute(statement, given).scalar()
    return last_id


def credit_chunk(
    tx: Connection, run: Run, last_id: int, *, disabled_use_up: bool, fault: str, now: datetime
) -> CreditedChunk:
    """Write the turns of the members in line up to ``last_id``: what each gets, the transfers, the counts.

    What each gets is written first and decides all; what follows reads it.
    """
    before, after = reference_of(run.schedule_id, 0, run.due_on, Kind.VOICE).removesuffix(Kind.VOICE).split(":0:")
    given = {
        "run_schedule_id": run.schedule_id,
        "run_due_on": run.due_on,
        "run_value": run.value,
        "run_after_id": run.last_membership_id,
        "run_last_id": last_id,
        "fault": fault,
        "reference_before": f"{before}:",
        "reference_after": f":{after}",
        "now": now,
    }
    chunk = Chunk.of(run.kind)
    tx.execute(chunk.lock_accounts, given)
    written = tx.execute(chunk.write, given, execution_options={"preserve_rowcount": True}).rowcount
    credited, *others = (grant.perform(tx, run.value, given) for grant in chunk.grants)
    odd = []
    if written != credited:
        odd = [(row.subscriber_id, CreditOutcome(row.outcome), row.note) for row in tx.execute(_ODD, given)]
    if written != credited + len(odd) or any(each != credited for each in others):
        raise bulk.LedgerRace(_credit)
    used_up = [CreditOutcome.CREDITED.value, *([CreditOutcome.PASSED.value] if disabled_use_up else [])]
    tx.execute(_COUNT_DOWN, given | {"used_up": used_up})
    return CreditedChunk(credited, odd)
