"""What HTTP says of a request beside its content: the client's address, the URL, the credentials.

What a proxy adds counts only where its address is one of ``rest.trusted_proxies``. Then ``X-Forwarded-For`` and
``X-Forwarded-Proto`` are read. ``Forwarded`` (RFC 7239) is not: a proxy that sets the one lets a client's own other one
through. A header that came in several lines is one list (RFC 9110, section 5.3), and an empty one is there too.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celcombiller.core.model.addresses import parse_address
from celcombiller.http.route import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.config.tables import Config, Rest
    from celcombiller.http.transport.http_request import HttpRequest

COOKIE = b"session"
COOKIES_MAX = 5
"""How many cookies of our name are looked up. Another program on the same host may set its own."""
UNIX_PEER = "unix"
"""The name of the other end of a UNIX socket in ``rest.trusted_proxies``."""
PROXY_HEADERS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded", "via")
"""What a proxy adds. A program that asks for itself sends none of them."""

_HOP = re.compile(r"\[(?P<v6>[^\[\]]*)\](:[0-9]{1,5})?|(?P<v4>[0-9.]+):[0-9]{1,5}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def make_request(http_request: HttpRequest, config: Config, path: Mapping[str, Any]) -> Request:
    """Return the request without its principal, query and body, which are checked later."""
    base_url = make_base_url(http_request, config.rest)
    return Request(
        config=config,
        who=None,
        path=path,
        query=None,
        body=None,
        now=datetime.now(UTC),
        address=find_client_address(http_request, config.rest),
        base_url=base_url,
        url=base_url + http_request.uri.decode("ascii", "replace"),
        key=http_request.getHeader("idempotency-key"),
        languages=http_request.getHeader("accept-language") or "",
        secrets=read_session_secrets(http_request),
        bearer=read_bearer_secret(http_request),
        local=is_local(http_request, config.rest),
    )


# -- the client's address ----------------------------------------------------------------------------------------------


def is_proxy(settings: Rest, peer: str) -> bool:
    """Return whether this address is one of ``rest.trusted_proxies``, however it is written."""
    address = parse_address(peer)
    return any(
        (each if address is None else parse_address(each)) == (address or peer) for each in settings.trusted_proxies
    )


def find_client_address(http_request: HttpRequest, settings: Rest) -> str:
    """Return the address of the client: the peer of the connection, or the one that trusted proxies name."""
    address = http_request.peer
    hops = read_list(http_request, "x-forwarded-for")
    while hops and is_proxy(settings, address):
        hop = parse_hop(hops.pop())
        if hop is None:
            break
        address = hop
    return address


def parse_hop(text: str) -> str | None:
    """Return the address of a hop, which may have a port or brackets; None: it hides its address, or is none."""
    match = _HOP.fullmatch(text)
    address = parse_address(text if match is None else match["v6"] or match["v4"] or "")
    return None if address is None else str(address)


def is_direct(http_request: HttpRequest, settings: Rest) -> bool:
    """Return whether the peer of the connection is the client itself, as far as one can know.

    A proxy that no header gives away speaks HTTP/1.0 to the biller unless its operator changed that, and no other
    program of today does.
    """
    return not (
        is_proxy(settings, http_request.peer)
        or any(http_request.requestHeaders.hasHeader(each) for each in PROXY_HEADERS)
        or http_request.clientproto == b"HTTP/1.0"
    )


def is_local(http_request: HttpRequest, settings: Rest) -> bool:
    """Return whether a program on this machine sent it: not through a proxy, and no page of another host did."""
    address = parse_address(http_request.peer)
    origin = parse_origin(make_base_url(http_request, settings))
    return (
        address is not None
        and address.is_loopback
        and origin is not None
        and origin[1] in ("localhost", "127.0.0.1", "::1")
        and is_direct(http_request, settings)
        and not http_request.requestHeaders.hasHeader("origin")
    )


def is_browser(http_request: HttpRequest) -> bool:
    """Return whether a person looks for a page: programs take JSON, or anything."""
    return http_request.method == b"GET" and "text/html" in (http_request.getHeader("accept") or "")


# -- the URL -----------------------------------------------------------------------------------------------------------


def is_secure(http_request: HttpRequest, settings: Rest) -> bool:
    """Return whether the client came over TLS, to this server or to a trusted proxy."""
    if http_request.isSecure():
        return True
    schemes = read_list(http_request, "x-forwarded-proto")
    return is_proxy(settings, http_request.peer) and bool(schemes) and schemes[0].lower() == "https"


def make_base_url(http_request: HttpRequest, settings: Rest) -> str:
    """Return scheme and host as the client wrote them."""
    scheme = "https" if is_secure(http_request, settings) else "http"
    return f"{scheme}://{http_request.getHeader('host') or 'localhost'}"


def parse_origin(text: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an origin or of any URL; None: it has none.

    The port of the scheme may be left out, and letters of scheme and host have no case (RFC 6454, section 4).
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").removesuffix(".")
    if parts.scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
        return None
    return parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port


# -- headers -----------------------------------------------------------------------------------------------------------


def read_list(http_request: HttpRequest, name: str) -> list[str]:
    """Return the items of a header that is a list, from all its lines, without empty ones."""
    lines = http_request.requestHeaders.getRawHeaders(name.encode()) or []
    items = (item.strip() for line in lines for item in line.decode("utf-8", "replace").split(","))
    return [each for each in items if each]


def read_session_secrets(http_request: HttpRequest) -> tuple[str, ...]:
    """Return what may be the secret of a browser session: the values of the cookies with our name.

    Another program on the same host may use the same name for a cookie of another path or domain, and a browser sends
    both (RFC 6265, section 5.4).
    """
    found: dict[str, None] = {}
    for line in http_request.requestHeaders.getRawHeaders(b"cookie") or []:
        for pair in line.split(b";"):
            name, _, value = pair.partition(b"=")
            if name.strip() == COOKIE and value.strip():
                found[value.strip().strip(b'"').decode("ascii", "replace")] = None
    return tuple(found)[:COOKIES_MAX]


def read_bearer_secret(http_request: HttpRequest) -> str | None:
    """Return the secret of a token, from the header Authorization (RFC 6750)."""
    kind, _, secret = (http_request.getHeader("authorization") or "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else None
