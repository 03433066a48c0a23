"""Answers on the wire: status, headers and body, of a response or of a refusal."""

from __future__ import annotations

import gzip
import html
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from twisted.web import http

from celcombiller.core.errors import Overloaded, TooManyAttempts
from celcombiller.http.problem_details import PROBLEM_TYPE, make_legacy_message, make_problem, reason_phrase, status_of
from celcombiller.http.route import ResponseStyle

if TYPE_CHECKING:
    from celcombiller.core.errors import BillerError
    from celcombiller.http.route import Response, Route
    from celcombiller.http.transport.http_request import HttpRequest

JSON_TYPE = "application/json"
PACKED_FROM = 1024
"""Octets from which a page is compressed."""
TEXT_TYPE = "text/plain; charset=utf-8"
HTML_TYPE = "text/html; charset=utf-8"
_BARE_PAGE = (
    "<!doctype html><html lang=en><meta name=viewport content='width=device-width'>"
    "<title>{title}</title><h1>{title}</h1><p>{detail}</p></html>\n"
)
"""What a browser gets where no page of the console can be made, as when too much is asked at once."""
_HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F)))


def encode_response(http_request: HttpRequest, route: Route, response: Response) -> bytes:
    """Set status and headers of a response, and return its body."""
    status = response.status or route.status
    http_request.setResponseCode(status, reason_phrase(status).encode())
    for name, value in response.headers.items():
        http_request.setHeader(name.encode(), quote(value, safe=_HEADER_SAFE).encode())
    return _encode_body(http_request, response.body, route.style)


def encode_refusal(http_request: HttpRequest, error: BillerError, style: ResponseStyle) -> bytes:
    """Set status and headers of a refusal, and return its body."""
    set_retry_time(http_request, error)
    status: int
    body: object
    content_type = JSON_TYPE
    if style is ResponseStyle.ORIGINAL:
        status, body = make_legacy_message(error)
    elif style is ResponseStyle.PAGE:
        status = status_of(error)
        body = _BARE_PAGE.format(title=reason_phrase(status), detail=html.escape(str(error))).encode()
        http_request.setHeader(b"Content-Type", HTML_TYPE.encode())
    else:
        status, content_type = status_of(error), PROBLEM_TYPE
        body = make_problem(error, is_staff=not http_request.is_of_subscriber)
    if status == http.UNAUTHORIZED:
        http_request.setHeader(b"WWW-Authenticate", b'Bearer realm="celcombiller"')
    http_request.setResponseCode(status, reason_phrase(status).encode())
    return _encode_body(http_request, body, style, content_type)


def set_retry_time(http_request: HttpRequest, error: BillerError) -> None:
    """Set the header Retry-After of a request that is refused for now: the seconds until it may be sent again."""
    if isinstance(error, TooManyAttempts):
        http_request.setHeader(b"Retry-After", str(error.retry_seconds).encode())
    elif isinstance(error, Overloaded):
        http_request.setHeader(b"Retry-After", b"1")


def accepts_gzip(http_request: HttpRequest) -> bool:
    """Return whether the client unpacks gzip (RFC 9110, section 12.5.3)."""
    return "gzip" in (http_request.getHeader("accept-encoding") or "").replace(",", " ").split()


def _encode_page(http_request: HttpRequest, body: bytes) -> bytes:
    """Return what is sent as it is; text that is long is compressed where the client unpacks it."""
    headers = http_request.responseHeaders
    if len(body) > PACKED_FROM and not headers.hasHeader(b"content-encoding") and accepts_gzip(http_request):
        body = gzip.compress(body, compresslevel=5, mtime=0)
        http_request.setHeader(b"Content-Encoding", b"gzip")
    http_request.setHeader(b"Content-Length", str(len(body)).encode())
    return body


def _encode_body(http_request: HttpRequest, body: object, style: ResponseStyle, content_type: str = JSON_TYPE) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return _encode_page(http_request, body)
    if isinstance(body, str):
        encoded, content_type = body.encode(), TEXT_TYPE
    else:
        encoded = msgspec.json.encode(body)
        if style is ResponseStyle.ORIGINAL:
            encoded = msgspec.json.format(encoded, indent=2) + b"\n"
    http_request.setHeader(b"Content-Type", content_type.encode())
    http_request.setHeader(b"Content-Length", str(len(encoded)).encode())
    return encoded
