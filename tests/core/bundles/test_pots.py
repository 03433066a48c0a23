"""Which bundles pay for a use, and in which order."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.bundles.pots import BundlePot, load_pots
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.bundles import SERVICES_OF_KIND
from celcombiller.core.model.tariffs import Service
from celcombiller.core.schema import tables
from tests.support.databases import NOW

DAY = timedelta(days=1)


def pot(kind=BundleKind.SECONDS, services=None, destinations=(), since=NOW, until=NOW + DAY):
    return BundlePot(5, kind, services or SERVICES_OF_KIND[kind], destinations, 0, since, until)


@pytest.mark.parametrize(
    ("kind", "paid"),
    [
        (BundleKind.SECONDS, {Service.VOICE}),
        (BundleKind.MESSAGES, {Service.SMS}),
        (BundleKind.OCTETS, {Service.DATA}),
        (BundleKind.MONEY, {Service.VOICE, Service.SMS}),
    ],
)
def test_a_kind_pays_for_its_services(kind, paid):
    made = pot(kind)
    assert {each for each in Service if made.is_for(each, "5591", on_net=False, at=NOW)} == paid


@pytest.mark.parametrize(
    ("destinations", "number", "on_net", "paid"),
    [
        ((), "1002", False, True),
        (("55", "351"), "5591980000001", False, True),
        (("55", "351"), "+351910000000", False, True),
        (("55", "351"), "4930123456", False, False),
        (("on-net",), "5591980000001", True, True),
        (("on-net",), "5591980000001", False, False),
        (("on-net", "49"), "4930123456", False, True),
        (("5591",), "559", False, False),
    ],
)
def test_destinations_are_prefixes_or_on_net(destinations, number, on_net, paid):
    made = pot(destinations=destinations)
    assert made.is_for(Service.VOICE, number, on_net=on_net, at=NOW) is paid


def test_a_bundle_pays_only_while_valid():
    made = pot()
    times = (NOW - timedelta(microseconds=1), NOW, NOW + DAY - timedelta(microseconds=1), NOW + DAY)
    assert [made.is_for(Service.VOICE, "1", on_net=False, at=at) for at in times] == [False, True, True, False]


def test_data_has_no_destination():
    made = pot(BundleKind.OCTETS, destinations=("55",))
    assert made.is_for(Service.DATA, "", on_net=False, at=NOW)


def insert(tx, subscriber_id, number, *, priority=0, until=NOW + DAY, ended_at=None, kind="seconds"):
    values = {"subscriber_id": subscriber_id, "kind": kind, "pot": number, "posted": 0, "held": 0}
    account_id = tx.execute(sa.insert(tables.account).values(values).returning(tables.account.c.id)).scalar_one()
    tx.execute(
        sa.insert(tables.bundle).values(
            account_id=account_id,
            reference=f"r{account_id}",
            subscriber_id=subscriber_id,
            name="b",
            priority=priority,
            services="voice sms" if kind == "money" else "",
            destinations="+55 on-net",
            valid_from=NOW,
            valid_until=until,
            renews=False,
            ended_at=ended_at,
        )
    )
    return account_id


def test_the_soonest_of_a_priority_comes_first(engine):
    with engine.begin() as tx:
        late = insert(tx, 1, 1, until=NOW + 2 * DAY)
        second = insert(tx, 1, 2, priority=1)
        soon = insert(tx, 1, 3, kind="money", until=NOW + timedelta(hours=1))
        same = insert(tx, 1, 4, until=NOW + 2 * DAY)
        insert(tx, 1, 5, ended_at=NOW)
        other = insert(tx, 2, 1)
        pots = load_pots(tx, {1, 2, 3})
        assert load_pots(tx, set()) == {}
    assert {who: [each.account_id for each in found] for who, found in pots.items()} == {
        1: [soon, late, same, second],
        2: [other],
    }
    assert pots[1][0] == BundlePot(
        soon,
        BundleKind.MONEY,
        frozenset({Service.VOICE, Service.SMS}),
        ("55", "on-net"),
        0,
        NOW,
        NOW + timedelta(hours=1),
    )
