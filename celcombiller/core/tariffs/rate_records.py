"""The rates of a version of a tariff, as rows: read them by page and by prefix. On an open transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from celcombiller.core.model.tariffs import Service
from celcombiller.core.schema import tables
from celcombiller.core.tariffs.rate_row import RateRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sqlalchemy.engine import Connection

CHUNK = 5000
"""Rates that are read at once: of a large tariff, other work goes on between two chunks."""

_IN_ONE_QUERY = 500
_rate = tables.rate
_COLUMNS = (_rate.c.id, *(_rate.c[name] for name in RateRow._fields))
_SERVICES = {each.value: each for each in Service}


class StoredRate(NamedTuple):
    """A rate with the id of its row."""

    id: int
    row: RateRow


class RatePlace(NamedTuple):
    """The place of a rate in the list of a version: by service, by prefix, in the order in which they were written."""

    service: str
    prefix: str
    id: int


def place_of(rate: StoredRate) -> RatePlace:
    """Return the place of a rate."""
    return RatePlace(rate.row.service, rate.row.prefix, rate.id)


def list_rates(
    tx: Connection,
    tariff_id: int,
    number: int,
    *,
    after: Sequence[object] | None = None,
    limit: int,
    service: Service | None = None,
    prefix: str | None = None,
    text: str | None = None,
) -> list[StoredRate]:
    """Return rates of the version of this number, in order, from behind the place ``after``.

    Only those of a ``service``; whose prefix begins with ``prefix``; with ``text`` in the name of the destination.
    """
    wanted = [_is_of(tariff_id, number)]
    if after is not None:
        wanted.append(sa.tuple_(_rate.c.service, _rate.c.prefix, _rate.c.id) > sa.tuple_(*after))
    if service is not None:
        wanted.append(_rate.c.service == service)
    if prefix:
        wanted.append(_rate.c.prefix.startswith(prefix, autoescape=True))
    if text:
        wanted.append(_rate.c.name.icontains(text, autoescape=True))
    rows = tx.execute(
        sa.select(*_COLUMNS).where(*wanted).order_by(_rate.c.service, _rate.c.prefix, _rate.c.id).limit(limit)
    )
    return [_stored(*row) for row in rows]


def list_all_rates(tx: Connection, tariff_id: int, number: int) -> Iterator[StoredRate]:
    """Yield all rates of the version of this number, in order, read chunk by chunk."""
    place: RatePlace | None = None
    while chunk := list_rates(tx, tariff_id, number, after=place, limit=CHUNK):
        yield from chunk
        place = place_of(chunk[-1])


def list_destination_rates(
    tx: Connection, tariff_id: int, number: int, prefixes: Collection[str]
) -> Iterator[StoredRate]:
    """Yield the rates of just these prefixes, of all services; the empty prefix has the on-net rates too."""
    asked = sorted(prefixes)
    for start in range(0, len(asked), _IN_ONE_QUERY):
        among = _rate.c.prefix.in_(asked[start : start + _IN_ONE_QUERY])
        which = (_is_of(tariff_id, number), _rate.c.service.in_(list(Service)), among)
        for row in tx.execute(sa.select(*_COLUMNS).where(*which)):
            yield _stored(*row)


def list_changed_prefixes(tx: Connection, tariff_id: int, after: int, until: int) -> list[str]:
    """Return the prefixes of which a rate began or ended in a version after the one to the other number."""
    found: set[str] = set()
    for column in (_rate.c.since_version, _rate.c.until_version):
        which = (_rate.c.tariff_id == tariff_id, column > after, column <= until)
        found.update(tx.execute(sa.select(_rate.c.prefix).where(*which)).scalars())
    return sorted(found)


def list_services(tx: Connection, tariff_id: int, number: int) -> set[Service]:
    """Return the services for which a version has rates."""
    return {each for each in Service if list_rates(tx, tariff_id, number, limit=1, service=each)}


def count_rates(tx: Connection, tariff_id: int, number: int) -> int:
    """Return the number of rates of a version."""
    count: int = tx.execute(sa.select(sa.func.count()).select_from(_rate).where(_is_of(tariff_id, number))).scalar_one()
    return count


def _is_of(tariff_id: int, number: int) -> sa.ColumnElement[bool]:
    still = sa.or_(_rate.c.until_version.is_(None), _rate.c.until_version > number)
    # A sum, so that no database reads all rates by the index of versions, in place of those of a prefix.
    return sa.and_(_rate.c.tariff_id == tariff_id, _rate.c.since_version + 0 <= number, still)


def _stored(rate_id: int, service: str, *others: Any) -> StoredRate:
    return StoredRate(rate_id, RateRow(_SERVICES[service], *others))
