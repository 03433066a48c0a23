"""The service that ends bundles and buys them again: all that is due, once, whatever breaks."""

import pytest
import sqlalchemy as sa
from twisted.internet.task import Clock

from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import bundle_records, expiry
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import Route
from celcombiller.core.notifications.bundle_notices import BundleNotices
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import MessagePolicy
from celcombiller.jobs import bundle_ends
from celcombiller.jobs.bundle_ends import BundleEndService
from celcombiller.runtime.metrics import Metrics
from tests.core.bundles.test_bundle_records import DAY, credit, give, hold, offer, settle
from tests.support.databases import NOW
from tests.support.schedules import drive

SILENT = BundleNotices()
NOTICES = BundleNotices("{name} was not bought again.", MessagePolicy(on_net_route=Route.ASTERISK, sender="biller"))


class Ending:
    """The service, driven here and now; ``before`` may break a transaction, ``after`` the commit of one."""

    def __init__(self, engine, notices=SILENT):
        self.engine, self.now, self.metrics = engine, NOW, Metrics()
        self.before = self.after = lambda: None
        self.service = BundleEndService(
            Clock(), notices, "UTC", transact=self.transact, now=lambda: self.now, metrics=self.metrics
        )

    async def transact(self, work):
        with self.engine.begin() as tx:
            done = work(tx)
            self.before()
        self.after()
        return done

    def look(self, now):
        self.now = now
        drive(self.service.look())

    def count(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)


def proved(engine):
    with engine.begin() as tx:
        report = audit(tx)
    assert report.ok, report.differences


def posted(engine, subscriber_id=1):
    with engine.begin() as tx:
        return balances(tx, subscriber_id)[Kind.VOICE].posted


def bundles(engine, **which):
    with engine.begin() as tx:
        return [each for _, each in bundle_records.list_all(tx, limit=1000, **which)]


def buy(engine, price=100, money=1000, subscriber_id=1):
    with engine.begin() as tx:
        credit(tx, money, subscriber_id)
        made = offer(tx, price=price, renews=True)
        facts = {"reference": f"id:{subscriber_id}", "today": NOW.date(), "now": NOW}
        return bundle_records.buy(tx, subscriber_id, made, **facts)[0]


def test_all_due_bundles_end_in_chunks(engine, monkeypatch):
    monkeypatch.setattr(bundle_ends, "CHUNK", 3)
    with engine.begin() as tx:
        for number in range(8):
            give(tx, f"id:{number}", subscriber_id=1 + number % 3)
        give(tx, "id:later", valid_hours=25)
    ending = Ending(engine)
    ending.look(NOW + DAY)
    assert [each.reference for each in bundles(engine, ended=False)] == ["id:later"]
    assert ending.count("celcombiller_bundles_ended_total") == 8
    proved(engine)


def test_a_renewing_bundle_is_bought_again(engine):
    buy(engine)
    ending = Ending(engine)
    for day in (1, 2, 3):
        for _ in range(2):
            ending.look(NOW + day * DAY)
    assert posted(engine) == 600
    assert [each.ended_at is None for each in bundles(engine)] == [True, False, False, False]
    assert ending.count("celcombiller_bundle_renewals_total", result="renewed") == 3
    proved(engine)


def test_a_refused_renewal_sends_one_notice(engine):
    buy(engine, money=150)
    ending = Ending(engine, NOTICES)
    for day in (1, 2):
        ending.look(NOW + day * DAY)
    with engine.begin() as tx:
        (message,) = tx.execute(sa.select(tables.message)).all()
    assert (message.to_number, message.text) == ("1001", "hour was not bought again.")
    assert ending.count("celcombiller_bundle_renewals_total", result="refused") == 1
    assert (posted(engine), bundles(engine, ended=False)) == (50, [])
    proved(engine)


def test_a_bundle_in_use_ends_after_it(engine):
    with engine.begin() as tx:
        made = give(tx)
        hold(tx, made, 100, now=NOW)
    ending = Ending(engine)
    ending.look(NOW + DAY)
    assert len(bundles(engine, ended=False)) == 1
    with engine.begin() as tx:
        settle(tx, made, 100, now=NOW + DAY)
    ending.look(NOW + DAY)
    (ended,) = bundles(engine)
    assert (ended.ended_at, ended.posted) == (NOW + DAY, 0)
    proved(engine)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", range(5))
def test_a_crash_ends_and_renews_nothing_twice(engine, moment, nth):
    buy(engine)
    with engine.begin() as tx:
        give(tx, "id:given", subscriber_id=2)
    ending = Ending(engine)
    left = [nth]

    def die():
        left[0] -= 1
        if left[0] == -1:
            raise StoreUnavailable("gone")

    setattr(ending, moment, die)
    for _ in range(2):
        try:
            ending.look(NOW + DAY)
        except StoreUnavailable:
            continue
    ending.look(NOW + DAY)
    assert posted(engine) == 800
    assert [each.reference for each in bundles(engine, ended=False)] == [
        "renewal:" + str(bundles(engine)[-1].account_id)
    ]
    with engine.begin() as tx:
        ends = tx.execute(sa.select(tables.transfer.c.reference).where(tables.transfer.c.origin == "expiry")).scalars()
        assert sorted(ends) == ["end:id:1", "end:id:given"]
    proved(engine)


def test_a_fault_stops_no_other_bundle(engine, monkeypatch, expected_failures):
    with engine.begin() as tx:
        bad = [give(tx, f"id:{number}") for number in range(3)][1].account_id
    whole = expiry.end_expired

    def fail(tx, account_ids, now):
        if bad in account_ids:
            raise ValueError("broken")
        return whole(tx, account_ids, now)

    monkeypatch.setattr(expiry, "end_expired", fail)
    ending = Ending(engine)
    for _ in range(2):
        ending.look(NOW + DAY)
    assert [each.account_id for each in bundles(engine, ended=False)] == [bad]
    assert len(expected_failures) == 1
    expected_failures.clear()
