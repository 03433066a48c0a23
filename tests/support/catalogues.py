"""A catalogue with one tariff, entered by its rows alone, for the tests of what is charged."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder, CatalogueTariff, TariffVersion
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.model.tariffs import Rate, Service
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def make_policy(tx, service, *rates, **facts):
    """Enter a tariff with these rates of a service as the default, and return a policy that has it."""
    values = {"name": "T", "time_zone": "UTC", "is_default": True, "created_at": NOW}
    tariff_id = tx.execute(sa.insert(tables.tariff).values(values).returning(tables.tariff.c.id)).scalar_one()
    version = {"tariff_id": tariff_id, "number": 1, "effective_at": NOW, "created_at": NOW, "created_by": "x"}
    inserted = sa.insert(tables.tariff_version).values(version).returning(tables.tariff_version.c.id)
    version_id = tx.execute(inserted).scalar_one()
    versions = (TariffVersion(version_id, 1, NOW - timedelta(days=1), {service: Tariff(rates)}),)
    tariff = CatalogueTariff(tariff_id, "T", versions=versions)
    of_settings = Tariff([Rate()])
    catalogue = Catalogue({Service.VOICE: of_settings}, 1, {tariff_id: tariff}, tariff_id)
    return ChargingPolicy(of_settings, catalogue=CatalogueHolder(catalogue), **facts)
