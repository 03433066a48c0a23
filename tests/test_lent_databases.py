"""A database that a test has used comes to the next one as a new one. 1 s."""

import pytest
import sqlalchemy as sa

from celcombiller.core.schema import tables
from tests.support import databases


@pytest.mark.real
@pytest.mark.parametrize("fill", [databases.nothing, databases.three_subscribers])
def test_a_used_database_counts_from_its_beginning(cluster, fill):
    seen = []
    for _ in range(2):
        with databases.on_postgresql(cluster, fill) as engine, engine.begin() as tx:
            url = engine.url
            taken = sa.insert(tables.subscriber).values(
                username="new",
                name="N",
                clid="2",
                imsi="724000000000002",
                level=1,
                enabled=True,
                created_at=databases.NOW,
            )
            added = tx.execute(taken).inserted_primary_key
            account = sa.insert(tables.account).values(subscriber_id=added[0], kind="voice", posted=0, held=0)
            seen.append((url, added, tx.execute(account).inserted_primary_key))
    assert seen[0] == seen[1]
