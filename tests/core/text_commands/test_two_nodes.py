"""Messages that two billers of one ledger get at once: each is done once, and the same words are asked about."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from celcombiller.core.audit.report import audit
from celcombiller.core.text_commands.conversation import Conversation
from celcombiller.database.transaction import transact
from tests.support import databases
from tests.support.databases import NOW
from tests.support.selling.phones import PIN, RULES, PlainHashes, request, set_pin
from tests.support.selling.sellers import add_seller, stock_of

NODES = 4
SALE = f"{PIN}#1002#50"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def engine(request, tmp_path):
    if request.param == "sqlite":
        made = databases.sqlite(tmp_path / "ledger.sqlite", databases.three_subscribers, lock_seconds=20)
        yield made
        made.dispose()
        return
    with databases.on_postgresql(request.getfixturevalue("cluster"), databases.three_subscribers) as made:
        yield made


def serve_at_once(engine, requests):
    def serve(asked):
        async def once(work):
            return transact(engine, work)

        serving = Conversation(RULES, once, PlainHashes()).serve(asked, NOW)
        try:
            serving.send(None)
        except StopIteration as over:
            return over.value.result, over.value.is_new
        raise AssertionError("it waits for something")

    with ThreadPoolExecutor(len(requests)) as nodes:
        return sorted(nodes.map(serve, requests), reverse=True)


def test_messages_at_once_sell_once(engine):
    with engine.begin() as tx:
        add_seller(tx, stock=1000)
        set_pin(tx)
    same = request(SALE, key="a")
    assert serve_at_once(engine, [same] * NODES) == [("done", True), *[("done", False)] * (NODES - 1)]
    others = [request(f"{PIN}#1003#50") for _ in range(NODES)]
    assert serve_at_once(engine, others) == [("done", True), *[("asked", True)] * (NODES - 1)]
    with engine.begin() as tx:
        assert stock_of(tx) == 900
        assert audit(tx).ok
