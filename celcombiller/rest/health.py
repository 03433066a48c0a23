"""What a supervisor asks: is the process there, and can it charge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from klein import Klein
from twisted.web import http

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.web.iweb import IRequest
    from twisted.web.resource import IResource

    from celcombiller.asterisk.monitor import Monitor
    from celcombiller.store import Store


class Health:
    """``/healthz``: the process answers. ``/readyz``: the ledger does too; and how each AMI link stands."""

    app = Klein()

    def __init__(self, store: Store, monitors: Mapping[str, Monitor]) -> None:
        self._store = store
        self._monitors = monitors

    def resource(self) -> IResource:
        """Give the resource that a site serves."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: IRequest) -> bytes:
        """Answer that the reactor runs."""
        return _json(request, http.OK, {"status": "ok"})

    @app.route("/readyz", methods=["GET"])
    async def readyz(self, request: IRequest) -> bytes:
        """Answer 200 when a transaction can be made, 503 when not; a lost AMI link is told, but calls go on."""
        links = {name: monitor.connected for name, monitor in self._monitors.items()}
        try:
            await self._store.transact(lambda tx: tx.execute(sa.select(1)).scalar_one())
        except Exception:  # noqa: BLE001  whatever it was, the answer is No
            return _json(request, http.SERVICE_UNAVAILABLE, {"ledger": False, "ami": links})
        return _json(request, http.OK, {"ledger": True, "ami": links})


def _json(request: Any, status: int, body: object) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", b"application/json")
    return msgspec.json.encode(body)
