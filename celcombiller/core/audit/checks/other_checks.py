"""Checks of radio networks and low-balance notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.audit.difference import Difference, name_account
from celcombiller.core.provisioning import desired_state
from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

transfer = tables.transfer


notice = tables.notice


def check_networks(tx: Connection) -> Iterator[Difference]:
    """Check that each network should have exactly the subscribers who may use the service."""
    for network, imsi, expected, found in desired_state.list_inconsistent(tx):
        yield Difference("a network is to know who may use the service", f"IMSI {imsi} on {network}", expected, found)


def check_notices(tx: Connection) -> Iterator[Difference]:
    """Check that the transfer of each notice took the balance from above the threshold to it or below."""
    crossed = sa.and_(
        transfer.c.debit_account_id == notice.c.account_id,
        transfer.c.debit_posted <= notice.c.threshold,
        transfer.c.debit_posted + transfer.c.amount > notice.c.threshold,
    )
    rows = tx.execute(
        sa.select(notice.c.account_id, notice.c.threshold, transfer.c.reference, transfer.c.debit_posted)
        .join(transfer, transfer.c.id == notice.c.transfer_id)
        .where(sa.case((crossed, 1), else_=0) == 0)
        .order_by(notice.c.transfer_id)
    )
    for row in rows:
        subject = f"{name_account(tx, row.account_id)}, transfer {row.reference}"
        yield Difference("a notice tells of a balance that became low", subject, row.threshold, row.debit_posted)
