"""Static files of the pages: style sheets, scripts and the icon, each at an address that changes with its content."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from celcombiller.core.errors import NotFound
from celcombiller.http.responses import accepts_gzip
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
DIGEST_DIGITS = 12
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file, as it is sent. ``packed`` is compressed by gzip."""

    address: str
    media_type: str
    plain: bytes
    packed: bytes


@cache
def load_assets() -> Mapping[str, Asset]:
    """Return all assets by the name of their file."""
    found = {}
    for file in (files("celcombiller.console") / "assets").iterdir():
        stem, dot, kind = file.name.rpartition(".")
        if dot + kind in TYPES:
            plain = file.read_bytes()
            digest = hashlib.sha256(plain).hexdigest()[:DIGEST_DIGITS]
            address = f"/ui/assets/{stem}.{digest}{dot}{kind}"
            found[file.name] = Asset(address, TYPES[dot + kind], plain, gzip.compress(plain, mtime=0))
    return found


def address_of(name: str) -> str:
    """Return the address of an asset. Raises `KeyError` if there is none of this name."""
    return load_assets()[name].address


@cache
def _by_address() -> Mapping[str, Asset]:
    return {each.address: each for each in load_assets().values()}


async def send_asset(_api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Send one asset. It never changes at its address. Raises `NotFound`."""
    asset = _by_address().get(f"/ui/assets/{request.path['name']}")
    if asset is None:
        raise NotFound("there is no such file")
    headers = {"Content-Type": asset.media_type, "Cache-Control": FOREVER, "Vary": "Accept-Encoding"}
    if accepts_gzip(http_request):
        return Response(asset.packed, headers=headers | {"Content-Encoding": "gzip"})
    return Response(asset.plain, headers=headers)
