"""Bundles by their rows alone, for the tests of what is charged."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def give(engine, kind, amount, *, username="u1001", priority=0, days=30, pot=1):
    """Give a bundle by its rows alone, and return its account."""
    with engine.begin() as tx:
        owner = subscriber_records.find(tx, username).id
        values = {"subscriber_id": owner, "kind": kind, "pot": pot, "posted": amount, "held": 0}
        account = tx.execute(sa.insert(tables.account).values(values).returning(tables.account.c.id)).scalar_one()
        tx.execute(
            sa.insert(tables.transfer).values(
                reference=f"given:{account}",
                debit_account_id=tables.OPERATOR_ACCOUNT_IDS[kind],
                credit_account_id=account,
                amount=amount,
                origin="bundle",
                at=NOW,
                credit_posted=amount,
            )
        )
        tx.execute(
            sa.insert(tables.bundle).values(
                account_id=account,
                reference=f"given:{account}",
                subscriber_id=owner,
                name="B",
                priority=priority,
                valid_from=NOW,
                valid_until=NOW + timedelta(days=days),
                renews=False,
            )
        )
    return account
