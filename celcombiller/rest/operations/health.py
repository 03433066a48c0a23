"""``/healthz`` and ``/readyz``: whether the process runs, and whether it can charge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa
from twisted.web import http

from celcombiller.asterisk.emergency_numbers import list_numbers_without_way
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from celcombiller.http.application import Api
    from celcombiller.http.http_request import HttpRequest
    from celcombiller.http.route import Request


class Alive(msgspec.Struct):
    """The process answers."""

    status: str


class Ready(msgspec.Struct):
    """Whether the ledger answers, and whether the AMI link to each Asterisk server is up.

    ``always_allowed_without_way``: the numbers of ``calls.always_allowed`` that nothing can dial.
    ``ami_faults`` names what a link cannot do, and what to set: rights, event filters, modules, clocks.
    ``catalogue_fault``: why the newest tariffs, groups, trunks, routes and offers cannot be read; those read before
    stay in use. Empty: the newest are.
    """

    ledger: bool
    ami: dict[str, bool]
    ami_faults: dict[str, list[str]]
    always_allowed_without_way: list[str]
    catalogue_fault: str


async def healthz(_api: Api, _http_request: HttpRequest, _request: Request) -> Response:
    """Answer that the reactor runs."""
    return Response(Alive("ok"))


async def readyz(api: Api, _http_request: HttpRequest, _request: Request) -> Response:
    """Answer 200 if a transaction can be made, else 503. A lost AMI link is reported, but calls go on."""
    links = {name: monitor.connected for name, monitor in api.monitors.items()}
    faults = {name: monitor.faults for name, monitor in api.monitors.items()}

    def work(tx: sa.Connection) -> list[str]:
        tx.execute(sa.select(1)).scalar_one()
        return list_numbers_without_way(tx, api.config.calls)

    try:
        without_way = await api.store.transact(work)
    except Exception:  # noqa: BLE001  whatever the error, the biller cannot charge
        unready = Ready(
            ledger=False,
            ami=links,
            ami_faults=faults,
            always_allowed_without_way=[],
            catalogue_fault=api.catalogue.fault,
        )
        return Response(unready, http.SERVICE_UNAVAILABLE)
    return Response(
        Ready(
            ledger=True,
            ami=links,
            ami_faults=faults,
            always_allowed_without_way=without_way,
            catalogue_fault=api.catalogue.fault,
        )
    )
