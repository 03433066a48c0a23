"""``/metrics`` for Prometheus, on the port of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from twisted.logger import Logger

from celcombiller.core.errors import BillerError
from celcombiller.core.model.addresses import parse_address
from celcombiller.core.reports.open_items import count_open_items
from celcombiller.http.request_context import is_direct, is_proxy
from celcombiller.runtime.metrics import MEDIA_TYPE

if TYPE_CHECKING:
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

READ_SECONDS = 3.0
"""Seconds that a scrape waits for the database. Prometheus itself stops waiting after ten."""

_log = Logger()


def is_free(api: Api, http_request: HttpRequest, request: Request) -> bool:
    """Return whether this address needs no login (metrics.allow).

    A program on this machine must connect directly, not through a proxy or from a page in a browser. Behind a proxy
    that is not trusted (rest.trusted_proxies) the client's address is not known.
    """
    settings = api.config.rest
    address = parse_address(request.address)
    if address is None or is_proxy(settings, request.address):  # a UNIX socket's, or a proxy that names no client
        return False
    if not is_proxy(settings, http_request.peer) and not is_direct(http_request, settings):
        return False
    if http_request.requestHeaders.hasHeader("origin") or (address.is_loopback and not request.local):
        return False
    return any(address in network for network in api.config.metrics.networks)


async def metrics(api: Api, http_request: HttpRequest, _request: Request) -> None:
    """Answer with all metrics. While the database is unreachable, answer with those that do not need it, and warn."""
    try:
        read = partial(count_open_items, now=datetime.now(UTC))
        facts = await api.reader.read(read, within_seconds=READ_SECONDS)
    except BillerError as error:
        _log.warn("A scrape goes without the database: {error}", error=str(error))
        facts = None
    gone = {name: monitor.gone for name, monitor in api.monitors.items()}
    body = api.metrics.exposition(facts, gone, api.control.sliced)
    http_request.setHeader(b"Content-Type", MEDIA_TYPE.encode())
    http_request.setHeader(b"Content-Length", str(len(body)).encode())
    http_request.write(body)
