"""What a look at the calls in progress finds since the look before, on both databases."""

from datetime import timedelta

import sqlalchemy as sa

from celcombiller.core.charging.requests import CallAnswered, ChargingPolicy
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.reports import live_events
from celcombiller.core.schema import tables
from tests.core.ledger.test_book import NOW, ask, credit, ended, initiate

OF_FIVE = ChargingPolicy(Tariff([flat_rate()]), max_call_seconds=5)


class Looks:
    """Looks at a ledger, each since the one before."""

    def __init__(self, engine):
        self.engine = engine
        self.last = None

    def next(self):
        """Look, and return each event's kind, the number of its call, and its grant."""
        with self.engine.begin() as tx:
            self.last, events = live_events.look(tx, self.last, NOW)
        return [(each.kind, each.to_staff.id, getattr(each.to_staff, "granted_seconds", None)) for each in events]


def test_each_look_finds_what_happened_since(engine):
    ask(engine, credit(100))
    ask(engine, initiate("1.0"), terms=OF_FIVE)
    looks = Looks(engine)
    assert looks.next() == looks.next() == []
    ask(engine, initiate("2.0"), CallAnswered("pbx1", "1.0", NOW), terms=OF_FIVE)
    assert looks.next() == [("begin", 2, 5), ("answer", 1, 5)]
    with engine.begin() as tx:
        tx.execute(sa.update(tables.call).where(tables.call.c.id == 1).values(granted_seconds=3))
    assert looks.next() == [("grant", 1, 3)]
    ask(engine, initiate("3.0"), ended("3.0", answered=False), ended("1.0"), terms=OF_FIVE)
    assert looks.next() == [("end", 1, None), ("end", 3, None)]
    ask(engine, initiate("4.0"), CallAnswered("pbx1", "4.0", NOW + timedelta(seconds=1)), terms=OF_FIVE)
    assert looks.next() == [("begin", 4, 5), ("answer", 4, 5)]
    ask(engine, ended("2.0"), ended("4.0"))
    assert looks.next() == [("end", 2, None), ("end", 4, None)]
    assert looks.next() == []


def test_calls_that_begin_while_looking_come_once(engine, monkeypatch):
    """On PostgreSQL a later statement of the same look sees more."""
    ask(engine, credit(100))
    looks = Looks(engine)
    looks.next()
    read = live_events.read_live_states

    def late(tx):
        monkeypatch.setattr(live_events, "read_live_states", read)
        tx.rollback()
        ask(engine, initiate("1.0"), terms=OF_FIVE)
        return read(tx)

    with engine.connect() as tx:
        monkeypatch.setattr(live_events, "read_live_states", late)
        looks.last, events = live_events.look(tx, looks.last, NOW)
    assert [each.kind for each in events] == ["begin"]
    ask(engine, ended("1.0"))
    assert looks.next() == [("end", 1, None)]
    assert looks.next() == []
