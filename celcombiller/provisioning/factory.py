"""From the settings to the networks that are to be kept in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.provisioning.openbts import OpenBts
from celcombiller.provisioning.osmocom import Osmocom

if TYPE_CHECKING:
    from celcombiller.config.tables import Config, RadioNetwork
    from celcombiller.core.provisioning.network import Network


def kinds_of(config: Config) -> dict[str, str]:
    """Return name and kind of each network of the settings that is not left alone."""
    return {each.name: each.kind for each in config.provisioning if each.kind != "none"}


def network_of(reactor: Any, settings: RadioNetwork) -> Network:
    """Return the network of a table of the settings; nothing is connected yet."""
    if settings.kind == "openbts":
        return OpenBts(
            reactor,
            settings.name,
            settings.host,
            settings.used_port,
            settings.bts_port,
            answer_seconds=settings.answer_seconds,
        )
    return Osmocom(
        reactor, settings.host, settings.used_port, settings.vty_port, answer_seconds=settings.answer_seconds
    )
