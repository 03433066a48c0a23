"""Long messages that go on without some of their parts are counted and logged, however that comes."""

from datetime import timedelta

import pytest

from celcombiller.jobs.message_parts import MessageParts
from tests.core.charging.test_message_parts import POLICY, decode, part, texts
from tests.core.ledger.test_book import NOW, database
from tests.support.schedules import drive


class Store:
    def __init__(self, engine):
        self.engine = engine

    async def transact(self, work):
        with self.engine.begin() as tx:
            return work(tx)


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "parts.sqlite")
    yield made
    made.dispose()


def test_each_incomplete_message_is_counted_once(engine):
    counted = []
    parts = MessageParts(Store(engine), POLICY, decode, 600, lambda: counted.append(1))
    assert drive(parts.accept(part(1, b"old"), NOW)) == (True, False)
    assert counted == []
    assert drive(parts.accept(part(1, b"new", total=2), NOW)) == (True, False)  # the phone has given up the old one
    assert len(counted) == 1
    assert drive(parts.accept(part(1, b"new", total=2), NOW)) == (False, False)
    drive(parts.join_overdue(NOW + timedelta(seconds=601)))
    assert len(counted) == 2
    assert len(texts(engine)) == 2
