"""What a run credits to each member, and the set-wise statements that write one chunk of members.

A chunk is written by the same few statements, whatever its number of members. They are built once for each kind of
schedule and executed with other parameters each time, because building them costs more than running them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.bundles import offers
from celcombiller.core.ledger import group_credit
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.schedules import CreditOutcome, Run
from celcombiller.core.schema import bulk, tables

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.bundles import Offer

ORIGIN = "schedule"

_membership, _credit, _subscriber = tables.membership, tables.schedule_credit, tables.subscriber
_bundle = tables.bundle


BUNDLE = "bundle"
"""The last word of the reference of a transfer that fills a bundle."""


def reference_of(schedule_id: int, subscriber_id: int, due_on: date, kind: str) -> str:
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

    def due(self, record: sa.Table = _credit) -> sa.ColumnElement[bool]:
        """Return the condition on memberships that are due: joined by the due date, with no record of it yet.

        The record is a credit, or a fee period.
        """
        columns = _membership.c
        # A scalar subquery, looked up for each member: PostgreSQL may turn EXISTS into a scan of all rows of the date.
        already_done = sa.select(record.c.subscriber_id).where(
            record.c.schedule_id == self.schedule_id,
            record.c.due_on == self.due_on,
            record.c.subscriber_id == columns.subscriber_id,
        )
        return sa.and_(
            self.not_yet_processed(), columns.joined_on <= self.due_on, already_done.scalar_subquery().is_(None)
        )


def account_of_member(account: Any, kind: Kind) -> sa.ColumnElement[bool]:
    """Return the condition that an account is the member's account of this kind."""
    return sa.and_(account.c.subscriber_id == _membership.c.subscriber_id, account.c.kind == kind)


def skip_reasons(
    kinds: tuple[Kind, ...], member_accounts: dict[Kind, Any], amount: Any
) -> Iterator[tuple[sa.ColumnElement[bool], CreditOutcome, str]]:
    """Yield the reasons why a member gets nothing, the most important first: condition, outcome, note."""
    yield sa.not_(_subscriber.c.enabled), CreditOutcome.PASSED, "disabled"
    for each in kinds:
        yield member_accounts[each].c.id.is_(None), CreditOutcome.FAILED, f"there is no {each} account"
        full = member_accounts[each].c.posted > AMOUNT_MAX - amount
        yield full, CreditOutcome.FAILED, f"the {each} balance would pass {AMOUNT_MAX}"


def members(kinds: tuple[Kind, ...]) -> tuple[sa.FromClause, dict[Kind, Any]]:
    """Return the join of memberships, subscribers and their accounts of these kinds, which a schedule credits."""
    member_accounts = {each: tables.account.alias(f"{each}_account") for each in kinds}
    source: sa.FromClause = _membership.join(_subscriber, _subscriber.c.id == _membership.c.subscriber_id)
    for each, account in member_accounts.items():
        source = source.outerjoin(account, account_of_member(account, each))
    return source, member_accounts


def parameter(name: str, type_: Any) -> sa.BindParameter[Any]:
    """Return a bind parameter. Its name must not be a column's: an UPDATE would set that column."""
    return sa.bindparam(name, type_=type_)


RUN = RunParameters(
    parameter("run_schedule_id", sa.BigInteger),
    parameter("run_due_on", sa.Date),
    parameter("run_value", sa.BigInteger),
    parameter("run_after_id", sa.BigInteger),
)
NOW = parameter("now", tables.Instant)
FAULT = parameter("fault", sa.Text)
CHUNK = sa.and_(RUN.not_yet_processed(), _membership.c.id <= parameter("run_last_id", sa.BigInteger))


def is_of_member(record: sa.Table) -> sa.ColumnElement[bool]:
    """Return what joins a member of the chunk to the credit, or fee period, that the chunk wrote for them."""
    return sa.and_(
        record.c.schedule_id == RUN.schedule_id,
        record.c.due_on == RUN.due_on,
        record.c.subscriber_id == _membership.c.subscriber_id,
        record.c.membership_id == _membership.c.id,
    )


def is_of_chunk(record: sa.Table) -> sa.ColumnElement[bool]:
    """Return the condition on the credits, or fee periods, that the chunk wrote.

    Each is looked up by its key, member by member: in a join PostgreSQL may scan all records of the due date, for each
    chunk again. ``OFFSET 0`` keeps the subquery from becoming a join.
    """
    of_member = sa.select(record.c.id).where(is_of_member(record)).correlate(_membership).scalar_subquery()
    return record.c.id.in_(sa.select(of_member).select_from(_membership).where(CHUNK).offset(sa.literal_column("0")))


_IS_CREDIT_OF_MEMBER = is_of_member(_credit)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The statements that write a chunk of one kind of schedule."""

    lock: sa.Select[Any]
    write: sa.Insert
    bundles: tuple[sa.Insert, ...]
    grants: tuple[group_credit.GroupCredit, ...]

    @classmethod
    @lru_cache
    def of(cls, kinds: tuple[Kind, ...]) -> Chunk:
        """Return the statements that credit accounts of these kinds, built once for them."""
        account = tables.account.c
        of_members = account.subscriber_id.in_(sa.select(_membership.c.subscriber_id).where(CHUNK))
        lock = group_credit.lock_accounts(sa.and_(of_members, account.kind.in_([each.value for each in kinds])))
        return cls(lock, cls._write(kinds), (), tuple(map(cls._grant, kinds)))

    @classmethod
    @lru_cache
    def of_bundles(cls, kind: BundleKind) -> Chunk:
        """Return the statements that give bundles of this kind: they add an account for each, and fill it."""
        bundles, filling = add_bundles(_credit, kind, ORIGIN)
        return cls(lock_members(), cls._write(()), bundles, (filling,))

    @staticmethod
    def _write(kinds: tuple[Kind, ...]) -> sa.Insert:
        source, member_accounts = members(kinds)
        reasons = [(FAULT != "", CreditOutcome.FAILED, FAULT), *skip_reasons(kinds, member_accounts, RUN.value)]
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
            .where(CHUNK, RUN.due(), _membership.c.count > 0, _subscriber.c.deleted_at.is_(None))
            .order_by(_membership.c.id)
            .subquery()
        )
        before, after = parameter("reference_before", sa.Text), parameter("reference_after", sa.Text)

        def reference(each: str) -> sa.ColumnElement[Any]:
            if each not in (kinds or (BUNDLE,)):
                return sa.null()
            built = before + sa.cast(due.c.subscriber_id, sa.Text) + after + str(each)
            return sa.case((due.c.outcome == CreditOutcome.CREDITED.value, built), else_=None)

        row = {
            "schedule_id": RUN.schedule_id,
            "subscriber_id": due.c.subscriber_id,
            "due_on": RUN.due_on,
            "membership_id": due.c.id,
            "outcome": due.c.outcome,
            "voice_reference": reference(Kind.VOICE),
            "data_reference": reference(Kind.DATA),
            "sms_reference": reference(Kind.SMS),
            "bundle_reference": reference(BUNDLE),
            "at": NOW,
            "note": due.c.note,
        }
        return sa.insert(_credit).from_select(list(row), sa.select(*row.values()))

    @staticmethod
    def _grant(kind: Kind) -> group_credit.GroupCredit:
        reference = sa.select(_credit.c[f"{kind}_reference"]).where(_IS_CREDIT_OF_MEMBER).scalar_subquery()
        due = (
            sa.select(tables.account.c.id.label("account_id"), reference.label("reference"))
            .select_from(_membership.join(tables.account, account_of_member(tables.account, kind)))
            .where(CHUNK)
        )
        return group_credit.GroupCredit.to(due.subquery(), kind=kind, origin=ORIGIN)


def lock_members() -> sa.Select[Any]:
    """Return the statement that locks the subscribers of the chunk, in id order: whoever adds bundles does so."""
    columns = _subscriber.c
    of_members = columns.id.in_(sa.select(_membership.c.subscriber_id).where(CHUNK))
    rows = sa.select(columns.id).where(of_members).order_by(columns.id).with_for_update(key_share=True).subquery()
    return sa.select(sa.func.count()).select_from(rows)


def add_bundles(
    record: sa.Table, kind: BundleKind, origin: str
) -> tuple[tuple[sa.Insert, ...], group_credit.GroupCredit]:
    """Return what gives a bundle to each member of the chunk whose record has the reference of one, and fills it."""
    due = (
        sa.select(_bundle.c.account_id, _bundle.c.reference)
        .select_from(record.join(_bundle, _bundle.c.reference == record.c.bundle_reference))
        .where(is_of_chunk(record))
    )
    filling = group_credit.GroupCredit.to(due.subquery(), kind=kind, origin=origin)
    return (_add_accounts(record, kind), _add_bundle_rows(record, kind)), filling


def _add_accounts(record: sa.Table, kind: BundleKind) -> sa.Insert:
    """Return the insert of an empty account for each member of the chunk who gets a bundle."""
    pot = sa.select(sa.func.coalesce(_last_pot(record, kind), 0) + 1).scalar_subquery()
    facts = {
        "subscriber_id": record.c.subscriber_id,
        "kind": sa.literal(kind.value),
        "posted": sa.literal(0, sa.BigInteger),
        "held": sa.literal(0, sa.BigInteger),
        "pot": pot,
    }
    return sa.insert(tables.account).from_select(list(facts), _credited(record, *facts.values()))


def _add_bundle_rows(record: sa.Table, kind: BundleKind) -> sa.Insert:
    """Return the insert of a bundle for each account that `_add_accounts` added: the last of its kind."""
    account = tables.account
    is_new = sa.and_(
        account.c.subscriber_id == record.c.subscriber_id,
        account.c.kind == kind.value,
        account.c.pot == _last_pot(record, kind),
    )
    facts = {
        "account_id": account.c.id,
        "reference": record.c.bundle_reference,
        "subscriber_id": record.c.subscriber_id,
        "offer_id": parameter("given_offer_id", sa.BigInteger),
        "name": parameter("given_name", sa.Text),
        "services": parameter("given_services", sa.Text),
        "destinations": parameter("given_destinations", sa.Text),
        "priority": parameter("given_priority", sa.Integer),
        "valid_from": NOW,
        "valid_until": parameter("given_until", tables.Instant),
        "renews": sa.literal(value=False),
        "call_seconds_max": parameter("given_call_seconds_max", sa.Integer),
    }
    return sa.insert(_bundle).from_select(list(facts), _credited(record, *facts.values()).join(account, is_new))


def _last_pot(record: sa.Table, kind: BundleKind) -> sa.ScalarSelect[Any]:
    mine = tables.account.alias("mine")
    same = (mine.c.subscriber_id == record.c.subscriber_id, mine.c.kind == kind.value)
    return sa.select(sa.func.max(mine.c.pot)).where(*same).correlate(record).scalar_subquery()


def _credited(record: sa.Table, *columns: Any) -> sa.Select[Any]:
    """Select from the members of the chunk who get a bundle, in the order of their memberships."""
    gets = record.c.bundle_reference.is_not(None)
    return sa.select(*columns).select_from(record).where(is_of_chunk(record), gets).order_by(record.c.id)


def offer_parameters(offer: Offer, until: datetime) -> dict[str, Any]:
    """Return what a bundle of this offer is made of, valid until this time."""
    return {
        "given_offer_id": offer.id,
        "given_name": offer.name,
        "given_services": " ".join(offer.services),
        "given_destinations": " ".join(offer.destinations),
        "given_priority": offer.priority,
        "given_call_seconds_max": offer.call_seconds_max,
        "given_until": until,
    }


_CHUNK_END = sa.select(
    sa.func.max(
        sa.select(_membership.c.id)
        .where(RUN.not_yet_processed())
        .order_by(_membership.c.id)
        .limit(parameter("chunk_size", sa.Integer))
        .subquery()
        .c.id
    )
)
_UNCREDITED = (
    sa.select(_credit.c.subscriber_id, _credit.c.outcome, _credit.c.note)
    .join_from(_membership, _credit, _IS_CREDIT_OF_MEMBER)
    .where(CHUNK, _credit.c.outcome != CreditOutcome.CREDITED.value)
    .order_by(_credit.c.id)
)


def count_down(record: sa.Table) -> sa.Update:
    """Return what counts the runs of the chunk's members down, and ends the memberships that have none left."""
    outcome = sa.select(record.c.outcome).where(is_of_member(record)).scalar_subquery()
    used_up = outcome.in_(sa.bindparam("used_up", expanding=True))
    return (
        sa.update(_membership)
        .where(CHUNK, sa.or_(_membership.c.count == 0, used_up))
        .values(
            count=sa.case((_membership.c.count > 0, _membership.c.count - 1), else_=0),
            ended_at=sa.case((_membership.c.count <= 1, NOW), else_=None),
        )
    )


_COUNT_DOWN = count_down(_credit)
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
    parameters: dict[str, Any] = {
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
    if run.offer_id is None:
        chunk = Chunk.of(run.kinds)
    else:
        offer = offers.find(tx, run.offer_id, deleted=True)
        until = now + timedelta(hours=offer.valid_hours)
        chunk, parameters = Chunk.of_bundles(offer.kind), parameters | offer_parameters(offer, until)
    tx.execute(chunk.lock, parameters)
    written = tx.execute(chunk.write, parameters, execution_options={"preserve_rowcount": True}).rowcount
    for addition in chunk.bundles:
        tx.execute(addition, parameters)
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
