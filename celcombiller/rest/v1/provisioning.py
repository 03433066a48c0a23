"""``/api/v1/provisioning``: the radio networks, their queues, and what differs between them and the biller."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access import audit_trail
from celcombiller.core.errors import NotFound
from celcombiller.core.provisioning import drift
from celcombiller.core.provisioning import status as provisioning_status
from celcombiller.core.provisioning.drift import Drift
from celcombiller.core.reports.views import make_view
from celcombiller.http.route import Response
from celcombiller.provisioning import reconciliation, unknown_phones

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.provisioning.drift import DriftDifference
    from celcombiller.core.provisioning.network import Network
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

TROUBLES_MAX = 100
DIFFERENCES_MAX = 1000


class TroubleView(msgspec.Struct, kw_only=True):
    """An IMSI whose change failed."""

    imsi: str
    wanted: Annotated[bool, Meta(description="whether it should be on the network, or be removed")]
    attempts: Annotated[int, Meta(description="number of times it was tried")]
    next_try_at: Annotated[datetime, Meta(tz=True, description="when it is tried again (RFC 3339, UTC)")] | None
    error: Annotated[str, Meta(description="why it failed")]


class NetworkView(msgspec.Struct, kw_only=True):
    """One radio network and its queue."""

    name: str
    kind: str
    configured: Annotated[bool, Meta(description="whether it is in the settings; if not, nothing works on its queue")]
    entries: Annotated[int, Meta(description="number of subscribers that should be on it")]
    waiting: Annotated[int, Meta(description="number of changes that are not made yet")]
    oldest_at: Annotated[datetime, Meta(tz=True, description="since when the oldest waits (RFC 3339, UTC)")] | None
    failing: Annotated[int, Meta(description="number of waiting changes that failed at least once")]
    done_total: Annotated[int, Meta(description="number of changes made, ever")]
    failed_total: Annotated[int, Meta(description="number of failed attempts, ever")]
    answered_at: Annotated[datetime, Meta(tz=True, description="when it answered last (RFC 3339, UTC)")] | None
    last_error: Annotated[str, Meta(description="why it is unreachable; empty: it is not")]
    warning: Annotated[str, Meta(description="what is wrong with its list of subscribers; empty: nothing is known")]
    troubles: list[TroubleView]


class NetworkList(msgspec.Struct, kw_only=True):
    """All radio networks."""

    items: list[NetworkView]


class ProvisioningEntryView(msgspec.Struct, kw_only=True):
    """The entry of an IMSI."""

    msisdn: Annotated[str, Meta(description="its number; empty: none")]
    name: Annotated[str, Meta(description="the id of the subscriber, on a network that keeps names")]


class DifferenceView(msgspec.Struct, kw_only=True):
    """One IMSI that differs."""

    drift: Annotated[
        Drift,
        Meta(
            description="missing (on the network), unknown (to the biller), left (there, but deleted here), different, "
            "taken (another IMSI has the number there), unreadable (a row of its list that is not as it should be)"
        ),
    ]
    imsi: Annotated[str, Meta(description="empty: of a row that cannot be read")]
    wanted: ProvisioningEntryView | None
    found: list[ProvisioningEntryView]
    waiting: Annotated[bool, Meta(description="whether it is already queued")]
    holder: Annotated[str, Meta(description="the IMSI that has its number there")] | None
    row: Annotated[str, Meta(description="the text of a row that cannot be read")] | None


class DriftView(msgspec.Struct, kw_only=True):
    """What differs between the biller and a network."""

    network: str
    counts: Annotated[dict[str, int], Meta(description="the number of each kind")]
    items: Annotated[list[DifferenceView], Meta(description=f"the first {DIFFERENCES_MAX}, by IMSI")]


class SyncOrder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How to synchronize a network."""

    dry_run: Annotated[bool, Meta(description="only report what would be done")] = False
    remove_unknown: Annotated[bool, Meta(description="also remove entries that the biller never made")] = False


class SyncView(msgspec.Struct, kw_only=True):
    """What was queued, or would be, and what differed."""

    queued: Annotated[int, Meta(description="number of IMSIs that were queued for a running biller")]
    dry_run: bool
    drift: DriftView


class UnknownPhoneView(msgspec.Struct, kw_only=True):
    """A phone that a network has seen, and that no subscriber has."""

    imsi: str
    network: Annotated[str, Meta(description="the network that saw it last")]
    seen_at: (
        Annotated[datetime, Meta(tz=True, description="when it was seen last (RFC 3339, UTC); null: not known")] | None
    )


class SilentNetworkView(msgspec.Struct, kw_only=True):
    """A network that could not say which phones it has seen."""

    network: str
    error: Annotated[str, Meta(description="why")]


class UnknownPhoneList(msgspec.Struct, kw_only=True):
    """The phones that were seen, last seen first, and the networks that did not say."""

    items: list[UnknownPhoneView]
    silent: list[SilentNetworkView]


class UnknownPhoneQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How many phones."""

    limit: Annotated[int, Meta(ge=1, le=500, description="number of phones, from 1 to 500")] = 50


def status(tx: Connection, request: Request) -> NetworkList:
    """Show the radio networks and their queues."""
    configured = {each.name for each in request.config.provisioning if each.kind != "none"}
    return NetworkList(
        items=[
            make_view(
                NetworkView,
                each,
                name=each.network,
                configured=each.network in configured,
                troubles=provisioning_status.troubles(tx, each.network, limit=TROUBLES_MAX),
            )
            for each in provisioning_status.backlog(tx)
        ]
    )


async def list_unknown_phones(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """List the phones that the radio networks have seen and that no subscriber has, to make subscribers of them."""
    query: UnknownPhoneQuery = request.query
    found = await unknown_phones.find_unknown(api.radio, api.reader.read, query.limit)
    items = [
        make_view(UnknownPhoneView, each, seen_at=None if each.age is None else request.now - each.age)
        for each in found.phones
    ]
    silent = [SilentNetworkView(network=name, error=error) for name, error in sorted(found.failures.items())]
    return Response(UnknownPhoneList(items=items, silent=silent))


async def diff(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Compare a network with what it should know."""
    name, network = _find_network(api, request)
    return Response(_to_view(name, await reconciliation.compare(name, network, api.reader.read)))


async def bring(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Queue the changes that remove the differences of a network."""
    name, network = _find_network(api, request)
    order: SyncOrder = request.body
    found = await reconciliation.compare(name, network, api.reader.read)
    chosen = drift.to_sync(found, remove_unknown=order.remove_unknown)
    drifted = _to_view(name, found)

    def work(tx: Connection, request: Request) -> None:
        reconciliation.queue(tx, name, found, remove_unknown=order.remove_unknown, now=request.now)
        after = {"counts": drifted.counts, "remove_unknown": order.remove_unknown}
        audit_trail.record(tx, request.actor, "sync", f"network:{name}", after=after, now=request.now)

    if chosen and not order.dry_run:
        await api.transact(request, work)
    return Response(SyncView(queued=len(chosen), dry_run=order.dry_run, drift=drifted))


def _find_network(api: Api, request: Request) -> tuple[str, Network]:
    name = request.path["name"]
    if name not in api.radio:
        raise NotFound("there is no such network in the settings")
    return name, api.radio[name]


def _to_view(name: str, found: list[DriftDifference]) -> DriftView:
    items = [make_view(DifferenceView, each) for each in found[:DIFFERENCES_MAX]]
    return DriftView(network=name, counts=drift.count(found), items=items)
