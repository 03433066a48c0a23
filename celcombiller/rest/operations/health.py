"""``/healthz`` and ``/readyz``: whether the process runs, and whether it can charge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import sqlalchemy as sa
from twisted.web import http

from celcombiller.asterisk.emergency_numbers import list_numbers_without_way
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest


class Alive(msgspec.Struct):
    """The process answers."""

    status: str


class LedgerlessCalls(msgspec.Struct):
    """The calls that went without the ledger and that it has not charged yet, in the journal of this machine.

    ``journal_fault``: why no call goes without the ledger now; empty: the journal can be written.
    """

    waiting: Annotated[int, msgspec.Meta(description="the number of these calls")]
    live: Annotated[int, msgspec.Meta(description="the number of those that may still talk")]
    exposed_credits: Annotated[int, msgspec.Meta(description="what all of them may cost, in credits")]
    journal_fault: str


class Ready(msgspec.Struct):
    """Whether the ledger answers, and whether the AMI link to each Asterisk server is up.

    ``always_allowed_without_way``: the numbers of ``calls.always_allowed`` that nothing can dial.
    ``ami_faults`` names what a link cannot do, and what to set: rights, event filters, modules, clocks.
    ``catalogue_fault``: why the newest tariffs, groups, trunks, routes and offers cannot be read; those read before
    stay in use. Empty: the newest are. ``without_slices``: the servers whose new calls hold credit for all they may
    use, and why; those in progress keep their slices.
    ``mode``: ``normal``; ``ledger away``: ``[[outage]]`` and ``calls.on_failure`` decide; or ``charging calls that went
    without the ledger``.
    """

    ledger: bool
    ami: dict[str, bool]
    ami_faults: dict[str, list[str]]
    always_allowed_without_way: list[str]
    catalogue_fault: str
    without_slices: dict[str, str]
    mode: str
    calls_without_ledger: LedgerlessCalls


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
    except Exception as error:  # noqa: BLE001  whatever the error, the biller cannot charge
        is_ready, without_way = False, []
        api.outage.record_failure(str(error) or type(error).__name__)
    else:
        is_ready = True
        api.outage.record_answer()
    journal = api.outage.journal.state
    ready = Ready(
        ledger=is_ready,
        ami=links,
        ami_faults=faults,
        always_allowed_without_way=without_way,
        catalogue_fault=api.catalogue.fault,
        without_slices=api.control.faults,
        mode=api.outage.mode,
        calls_without_ledger=LedgerlessCalls(
            waiting=journal.waiting,
            live=journal.live,
            exposed_credits=journal.exposed_credits,
            journal_fault=journal.fault,
        ),
    )
    return Response(ready, http.OK if is_ready else http.SERVICE_UNAVAILABLE)
