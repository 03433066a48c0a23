"""Run all checks and report what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.checks.bundle_checks import check_ends, check_fillings, check_pots, check_prices
from celcombiller.core.audit.checks.credit_transfer_checks import (
    check_credit_transfers,
    check_transfer_days,
    check_transfer_fees,
    check_transfer_rows,
)
from celcombiller.core.audit.checks.day_sum_checks import check_day_sums
from celcombiller.core.audit.checks.fee_checks import (
    check_fee_bundles,
    check_fee_transfers,
    check_fees_given_back,
    check_suspensions,
)
from celcombiller.core.audit.checks.hold_checks import (
    OverdueHold,
    check_last_renewals,
    check_renewals,
    list_overdue_holds,
)
from celcombiller.core.audit.checks.ledger_checks import check_chain, check_held, check_kinds, check_posted, check_spent
from celcombiller.core.audit.checks.other_checks import check_networks, check_notices
from celcombiller.core.audit.checks.payment_checks import (
    check_payment_reversals,
    check_payment_transfers,
    check_payments,
)
from celcombiller.core.audit.checks.price_checks import (
    check_flat_prices,
    check_reratings,
    check_tariff_prices,
    check_trunk_costs,
)
from celcombiller.core.audit.checks.schedule_checks import (
    check_runs,
    check_schedule_bundles,
    check_schedule_credits,
    check_schedule_transfers,
)
from celcombiller.core.audit.checks.selling_checks import (
    check_commissions,
    check_receipt_numbers,
    check_receipt_transfers,
    check_sales,
    check_stocks,
    check_voids,
)
from celcombiller.core.audit.checks.usage_checks import (
    check_calls,
    check_cdr_witnesses,
    check_charges,
    check_data_charges,
    check_data_holds,
    check_message_accounts,
    check_message_charges,
    check_messages,
    check_shares,
)
from celcombiller.core.audit.checks.validity_checks import check_expiries, check_expiry_times, check_expiry_top_ups
from celcombiller.core.audit.checks.voucher_checks import (
    check_cards,
    check_redeemed_bundles,
    check_redemptions,
    check_seller_payments,
    check_voucher_transfers,
)
from celcombiller.core.schema import tables
from celcombiller.core.schema.driver import execute_raw

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.audit.difference import Difference

Check = Callable[["Connection"], Iterator["Difference"]]

CHECKS: tuple[Check, ...] = (
    check_posted,
    check_chain,
    check_kinds,
    check_held,
    check_spent,
    check_calls,
    check_charges,
    check_cdr_witnesses,
    check_renewals,
    check_last_renewals,
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
    check_credit_transfers,
    check_transfer_fees,
    check_transfer_rows,
    check_transfer_days,
    check_receipt_numbers,
    check_receipt_transfers,
    check_sales,
    check_commissions,
    check_voids,
    check_stocks,
    check_schedule_credits,
    check_schedule_bundles,
    check_schedule_transfers,
    check_runs,
    check_payments,
    check_payment_transfers,
    check_payment_reversals,
    check_expiries,
    check_expiry_times,
    check_expiry_top_ups,
    check_cards,
    check_redemptions,
    check_redeemed_bundles,
    check_voucher_transfers,
    check_seller_payments,
    check_fee_transfers,
    check_fees_given_back,
    check_fee_bundles,
    check_suspensions,
    check_networks,
    check_notices,
    check_day_sums,
)


_BY_KEYS = (check_spent, check_tariff_prices, check_trunk_costs, check_day_sums)
"""The checks that read rows by their keys, some at a time; all others read tables whole."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How many rows were checked, and what differed.

    ``overdue_holds`` are older than their validity. They are no difference: a hold ends only once it is known that its
    call is over.
    """

    accounts: int
    transfers: int
    holds: int
    calls: int
    schedule_credits: int
    differences: list[Difference]
    overdue_holds: list[OverdueHold] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as recorded."""
        return not self.differences


def audit(tx: Connection, now: datetime | None = None) -> AuditReport:
    """Recompute everything and return the report, with the holds that are overdue ``now`` where that is given.

    It takes time in proportion to the history. On PostgreSQL it locks nothing.
    """

    def count(table: sa.Table) -> int:
        return int(tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())

    differences: list[Difference] = []
    for by_keys, checks in groupby(CHECKS, _BY_KEYS.__contains__):
        _allow_joins_by_keys(tx, "on" if by_keys else "off")
        for check in checks:
            differences += check(tx)
    _allow_joins_by_keys(tx, "default")
    return AuditReport(
        accounts=count(tables.account),
        transfers=count(tables.transfer),
        holds=count(tables.hold),
        calls=count(tables.call),
        schedule_credits=count(tables.schedule_credit),
        differences=differences,
        overdue_holds=[] if now is None else list_overdue_holds(tx, now),
    )


def _allow_joins_by_keys(tx: Connection, value: str) -> None:
    """Let PostgreSQL join otherwise than by a hash (``on``) or not (``off``) in this transaction.

    Its statistics may be older than most of the rows. Then it takes large tables for small, and compares every row of
    one with every row of the other: 5,000 scheduled credits took 4 s, and twice as many four times as long.
    """
    if tx.dialect.name == "postgresql":
        execute_raw(tx, f"set local enable_nestloop to {value}; set local enable_mergejoin to {value}")
