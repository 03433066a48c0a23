"""The nodes of one ledger, and whether all of them charge by the same settings.

Each node has the price list in its own settings, so two nodes could charge the same call or data session differently.
This cannot be prevented while an operator changes the nodes one by one. It is reported for as long as it lasts.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from celcombiller.core.schema import tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

GONE_AFTER = timedelta(minutes=2)
"""A node that has not announced itself for this long counts as gone."""

_TABLE = tables.node
_ANNOUNCE = sa.text(
    "insert into node (name, terms, seen_at) values (:name, :terms, :seen_at)"
    " on conflict (name) do update set terms = excluded.terms, seen_at = excluded.seen_at"
).bindparams(sa.bindparam("seen_at", type_=_TABLE.c.seen_at.type))


def announce_node(tx: Connection, name: str, parts: Mapping[str, str], now: datetime) -> dict[str, list[str]]:
    """Record that a node runs with these digests of its settings; return the nodes that differ, each with the names.

    A name that only one of two nodes has is not compared.
    """
    terms = msgspec.json.encode(parts, order="sorted").decode()
    tx.execute(_ANNOUNCE, {"name": name, "terms": terms, "seen_at": now})
    others = sa.select(_TABLE.c.name, _TABLE.c.terms).where(
        _TABLE.c.name != name, _TABLE.c.terms != terms, _TABLE.c.seen_at > now - GONE_AFTER
    )
    differing = {other: _differing(parts, theirs) for other, theirs in tx.execute(others.order_by(_TABLE.c.name))}
    return {other: found for other, found in differing.items() if found}


def _differing(parts: Mapping[str, str], terms: str) -> list[str]:
    try:
        theirs = msgspec.json.decode(terms, type=dict[str, str])
    except msgspec.DecodeError:  # older versions wrote one digest of everything
        return ["its version"]
    return [name for name, digest in parts.items() if theirs.get(name, digest) != digest]
