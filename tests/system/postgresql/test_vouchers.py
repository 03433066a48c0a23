"""The laws of vouchers (tests/core/vouchers/test_voucher_properties.py) on PostgreSQL, and nodes that redeem the same cards."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest
import sqlalchemy as sa
from hypothesis.stateful import run_state_machine_as_test

from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import offers
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.errors import VoucherRedeemed
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.vouchers import Redemption, VoucherState
from celcombiller.core.schema import tables
from celcombiller.core.vouchers import voucher_batches
from celcombiller.core.vouchers.redemption import RedemptionTry, redeem, redeem_all
from celcombiller.database.transaction import transact
from tests.core.vouchers.test_voucher_properties import VoucherMachine
from tests.support import databases, vouchers
from tests.support.databases import NOW
from tests.support.properties import share
from tests.support.vouchers import OPERATOR

NODES = 3


@pytest.fixture
def fresh(cluster):
    with ExitStack() as made:
        yield lambda: made.enter_context(databases.on_postgresql(cluster, databases.three_subscribers))


def test_laws_hold_under_any_order_of_requests(fresh):
    """Takes 30 s: each example has a database of its own."""

    class OnPostgreSQL(VoucherMachine):
        def open(self):
            return fresh()

    run_state_machine_as_test(OnPostgreSQL, settings=share(0.02))


@pytest.mark.parametrize("gift", ["credit", "bundle"])
def test_nodes_redeem_each_card_once(fresh, gift):
    """Takes 2 s."""
    engine = fresh()
    with engine.begin() as tx:
        terms = {}
        if gift == "bundle":
            hour = BundleTerms("hour", BundleKind.SECONDS, 3600)
            terms["offer"] = offers.add(tx, hour, price=5, valid_hours=72, renews=False, now=NOW)
        batch, codes = vouchers.batch(tx, cards=20, **terms)
    start = Barrier(NODES)

    def node(number):
        """Redeem all cards for a subscriber of its own, in groups in an order of its own."""
        order = random.Random(number).sample(codes, len(codes))
        start.wait(10)
        outcomes = []
        for place in range(0, len(order), 4):
            tries = [RedemptionTry(number, code, actor=OPERATOR) for code in order[place : place + 4]]
            outcomes += transact(engine, lambda tx, tries=tries: redeem_all(tx, tries, NOW))
        return outcomes

    with ThreadPoolExecutor(NODES) as nodes:
        outcomes = [each for done in nodes.map(node, range(1, NODES + 1)) for each in done]
    won = [each for each in outcomes if isinstance(each, Redemption)]
    assert sorted(each.serial for each in won) == list(range(1, 21))
    assert all(isinstance(each, Redemption | VoucherRedeemed) for each in outcomes)
    with engine.connect() as tx:
        assert audit(tx).differences == []
        assert voucher_batches.count_states(tx, batch, NOW)[VoucherState.REDEEMED] == 20


def test_no_card_is_redeemed_after_its_revocation(fresh):
    """Takes 2 s."""
    engine = fresh()
    with engine.begin() as tx:
        batch, codes = vouchers.batch(tx, cards=30)
    start = Barrier(2)

    def redeems():
        start.wait(10)
        for code in codes:
            transact(engine, lambda tx, code=code: redeem(tx, 1, code, actor=OPERATOR, now=NOW))

    def revokes():
        start.wait(10)
        transact(engine, lambda tx: voucher_batches.revoke(tx, OPERATOR, batch.id, now=NOW))
        with engine.connect() as tx:
            return tx.execute(sa.select(sa.func.count()).select_from(tables.voucher_redemption)).scalar_one()

    with ThreadPoolExecutor(2) as nodes:
        redeeming, revoking = nodes.submit(redeems), nodes.submit(revokes)
        redeeming.result()
        redeemed = revoking.result()
    with engine.connect() as tx:
        counts = voucher_batches.count_states(tx, batch, NOW)
        assert audit(tx).differences == []
    assert (counts[VoucherState.REDEEMED], counts[VoucherState.REVOKED]) == (redeemed, 30 - redeemed)
