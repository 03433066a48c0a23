"""Idempotency keys: each belongs to who sent it. On an open transaction.

A key names the transfer or the message that a request makes: its reference is ``id:`` and the key. The audit trail says
who made it. So two operators may use the same key, and keys that were used before this rule keep their sender.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from celcombiller.core.errors import UnknownSubscriber
from celcombiller.core.schema import tables
from celcombiller.core.sms.charging import ORIGIN
from celcombiller.core.subscribers import subscriber_records

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor

_trail = tables.trail
_BY_TOKEN = re.compile(r".* \(token ([0-9]+)\)")
_FILLINGS = ("credit", "give bundle", "buy offer")
_CHANGES = ("add", "change", "change, with password", "delete")


def find_reference(tx: Connection, actor: Actor, key: str) -> str:
    """Return the reference of the request that its author names by a key; for the same again it is the same.

    It is ``id:`` and the key; where another author has that, ``id@``, the author's own id, a colon and the key.
    """
    reference, mine = f"id:{key}", identity_of(actor)
    is_anothers = _find_sender(tx, reference) not in (None, mine)
    return f"id@{mine}:{key}" if is_anothers else reference


def identity_of(actor: Actor) -> str:
    """Return what names the author of requests: their id, or the command and its user."""
    return f"{actor.name} {actor.address}" if actor.subscriber_id is None else str(actor.subscriber_id)


def _find_sender(tx: Connection, reference: str) -> str | None:
    """Return who made what has this reference; ``None``: there is nothing, or the trail does not say who."""
    for row in (*_find_credits(tx, reference), *_find_messages(tx, reference)):
        if msgspec.json.decode(row.after or "{}").get("reference") in (reference, f"{ORIGIN}:{reference}"):
            return _resolve(tx, row)
    return None


def _find_credits(tx: Connection, reference: str) -> list[Any]:
    """Return the rows of the trail that may be of this transfer.

    They stand under the name that the subscriber had then. After a change of it, who sent the key is not known.
    """
    transfer, account, subscriber = tables.transfer, tables.account, tables.subscriber
    sides = account.c.id.in_((transfer.c.debit_account_id, transfer.c.credit_account_id))
    found = tx.execute(
        sa.select(transfer.c.at, subscriber.c.username)
        .join(account, sides)
        .join(subscriber, subscriber.c.id == account.c.subscriber_id)
        .where(transfer.c.reference == reference)
    ).first()
    if found is None:
        return []
    of_them = (
        _trail.c.subject == f"subscriber:{found.username}",
        _trail.c.at == found.at,
        _trail.c.action.in_(_FILLINGS),
    )
    return list(tx.execute(sa.select(_trail).where(*of_them)))


def _find_messages(tx: Connection, reference: str) -> list[Any]:
    message = tables.message
    found = tx.execute(sa.select(message.c.id).where(message.c.reference == f"{ORIGIN}:{reference}")).scalar()
    of_it = (_trail.c.subject == f"message:{found}", _trail.c.action == "send")
    return [] if found is None else list(tx.execute(sa.select(_trail).where(*of_it)))


def _resolve(tx: Connection, row: Any) -> str | None:
    """Return the identity of the author of a row. The row has the name that the author had then."""
    if row.actor == "command" and not _is_ip(row.address):
        return f"{row.actor} {row.address}"
    token = _BY_TOKEN.fullmatch(row.actor)
    if token is not None:
        owner = tx.execute(sa.select(tables.token.c.subscriber_id).where(tables.token.c.id == int(token[1]))).scalar()
        return None if owner is None else str(owner)
    of_name = (_trail.c.subject == f"subscriber:{row.actor}", _trail.c.id > row.id, _trail.c.action.in_(_CHANGES))
    later = tx.execute(sa.select(_trail).where(*of_name).order_by(_trail.c.id).limit(1)).first()
    if later is not None:
        holder = msgspec.json.decode(later.before or "{}").get("id")
        return None if holder is None else str(holder)
    try:
        return str(subscriber_records.find(tx, row.actor).id)
    except UnknownSubscriber:
        return None


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
