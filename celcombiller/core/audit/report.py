"""Run all checks; the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.ledger_checks import check_chain, check_held, check_posted
from celcombiller.core.audit.other_checks import check_networks, check_notices
from celcombiller.core.audit.schedule_checks import check_runs, check_schedule_credits, check_schedule_transfers
from celcombiller.core.audit.usage_checks import (
    check_calls,
    check_charges,
    check_data_charges,
    check_data_holds,
    check_message_accounts,
    check_message_charges,
    check_messages,
)
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.audit.difference import Difference

account = tables.account


transfer = tables.transfer


hold = tables.hold


call = tables.call


credit = tables.schedule_credit


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was recomputed, and what differed."""

    accounts: int
    transfers: int
    holds: int
    calls: int
    schedule_credits: int
    differences: list[Difference]

    @property
    def ok(self) -> bool:
        """Whether everything is as recorded."""
        return not self.differences


def audit(tx: Connection) -> AuditReport:
    """Recompute everything. Takes time in proportion to the history; nothing is locked on PostgreSQL."""

    def count(table: sa.Table) -> int:
        return int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    questions = (
        *(
            check_posted,
            check_chain,
            check_held,
            check_calls,
            check_charges,
            check_messages,
            check_message_accounts,
            check_message_charges,
        ),
        *(
            check_data_charges,
            check_data_holds,
            check_schedule_credits,
            check_schedule_transfers,
            check_runs,
            check_networks,
            check_notices,
        ),
    )
    differences = [difference for question in questions for difference in question(tx)]
    return AuditReport(count(account), count(transfer), count(hold), count(call), count(credit), differences)
