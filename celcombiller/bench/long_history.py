"""A long history, made in bulk as the biller would have made it, so that the audit proves it."""

from __future__ import annotations

import sqlalchemy as sa

from celcombiller.bench import environment
from celcombiller.bench.environment import CREDIT
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema.tables import OPERATOR_ACCOUNT_IDS
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact

RATES = 200_000


def fill_history(url: str, transfers: int, subscribers: int) -> None:
    """Add subscribers up to this number, then about this number of transfers: each subscriber spends single credits."""
    environment.fill(url, subscribers, first=environment.count(url))
    engine = open_engine(url, lock_seconds=60)
    for spent in range(transfers // subscribers):
        transact(engine, lambda tx, spent=spent: _spend(tx, spent))  # type: ignore[misc]  # mypy and default arguments
    environment.look_over(engine)
    engine.dispose()


def _spend(tx: sa.Connection, spent: int) -> None:
    """Let each subscriber spend one more credit."""
    values = {"spent": spent, "operator": OPERATOR_ACCOUNT_IDS[Kind.VOICE], "credit": CREDIT}
    tx.execute(
        sa.text(
            "insert into transfer (reference, debit_account_id, credit_account_id, amount, origin, at, debit_posted)"
            " select 'past:' || :spent || ':' || id, id, :operator, 1, 'past', '2026-01-01 00:00:00.000000', posted - 1"
            " from account where kind = 'voice' and subscriber_id is not null and posted > 0 order by id"
        ),
        values,
    )
    tx.execute(
        sa.text(
            "update account set posted = posted - 1 where kind = 'voice' and subscriber_id is not null and posted > 0"
        )
    )


def rates(count: int = RATES) -> str:
    """Return a price list with ``count`` rows, as text for the settings file."""
    rows = ["[[rates]]\nprice = 1\n"]
    rows += [f'[[rates]]\nprefix = "55{number:06}"\nprice = {number % 100 + 1}\n' for number in range(count - 1)]
    return "".join(rows)
