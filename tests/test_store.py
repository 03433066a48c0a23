"""The one door: batches while busy, answers after the commit, and lets no request spoil another."""

import threading

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from celcombiller.errors import BadNumber, StoreUnavailable
from celcombiller.reading import Reader
from celcombiller.store import Store, open_engine, transact


@pytest.fixture
def engine(tmp_path):
    made = open_engine(f"sqlite:///{tmp_path / 'store.sqlite'}", lock_seconds=1)
    transact(made, lambda tx: tx.execute(sa.text("create table seen (word text unique)")))
    yield made
    made.dispose()


def insert(tx, requests, now):
    answers = []
    for word in requests:
        if word == "refused":
            answers.append(BadNumber(word))
            continue
        tx.execute(sa.text("insert into seen values (:word)"), {"word": word})
        answers.append(word)
    return answers


def seen(engine):
    with engine.connect() as tx:
        return sorted(tx.execute(sa.text("select word from seen")).scalars())


@pytest_twisted.ensureDeferred
async def test_what_arrives_while_a_transaction_runs_is_done_together_in_the_next(engine):
    batches, gate = [], threading.Event()

    def perform(tx, requests, now):
        gate.wait(10)
        batches.append(len(requests))
        return insert(tx, requests, now)

    store = Store(reactor, engine, perform)
    store.start()
    answers = [store.charge(f"w{n}") for n in range(50)]
    gate.set()
    assert [answer for _, answer in await DeferredList(answers)] == [f"w{n}" for n in range(50)]
    assert sum(batches) == 50
    assert len(batches) <= 3
    await store.close()
    assert len(seen(engine)) == 50


@pytest_twisted.ensureDeferred
async def test_an_answer_is_given_only_after_its_commit(engine):
    store = Store(reactor, engine, insert)
    store.start()
    await store.charge("durable")
    assert seen(engine) == ["durable"]
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_request_that_is_refused_or_breaks_the_batch_spoils_no_other(engine):
    transact(engine, lambda tx: tx.execute(sa.text("insert into seen values ('twice')")))
    store = Store(reactor, engine, insert)
    results = [store.charge(word) for word in ("a", "twice", "refused", "b")]
    store.start()
    outcomes = await DeferredList(results, consumeErrors=True)
    assert [ok for ok, _ in outcomes] == [True, False, False, True]
    assert outcomes[1][1].check(sa.exc.IntegrityError)
    assert outcomes[2][1].check(BadNumber)
    assert await store.transact(lambda tx: tx.execute(sa.text("select count(*) from seen")).scalar_one()) == 3
    await store.close()
    assert seen(engine) == ["a", "b", "twice"]


@pytest_twisted.ensureDeferred
async def test_a_database_locked_by_another_is_unavailable_and_then_works_again(engine, tmp_path):
    other = open_engine(f"sqlite:///{tmp_path / 'store.sqlite'}", lock_seconds=1)
    store = Store(reactor, engine, insert)
    store.start()
    with other.begin(), pytest.raises(StoreUnavailable, match="locked"):
        await store.charge("late")
    assert await store.charge("later") == "later"
    await store.close()
    other.dispose()


@pytest_twisted.ensureDeferred
async def test_a_read_through_alchimia_sees_what_is_committed(engine):
    transact(engine, lambda tx: tx.execute(sa.text("insert into seen values ('x')")))
    rows = await Reader(reactor, engine).fetch(sa.select(sa.text("word")).select_from(sa.text("seen")))
    assert [row.word for row in rows] == ["x"]


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable, match="unable to open"):
        transact(open_engine(f"sqlite:///{tmp_path}/no/where.sqlite", lock_seconds=1), lambda tx: None)
