"""MessageSend over AMI."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionClosed

from celcombiller.asterisk.ami.codec import AmiProtocolError
from celcombiller.core.sms.carrier import CarrierUnavailable, MessageDeferred, MessageRejected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.config.tables import Config
    from celcombiller.core.model.messages import Message
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.sms.outbox_queue import OutboxMessage

PIECE_BYTES_MAX = 744
"""Of a text in one action: AMI reads lines of 1,022 bytes, and Base64 makes four of three."""


NO_ADDRESS = "the receiver has no address"
"""The note of a message for which `address_of` finds none."""


_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9*+./:;=?@_#-]*")


class AmiCarrier:
    """Carries the biller's own messages by the first Asterisk whose AMI link is up."""

    at_once = 10

    def __init__(self, config: Config, monitors: Mapping[str, AmiLink]) -> None:
        self._config = config
        self._monitors = monitors

    @property
    def is_there(self) -> bool:
        """Whether a link is up."""
        return self._ami is not None

    @property
    def _ami(self) -> Any:
        return next((each.ami for each in self._monitors.values() if each.ami is not None), None)

    async def carry(self, due: OutboxMessage, took: Callable[[int, str], Awaitable[object]]) -> None:
        """Send a message by Asterisk; a text that is too long for one action goes as several messages."""
        address = address_of(self._config, due.message, due.callee)
        if address is None:
            raise MessageRejected(NO_ADDRESS)
        texts = pieces(due.message.text or "")
        for number, text in enumerate(texts, 1):
            if number in due.taken:
                continue
            await self._carry(address, due.message.from_number, text)
            if len(texts) > 1:
                await took(number, "")

    async def _carry(self, address: str, sender: str, text: bytes) -> None:
        ami = self._ami
        if ami is None:
            raise CarrierUnavailable("no AMI link is up")
        request = [("Action", "MessageSend"), ("To", address), ("Base64Body", base64.b64encode(text).decode())]
        if sender:
            request.append(("From", sender))
        try:
            answer = await ami.sendDeferred(request)
        except (ConnectionClosed, AmiProtocolError) as error:
            raise MessageDeferred(f"Asterisk did not say whether it went: {error}") from None
        if answer.get("response") != "Success":
            raise MessageDeferred(f"Asterisk: {answer.get('message', '')}")


def address_of(config: Config, message: Message, callee: Subscriber | None) -> str | None:
    """Return where MessageSend sends a message; ``None``: it would not be read as one address."""
    if callee is None:
        address = config.sms.off_net_to.format(number=message.to_number)
    else:
        facts = {"imsi": callee.imsi, "clid": callee.clid, "username": callee.username}
        address = config.sms.on_net_to.format(**facts)
    return address if _ADDRESS.fullmatch(address) else None


def pieces(text: str) -> list[bytes]:
    """Cut a text into as few pieces as AMI can carry, nowhere within a character."""
    data = text.encode()
    cut = []
    while len(data) > PIECE_BYTES_MAX:
        end = PIECE_BYTES_MAX
        while data[end] & 0xC0 == 0x80:  # noqa: PLR2004  a byte that continues a character (RFC 3629, 3)
            end -= 1
        cut.append(data[:end])
        data = data[end:]
    return [*cut, data]
