"""Changes of subscribers by an author, who must be allowed to, with their rows of the audit trail.

A changed password, a disabled and a deleted subscriber also end what was opened before: browser sessions, and tokens
where the author asks for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail, sessions, tokens
from celcombiller.core.access.password_rules import check_password
from celcombiller.core.errors import Forbidden, InvalidValue
from celcombiller.core.schedules import memberships
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.subscribers.fields import IDENTITIES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.model.subscribers import Level, Subscriber


@dataclass(frozen=True, slots=True)
class NewPassword:
    """A password to set, and its hash.

    ``replaces`` is the hash that the old password was checked against; ``None``: no old password was sent.
    """

    text: str = field(repr=False)
    hashed: str = field(repr=False)
    replaces: str | None = field(default=None, repr=False)
    revoke_tokens: bool = False


def add(
    tx: Connection,
    actor: Actor,
    *,
    level: Level,
    enabled: bool = True,
    password: NewPassword | None,
    terms: Mapping[str, Any] = MappingProxyType({}),
    now: datetime,
    **fields: Any,
) -> Subscriber:
    """Create a subscriber, with a tariff, a group or limits of their own where ``terms`` has them.

    Raises as `subscriber_records.add` and `change` do, and `Forbidden`.
    """
    actor.check_manages(level)
    if password is not None:
        check_password(password.text, _own_words(fields))
    made = subscriber_records.add(
        tx, **fields, level=level, password_hash=None if password is None else password.hashed, now=now
    )
    changes = dict(terms) | ({} if enabled else {"enabled": False})
    if changes:
        made = subscriber_records.change(tx, made.username, changes, now)
    audit_trail.record(tx, actor, "add", _subject(made.username), after=made, now=now)
    return made


def change(
    tx: Connection,
    actor: Actor,
    username: str,
    changes: Mapping[str, Any],
    now: datetime,
    *,
    password: NewPassword | None = None,
    session: str | None = None,
) -> Subscriber:
    """Change fields of a subscriber, and their password.

    A new password ends their other sessions, all but the one with the secret ``session``. Their own needs the old one,
    which is compared with the hash of this moment: it may have changed while it was checked. Raises as
    `subscriber_records.change` does, and `Forbidden`. What changes nothing leaves no row in the trail.
    """
    was = subscriber_records.find(tx, username)
    fields = {*changes, *([] if password is None else ["password"])}
    actor.check_changes(was, fields, changes.get("level", was.level))
    facts = dict(changes)
    if password is not None:
        if actor.subscriber_id == was.id:
            _check_replaces(tx, was, password)
        check_password(password.text, _own_words(asdict(was) | facts))
        facts["password_hash"] = password.hashed
    is_ = subscriber_records.change(tx, username, facts, now)
    if password is not None:
        sessions.close_sessions(tx, was.id, but=session)
        if password.revoke_tokens:
            tokens.revoke_tokens(tx, was.id, now)
    if not is_.enabled:
        sessions.close_sessions(tx, was.id)
    action = "change" if password is None else "change, with password"
    if password is not None or is_ != was:
        audit_trail.record(tx, actor, action, _subject(username), before=was, after=is_, now=now)
    return is_


def delete(tx: Connection, actor: Actor, username: str, now: datetime) -> Subscriber:
    """Delete a subscriber: end their memberships and sessions. Raises as `subscriber_records.delete` does."""
    actor.check_manages(subscriber_records.find(tx, username).level)
    was = subscriber_records.delete(tx, username, now)
    memberships.leave_all(tx, was.id, now)
    sessions.close_sessions(tx, was.id)
    audit_trail.record(tx, actor, "delete", _subject(username), before=was, now=now)
    return was


def _check_replaces(tx: Connection, who: Subscriber, password: NewPassword) -> None:
    """Raise `InvalidValue` without the old password, `Forbidden` when another one was set while it was checked."""
    current = subscriber_records.lock_password(tx, who.id)
    if current is None:
        return
    if password.replaces is None:
        what = "is needed to change one's own password"
        raise InvalidValue(f"old_password {what}", {"old_password": what})
    if password.replaces != current:
        raise Forbidden("the password was changed meanwhile")


def _own_words(fields: Mapping[str, Any]) -> list[str]:
    """Return what of a subscriber a password must not consist of."""
    return [fields[name] for name in (*IDENTITIES, "name") if fields.get(name)]


def _subject(username: str) -> str:
    return f"subscriber:{username}"
