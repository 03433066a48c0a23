"""Delivery receipt parsing."""

from __future__ import annotations

import re
from typing import Any

from celcombiller.core.model.messages import MessageState

_RECEIPT_ID, _RECEIPT_STATE = re.compile(rb"\bid:([^\s]{1,64})"), re.compile(rb"\bstat:([A-Z]{1,16})")


_OUTCOMES = {
    **dict.fromkeys((b"DELIVRD", 2), MessageState.DELIVERED),
    **dict.fromkeys((b"EXPIRED", b"DELETED", b"UNDELIV", b"REJECTD", 3, 4, 5, 8), MessageState.FAILED),
}
"""The states of a receipt that say the end (5.2.28 and appendix B); of the others a later receipt may tell more."""


def parse_receipt(pdu: Any) -> tuple[str, MessageState | None, str]:
    """Return the id, the outcome (``None``: not the end) and the words of a receipt: its parameters, else its text."""
    text = pdu.short_message or b""
    named, stated = _RECEIPT_ID.search(text), _RECEIPT_STATE.search(text)
    network_id = named[1] if named else pdu.receipted_message_id or b""
    state = stated[1] if stated else pdu.message_state
    shown = state.decode("ascii") if isinstance(state, bytes) else f"message state {state}"
    return network_id.decode("ascii", "replace"), _OUTCOMES.get(state), f"receipt: {shown}"
