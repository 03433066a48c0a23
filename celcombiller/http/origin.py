"""Which web pages may use the API: requests forged across sites (CSRF), and headers for other origins (CORS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.errors import Forbidden
from celcombiller.http.request_context import make_base_url, parse_origin, read_bearer_secret

if TYPE_CHECKING:
    from celcombiller.config.tables import Rest
    from celcombiller.http.transport.http_request import HttpRequest

SAFE_METHODS = {b"GET", b"HEAD", b"OPTIONS"}


def check_origin(http_request: HttpRequest, settings: Rest) -> None:
    """Raise `Forbidden` for a write or a login that a page of another site makes with the browser's cookie.

    Browsers say where a request comes from. Programs such as curl do not, and no page can imitate that.
    """
    if http_request.method in SAFE_METHODS or read_bearer_secret(http_request) is not None:
        return
    origin = http_request.getHeader("origin")
    if origin is None:
        origin = http_request.getHeader("referer") or None
    if origin is None:
        foreign = http_request.getHeader("sec-fetch-site") not in (None, "same-origin", "none")
    else:
        page = parse_origin(origin)
        own = page is not None and page == parse_origin(make_base_url(http_request, settings))
        foreign = not own and not _is_allowed(origin, settings)
    if foreign:
        raise Forbidden("a page of another site may not do this (rest.cors_origins)")


def allow_origin(http_request: HttpRequest, settings: Rest) -> bool:
    """Set the CORS headers if the settings allow the origin of the page, and return whether they do."""
    if not settings.cors_origins:
        return False
    http_request.setHeader(b"Vary", b"Origin")
    origin = http_request.getHeader("origin")
    if origin is None or not _is_allowed(origin, settings):
        return False
    http_request.setHeader(b"Access-Control-Allow-Origin", origin.encode())
    http_request.setHeader(b"Access-Control-Allow-Credentials", b"true")
    http_request.setHeader(b"Access-Control-Expose-Headers", b"Link, Location, Retry-After")
    return True


def _is_allowed(origin: str, settings: Rest) -> bool:
    page = parse_origin(origin)
    return page is not None and page in map(parse_origin, settings.cors_origins)
