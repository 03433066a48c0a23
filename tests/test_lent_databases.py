"""A database that a test has used comes to the next one as a new one. 1 s."""

import pytest
import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from tests.support import databases


def add_subscriber(url):
    """Return the ids of a subscriber and of their account, which the database gives."""
    engine = open_engine(url, lock_seconds=5)
    person = sa.insert(tables.subscriber).values(
        username="new", name="N", clid="2", imsi="724000000000002", level=1, enabled=True, created_at=databases.NOW
    )
    with engine.begin() as tx:
        (who,) = tx.execute(person).inserted_primary_key
        account = sa.insert(tables.account).values(subscriber_id=who, kind="voice", posted=0, held=0)
        (account_id,) = tx.execute(account).inserted_primary_key
    engine.dispose()
    return who, account_id


@pytest.mark.real
@pytest.mark.parametrize("fill", [databases.nothing, databases.three_subscribers])
def test_a_used_database_counts_from_its_beginning(cluster, fill):
    lent = databases._Lent(cluster, fill)
    first = add_subscriber(lent.url)
    assert lent.restore()
    assert add_subscriber(lent.url) == first
    lent.drop()
