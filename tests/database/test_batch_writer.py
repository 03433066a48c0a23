"""The one door: batches while busy, answers after the commit, and lets no request spoil another."""

import sqlite3
import threading

import psycopg
import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from celcombiller.core.errors import BadNumber, StoreUnavailable, TooSlow
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.engine import open_engine
from celcombiller.database.reader import Reader
from celcombiller.database.transaction import transact
from tests.support import databases


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "store.sqlite").touch()
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
async def test_shares_of_one_function_fail_singly(engine):
    gate, groups = threading.Event(), []

    def work(tx, words):
        groups.append(len(words))
        return insert(tx, words, None)

    store = BatchWriter(reactor, engine, insert)
    store.start()
    blocked = store.transact(lambda _tx: gate.wait(10))
    answers = [store.share(work, word) for word in ("a", "refused", "b", "a", "c")]
    gate.set()
    results = await DeferredList([*answers, blocked], consumeErrors=True)
    assert [done for done, _ in results] == [True, False, True, False, True, True]
    assert results[1][1].check(BadNumber)
    assert (seen(engine), groups[0], groups[-1]) == (["a", "b", "c"], 5, 1)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_waiting_requests_share_the_next_transaction(engine):
    batches, gate = [], threading.Event()

    def perform(tx, requests, now):
        gate.wait(10)
        batches.append(len(requests))
        return insert(tx, requests, now)

    store = BatchWriter(reactor, engine, perform)
    store.start()
    answers = [store.charge(f"w{n}") for n in range(50)]
    gate.set()
    assert [answer for _, answer in await DeferredList(answers)] == [f"w{n}" for n in range(50)]
    assert sum(batches) == 50
    assert len(batches) <= 3
    await store.close()
    assert len(seen(engine)) == 50


@pytest_twisted.ensureDeferred
async def test_background_requests_are_batched_and_never_block(engine):
    batches = []

    def perform(tx, requests, now):
        batches.append(list(requests))
        return insert(tx, requests, now)

    store = BatchWriter(reactor, engine, perform)
    store.start()
    later = [store.charge(f"later{n}", deferrable=True) for n in range(3)]
    assert await store.charge("soon") == "soon"
    await DeferredList(later)
    assert batches == [["soon"], ["later0", "later1", "later2"]]
    store.charge("last", deferrable=True)
    await store.close()
    assert seen(engine) == ["last", "later0", "later1", "later2", "soon"]


@pytest_twisted.ensureDeferred
async def test_an_answer_is_given_only_after_its_commit(engine):
    store = BatchWriter(reactor, engine, insert)
    store.start()
    await store.charge("durable")
    assert seen(engine) == ["durable"]
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_failed_request_spoils_no_other(engine):
    transact(engine, lambda tx: tx.execute(sa.text("insert into seen values ('twice')")))
    store = BatchWriter(reactor, engine, insert)
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
async def test_a_locked_database_is_unavailable_then_works(engine, tmp_path):
    other = open_engine(f"sqlite:///{tmp_path / 'store.sqlite'}", lock_seconds=1)
    store = BatchWriter(reactor, engine, insert)
    store.start()
    with other.begin(), pytest.raises(StoreUnavailable, match="locked"):
        await store.charge("late")
    assert await store.charge("later") == "later"
    await store.close()
    other.dispose()


SQLSTATES = ("08006", "25006", "25P03", "40001", "53100", "53300", "55P03", "57014", "57P01", "57P03", "58030")
RESULT_CODES = ("SQLITE_BUSY_SNAPSHOT", "SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_LOCKED", "SQLITE_READONLY_DBMOVED")


def raised(driver, error):
    return sa.exc.DBAPIError.instance("select", None, error, driver.Error)


def of_sqlite(name):
    error = sqlite3.OperationalError("trouble")
    error.sqlite_errorname = name
    return raised(sqlite3, error)


@pytest.mark.parametrize(
    "error",
    [raised(psycopg, psycopg.errors.lookup(each)("trouble")) for each in SQLSTATES]
    + [raised(psycopg, psycopg.OperationalError(each)) for each in ("connection refused", "")]
    + [of_sqlite(each) for each in RESULT_CODES],
    ids=[*SQLSTATES, "no connection", "no words", *RESULT_CODES],
)
@pytest_twisted.ensureDeferred
async def test_an_error_that_means_not_now_is_unavailable(engine, error):
    def work(tx):
        raise error

    store = BatchWriter(reactor, engine, insert)
    store.start()
    with pytest.raises(StoreUnavailable):
        await store.transact(work)
    with pytest.raises(StoreUnavailable):
        transact(engine, work)
    await store.close()


@pytest.mark.parametrize("sqlstate", ["22021", "23514", "42P01", "XX001"])
@pytest_twisted.ensureDeferred
async def test_an_error_about_the_request_is_not_unavailable(engine, sqlstate):
    def work(tx):
        raise raised(psycopg, psycopg.errors.lookup(sqlstate)("trouble"))

    store = BatchWriter(reactor, engine, insert)
    store.start()
    with pytest.raises(sa.exc.DBAPIError):
        await store.transact(work)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_session_that_turned_read_only_is_replaced(engine):
    store = BatchWriter(reactor, engine, insert)
    store.start()
    await store.transact(lambda tx: tx.exec_driver_sql("pragma query_only=on"))
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.charge("refused once")
    assert await store.charge("taken") == "taken"
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_read_through_alchimia_sees_what_is_committed(engine):
    transact(engine, lambda tx: tx.execute(sa.text("insert into seen values ('x')")))
    rows = await Reader(reactor, engine).fetch(sa.select(sa.text("word")).select_from(sa.text("seen")))
    assert [row.word for row in rows] == ["x"]


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable, match="unable to open"):
        transact(open_engine(f"sqlite:///{tmp_path}/no/where.sqlite", lock_seconds=1), lambda tx: None)


@pytest.fixture
def reader(tmp_path, engine):
    reading = open_engine(f"sqlite:///{tmp_path / 'store.sqlite'}", lock_seconds=1, read_seconds=0.3)
    made = Reader(reactor, reading)
    made.start()
    yield made
    made.stop()
    reading.dispose()


@pytest_twisted.ensureDeferred
async def test_a_read_runs_whole_in_one_thread(engine, reader):
    transact(engine, lambda tx: tx.execute(sa.text("insert into seen values ('x')")))

    def work(tx):
        first = tx.execute(sa.text("select count(*) from seen")).scalar_one()
        transact(engine, lambda other: other.execute(sa.text("insert into seen values ('y')")))
        return threading.current_thread(), first, tx.execute(sa.text("select count(*) from seen")).scalar_one()

    thread, first, second = await reader.read(work)
    assert thread is not threading.current_thread()
    assert (first, second) == (1, 1)
    assert seen(engine) == ["x", "y"]


@pytest_twisted.ensureDeferred
async def test_a_slow_read_is_ended_the_next_works(reader):
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    with pytest.raises(TooSlow, match="ask for less"):
        await reader.read(lambda tx: tx.execute(sa.text(endless)).scalar_one())
    assert await reader.read(lambda tx: tx.execute(sa.text("select 1")).scalar_one()) == 1


@pytest_twisted.ensureDeferred
async def test_a_read_cannot_write(engine, reader):
    with pytest.raises(StoreUnavailable, match="readonly"):
        await reader.read(lambda tx: tx.execute(sa.text("insert into seen values ('x')")))
    assert seen(engine) == []


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_others_get_no_connection_with_its_settings(cluster):
    """The writer forbids the plans that do not use indexes; the audit of the same pool reads tables whole."""
    with databases.on_postgresql(cluster) as engine:
        store = BatchWriter(reactor, engine, insert)
        store.start()
        show = sa.text("show enable_seqscan")
        assert await store.transact(lambda tx: tx.execute(show).scalar()) == "off"
        await store.close()
        assert transact(engine, lambda tx: tx.execute(show).scalar()) == "on"
