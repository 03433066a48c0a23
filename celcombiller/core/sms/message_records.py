"""Text messages as one transaction of charging works on them: found by their ids, made, and closed once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from celcombiller.core.model.messages import Message, MessageOrigin, MessageState, Route
from celcombiller.core.schema import bulk, driver, tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


@dataclass(slots=True)
class MessageRecords:
    """The messages that a transaction names, and what changes of them."""

    _known: dict[str, Message] = field(default_factory=dict)
    _was: dict[str, MessageState] = field(default_factory=dict)
    _new: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)

    @staticmethod
    def question(references: Collection[str]) -> bulk.BoundQuery:
        """Ask for these messages, and lock them (after calls and before accounts: that order is everybody's)."""
        return _MESSAGES.with_values(references)

    @classmethod
    def of_rows(cls, rows: bulk.Rows) -> MessageRecords:
        """Make it of the answer."""
        postbox = cls()
        for row in rows:
            message = _message_of_columns(*row)
            postbox._known[message.reference] = message
            postbox._was[message.reference] = message.state
        return postbox

    def __iter__(self) -> Iterator[Message]:
        return iter(self._known.values())

    def get(self, reference: str) -> Message | None:
        """Give a message."""
        return self._known.get(reference)

    def add(self, message: Message) -> Message:
        """Begin a message."""
        self._known[message.reference] = message
        self._new.add(message.reference)
        return message

    def change(self, message: Message, **facts: Any) -> Message:
        """Put facts on a message."""
        changed = replace(message, **facts)
        self._known[message.reference] = changed
        if message.reference not in self._new:
            self._changed.add(message.reference)
        return changed

    def changes(self) -> bulk.Writes:
        """Give all that is to be written."""
        yield _BEGIN, [_columns(self._known[each]) for each in sorted(self._new)]
        changed = [
            (*_end_of(self._known[each]), each, self._was[each].value) for each in sorted(self._changed - self._new)
        ]
        yield _CHANGE, changed


_FACTS = (
    *("reference", "origin", "subscriber_id", "account_id", "from_number", "to_number", "callee_id", "route"),
    *("digest", "encoding", "parts", "price", "queued_at", "expires_at"),
)
_ENDING = ("state", "text", "ended_at", "note")
_facts_of = attrgetter(*_FACTS)

_MESSAGES = bulk.BulkQuery(
    bulk.names((*_FACTS, *_ENDING)),
    "from message where reference {among}",
    of=tables.message.c.reference,
    lock="id",
)
_BEGIN = bulk.insert(tables.message, (*_FACTS, *_ENDING))
_CHANGE = bulk.update(tables.message, _ENDING, key="reference", unchanged=("state",))


def _columns(message: Message) -> driver.Row:
    return (*map(_plain, _facts_of(message)), *_end_of(message))


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, MessageOrigin | Route) else value


def _end_of(message: Message) -> driver.Row:
    return (message.state.value, message.text, message.ended_at, message.note)


def message_from_row(row: Any) -> Message:
    """Make the value of a message row."""
    return _message_of_columns(*(getattr(row, name) for name in (*_FACTS, *_ENDING)))


def _message_of_columns(*values: Any) -> Message:
    facts = dict(zip((*_FACTS, *_ENDING), values, strict=True))
    facts |= {name: driver.parse_timestamp(facts[name]) for name in ("queued_at", "expires_at", "ended_at")}
    kinds = {"origin": MessageOrigin, "route": Route, "state": MessageState}
    return Message(**facts | {name: kind(facts[name]) for name, kind in kinds.items()})
