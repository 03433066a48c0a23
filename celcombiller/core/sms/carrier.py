"""The port every SMS route implements, and its refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from celcombiller.core.errors import BillerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from celcombiller.core.sms.outbox_queue import OutboxMessage


class MessageRejected(BillerError):
    """The network will never take this message."""

    code = "MESSAGE_REFUSED"


class MessageDeferred(BillerError):
    """The network did not take this message now, or did not say whether it did."""

    code = "MESSAGE_LATER"


class CarrierUnavailable(BillerError):
    """There is no network to send to."""

    code = "MESSAGE_AWAY"


class Carrier(Protocol):
    """A route that carries messages to the network."""

    at_once: int
    """How many messages it carries at the same time."""

    @property
    def is_there(self) -> bool:
        """Whether there is a network to send to."""

    async def carry(self, due: OutboxMessage, took: Callable[[int, str], Awaitable[object]]) -> None:
        """Send all parts of a message.

        ``took`` records a part that must not be sent again, with the network's id of it. Raises `MessageRejected`,
        `MessageDeferred` or `CarrierUnavailable` when the network did not accept all parts.
        """
