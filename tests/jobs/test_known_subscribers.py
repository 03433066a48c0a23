"""What the biller remembers of its subscribers follows the ledger."""

from datetime import UTC, datetime

import pytest
import pytest_twisted
import sqlalchemy as sa

from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.known_subscribers import KnownSubscribers
from celcombiller.jobs import known_subscribers
from celcombiller.jobs.known_subscribers import KnownSubscriberReads
from tests.core.ledger.test_book import NOW, ask, credit, ended, engine, initiate  # noqa: F401


class ReaderHere:
    def __init__(self, engine):  # noqa: F811
        self.engine, self.is_away = engine, False

    async def read(self, work):
        if self.is_away:
            raise StoreUnavailable("away")
        with self.engine.begin() as tx:
            return work(tx)


@pytest.fixture
def reads(engine, monkeypatch):  # noqa: F811
    monkeypatch.setattr(known_subscribers, "PAGE", 2)

    def build(most):
        known = KnownSubscribers(most)
        return known, KnownSubscriberReads(known, ReaderHere(engine), UTC, lambda: datetime.now(UTC))

    return build


def ids(engine):  # noqa: F811
    with engine.begin() as tx:
        return list(tx.execute(sa.select(tables.subscriber.c.id).order_by(tables.subscriber.c.id)).scalars())


@pytest_twisted.ensureDeferred
async def test_all_of_a_small_network_are_known(engine, reads):  # noqa: F811
    ask(engine, credit(60))
    known, job = reads(100)
    await job.refresh()
    assert sorted(known) == ids(engine)
    assert known.is_whole
    assert known.available(known.directory.find_payer("", "1001")) == 60


@pytest_twisted.ensureDeferred
async def test_who_called_is_read_again_at_once(engine, reads):  # noqa: F811
    known, job = reads(100)
    await job.refresh()
    ask(engine, credit(60))
    ana = known.directory.find_payer("", "1001")
    known.use(ana.id)
    await job.refresh()
    assert known.available(ana) == 60


@pytest_twisted.ensureDeferred
async def test_changes_are_found_page_by_page(engine, reads):  # noqa: F811
    known, job = reads(100)
    await job.refresh()
    first, *_, last = ids(engine)
    with engine.begin() as tx:
        tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.id == last).values(deleted_at=NOW))
        tx.execute(sa.update(tables.subscriber).where(tables.subscriber.c.id == first).values(enabled=False))
    for _ in range(len(ids(engine)) + 1):
        await job.refresh()
    assert last not in known
    assert not known.directory.find_payer("", "1001").enabled


@pytest_twisted.ensureDeferred
async def test_of_a_large_network_recent_callers_are_known(engine, reads):  # noqa: F811
    ask(engine, credit(60))
    ask(engine, initiate(caller="1001", called="1002"), ended(talk_ms=1000))
    known, job = reads(2)
    await job.refresh()
    assert {known.directory.find_callee(each) is not None for each in ("1001", "1002")} == {True}
    assert not known.is_whole
    for _ in range(3):
        await job.refresh()
    assert len(known) == 2


@pytest_twisted.ensureDeferred
async def test_an_absent_ledger_leaves_what_is_known(engine, reads):  # noqa: F811
    known, job = reads(100)
    await job.refresh()
    job._reader.is_away = True
    known.use(1)
    await job.refresh()
    assert sorted(known) == ids(engine)
