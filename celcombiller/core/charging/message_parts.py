"""Long messages of other networks, which arrive in parts: kept until all are there, then queued as one message.

Parts come in any order, more than once, at any biller of the ledger; a phone numbers its messages from 0 to 255 or
65,535 and then begins again (3GPP TS 23.040, 9.2.3.24.1). What is not complete after a while is delivered as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.charging.messages import REPEATED, accept_inbound, check_inbound
from celcombiller.core.data.accounting_reports import key_of
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.schema import tables
from celcombiller.core.sms.encoding import printable
from celcombiller.core.sms.inbound_message import InboundMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.charging import MessagePolicy, MessageResult
    from celcombiller.core.sms.inbound_message import InboundPart

    Decode = Callable[[int, bytes], str]
    """Returns the text of octets that are written in this data_coding."""

MISSING = "[…]"
"""Stands in a text for parts that did not arrive."""

GROUPS_MAX = 1000
"""Incomplete messages that are looked for at once."""

_part = tables.inbound_part

_IS_WAITING = _part.c.joined_as.is_(None)


@dataclass(frozen=True, slots=True)
class JoinedParts:
    """What became of a message in parts: queued, or refused and why; ``missing`` counts the parts that never came."""

    result: MessageResult | None
    missing: int
    refusal: str = ""


def record_part(
    tx: Connection, policy: MessagePolicy, part: InboundPart, decode: Decode, now: datetime
) -> tuple[bool, JoinedParts | None]:
    """Keep a part; return whether it is new, and the message that it ended. Raises what `check_inbound` does.

    A phone that uses a number again before the message of that number was complete has given that one up: it is
    delivered as it is.
    """
    given_up = None
    known = tx.execute(
        sa.select(_part.c.id).where(
            _part.c.group_key == part.group_key, _part.c.key == part.key, _part.c.arrived_at > now - REPEATED
        )
    ).first()
    if known is not None:
        return False, None
    check_inbound(tx, policy, part.to_number)
    if any(row.number == part.number or row.total != part.total for row in _waiting_parts(tx, part.group_key)):
        given_up = join_parts(tx, policy, part.group_key, decode, now, is_overdue=True)
    tx.execute(
        sa.insert(_part).values(
            group_key=part.group_key,
            number=part.number,
            total=part.total,
            key=part.key,
            from_number=part.from_number,
            to_number=part.to_number,
            data_coding=part.data_coding,
            payload=part.payload.hex(),
            arrived_at=now,
        )
    )
    return True, given_up


def join_parts(
    tx: Connection, policy: MessagePolicy, group_key: str, decode: Decode, now: datetime, *, is_overdue: bool = False
) -> JoinedParts | None:
    """Queue the message of these parts as one, if all are there or it is overdue. ``None``: it waits, or is queued.

    In a transaction after that of the last part: of two billers that took the last two, one at least sees all.
    """
    rows = _waiting_parts(tx, group_key)
    parts = {row.number: row for row in reversed(rows)}
    if not parts or (len(parts) < rows[0].total and not is_overdue):
        return None
    first, missing = rows[0], rows[0].total - len(parts)
    text = _text_of([parts.get(number) for number in range(1, first.total + 1)], decode)
    key = key_of(group_key, *(parts[number].key for number in sorted(parts)))
    inbound = InboundMessage(key, first.from_number, first.to_number, printable(text))
    try:
        with tx.begin_nested():
            joined = JoinedParts(accept_inbound(tx, policy, inbound, now), missing)
    except StoreUnavailable:
        raise
    except BillerError as error:
        joined = JoinedParts(None, missing, f"{error.code}: {error}")
    became = joined.refusal if joined.result is None else joined.result.message.reference
    tx.execute(sa.update(_part).where(_part.c.id.in_([row.id for row in rows])).values(joined_as=became))
    return joined


def overdue_groups(tx: Connection, wait: timedelta, now: datetime) -> list[str]:
    """Return the messages whose last part came longer ago than ``wait``, and which are not complete."""
    statement = (
        sa.select(_part.c.group_key)
        .where(_IS_WAITING)
        .group_by(_part.c.group_key)
        .having(sa.func.max(_part.c.arrived_at) < now - wait)
        .limit(GROUPS_MAX)
    )
    return list(tx.execute(statement).scalars())


def delete_joined(tx: Connection, now: datetime) -> None:
    """Delete the parts that are delivered, and old enough that they are not sent again."""
    tx.execute(sa.delete(_part).where(sa.not_(_IS_WAITING), _part.c.arrived_at < now - REPEATED))


def _waiting_parts(tx: Connection, group_key: str) -> Sequence[sa.Row[tuple[object, ...]]]:
    """Return the parts of a message that are not delivered yet, oldest first, and lock them."""
    wanted = sa.select(_part).where(_part.c.group_key == group_key, _IS_WAITING).order_by(_part.c.id)
    return tx.execute(wanted.with_for_update()).all()


def _text_of(parts: Sequence[sa.Row[tuple[object, ...]] | None], decode: Decode) -> str:
    """Return the text of all parts; neighbours in one alphabet are read together, as a character may be cut in two."""
    pieces = []
    for coding, run in groupby(parts, key=lambda row: None if row is None else row.data_coding):
        if coding is None:
            pieces.append(MISSING)
        else:
            pieces.append(decode(coding, b"".join(bytes.fromhex(row.payload) for row in run if row is not None)))
    return "".join(pieces)
