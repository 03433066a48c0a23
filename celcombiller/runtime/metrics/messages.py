"""Metrics of text messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from prometheus_client import Counter

from celcombiller.core.model.messages import MessageState, Route

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from celcombiller.core.model.messages import Message


@dataclass(frozen=True, slots=True)
class MessageMetrics:
    """The instruments of text messages."""

    charged_credits: Counter
    incomplete: Counter
    _commands: Counter
    _by_outcome: dict[tuple[Route, MessageState], Counter]

    @classmethod
    def register(cls, registry: CollectorRegistry) -> Self:
        """Make the instruments in a registry."""
        messages = Counter(
            "celcombiller_messages",
            "Text messages by outcome: accepted and expired messages, receipts of delivery or failure.",
            ("route", "state"),
            registry=registry,
        )
        return cls(
            charged_credits=Counter(
                "celcombiller_message_credits",
                "Credits that messages were charged, of the kind that pays for them (sms.account).",
                registry=registry,
            ),
            incomplete=Counter(
                "celcombiller_messages_incomplete",
                "Long messages of other networks that went on without some of their parts (smpp.parts_wait_seconds).",
                registry=registry,
            ),
            _commands=Counter(
                "celcombiller_phone_commands",
                "Commands from phones, by the way they came (asterisk, smpp, keypad), what they asked for, and the"
                " result: done, asked (for a code), repeated (the same message again) or refused.",
                ("way", "command", "result"),
                registry=registry,
            ),
            _by_outcome={
                (route, state): messages.labels(route, state)
                for route in (Route.ASTERISK, Route.SMPP)
                for state in MessageState
                if not state.is_open
            },
        )

    def count(self, message: Message) -> None:
        """Count a message that was accepted, delivered or refused, failed or expired."""
        self._by_outcome[message.route, message.state].inc()
        if message.state is MessageState.ACCEPTED:
            self.charged_credits.inc(message.cost)

    def count_command(self, way: str, command: str, result: str, *, is_new: bool) -> None:
        """Count a command from a phone; the codes of refusals are one result."""
        shown = result if result in ("done", "asked") else "refused"
        self._commands.labels(way, command, shown if is_new else "repeated").inc()
