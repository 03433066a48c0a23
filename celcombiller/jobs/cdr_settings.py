"""What ``[cdr]`` says, for the readers of records and for the comparison."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.cdr.source_terms import SourceTerms, open_source
from celcombiller.core.reconciliation.settlement import ReconciliationTerms
from celcombiller.core.subscribers.number_forms import plain_number

if TYPE_CHECKING:
    from celcombiller.cdr.source import CdrSource
    from celcombiller.config.tables import Config


def open_configured_source(config: Config) -> CdrSource | None:
    """Return the source of the settings, or ``None``: there is none. Raises `InvalidValue`."""
    cdr = config.cdr
    if not cdr.source:
        return None
    return open_source(SourceTerms(cdr.source, ZoneInfo(cdr.zone or config.schedules.zone), cdr.table, cdr.columns))


def reconciliation_terms(config: Config, source: str) -> ReconciliationTerms:
    """Return how the records of the settings' server are compared."""
    return ReconciliationTerms(
        server=config.cdr_server,
        source=source,
        tolerance=timedelta(seconds=config.cdr.tolerance_seconds),
        contexts=frozenset(config.cdr.contexts),
        free_numbers=frozenset(map(plain_number, config.calls.always_allowed)),
    )
