"""The catalogue as it is read from the ledger: whole, by what changed, and the same in both ways."""

from datetime import date, timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given

from celcombiller.core.catalogue.catalogue import Catalogue
from celcombiller.core.catalogue.changed_tariff import ChangedTariff
from celcombiller.core.catalogue.loading import read_catalogue, read_in_steps
from celcombiller.core.errors import NoRate
from celcombiller.core.model.tariffs import Calendar, Service
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import group_records
from celcombiller.core.tariffs import tariff_records
from tests.support.databases import NOW, sqlite
from tests.support.properties import share
from tests.support.tariffs import make_tariff, rate, write

HOUR = timedelta(hours=1)
NUMBERS = ["", "1", "12", "123", "2", "21", "9", "1*", "12#"]
EMPTY = Tariff()
PRICES = st.dictionaries(st.sampled_from(NUMBERS), st.integers(1, 9), max_size=6)


@pytest.fixture
def tx(engine):
    with engine.connect() as made:
        yield made


def read(tx, known=None, at=NOW, **how):
    steps = read_in_steps(known or Catalogue(), lambda: at, **how)
    result = None
    while True:
        try:
            work = steps.send(result)
        except StopIteration as end:
            return end.value
        work(tx)  # a transaction may be repeated
        result = work(tx)


def price(tariff, number, at=NOW, **how):
    try:
        return tariff.rate_for(number, at, **how).price
    except NoRate:
        return None


def voice(catalogue, tariff_id, at):
    return catalogue.version_at(tariff_id, at).tariffs[Service.VOICE]


def test_rates_of_all_kinds_are_read(tx):
    tariff = make_tariff(tx, NOW, time_zone="America/Belem")
    tariff_records.set_default(tx, tariff.id)
    rows = [
        rate("", 1),
        rate("", 2, on_net=True),
        rate("55", 3, valid_until=NOW + 3 * HOUR),
        rate("55", 4, valid_from=NOW + 3 * HOUR),
        rate("55", 5, window="sat,sun 00:00-24:00"),
        rate("", 6, service=Service.SMS),
        rate("55*", 7),
    ]
    made = write(tx, tariff.id, NOW, *rows, holidays=frozenset({date(2026, 12, 25)}))
    catalogue = read(tx)
    assert (catalogue.default_tariff_id, catalogue.number) == (tariff.id, 3)
    version = catalogue.version_at(tariff.id, made.effective_at)
    of_voice = version.tariffs[Service.VOICE]
    assert [price(of_voice, number) for number in ("4", "5591", "55*1")] == [1, 3, 7]
    assert price(of_voice, "5591", NOW + 3 * HOUR) == 4
    assert price(of_voice, "5591", on_net=True) == 2
    assert price(version.tariffs[Service.SMS], "55") == 6
    found = of_voice.rate_for("5591", NOW)
    assert [prices.steps[0].price for _, prices in found.windows] == [5]
    assert found.calendar == Calendar("America/Belem", frozenset({date(2026, 12, 25)}))


def test_groups_trunks_routes_and_offers_are_read(tx):
    group = group_records.add(tx, name="students", barred=["900"], now=NOW)
    tx.execute(sa.insert(tables.trunk).values(id=3, name="a", dial="PJSIP/{number}@a", enabled=True, created_at=NOW))
    tx.execute(sa.insert(tables.route).values(id=4, prefix="55", choose="cost", created_at=NOW))
    tx.execute(sa.insert(tables.route_trunk).values(route_id=4, position=1, trunk_id=3, weight=2))
    offer = {
        "name": "o",
        "price": 1,
        "kind": "seconds",
        "amount": 60,
        "valid_hours": 1,
        "renews": False,
        "enabled": True,
    }
    tx.execute(sa.insert(tables.offer).values(id=5, **offer, destinations="55 on-net", created_at=NOW))
    catalogue = read(tx)
    assert catalogue.groups == {group.id: group}
    assert catalogue.trunks[3].dial == "PJSIP/{number}@a"
    assert [(each.prefix, each.choose, each.trunks[0].weight) for each in catalogue.routes.values()] == [
        ("55", "cost", 2)
    ]
    assert catalogue.offers[5].destinations == ("55", "on-net")


def test_what_is_deleted_is_not_read(tx):
    group = group_records.add(tx, name="students", now=NOW)
    tariff = make_tariff(tx, NOW)
    write(tx, tariff.id, NOW, rate("", 1))
    group_records.delete(tx, group.id, NOW)
    tariff_records.delete(tx, tariff.id, NOW)
    catalogue = read(tx)
    assert (catalogue.groups, catalogue.tariffs) == ({}, {})


def test_versions_long_past_are_not_read(tx):
    tariff = make_tariff(tx, NOW)
    for number in range(1, 4):
        write(tx, tariff.id, NOW + number * HOUR, rate("", number))
    numbers = [each.number for each in read(tx, at=NOW + 3 * HOUR).tariffs[tariff.id].versions]
    assert numbers == [2, 3]  # the next one is not in force yet
    numbers = [each.number for each in read(tx, at=NOW + 4 * HOUR).tariffs[tariff.id].versions]
    assert numbers == [3]


@given(st.lists(PRICES, min_size=1, max_size=4), st.booleans())
@share(1)
def test_changes_alone_make_the_same_prices(contents, holidays):
    with sqlite().connect() as tx:
        tariff, now = make_tariff(tx, NOW), NOW
        catalogue = read(tx)
        for prices in contents:
            now += HOUR
            days = {"holidays": frozenset({now.date()})} if holidays else {}
            rows = [rate(prefix, value) for prefix, value in prices.items()]
            if "" in prices:
                rows.append(rate("", 90, on_net=True))
            made = write(tx, tariff.id, now, *rows, whole=True, **days)
            if made is None:
                continue
            catalogue = read(tx, catalogue, now)
            whole = read(tx, at=now)
            compact = read(tx, catalogue, now, changes_max=0)
            at = made.effective_at
            services = [set(each.version_at(tariff.id, at).tariffs) for each in (catalogue, whole, compact)]
            assert services[0] == services[1] == services[2]
            for number in (*NUMBERS, "1234", "22", "91", "1*2"):
                for how in ({}, {"on_net": True}):
                    found = {
                        price(each.version_at(tariff.id, at).tariffs.get(Service.VOICE, EMPTY), number, at, **how)
                        for each in (catalogue, whole, compact)
                    }
                    assert len(found) == 1


def test_single_change_reads_no_other_rates(tx):
    tariff = make_tariff(tx, NOW)
    write(tx, tariff.id, NOW, *(rate(str(number), 1) for number in range(1000, 9000)))
    before = read(tx, at=NOW)
    made = write(tx, tariff.id, NOW + HOUR, rate("1234", 7))
    asked = []
    sa.event.listen(tx, "before_cursor_execute", lambda *args: asked.append(args[2]))
    after = read_catalogue(tx, before, lambda: NOW + HOUR)
    tariff_then = voice(after, tariff.id, made.effective_at)
    assert isinstance(tariff_then, ChangedTariff)
    assert (price(tariff_then, "12345"), price(tariff_then, "1235")) == (7, 1)
    assert len([each for each in asked if "rate.steps" in each]) == 1 + len(Service)
