"""The service of fees: top-ups pay, who owes too long is switched off, each message is sent once."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from twisted.internet.task import Clock

from celcombiller.config.tables import Config, Fees, Smpp, Sms
from celcombiller.core.languages.built_in_texts import BUILT_IN
from celcombiller.core.model.messages import Route
from celcombiller.core.notifications.fee_notices import FeeNotices
from celcombiller.core.schedules import fee_periods, runs, schedule_records
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.jobs.fee_collection import FeeCollectionService
from celcombiller.runtime.metrics import Metrics
from tests.core.schedules.test_fee_periods import credit, fee, is_suspended, voice
from tests.support.databases import speak
from tests.support.schedules import DAY, NOW, RULES, drive, go, proved

NOTICES = FeeNotices(
    "{name} {amount} on {date}, have {balance}",
    "{name} lacks {left}",
    "off: {left}",
    "on: {balance}",
    policy=MessagePolicy(on_net_route=Route.ASTERISK, sender="biller"),
)


class Collector:
    """The service, driven here and now."""

    def __init__(self, engine, notices=NOTICES):
        self.engine, self.now, self.metrics = engine, NOW, Metrics()
        self.service = FeeCollectionService(
            Clock(),
            notices,
            RULES.run_at,
            transact=self.transact,
            read=self.transact,
            now=lambda: self.now,
            metrics=self.metrics,
        )

    async def transact(self, work):
        with self.engine.begin() as tx:
            return work(tx)

    def look(self, now=NOW):
        self.now = now
        drive(self.service.look())

    def count(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def collector(engine):
    return Collector(engine)


def texts(engine):
    with engine.begin() as tx:
        rows = tx.execute(sa.select(tables.message.c.to_number, tables.message.c.text).order_by(tables.message.c.id))
        return [tuple(row) for row in rows]


def test_a_topup_switches_on_again(engine, collector):
    fee(engine, suspend_days=1, recurrence="monthly", day=5)
    go(engine)
    collector.look(NOW + DAY)
    assert is_suspended(engine, "u3")
    credit(engine, "u3", 50)
    collector.look(NOW + DAY + timedelta(seconds=20))
    assert (is_suspended(engine, "u3"), voice(engine, "u3")) == (False, 20)
    assert texts(engine) == [("3", "off: 50 s"), ("3", "on: 20 s")]
    assert collector.count("celcombiller_fees_total", result="later") == 1
    assert collector.count("celcombiller_suspensions_total") == 1
    proved(engine)


def test_reminders_are_sent_once(engine, collector):
    fee(engine, remind_days="3 0", recurrence="monthly", day=9, joined_on=NOW.date())
    for _ in range(2):
        collector.look(NOW)
    assert texts(engine) == []
    for _ in range(2):
        collector.look(NOW + DAY)
    assert [number for number, _ in texts(engine)] == ["1", "2", "3"]
    assert texts(engine)[0][1] == "daily 50 s on 2026-11-09, have 1 min 40 s"
    go(engine, NOW + 4 * DAY)
    for _ in range(2):
        collector.look(NOW + 4 * DAY)
    assert texts(engine)[3:] == [("3", "daily lacks 50 s")]


def test_notices_are_in_the_subscribers_language(engine):
    own = ("reminder_text", "unpaid_text", "suspended_text", "resumed_text")
    config = Config(
        fees=Fees(**dict.fromkeys(own, BUILT_IN)), sms=Sms(on_net_route="smpp"), smpp=Smpp(host="127.0.0.1")
    )
    collector = Collector(engine, config.fee_notices)
    fee(engine, remind_days="3 0", suspend_days=1, recurrence="monthly", day=9, joined_on=NOW.date())
    speak(engine, "3", "es")
    collector.look(NOW + DAY)
    go(engine, NOW + 4 * DAY)
    collector.look(NOW + 4 * DAY)
    collector.look(NOW + 5 * DAY)
    credit(engine, "u3", 50)
    collector.look(NOW + 5 * DAY + timedelta(seconds=20))
    assert texts(engine)[0] == ("1", "daily: 50 s will be taken on Nov 9, 2026. Your balance is 1 min 40 s.")
    assert [text for number, text in texts(engine) if number == "3"] == [
        "daily: se cobraran 50 s el 9 nov 2026. Su saldo es 20 s.",
        "daily: falta pagar 50 s. Su saldo es 20 s. Haga una recarga.",
        "daily: falta pagar 50 s, y su linea esta suspendida. Haga una recarga.",
        "daily esta pagado. Su linea vuelve a servir. Su saldo es 20 s.",
    ]


def test_many_members_are_all_reminded(engine, collector):
    """More than one transaction writes."""
    fee(engine, members=60, remind_days="1")
    collector.look(NOW)
    assert len(texts(engine)) == 60


def test_the_service_undoes_a_run(engine, collector):
    fee(engine)
    go(engine)
    with engine.begin() as tx:
        (run,) = runs.history(tx, limit=9)
        fee_periods.request_undo(tx, run.id, note="", now=NOW)
    collector.look()
    assert [voice(engine, f"u{n}") for n in (1, 2, 3)] == [100, 50, 20]
    proved(engine)


def test_one_broken_fee_stops_no_other(engine, collector, monkeypatch):
    fee(engine)
    go(engine)
    credit(engine, "u3", 50)
    with engine.begin() as tx:
        schedule_records.change(tx, 1, value=60)
    whole = fee_periods.suspend_some

    def broken(*words, **more):
        raise ZeroDivisionError

    monkeypatch.setattr(fee_periods, "suspend_some", broken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector.service._pass._faults, "report", lambda *words: None)
        collector.look()
    monkeypatch.setattr(fee_periods, "suspend_some", whole)
    assert voice(engine, "u3") == 20
