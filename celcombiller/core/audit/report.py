"""Run all checks and report what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.bundle_checks import check_ends, check_fillings, check_pots, check_prices
from celcombiller.core.audit.ledger_checks import check_chain, check_held, check_posted, check_spent
from celcombiller.core.audit.other_checks import check_networks, check_notices
from celcombiller.core.audit.price_checks import (
    check_flat_prices,
    check_reratings,
    check_tariff_prices,
    check_trunk_costs,
)
from celcombiller.core.audit.schedule_checks import (
    check_runs,
    check_schedule_bundles,
    check_schedule_credits,
    check_schedule_transfers,
)
from celcombiller.core.audit.usage_checks import (
    check_calls,
    check_charges,
    check_data_charges,
    check_data_holds,
    check_message_accounts,
    check_message_charges,
    check_messages,
    check_shares,
)
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.audit.difference import Difference

Check = Callable[["Connection"], Iterator["Difference"]]

CHECKS: tuple[Check, ...] = (
    check_posted,
    check_chain,
    check_held,
    check_spent,
    check_calls,
    check_charges,
    check_shares,
    check_flat_prices,
    check_tariff_prices,
    check_trunk_costs,
    check_reratings,
    check_messages,
    check_message_accounts,
    check_message_charges,
    check_data_charges,
    check_data_holds,
    check_pots,
    check_fillings,
    check_prices,
    check_ends,
    check_schedule_credits,
    check_schedule_bundles,
    check_schedule_transfers,
    check_runs,
    check_networks,
    check_notices,
)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How many rows were checked, and what differed."""

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
    """Recompute everything and return the report.

    It takes time in proportion to the history. On PostgreSQL it locks nothing.
    """

    def count(table: sa.Table) -> int:
        return int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    differences = [difference for check in CHECKS for difference in check(tx)]
    return AuditReport(
        accounts=count(tables.account),
        transfers=count(tables.transfer),
        holds=count(tables.hold),
        calls=count(tables.call),
        schedule_credits=count(tables.schedule_credit),
        differences=differences,
    )
