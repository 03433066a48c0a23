"""What a port serves: connections, security headers, OPTIONS."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Site

from celcombiller.core.errors import BrokenRequest, Overloaded
from celcombiller.http.origin import allow_origin
from celcombiller.http.request_context import find_client_address, is_browser, is_proxy, is_secure
from celcombiller.http.route import ALWAYS_SERVED, ResponseStyle
from celcombiller.http.transport.connections import ConnectionLimits, Connections, LimitedChannel
from celcombiller.http.transport.http_request import HttpRequest, Uploads

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.web.resource import IResource

    from celcombiller.config.tables import Rest
    from celcombiller.http.application import Api

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


PAGES = b"/ui/"
"""Where the pages are. A browser that asks for ``/`` is sent there; a program gets what the original answered."""


class Front(Resource):
    """The resource before all routes: it sets the headers of every answer, and answers OPTIONS."""

    isLeaf = True

    def __init__(self, api: Api, connections: Connections) -> None:
        super().__init__()
        self._api = api
        self._connections = connections
        self._has_pages = any(each.style is ResponseStyle.PAGE for each in api.routes)
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
        unreadable = _find_unreadable(http_request)
        if unreadable:
            return self._api.refuse(http_request, BrokenRequest(unreadable))
        if self._is_overloaded(http_request):
            self._api.metrics.rest.count_limit("requests_max")
            return self._api.refuse(http_request, Overloaded("too many requests at once: send it again in a second"))
        if self._has_pages and http_request.path == b"/" and is_browser(http_request):
            http_request.redirect(PAGES)
            return b""
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

    def _is_overloaded(self, http_request: HttpRequest) -> bool:
        if self._connections.count_working() <= self._api.config.rest.requests_max:
            return False
        return http_request.path.decode() not in ALWAYS_SERVED


class ApiSite(Site):
    """What a port serves: connections with limits, and no traceback to any client."""

    protocol: Any = LimitedChannel
    displayTracebacks = False

    def __init__(
        self,
        resource: IResource,
        connections: Connections,
        is_logged: Callable[[Any], bool] = lambda _http_request: True,
        stop: Callable[[], None] = lambda: None,
        **more: Any,
    ) -> None:
        super().__init__(resource, reactor=connections.clock, timeout=None, **more)
        self.connections = connections
        self._is_logged = is_logged
        self._stop = stop

    def buildProtocol(self, addr: Any) -> Any:
        """Accept a connection, unless its address has as many as it may have."""
        if not self.connections.admits(getattr(addr, "host", "")):
            return None
        channel: Any = super().buildProtocol(addr)
        channel.connections = self.connections
        return channel

    def log(self, request: Any) -> None:
        """Write the line of a request, unless its client causes too many, or it is a scrape of the metrics."""
        is_scrape = request.path == b"/metrics" and request.code == http.OK
        if not is_scrape and self._is_logged(request):
            super().log(request)

    def stopFactory(self) -> None:
        """End all streams and drop all deadlines when the port is closed."""
        super().stopFactory()
        self._stop()
        self.connections.stop()

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 only by TLS, even if Twisted finds a library for HTTP/2."""
        return [b"http/1.1"]


def make_site(api: Api, clock: Any, connections_max: int, calls_wait: Callable[[], bool]) -> ApiSite:
    """Return what a port serves. ``connections_max``: how many connections the open files of this process allow.

    ``calls_wait``: whether a call waits for this process, or is about to ask it something.
    """
    settings, metrics = api.config.rest, api.metrics.rest
    limits = ConnectionLimits(
        connections_max=connections_max,
        connections_per_address_max=settings.connections_per_address_max,
        head_seconds=settings.head_seconds,
        body_seconds=settings.body_seconds,
        upload_seconds=settings.upload_seconds,
        idle_seconds=settings.idle_seconds,
        send_seconds=settings.send_seconds,
        unsent_bytes_max=settings.unsent_kib_max * 1024,
    )
    connections = Connections(
        clock,
        limits,
        unlimited=partial(_is_shared, settings),
        count=metrics.count_limit,
        calls_wait=calls_wait,
    )
    metrics.watch_connections(
        connections.__len__, connections.count_working, connections.count_unsent, limits.connections_max
    )
    return ApiSite(
        Front(api, connections),
        connections,
        lambda http_request: api.lines.admits(find_client_address(http_request, settings)),
        api.stop,
        requestFactory=partial(
            HttpRequest, settings.body_kib_max * 1024, uploads=Uploads(settings.upload_mib_max * 1024 * 1024)
        ),
        logFormatter=_log_line,
    )


def _is_shared(settings: Rest, host: str) -> bool:
    """Return whether the connections from an address are those of many clients. A UNIX socket has no address."""
    return host == "" or settings.listen.startswith("haproxy:") or is_proxy(settings, host)


def _log_line(_timestamp: str, http_request: HttpRequest) -> str:
    """Return the log line of a request, without its query, which may hold names and numbers of people."""
    path = http_request.path.decode("ascii", "replace")
    return f"{http_request.peer} {http_request.method.decode('ascii', 'replace')} {path} {http_request.code}"


def _find_unreadable(http_request: HttpRequest) -> str:
    """Return what of the request cannot be read as text, in words; empty if all can."""
    try:
        unquote_to_bytes(http_request.uri.partition(b"?")[0]).decode()
        http_request.method.decode()
    except UnicodeError:
        return "the address is not UTF-8"
    try:
        (http_request.getHeader(b"host") or b"").decode()
        http_request.getRequestHostname().decode().encode("idna")  # as Werkzeug does, with parts of 63 letters at most
    except UnicodeError:
        return "the header Host names no host"
    return ""
