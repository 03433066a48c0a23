"""Limits, security headers, CORS."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.web import http
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from celcombiller.core.errors import (
    BrokenRequest,
)

if TYPE_CHECKING:
    from twisted.web.resource import IResource

    from celcombiller.http.application import Api

DRAINED_MAX = 64 * 1024 * 1024
"""So much of a body that is too large is read and dropped, so that the client gets to hear why; then it is cut."""


SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Front(Resource):
    """What stands before all routes: the headers of every answer, and OPTIONS."""

    isLeaf = True

    def __init__(self, api: Api) -> None:
        super().__init__()
        self._api = api
        self._inner: IResource = api.app.resource()

    def render(self, request: Any) -> Any:
        """Answer OPTIONS here, all else by its route."""
        request.responseHeaders.removeHeader(b"Server")
        for name, value in SECURITY_HEADERS.items():
            request.setHeader(name.encode(), value.encode())
        if self._api.is_secure(request):
            request.setHeader(b"Strict-Transport-Security", b"max-age=31536000")
        allowed = self._cross_origin(request)
        if not _is_readable(request):
            return self._api.refuse(request, BrokenRequest("the address is not UTF-8"))
        if request.method != b"OPTIONS":
            return self._inner.render(request)
        methods = self._api.allowed_methods(request)
        request.setResponseCode(http.NO_CONTENT if methods else http.NOT_FOUND)
        request.setHeader(b"Allow", ", ".join(methods).encode())
        if allowed:
            request.setHeader(b"Access-Control-Allow-Methods", ", ".join(methods).encode())
            request.setHeader(b"Access-Control-Allow-Headers", b"Authorization, Content-Type, Idempotency-Key")
            request.setHeader(b"Access-Control-Max-Age", b"600")
        return b""

    def _cross_origin(self, request: Any) -> bool:
        origins = self._api.config.rest.cors_origins
        if not origins:
            return False
        request.setHeader(b"Vary", b"Origin")
        origin = request.getHeader("origin")
        if origin not in origins:
            return False
        request.setHeader(b"Access-Control-Allow-Origin", origin.encode())
        request.setHeader(b"Access-Control-Allow-Credentials", b"true")
        request.setHeader(b"Access-Control-Expose-Headers", b"Link, Location, Retry-After")
        return True


class _Channel(HTTPChannel):
    """A connection that says why it ends."""

    def lineLengthExceeded(self, _line: bytes) -> None:
        """Refuse an address or a header of more than 16 KiB; Twisted itself would hang up without a word."""
        reason = b"431 Request Header Fields Too Large" if self.requests else b"414 URI Too Long"
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % reason)
        self.loseConnection()


class ApiSite(Site):
    """What a port serves: connections of our own, and no traceback to anybody."""

    protocol: Any = _Channel
    displayTracebacks = False


class _Request(Request):
    """A request whose body is in memory and has a limit."""

    defaultContentType = None

    def __init__(self, body_bytes_max: int, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._parsePOSTFormSubmission = False  # Twisted would refuse a broken form without a word
        self._bytes_max = body_bytes_max
        self._bytes = 0
        self.too_large = False

    def getHeader(self, key: Any) -> Any:
        """Return a header; one that is not UTF-8 is a wrong value, not a reason to fail."""
        if isinstance(key, bytes):
            return super().getHeader(key)
        value = super().getHeader(key.encode())
        return None if value is None else value.decode("utf-8", "replace")

    def gotLength(self, length: int | None) -> None:
        """Note a length that is too large before the first byte."""
        super().gotLength(0)
        self.too_large = length is not None and length > self._bytes_max

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what comes, up to the limit."""
        self._bytes += len(data)
        self.too_large = self.too_large or self._bytes > self._bytes_max
        if not self.too_large:
            super().handleContentChunk(data)
        elif self._bytes > DRAINED_MAX:
            self.channel.forceAbortClient()


def make_site(api: Api) -> Site:
    """Return what a port serves."""
    return ApiSite(
        Front(api),
        requestFactory=partial(_Request, api.config.rest.body_kib_max * 1024),
        logFormatter=_log_line,
    )


def _log_line(_timestamp: str, request: Any) -> str:
    """Write one line a request, without its query: that may name people and their numbers."""
    path = request.path.decode("ascii", "replace")
    peer = getattr(request.getClientAddress(), "host", "unix")
    return f"{peer} {request.method.decode('ascii', 'replace')} {path} {request.code}"


def _is_readable(request: Any) -> bool:
    try:
        unquote_to_bytes(request.uri.partition(b"?")[0]).decode()
        request.method.decode()
        (request.getHeader(b"host") or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
