"""Tariffs for tests: rates in few words, and versions written at a time of the test's own."""

from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.core.tariffs.rate_records import list_all_rates
from celcombiller.core.tariffs.rate_row import RateRow, encode_steps
from celcombiller.core.tariffs.versions import NewVersion


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
