"""What a run credits to each member, and the set-wise statements that write one chunk of members.

A chunk is written by the same few statements, whatever its number of members. They are built once for each kind of
schedule and executed with other parameters each time, because building them costs more than running them.
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
    """Return the reference of the transfer that credits a member for a due date."""
    return f"schedule:{schedule_id}:{subscriber_id}:{due_on}:{kind}"


@dataclass(frozen=True, slots=True)
class RunParameters:
    """The values of a run that a member's credit depends on, or bind parameters in their place."""

    schedule_id: Any
    due_on: Any
    value: Any
    after_id: Any

    @classmethod
    def of(cls, run: Run) -> RunParameters:
        """Return the values of a run."""
        return cls(run.schedule_id, run.due_on, run.value, run.last_membership_id)

    def not_yet_processed(self) -> sa.ColumnElement[bool]:
        """Return the condition on memberships that the run has not processed yet."""
        columns = _membership.c
        return sa.and_(columns.schedule_id == self.schedule_id, columns.ended_at.is_(None), columns.id > self.after_id)

    def due(self) -> sa.ColumnElement[bool]:
        """Return the condition on memberships that are due: joined by the due date, with no credit row for it yet."""
        columns = _membership.c
        # A scalar subquery, looked up for each member: PostgreSQL may turn EXISTS into a scan of all rows of the date.
        already_credited = sa.select(_credit.c.subscriber_id).where(
            _credit.c.schedule_id == self.schedule_id,
            _credit.c.due_on == self.due_on,
            _credit.c.subscriber_id == columns.subscriber_id,
        )
        return sa.and_(
            self.not_yet_processed(), columns.joined_on <= self.due_on, already_credited.scalar_subquery().is_(None)
        )


def account_of_member(account: Any, kind: Kind) -> sa.ColumnElement[bool]:
    """Return the condition that an account is the member's account of this kind."""
    return sa.and_(account.c.subscriber_id == _membership.c.subscriber_id, account.c.kind == kind)


def skip_reasons(
    kind: ScheduleKind, member_accounts: dict[Kind, Any], amount: Any
) -> Iterator[tuple[sa.ColumnElement[bool], CreditOutcome, str]]:
    """Yield the reasons why a member gets nothing, the most important first: condition, outcome, note."""
    yield sa.not_(_subscriber.c.enabled), CreditOutcome.PASSED, "disabled"
    for each in kind.kinds:
        yield member_accounts[each].c.id.is_(None), CreditOutcome.FAILED, f"there is no {each} account"
        full = member_accounts[each].c.posted > AMOUNT_MAX - amount
        yield full, CreditOutcome.FAILED, f"the {each} balance would pass {AMOUNT_MAX}"


def members(kind: ScheduleKind) -> tuple[sa.FromClause, dict[Kind, Any]]:
    """Return the join of memberships, subscribers and the accounts that this kind of schedule credits."""
    member_accounts = {each: tables.account.alias(f"{each}_account") for each in kind.kinds}
    source: sa.FromClause = _membership.join(_subscriber, _subscriber.c.id == _membership.c.subscriber_id)
    for each, account in member_accounts.items():
        source = source.outerjoin(account, account_of_member(account, each))
    return source, member_accounts


def _parameter(name: str, type_: Any) -> sa.BindParameter[Any]:
    """Return a bind parameter. Its name must not be a column's: an UPDATE would set that column."""
    return sa.bindparam(name, type_=type_)


_RUN = RunParameters(
    _parameter("run_schedule_id", sa.BigInteger),
    _parameter("run_due_on", sa.Date),
    _parameter("run_value", sa.BigInteger),
    _parameter("run_after_id", sa.BigInteger),
)
_NOW = _parameter("now", tables.Instant)
_FAULT = _parameter("fault", sa.Text)
_CHUNK = sa.and_(_RUN.not_yet_processed(), _membership.c.id <= _parameter("run_last_id", sa.BigInteger))
_IS_CREDIT_OF_MEMBER = sa.and_(
    _credit.c.schedule_id == _RUN.schedule_id,
    _credit.c.due_on == _RUN.due_on,
    _credit.c.subscriber_id == _membership.c.subscriber_id,
    _credit.c.membership_id == _membership.c.id,
)
"""Joins a member of the chunk to the credit row that the chunk wrote for them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The statements that write a chunk of one kind of schedule."""

    lock_accounts: sa.Select[Any]
    write: sa.Insert
    grants: tuple[group_credit.GroupCredit, ...]

    @classmethod
    @lru_cache
    def of(cls, kind: ScheduleKind) -> Chunk:
        """Return the statements, built once for each kind."""
        account = tables.account.c
        of_members = account.subscriber_id.in_(sa.select(_membership.c.subscriber_id).where(_CHUNK))
        lock_accounts = group_credit.lock_accounts(
            sa.and_(of_members, account.kind.in_([each.value for each in kind.kinds]))
        )
        return cls(lock_accounts, cls._write(kind), tuple(map(cls._grant, kind.kinds)))

    @staticmethod
    def _write(kind: ScheduleKind) -> sa.Insert:
        source, member_accounts = members(kind)
        reasons = [(_FAULT != "", CreditOutcome.FAILED, _FAULT), *skip_reasons(kind, member_accounts, _RUN.value)]
        outcome = sa.case(
            *((condition, outcome.value) for condition, outcome, _ in reasons), else_=CreditOutcome.CREDITED.value
        )
        due = (
            sa.select(
                _membership.c.id,
                _membership.c.subscriber_id,
                outcome.label("outcome"),
                sa.case(*((condition, note) for condition, _, note in reasons), else_="").label("note"),
            )
            .select_from(source)
            .where(_CHUNK, _RUN.due(), _membership.c.count > 0, _subscriber.c.deleted_at.is_(None))
            .order_by(_membership.c.id)
            .subquery()
        )
        before, after = _parameter("reference_before", sa.Text), _parameter("reference_after", sa.Text)

        def reference(each: Kind) -> sa.ColumnElement[Any]:
            if each not in kind.kinds:
                return sa.null()
            built = before + sa.cast(due.c.subscriber_id, sa.Text) + after + each.value
            return sa.case((due.c.outcome == CreditOutcome.CREDITED.value, built), else_=None)

        row = {
            "schedule_id": _RUN.schedule_id,
            "subscriber_id": due.c.subscriber_id,
            "due_on": _RUN.due_on,
            "membership_id": due.c.id,
            "outcome": due.c.outcome,
            "voice_reference": reference(Kind.VOICE),
            "data_reference": reference(Kind.DATA),
            "sms_reference": reference(Kind.SMS),
            "at": _NOW,
            "note": due.c.note,
        }
        return sa.insert(_credit).from_select(list(row), sa.select(*row.values()))

    @staticmethod
    def _grant(kind: Kind) -> group_credit.GroupCredit:
        reference = sa.select(_credit.c[f"{kind}_reference"]).where(_IS_CREDIT_OF_MEMBER).scalar_subquery()
        due = (
            sa.select(tables.account.c.id.label("account_id"), reference.label("reference"))
            .select_from(_membership.join(tables.account, account_of_member(tables.account, kind)))
            .where(_CHUNK)
        )
        return group_credit.GroupCredit.to(due.subquery(), kind=kind, origin=ORIGIN)


_CHUNK_END = sa.select(
    sa.func.max(
        sa.select(_membership.c.id)
        .where(_RUN.not_yet_processed())
        .order_by(_membership.c.id)
        .limit(_parameter("chunk_size", sa.Integer))
        .subquery()
        .c.id
    )
)
_UNCREDITED = (
    sa.select(_credit.c.subscriber_id, _credit.c.outcome, _credit.c.note)
    .join_from(_membership, _credit, _IS_CREDIT_OF_MEMBER)
    .where(_CHUNK, _credit.c.outcome != CreditOutcome.CREDITED.value)
    .order_by(_credit.c.id)
)
_COUNT_DOWN = (
    sa.update(_membership)
    .where(
        _CHUNK,
        sa.or_(
            _membership.c.count == 0,
            sa.select(_credit.c.outcome)
            .where(_IS_CREDIT_OF_MEMBER)
            .scalar_subquery()
            .in_(sa.bindparam("used_up", expanding=True)),
        ),
    )
    .values(
        count=sa.case((_membership.c.count > 0, _membership.c.count - 1), else_=0),
        ended_at=sa.case((_membership.c.count <= 1, _NOW), else_=None),
    )
)
_INDEX_SCANS_ONLY = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_CHUNK_END_POSTGRESQL = _CHUNK_END.add_columns(*(sa.func.set_config(*each, True) for each in _INDEX_SCANS_ONLY.items()))
"""A chunk is a few rows of big tables, found by their keys. PostgreSQL's statistics may be older than the group or than
today's rows, so it must not choose sequential scans in this transaction. (Forcing custom plans as well would replan the
check of every foreign key of every row.)"""


@dataclass(frozen=True, slots=True)
class CreditedChunk:
    """A chunk that was written: how many members were credited; subscriber id, outcome and reason of the others."""

    credited: int
    uncredited: list[tuple[int, CreditOutcome, str]]


def next_chunk_end(tx: Connection, run: Run, size: int) -> int | None:
    """Return the id of the last of the next ``size`` unprocessed memberships, or None if there are none.

    The caller has locked the schedule, as does everyone who changes its memberships, so they need no lock themselves.
    """
    parameters = {"run_schedule_id": run.schedule_id, "run_after_id": run.last_membership_id, "chunk_size": size}
    statement = _CHUNK_END_POSTGRESQL if tx.dialect.name == "postgresql" else _CHUNK_END
    last_id: int | None = tx.execute(statement, parameters).scalar()
    return last_id


def credit_chunk(
    tx: Connection, run: Run, last_id: int, *, disabled_use_up: bool, fault: str, now: datetime
) -> CreditedChunk:
    """Credit the unprocessed members up to ``last_id``: write credit rows, transfers and remaining counts.

    The credit rows are written first; the statements after them read what to do from these rows.
    """
    before, after = reference_of(run.schedule_id, 0, run.due_on, Kind.VOICE).removesuffix(Kind.VOICE).split(":0:")
    parameters = {
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
    tx.execute(chunk.lock_accounts, parameters)
    written = tx.execute(chunk.write, parameters, execution_options={"preserve_rowcount": True}).rowcount
    credited, *others = (grant.perform(tx, run.value, parameters) for grant in chunk.grants)
    uncredited = []
    if written != credited:
        uncredited = [
            (row.subscriber_id, CreditOutcome(row.outcome), row.note) for row in tx.execute(_UNCREDITED, parameters)
        ]
    if written != credited + len(uncredited) or any(each != credited for each in others):
        raise bulk.LedgerRace(_credit)
    used_up = [CreditOutcome.CREDITED.value, *([CreditOutcome.PASSED.value] if disabled_use_up else [])]
    tx.execute(_COUNT_DOWN, parameters | {"used_up": used_up})
    return CreditedChunk(credited, uncredited)
