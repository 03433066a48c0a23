"""Notices at a share of a limit of spending: one for each day and month in which it is reached."""

from datetime import timedelta

import sqlalchemy as sa

from celcombiller.config.tables import Config, Notices, Schedules, Smpp, Sms
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.jobs.notices.spending_notices import notify_spenders
from tests.core.ledger.test_spending_limits import NOW, TODAY, limit, spend
from tests.core.ledger.test_spending_limits import tx as tx  # noqa: PLC0414  a fixture
from tests.support.schedules import drive

CONFIG = Config(
    notices=Notices(spending_share=80, spending_text="{spent} of {limit}"),
    sms=Sms(on_net_route="smpp", sender="biller"),
    smpp=Smpp(host="127.0.0.1"),
    schedules=Schedules(time_zone="America/Sao_Paulo"),
)


def look(tx, now=NOW):
    async def transact(work):
        return work(tx)

    drive(notify_spenders(transact, CONFIG, now))
    query = sa.select(tables.message.c.to_number, tables.message.c.text).order_by(tables.message.c.id)
    return [tuple(row) for row in tx.execute(query)]


def test_a_share_is_told_once_a_period(tx):
    limit(tx, 100, 1000)
    spend(tx, 79, NOW, "use:1", today=TODAY)
    assert look(tx) == []
    spend(tx, 1, NOW, "use:2", today=TODAY)
    first = [("1001", "1 min 20 s of 1 min 40 s")]
    assert look(tx) == look(tx) == first
    spend(tx, 15, NOW, "use:3", today=TODAY)
    assert look(tx) == first


def test_the_next_day_and_the_month_are_told(tx):
    limit(tx, 100, 190)
    spend(tx, 100, NOW, "use:1", today=TODAY)
    look(tx)
    tomorrow, later = TODAY + timedelta(days=1), NOW + timedelta(days=1)
    spend(tx, 90, later, "use:2", today=tomorrow)
    assert [text for _, text in look(tx, later)] == [
        "1 min 40 s of 1 min 40 s",
        "1 min 30 s of 1 min 40 s",
        "3 min 10 s of 3 min 10 s",
    ]
    assert len(look(tx, later)) == 3


def test_who_is_disabled_is_told_nothing(tx):
    limit(tx, 100, None)
    spend(tx, 100, NOW, "use:1", today=TODAY)
    subscriber_records.enable(tx, "u1001", NOW, enabled=False)
    assert look(tx) == []
