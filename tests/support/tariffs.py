"""Tariffs for tests: rates in few words, and versions written at a time of the test's own."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder, CatalogueTariff, TariffVersion
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.model.tariffs import Rate, Service, Step
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.core.tariffs.rate_records import list_all_rates
from celcombiller.core.tariffs.rate_row import RateRow, encode_steps
from celcombiller.core.tariffs.versions import NewVersion

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def rate(prefix="", price=1, *, service=Service.VOICE, name="", increment=1, on_net=False, window="", **fields):
    """A row of a rate with one step."""
    steps = encode_steps((Step(0, increment, price, increment),))
    row = RateRow(service, prefix, on_net, name, window, None, None, 0, 0, 0, steps)
    return row._replace(**fields)


def make_tariff(tx, now, name="retail", **fields):
    return tariff_records.add(tx, name=name, **{"time_zone": "UTC", **fields}, now=now)


def write(tx, tariff_id, now, *rates, **fields):
    """Write a version, and return it."""
    return versions.write_version(tx, tariff_id, NewVersion(rates, author="test", **fields), now).version


def content(tx, tariff_id, number):
    """The rates of a version, without an order."""
    return {each.row for each in list_all_rates(tx, tariff_id, number)}


def make_policy(tx, service, *rates, **facts):
    """Enter a tariff with these rates of a service as the default, and return a policy that has it."""
    values = {"name": "T", "time_zone": "UTC", "is_default": True, "created_at": NOW}
    tariff_id = tx.execute(sa.insert(tables.tariff).values(values).returning(tables.tariff.c.id)).scalar_one()
    version = {"tariff_id": tariff_id, "number": 1, "effective_at": NOW, "created_at": NOW, "created_by": "x"}
    inserted = sa.insert(tables.tariff_version).values(version).returning(tables.tariff_version.c.id)
    version_id = tx.execute(inserted).scalar_one()
    return policy_of(
        tariff_id, TariffVersion(version_id, 1, NOW - timedelta(days=1), {service: Tariff(rates)}), **facts
    )


def policy_of(tariff_id, version, **facts):
    """Return a policy whose default tariff has this version."""
    tariff = CatalogueTariff(tariff_id, "T", versions=(version,))
    of_settings = Tariff([Rate()])
    catalogue = Catalogue({Service.VOICE: of_settings}, 1, {tariff_id: tariff}, tariff_id)
    return ChargingPolicy(of_settings, catalogue=CatalogueHolder(catalogue), **facts)
