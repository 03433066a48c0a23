"""Which tariff, and which of its versions, prices what a subscriber does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueTariff, TariffVersion
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.errors import NoRate
from celcombiller.core.model.subscribers import Group, Level, Subscriber
from celcombiller.core.model.tariffs import Service, flat_rate
from celcombiller.core.rating.tariff import Tariff

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)


def subscriber(tariff_id: int | None = None, group_id: int | None = None) -> Subscriber:
    return Subscriber(
        1, "ana", "Ana", "2001", "724001", None, "", Level.SUBSCRIBER, enabled=True, tariff_id=tariff_id,
        group_id=group_id,
    )  # fmt: skip


def tariff_of(tariff_id: int, *versions: tuple[int, datetime], service: Service = Service.VOICE) -> CatalogueTariff:
    """A tariff whose version number n costs 100 * its id + n a second."""
    return CatalogueTariff(
        tariff_id,
        f"tariff {tariff_id}",
        versions=tuple(
            TariffVersion(tariff_id * 100 + number, number, at, {service: priced(tariff_id * 100 + number)})
            for number, at in versions
        ),
    )


def priced(price: int) -> Tariff:
    return Tariff([flat_rate(price=price)])


def price_for(catalogue: Catalogue, who: Subscriber, at: datetime = NOW, service: Service = Service.VOICE) -> int:
    tariff, version_id = catalogue.tariff_for(who, service, at)
    price = tariff.rate_for("5591").price
    assert version_id == (None if price == 1 else price)
    return price


CATALOGUE = Catalogue(
    settings={Service.VOICE: priced(1)},
    tariffs={
        1: tariff_of(1, (1, NOW - timedelta(days=9))),
        2: tariff_of(2, (1, NOW - timedelta(days=9)), (4, SOON)),
        3: tariff_of(3, (1, NOW - timedelta(days=9))),
        4: tariff_of(4, (1, SOON)),
        5: tariff_of(5, (1, NOW - timedelta(days=9)), service=Service.SMS),
    },
    default_tariff_id=3,
    groups={7: Group(7, "students", tariff_id=2), 8: Group(8, "none")},
)


@pytest.mark.parametrize(
    ("who", "price"),
    [
        (subscriber(tariff_id=1, group_id=7), 101),
        (subscriber(group_id=7), 201),
        (subscriber(group_id=8), 301),
        (subscriber(), 301),
        (subscriber(group_id=99), 301),
    ],
)
def test_own_tariff_precedes_group_and_default(who: Subscriber, price: int) -> None:
    assert price_for(CATALOGUE, who) == price


def test_settings_price_without_any_tariff() -> None:
    assert price_for(Catalogue(settings={Service.VOICE: priced(1)}), subscriber()) == 1


def test_tariff_not_yet_in_force_is_skipped() -> None:
    assert price_for(CATALOGUE, subscriber(tariff_id=4)) == 301
    assert price_for(CATALOGUE, subscriber(tariff_id=4), SOON) == 401


def test_tariff_without_the_service_is_skipped() -> None:
    assert price_for(CATALOGUE, subscriber(tariff_id=5)) == 301
    assert price_for(CATALOGUE, subscriber(tariff_id=5), service=Service.SMS) == 501


def test_service_without_rates_finds_none() -> None:
    tariff, version_id = CATALOGUE.tariff_for(subscriber(), Service.DATA, NOW)
    assert version_id is None
    with pytest.raises(NoRate):
        tariff.rate_for("5591")


def test_version_changes_exactly_at_its_moment() -> None:
    who = subscriber(group_id=7)
    assert price_for(CATALOGUE, who, SOON - timedelta(microseconds=1)) == 201
    assert price_for(CATALOGUE, who, SOON) == 204


def test_policy_holds_settings_rates_by_itself() -> None:
    policy = ChargingPolicy(priced(1))
    assert price_for(policy.catalogue.current, subscriber()) == 1
