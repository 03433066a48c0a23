"""What a port serves: connections, security headers, OPTIONS."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.web import http
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Site

from celcombiller.core.errors import BrokenRequest
from celcombiller.http.http_request import HttpRequest
from celcombiller.http.origin import allow_origin
from celcombiller.http.request_context import is_secure

if TYPE_CHECKING:
    from twisted.web.resource import IResource

    from celcombiller.http.application import Api

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Front(Resource):
    """The resource before all routes: it sets the headers of every answer, and answers OPTIONS."""

    isLeaf = True

    def __init__(self, api: Api) -> None:
        super().__init__()
        self._api = api
        self._inner: IResource = api.app.resource()

    def render(self, http_request: Any) -> Any:
        """Answer OPTIONS here, all else by its route."""
        settings = self._api.config.rest
        http_request.responseHeaders.removeHeader(b"Server")
        for name, value in SECURITY_HEADERS.items():
            http_request.setHeader(name.encode(), value.encode())
        if is_secure(http_request, settings):
            http_request.setHeader(b"Strict-Transport-Security", b"max-age=31536000")
        allowed = allow_origin(http_request, settings)
        if not _is_readable(http_request):
            return self._api.refuse(http_request, BrokenRequest("the address is not UTF-8"))
        if http_request.method != b"OPTIONS":
            return self._inner.render(http_request)
        methods = self._api.allowed_methods(http_request)
        http_request.setResponseCode(http.NO_CONTENT if methods else http.NOT_FOUND)
        http_request.setHeader(b"Allow", ", ".join(methods).encode())
        if allowed:
            http_request.setHeader(b"Access-Control-Allow-Methods", ", ".join(methods).encode())
            http_request.setHeader(b"Access-Control-Allow-Headers", b"Authorization, Content-Type, Idempotency-Key")
            http_request.setHeader(b"Access-Control-Max-Age", b"600")
        return b""


class _Channel(HTTPChannel):
    """A connection that gives the reason when it ends."""

    def lineLengthExceeded(self, _line: bytes) -> None:
        """Refuse an address or a header of more than 16 KiB. Twisted itself would close without an answer."""
        reason = b"431 Request Header Fields Too Large" if self.requests else b"414 URI Too Long"
        transport: Any = self.transport
        transport.write(b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % reason)
        self.loseConnection()


class ApiSite(Site):
    """What a port serves: our own connections, and no traceback to any client."""

    protocol: Any = _Channel
    displayTracebacks = False


def make_site(api: Api) -> Site:
    """Return what a port serves."""
    return ApiSite(
        Front(api),
        requestFactory=partial(HttpRequest, api.config.rest.body_kib_max * 1024),
        logFormatter=_log_line,
    )


def _log_line(_timestamp: str, http_request: HttpRequest) -> str:
    """Return the log line of a request, without its query, which may hold names and numbers of people."""
    path = http_request.path.decode("ascii", "replace")
    return f"{http_request.peer} {http_request.method.decode('ascii', 'replace')} {path} {http_request.code}"


def _is_readable(http_request: HttpRequest) -> bool:
    try:
        unquote_to_bytes(http_request.uri.partition(b"?")[0]).decode()
        http_request.method.decode()
        (http_request.getHeader(b"host") or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
