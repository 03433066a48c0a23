"""Twisted's request, with a body that is kept in memory and has a limit; CSV is kept in a file, with another limit."""

from __future__ import annotations

import tempfile
from typing import Any, AnyStr, BinaryIO, cast

from twisted.web.server import Request

from celcombiller.core.model.addresses import parse_address

DRAINED_MAX = 64 * 1024 * 1024
"""Octets of a body that is too large that are read and dropped, so that the client receives the answer. At more the
connection is cut."""


UPLOADS_AT_ONCE = 2
"""Files of CSV that are received or read at once, in one process: what they take of the disk is limited."""


class Uploads:
    """The uploads that are in work, each of which may have so many octets."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._working: set[object] = set()

    def admits(self, upload: HttpRequest) -> bool:
        """Count an upload until its request is over; return whether there is room for it."""
        if len(self._working) >= UPLOADS_AT_ONCE:
            return False
        self._working.add(upload)
        upload.notifyFinish().addBoth(lambda _over: self._working.discard(upload))
        return True


class HttpRequest(Request):
    """A request as it comes from the connection, before anything of it is checked."""

    defaultContentType = None

    def __init__(self, body_bytes_max: int, *arguments: Any, uploads: Uploads | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._uploads = uploads
        self.is_upload = False
        self.is_crowded = False
        self.is_of_subscriber = False
        """Whether a subscriber or a seller sent it, as far as it is known."""
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
        """Note that the announced length is too large, before the first octet.

        CSV of a client with a login or a token, which is checked later, goes to a file.
        """
        super().gotLength(0)
        if self._uploads is not None and self._is_csv():
            self.is_upload = True
            self.is_crowded = not self._uploads.admits(self)
            self._bytes_max = 0 if self.is_crowded else self._uploads.bytes_max
            if not self.is_crowded:
                cast("Any", self.content).close()
                self.content = tempfile.TemporaryFile()  # noqa: SIM115  the request closes it
        self.too_large = length is not None and length > self._bytes_max

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what arrives, up to the limit."""
        self._bytes += len(data)
        self.too_large = self.too_large or self._bytes > self._bytes_max
        if not self.too_large:
            super().handleContentChunk(data)
        elif self._bytes > DRAINED_MAX:
            self.channel.forceAbortClient()

    def _is_csv(self) -> bool:
        kind = (self.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
        return kind == b"text/csv" and any(map(self.requestHeaders.hasHeader, (b"authorization", b"cookie")))

    def take_upload(self) -> BinaryIO | None:
        """Return the file that was uploaded, from its beginning, for the caller to close; `None`: there is none."""
        if not self.is_upload or self.is_crowded:
            return None
        upload = cast("BinaryIO", self.content)
        super().gotLength(0)
        upload.seek(0)
        return upload

    @property
    def body(self) -> bytes:
        """What was kept of the body, unless it is an upload."""
        content: Any = self.content
        if self.is_upload:
            return b""
        return bytes(content.getvalue())

    @property
    def peer(self) -> str:
        """The address of the other end of the connection; ``unix`` of a UNIX socket."""
        host = str(getattr(self.getClientAddress(), "host", "unix"))
        return str(parse_address(host) or host)
