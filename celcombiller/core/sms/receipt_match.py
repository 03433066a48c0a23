"""Find the part that a delivery receipt is of. A receipt moves credit, so no part is better than a wrong one."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.core.sms.network_ids import Likeness, compare, forms_of
from celcombiller.core.subscribers.number_forms import forms_of as forms_of_number

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.receipt import DeliveryReceipt

ALIKE_FOR = timedelta(days=10)
"""How long after its acceptance a part is found by an id that is not quite its own; SMSCs try for up to a week."""

_ROWS_MAX = 200
_SAME_DIGITS_LEAST = 7
"""Of the end of a number, to be the same with and without its prefixes."""

_message, _part = tables.message, tables.message_part


def find_part(tx: Connection, receipt: DeliveryReceipt, now: datetime) -> Any:
    """Return the part that a receipt is of; ``None`` where there is none, or it cannot be told which.

    A receipt that was applied once is of the same message when it comes again. Otherwise the message to or from the
    receipt's number counts most, then the id that is most alike, then the part that was accepted last.
    """
    rows = _parts_alike(tx, receipt, now)
    rows = [row for row in rows if row.note == receipt.note] or rows
    rows = [row for row in rows if _is_between(row, receipt)] or rows
    ranks = [_likeness(row.network_id, receipt) for row in rows]
    best = [row for row, rank in zip(rows, ranks, strict=True) if rank == min(ranks)]
    if not best:
        return None
    is_unsure = min(ranks) is not Likeness.SAME and len({row.to_number for row in best}) > 1
    return None if is_unsure else min(best, key=lambda row: row.delivered_at is not None)


def _parts_alike(tx: Connection, receipt: DeliveryReceipt, now: datetime) -> list[Any]:
    """Return the parts whose ids are like the receipt's, the last accepted first."""
    forms = frozenset[str]().union(*map(forms_of, receipt.network_ids))
    if not forms:
        return []
    of_both = sa.select(_part, _message.c.to_number, _message.c.note).join(
        _message, _message.c.reference == _part.c.reference
    )
    found = tx.execute(
        of_both.where(_part.c.network_id.in_(sorted(forms))).order_by(_part.c.accepted_at.desc()).limit(_ROWS_MAX)
    )
    return [row for row in found if row.network_id in receipt.network_ids or row.accepted_at > now - ALIKE_FOR]


def _likeness(network_id: str, receipt: DeliveryReceipt) -> Likeness:
    found = (compare(network_id, each) for each in receipt.network_ids)
    return min((each for each in found if each is not None), default=Likeness.OTHER_BASE)


def _is_between(row: Any, receipt: DeliveryReceipt) -> bool:
    return any(_is_same_number(row.to_number, each) for each in receipt.numbers)


def _is_same_number(one: str, other: str) -> bool:
    """Return whether two numbers share a form, or the end that is the same with and without a country's code."""
    pairs = product(forms_of_number(one).numbers, forms_of_number(other).numbers)
    return any(first == second or _is_end(first, second) or _is_end(second, first) for first, second in pairs if first)


def _is_end(short: str, long: str) -> bool:
    return len(short) >= _SAME_DIGITS_LEAST and long.endswith(short)
