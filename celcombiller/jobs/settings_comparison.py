"""Warn when nodes differ in settings."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from twisted.logger import Logger

from celcombiller.config.digest import settings_digests
from celcombiller.core.cluster import announce_node

if TYPE_CHECKING:
    from celcombiller.config.tables import Config
    from celcombiller.database.batch_writer import BatchWriter


class SettingsComparison:
    """Tells, whenever it changes, which other nodes of this ledger have other settings where all must have the same."""

    _log = Logger()

    def __init__(self, store: BatchWriter, config: Config) -> None:
        self._store = store
        self._name = f"{socket.gethostname()} {config.agi.listen}"
        self._parts = settings_digests(config)
        self._differing: dict[str, list[str]] = {}

    async def __call__(self) -> None:
        """Announce this node, and compare its settings with those of the others."""
        now = datetime.now(UTC)
        differing = await self._store.transact(lambda tx: announce_node(tx, self._name, self._parts, now))
        if differing and differing != self._differing:
            self._log.warn(
                "Other nodes have other settings: {nodes}",
                nodes="; ".join(f"{name}: {', '.join(parts)}" for name, parts in differing.items()),
            )
        elif self._differing and not differing:
            self._log.info("All nodes have the same settings now")
        self._differing = differing
