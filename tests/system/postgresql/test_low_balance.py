"""Low-balance notices on PostgreSQL: as on SQLite, and where transactions end in another order than they began."""

import threading
from functools import partial

import pytest
import sqlalchemy as sa

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.ledger import bookmarks
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.notifications import low_balance
from celcombiller.core.rating.tariff import Tariff
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from tests.core.ledger.test_book import NOW, credit
from tests.core.notifications import test_low_balance as test_notices
from tests.core.notifications.test_low_balance import (
    RULES,
    Node,
    begun,
    found,
    move,
    proved,
    texts,
)
from tests.support.query_plans import plans_of

TERMS = ChargingPolicy(Tariff([Rate()]))

pytestmark = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture
def engine(engine):
    yield engine
    proved(engine)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_late_commit_with_older_id_is_seen(engine, end):
    node = begun(engine)
    move(engine, 100)
    move(engine, 100, "u1002")
    late = engine.connect()
    process_batch(late, TERMS, [credit(-50, "late")], NOW)
    move(engine, -100, "u1002")  # a younger id, committed before
    for _ in range(3):
        node.look()
        assert found(engine) == []
    getattr(late, end)()
    late.close()
    node.look()
    assert found(engine) == [("u1001", 60)] * (end == "commit") + [("u1002", 0)]
    node.look()
    assert len(texts(engine)) == len(found(engine))


def test_later_writers_do_not_delay_the_look(engine):
    node = begun(engine)
    move(engine, 100)
    move(engine, -100)
    first = engine.connect()
    process_batch(first, TERMS, [credit(10, "first", username="u1002")], NOW)
    node.look()
    second = engine.connect()
    process_batch(second, TERMS, [credit(10, "second", username="u1003")], NOW)
    first.commit()
    node.look()
    assert found(engine) == [("u1001", 0)]
    second.commit()
    for each in (first, second):
        each.close()


def test_looking_nodes_queue_each_notice_once(engine):
    begun(engine)
    count = 60
    for _ in range(count):
        move(engine, 100)
        move(engine, -100)

    def live():
        node = Node(engine)

        def asked(work):
            done = transact(engine, work)
            return test_notices.outcome_of(done)

        node.service._read = node.service._transact = asked
        for _ in range(5):
            test_notices.Deferred.fromCoroutine(node.service.scan())

    threads = [threading.Thread(target=live) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found(engine) == [("u1001", 0)] * count
    assert len(texts(engine)) == count


def test_transfers_by_many_writers_are_all_noticed(engine):
    """Each writer takes its own subscriber down and up, in transactions that end in any order."""
    node = begun(engine)
    rounds = 40

    def write(username):
        for number in range(rounds):
            for value in (100, -100):
                request = credit(value, f"{username} {number} {value}", username=username)
                transact(engine, partial(process_batch, policy=TERMS, requests=[request], now=NOW))

    writers = [threading.Thread(target=write, args=(username,)) for username in test_notices.PEOPLE]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers):
        node.look()
    for each in writers:
        each.join()
    node.look()
    node.look()
    assert sorted(found(engine)) == sorted((username, 0) for username in test_notices.PEOPLE for _ in range(rounds))


def test_low_balance_uses_the_id_index_on_postgresql(engine):
    with engine.begin() as tx:
        tx.execute(
            sa.text(
                "insert into transfer (reference, debit_account_id, credit_account_id, amount, origin, at)"
                " select 'r' || i, 1, 2, 1, 'web', now() from generate_series(1, 20000) i"
            )
        )
        tx.execute(sa.text("analyze transfer"))
    lines = plans_of(engine, lambda tx: low_balance.find(tx, RULES, 19_990, 20_000, NOW))
    assert any("pk_transfer" in line for line in lines), lines
    with engine.begin() as tx:  # they are no credit that the ledger could prove
        tx.execute(sa.text("delete from transfer where reference like 'r%'"))


def test_a_reader_may_ask_who_writes(engine):
    """The service looks through sessions that may only read."""
    engine = open_engine(engine.url.render_as_string(hide_password=False), lock_seconds=5, read_seconds=5)
    seen = transact(engine, bookmarks.find_watermark)
    assert transact(engine, partial(bookmarks.is_complete, seen=seen))
    assert (
        transact(engine, partial(low_balance.find, rules=RULES, after_id=0, last_id=seen.last_id, now=NOW)) is not None
    )
    engine.dispose()
