"""What HTTP says of a request beside its content: the client's address, the URL, the credentials.

What a proxy adds counts only where its address is one of ``rest.trusted_proxies``.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from celcombiller.http.route import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.config.tables import Config, Rest
    from celcombiller.http.http_request import HttpRequest

COOKIE = b"session"


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
        secret=read_session_secret(http_request),
        local=is_local(http_request, config.rest),
    )


def find_client_address(http_request: HttpRequest, settings: Rest) -> str:
    """Return the address of the client: the peer of the connection, or the one that trusted proxies name."""
    address = http_request.peer
    hops = (http_request.getHeader("x-forwarded-for") or "").split(",")
    for hop in reversed([each.strip() for each in hops if each.strip()]):
        if address not in settings.trusted_proxies:
            break
        try:
            address = str(ipaddress.ip_address(hop))
        except ValueError:
            break
    return address


def is_secure(http_request: HttpRequest, settings: Rest) -> bool:
    """Return whether the client came over TLS, to this server or to a trusted proxy."""
    by_proxy = http_request.peer in settings.trusted_proxies and http_request.getHeader("x-forwarded-proto") == "https"
    return http_request.isSecure() or by_proxy


def make_base_url(http_request: HttpRequest, settings: Rest) -> str:
    """Return scheme and host as the client wrote them."""
    scheme = "https" if is_secure(http_request, settings) else "http"
    return f"{scheme}://{http_request.getHeader('host') or 'localhost'}"


def is_local(http_request: HttpRequest, settings: Rest) -> bool:
    """Return whether a program on this machine sent it: not through a proxy, and no page of another host did."""
    try:
        host_is_local = urlsplit(make_base_url(http_request, settings)).hostname in ("localhost", "127.0.0.1", "::1")
        peer_is_local = ipaddress.ip_address(http_request.peer).is_loopback
    except ValueError:
        return False
    forwarded = http_request.getHeader("x-forwarded-for") or http_request.getHeader("origin")
    return peer_is_local and host_is_local and not forwarded


def read_session_secret(http_request: HttpRequest) -> str | None:
    """Return the secret of a browser session, from its cookie."""
    cookie = http_request.getCookie(COOKIE)
    return None if not cookie else cookie.decode("ascii", "replace")


def read_bearer_secret(http_request: HttpRequest) -> str | None:
    """Return the secret of a token, from the header Authorization (RFC 6750)."""
    kind, _, secret = (http_request.getHeader("authorization") or "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else None
