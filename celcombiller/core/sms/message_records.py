"""The text messages that one transaction works on, and their rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.core.model.messages import Message, MessageOrigin, MessageState, Route
from celcombiller.core.schema import bulk, driver, tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@dataclass(slots=True)
class MessageRecords:
    """The messages that the transaction names, and what changes."""

    _known: dict[str, Message] = field(default_factory=dict)
    _was: dict[str, MessageState] = field(default_factory=dict)
    _new: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)

    @staticmethod
    def query(references: Collection[str]) -> bulk.BoundQuery:
        """Return the query of these messages.

        It locks them: after calls and before accounts, the same order in every transaction.
        """
        return _MESSAGES.with_values(references)

    @classmethod
    def from_rows(cls, rows: bulk.Rows) -> MessageRecords:
        """Make the records of the rows of `query`."""
        messages = cls()
        for row in rows:
            message = _message_from_columns(*row)
            messages._known[message.reference] = message
            messages._was[message.reference] = message.state
        return messages

    def __iter__(self) -> Iterator[Message]:
        return iter(self._known.values())

    def get(self, reference: str) -> Message | None:
        """Return a message, or ``None``."""
        return self._known.get(reference)

    def add(self, message: Message) -> Message:
        """Add a new message."""
        self._known[message.reference] = message
        self._new.add(message.reference)
        return message

    def change(self, message: Message, **facts: Any) -> Message:
        """Record new facts of a message, and return it with them."""
        changed = replace(message, **facts)
        self._known[message.reference] = changed
        if message.reference not in self._new:
            self._changed.add(message.reference)
        return changed

    def changes(self) -> bulk.Writes:
        """Return all that is to be written."""
        if self._new:
            yield _INSERT, [_columns_of(self._known[each]) for each in sorted(self._new)]
        changed = self._changed - self._new
        if changed:
            rows = [(*_ending_of(self._known[each]), each, self._was[each].value) for each in sorted(changed)]
            yield _UPDATE, rows


_FACTS = (
    *("reference", "origin", "subscriber_id", "account_id", "from_number", "to_number", "callee_id", "route"),
    *("digest", "encoding", "parts", "price", "queued_at", "expires_at", "tariff_version_id", "charge", "bundles"),
    "broadcast_id",
)
_ENDING = ("state", "text", "ended_at", "note")
_facts_of = attrgetter(*_FACTS)

_MESSAGES = bulk.BulkQuery(
    bulk.names((*_FACTS, *_ENDING)),
    "from message where reference {among}",
    of=tables.message.c.reference,
    lock="id",
)
_INSERT = bulk.insert(tables.message, (*_FACTS, *_ENDING))
_UPDATE = bulk.update(tables.message, _ENDING, key="reference", unchanged=("state",))


def _columns_of(message: Message) -> driver.Row:
    return (*map(_database_value, _facts_of(message)), *_ending_of(message))


def _database_value(value: Any) -> Any:
    if isinstance(value, MessageOrigin | Route):
        return value.value
    return (msgspec.json.encode(value).decode() if value else None) if isinstance(value, tuple) else value


def _ending_of(message: Message) -> driver.Row:
    return (message.state.value, message.text, message.ended_at, message.note)


def message_from_row(row: Any) -> Message:
    """Return the message of a row."""
    return _message_from_columns(*(getattr(row, name) for name in (*_FACTS, *_ENDING)))


def _message_from_columns(*values: Any) -> Message:
    facts = dict(zip((*_FACTS, *_ENDING), values, strict=True))
    facts |= {name: driver.parse_timestamp(facts[name]) for name in ("queued_at", "expires_at", "ended_at")}
    text = facts["bundles"]
    facts["bundles"] = () if text is None else msgspec.json.decode(text, type=tuple[tuple[int, int], ...])
    kinds = {"origin": MessageOrigin, "route": Route, "state": MessageState}
    return Message(**facts | {name: kind(facts[name]) for name, kind in kinds.items()})
