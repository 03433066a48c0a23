"""The part of the settings that the charging of calls, messages and data needs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder
from celcombiller.core.charging.outage import OutageRule, OutageRules
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.model.tariffs import flat_rate
from celcombiller.core.rating.tariff import Tariff

if TYPE_CHECKING:
    from celcombiller.config.tables import Config


def charging_policy(config: Config, catalogue: CatalogueHolder | None = None) -> ChargingPolicy:
    """Return the settings that charging needs, with a ``catalogue`` that was read; without, with one of its own."""
    return ChargingPolicy(
        tariff=Tariff(
            flat_rate(row.prefix, row.name, row.connect_fee, row.price, row.increment_seconds) for row in config.rates
        ),
        ring_seconds=config.calls.ring_seconds,
        max_call_seconds=config.calls.max_call_seconds,
        external=config.calls.external_dial != "",
        messages=config.message_policy,
        time_zone=ZoneInfo(config.schedules.zone),
        numbering=config.numbering_plan,
        suspended_allowed=config.fees.suspended_allowed,
        catalogue=CatalogueHolder(Catalogue()) if catalogue is None else catalogue,
    )


def outage_rules(config: Config) -> OutageRules:
    """Return what happens to calls while the ledger cannot decide, by the class of the number."""
    default = OutageRule(allow=config.calls.on_failure == "allow")
    rules = (
        OutageRule(
            prefix=row.prefix,
            allow=row.policy == "allow",
            unknown_callers=row.unknown_callers == "allow",
            call_seconds_max=row.call_seconds_max,
            calls_max=row.calls_max,
            credits_max=row.credits_max,
            total_credits_max=row.total_credits_max,
            live_seconds_max=row.live_seconds_max,
        )
        for row in config.outage
    )
    return OutageRules(default, tuple(rules))
