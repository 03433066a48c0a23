"""``/api/v1/trail``: the audit trail, which records what operators changed, when and from where."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access import audit_trail
from celcombiller.http.pagination import Cursor, Limit, Page, RowId, decode_cursor, make_page

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.access.audit_trail import AuditEntry
    from celcombiller.http.route import Request


class AuditEntryView(msgspec.Struct, kw_only=True):
    """One change by an operator."""

    id: Annotated[int, Meta(description="the number of its row; a later one is larger")]
    at: Annotated[datetime, Meta(tz=True, description="when (RFC 3339, UTC)")]
    actor: Annotated[str, Meta(description="a username, `username (token 3)`, or `command` for the operator's command")]
    address: Annotated[str, Meta(description="the IP address it came from; of the command: the system's user")]
    action: str
    subject: Annotated[str, Meta(description="what was changed, such as `subscriber:ana`, `token:3`, `transfer:7`")]
    before: Annotated[msgspec.Raw | None, Meta(description="the record before the change; null: it did not exist")]
    after: Annotated[msgspec.Raw | None, Meta(description="the record after the change; null: it no longer exists")]


class TrailQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A filter of changes: those that match all given fields."""

    actor: (
        Annotated[
            str, Meta(pattern=r"^[^\x00]{0,128}$", description="at most 128 characters: an actor, as it is shown")
        ]
        | None
    ) = None
    subject: (
        Annotated[
            str, Meta(pattern=r"^[^\x00]{0,1000}$", description="at most 1000 characters: a subject, as it is shown")
        ]
        | None
    ) = None
    limit: Limit = 50
    cursor: Cursor | None = None


def list_all(tx: Connection, request: Request) -> Page[AuditEntryView]:
    """List what operators changed, newest first."""
    query: TrailQuery = request.query
    rows = audit_trail.entries(
        tx,
        limit=query.limit + 1,
        before_id=decode_cursor(query.cursor, RowId),
        actor=query.actor,
        subject=query.subject,
    )
    return make_page(rows, query.limit, lambda each: each.id, _to_view)


def _to_view(each: AuditEntry) -> AuditEntryView:
    facts = dataclasses.asdict(each) | {"before": _raw(each.before), "after": _raw(each.after)}
    return AuditEntryView(**facts)


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())
