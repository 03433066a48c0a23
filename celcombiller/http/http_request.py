"""Twisted's request, with a body that is kept in memory and has a limit."""

from __future__ import annotations

from typing import Any, AnyStr

from twisted.web.server import Request

from celcombiller.core.model.addresses import parse_address

DRAINED_MAX = 64 * 1024 * 1024
"""Octets of a body that is too large that are read and dropped, so that the client receives the answer. At more the
connection is cut."""


class HttpRequest(Request):
    """A request as it comes from the connection, before anything of it is checked."""

    defaultContentType = None

    def __init__(self, body_bytes_max: int, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._parsePOSTFormSubmission = False  # Twisted would refuse a broken form without a reason
        self._bytes_max = body_bytes_max
        self._bytes = 0
        self.too_large = False

    def getHeader(self, key: AnyStr) -> AnyStr | None:
        """Return a header. Octets that are not UTF-8 are replaced: the value is wrong, but no reason to fail."""
        if isinstance(key, bytes):
            return super().getHeader(key)
        value = super().getHeader(key.encode())
        return None if value is None else value.decode("utf-8", "replace")

    def gotLength(self, length: int | None) -> None:
        """Note that the announced length is too large, before the first octet."""
        super().gotLength(0)
        self.too_large = length is not None and length > self._bytes_max

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what arrives, up to the limit."""
        self._bytes += len(data)
        self.too_large = self.too_large or self._bytes > self._bytes_max
        if not self.too_large:
            super().handleContentChunk(data)
        elif self._bytes > DRAINED_MAX:
            self.channel.forceAbortClient()

    @property
    def body(self) -> bytes:
        """What was kept of the body."""
        content: Any = self.content
        return bytes(content.getvalue())

    @property
    def peer(self) -> str:
        """The address of the other end of the connection; ``unix`` of a UNIX socket."""
        host = str(getattr(self.getClientAddress(), "host", "unix"))
        return str(parse_address(host) or host)
