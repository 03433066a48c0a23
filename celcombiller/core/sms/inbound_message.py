"""Messages that an SMSC delivered, whole or in parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """A message that an SMSC delivered. A repeat has the same ``key``, as far as a repeat can be recognized.

    ``network_id`` is the id that the SMSC gave it; empty: none.
    """

    key: str
    from_number: str
    to_number: str
    text: str
    network_id: str = ""


@dataclass(frozen=True, slots=True)
class InboundPart:
    """A part of a long message that an SMSC delivered: ``number`` of ``total``, from 1 on.

    The parts of one message have the same ``group_key``; a repeat has the same ``key``. ``payload`` is the text without
    its header, written in ``data_coding``: a character may be cut between two parts.
    """

    group_key: str
    number: int
    total: int
    key: str
    from_number: str
    to_number: str
    data_coding: int
    payload: bytes
