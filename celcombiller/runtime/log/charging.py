"""One log line per charging decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.voice.evidence import DISCREPANCY_MS

if TYPE_CHECKING:
    from twisted.logger import Logger

    from celcombiller.core.model.calls import Settlement, Witness
    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.runtime.metrics import Metrics


def log_message_outcome(log: Logger, metrics: Metrics, posting: MessageResult) -> None:
    """Write the one line of what became of a message, and count it."""
    if not posting.first:
        return
    message = posting.message
    metrics.messages.count(message)
    log.info(
        "{state} message {reference}: {parts} parts, {cost} credits",
        state=message.state.capitalize(),
        reference=message.reference,
        parts=message.parts,
        cost=message.cost,
    )


def log_settlement(log: Logger, witness: Witness, settlement: Settlement) -> None:
    """Write the one line of a charging decision."""
    call = settlement.call
    if settlement.first:
        log.info(
            "{state} call {reference} by {witness}: {talk_ms} ms, {cost} credits",
            state=call.state.capitalize(),
            reference=call.reference,
            witness=witness,
            talk_ms=call.talk_ms,
            cost=call.cost,
        )
    elif settlement.difference_ms is not None and abs(settlement.difference_ms) > DISCREPANCY_MS:
        log.warn(
            "Discrepancy of {difference_ms} ms on call {reference}: {witness} differs from {first}",
            difference_ms=settlement.difference_ms,
            reference=call.reference,
            witness=witness,
            first=call.witness,
        )
