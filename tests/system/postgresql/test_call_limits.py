"""Limits of calls that several nodes keep together on one PostgreSQL; all of it takes about four seconds."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import TakeTrunk
from celcombiller.core.model.calls import CallGrant
from celcombiller.core.model.subscribers import Group
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from tests.core.charging.test_call_limits import OFF_NET, terms, write
from tests.core.ledger.test_book import NOW, credit, ended, initiate, proved
from tests.core.routing.test_trunk_choice import trunk
from tests.support import databases

NODES = 4
ROUNDS = 40

OPEN = """
select coalesce(max(n), 0) from (select count(*) as n from call where state = 'open' and {column} is not null
group by {column}) as counted
"""

BY_TRUNK = "select trunk_id, count(*) from call where state = 'open' group by trunk_id"


@pytest.fixture
def engine(cluster):
    with databases.on_postgresql(cluster, databases.three_subscribers) as made:
        yield made


@pytest.fixture
def nodes(engine):
    made = [open_engine(engine.url.render_as_string(hide_password=False), lock_seconds=10) for _ in range(NODES)]
    yield made
    for each in made:
        each.dispose()


POLICY = terms(
    groups=[Group(5, "shop", calls_max=4, subscriber_calls_max=2)],
    trunks=[trunk(1, calls_max=1), trunk(2, calls_max=2), trunk(3)],
    max_call_seconds=5,
)


def play(engine, node, seen):
    """Begin, move and end calls as one node, and look after each step how many are open."""
    chance, running = random.Random(node), []
    for number in range(ROUNDS):
        asked = []
        for place in range(chance.randint(1, 4)):
            uniqueid = f"{node}.{number}.{place}"
            asked.append(initiate(uniqueid, caller=chance.choice(["1001", "1002", "1003"]), called=OFF_NET))
        moved = [
            TakeTrunk("pbx1", each.uniqueid, 0, each.trunk_id, tuple(chance.sample([1, 2, 3], 3)))
            for each in running
            if chance.random() < 0.7
        ]
        over, running = running[:2], running[2:]
        requests = [*asked, *moved, *(ended(each.uniqueid, talk_ms=100) for each in over)]
        chance.shuffle(requests)
        answers = transact(engine, lambda tx, requests=requests: process_batch(tx, POLICY, requests, NOW))
        named = {each.uniqueid: each for each in running}
        for request, answer in zip(requests, answers, strict=True):
            seen["refused" if isinstance(answer, Exception) else type(request).__name__] += 1
            if isinstance(answer, CallGrant):
                named[answer.call.uniqueid] = answer.call
            elif isinstance(request, TakeTrunk) and not isinstance(answer, Exception) and answer.uniqueid in named:
                named[answer.uniqueid] = answer
        running = list(named.values())
        with engine.connect() as tx:
            for column, most in (("subscriber_id", 2), ("group_id", 4)):
                assert tx.exec_driver_sql(OPEN.format(column=column)).scalar_one() <= most
            by_trunk = {row[0]: row[1] for row in tx.exec_driver_sql(BY_TRUNK)}
            assert by_trunk.get(1, 0) <= 1, by_trunk
            assert by_trunk.get(2, 0) <= 2, by_trunk
    transact(engine, lambda tx: process_batch(tx, POLICY, [ended(each.uniqueid) for each in running], NOW))


def test_several_nodes_never_exceed_a_limit(engine, nodes):
    write(engine, POLICY)
    with engine.begin() as tx:
        tx.execute(tables.subscriber.update().values(group_id=5))
        process_batch(tx, POLICY, [credit(10**6, name, name) for name in ("u1001", "u1002", "u1003")], NOW)
    seen = Counter()
    with ThreadPoolExecutor(NODES) as pool:
        for each in [pool.submit(play, made, number, seen) for number, made in enumerate(nodes)]:
            each.result()
    assert min(seen["Initiate"], seen["TakeTrunk"], seen["Terminate"], seen["refused"]) > 10, seen
    with engine.connect() as tx:
        assert tx.exec_driver_sql("select count(*) from call where state = 'open'").scalar_one() == 0
    proved(engine)


def test_a_limited_call_waits_for_no_unlimited(engine, nodes):
    """One transaction has begun a call by a trunk without a limit; another one goes by it as well."""
    write(engine, POLICY)
    first, second = nodes[:2]
    free = replace(POLICY, catalogue=terms(trunks=[trunk(3)]).catalogue)
    with engine.begin() as tx:
        process_batch(tx, POLICY, [credit(100), credit(100, "b", "u1002")], NOW)
    with first.begin() as tx:
        (grant,) = process_batch(tx, free, [initiate(called=OFF_NET)], NOW)
        (other,) = transact(
            second, lambda tx: process_batch(tx, free, [initiate("2.0", caller="1002", called=OFF_NET)], NOW)
        )
    assert (grant.call.trunk_id, other.call.trunk_id) == (3, 3)
