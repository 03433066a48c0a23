"""``/api/v1/tariffs/{id}/rates``: a price list as a CSV file, uploaded and downloaded piece by piece."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta
from twisted.internet.threads import deferToThreadPool

from celcombiller.core.access.changes import tariff_changes, tariff_imports
from celcombiller.core.access.changes.tariff_imports import PriceList
from celcombiller.core.errors import WrongMediaType
from celcombiller.core.model.tariffs import Service
from celcombiller.core.reports.import_views import view_of_import
from celcombiller.core.tariffs import tariff_records
from celcombiller.core.tariffs.files.cgrates_plan import read_plan
from celcombiller.core.tariffs.files.findings import Findings
from celcombiller.core.tariffs.files.presets import CGRATES
from celcombiller.core.tariffs.files.price_cells import FileTerms
from celcombiller.core.tariffs.files.tariff_file import read_tariff_file, write_tariff_file
from celcombiller.core.tariffs.rate_records import CHUNK, RatePlace, list_rates, place_of
from celcombiller.http.route import Response
from celcombiller.http.transport.streaming import CSV_TYPE, send

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import BinaryIO

    from sqlalchemy.engine import Connection

    from celcombiller.core.tariffs.files.rate_list import RateList
    from celcombiller.core.tariffs.tariff_records import TariffRecord
    from celcombiller.core.tariffs.versions import VersionWritten
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

T = TypeVar("T")

CHUNK_BYTES = 64 * 1024


class ImportQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How to read a price list, and when it takes effect."""

    dry_run: Annotated[bool, Meta(description="only report what is wrong in it and what it would change")] = False
    preset: (
        Annotated[
            Literal["a2billing", "magnusbilling", "astpp", "cgrates"],
            Meta(description="whose columns the file has; of CGRateS, all tables, each behind its header"),
        ]
        | None
    ) = None
    at: Annotated[datetime, Meta(tz=True, description="when it takes effect (RFC 3339); without: now")] | None = None
    service: Annotated[Service, Meta(description="of rows without one")] = Service.VOICE
    money: Annotated[bool, Meta(description="amounts of our own columns are money, not credits")] = False
    columns: Annotated[
        str, Meta(pattern=r"^[^\x00]{0,1000}$", description="the columns of a file without a header, with commas")
    ] = ""
    plan: Annotated[
        str, Meta(pattern=r"^[^\x00]{0,200}$", description="the rating plan, where CGRateS has several")
    ] = ""
    note: Annotated[str, Meta(pattern=r"^[^\x00]{0,200}$", description="why, for the list of versions")] = ""


class ExportQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which version to export."""

    version: Annotated[int, Meta(ge=1, le=2**31 - 1, description="the number of the version")] | None = None
    at: Annotated[datetime, Meta(tz=True, description="the one in force then (RFC 3339); without: now")] | None = None


async def replace_rates(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Make a price list the next version of a tariff; prefixes that are not in it are gone."""
    return await _import(api, http_request, request, is_whole=True)


async def merge_rates(api: Api, http_request: HttpRequest, request: Request) -> Response:
    """Make the next version of a tariff: the rates of a price list, and those of all other prefixes as they are."""
    return await _import(api, http_request, request, is_whole=False)


async def download(api: Api, http_request: HttpRequest, request: Request) -> Response | None:
    """Download a version of a tariff as CSV, in a form that can be uploaded again."""
    headers = {"Content-Type": CSV_TYPE, "Content-Disposition": 'attachment; filename="rates.csv"'}
    tariff, version = await api.reader.read(lambda tx: _find_version(tx, request))
    if http_request.method == b"HEAD":
        return Response(headers=headers)

    def piece(tx: Connection, after: RatePlace | None) -> tuple[bytes, RatePlace | None]:
        api.readmit(tx, request)
        rows = list_rates(tx, tariff.id, version, after=after, limit=CHUNK)
        lines = write_tariff_file((each.row for each in rows), header=after is None)
        return "".join(lines).encode(), None if len(rows) < CHUNK else place_of(rows[-1])

    await send(http_request, api.reader, headers, piece)
    return None


def _find_version(tx: Connection, request: Request) -> tuple[TariffRecord, int]:
    query: ExportQuery = request.query
    tariff = tariff_records.find_by_id(tx, request.path["id"])
    return tariff, tariff_imports.find_version(tx, tariff, query.version, query.at or request.now).number


async def _import(api: Api, http_request: HttpRequest, request: Request, *, is_whole: bool) -> Response:
    """Read the file in a thread, compare it in a reading transaction, and write it in many short ones.

    A page has the file's octets in a field of its form: they are the body then.
    """
    query: ImportQuery = request.query
    upload = http_request.take_upload() if request.body is None else BytesIO(request.body)
    if upload is None:
        raise WrongMediaType("send CSV, with the header Content-Type: text/csv")
    with upload:
        tariff = await api.reader.read(lambda tx: tariff_records.find_by_id(tx, request.path["id"]))
        findings = Findings()
        rates = await _in_thread(api, lambda: _read(upload, query, tariff, findings))
    if findings.fault_count:
        if query.dry_run:
            return Response(view_of_import(tariff, findings, None, None))
        raise findings.refusal
    prices = PriceList(rates.rows, is_whole, query.at, query.note)
    new, found = await api.reader.read(
        lambda tx: tariff_imports.find_import(tx, tariff, prices, request.actor, request.now)
    )
    version = None
    if not query.dry_run:
        steps = tariff_changes.write_version_in_steps(request.actor, tariff.id, new, lambda: datetime.now(UTC))
        version = (await _write(api, request, steps)).version
    return Response(view_of_import(tariff, findings, found, version))


def _read(upload: BinaryIO, query: ImportQuery, tariff: TariffRecord, findings: Findings) -> RateList:
    terms = FileTerms(
        time_zone=ZoneInfo(tariff.time_zone),
        credits_per_unit=tariff.credits_per_unit,
        service=query.service,
        columns=tuple(each.strip() for each in query.columns.split(",") if each.strip()),
        is_money=query.money,
        plan=query.plan,
    )

    def chunks() -> Iterator[bytes]:
        while chunk := upload.read(CHUNK_BYTES):
            yield chunk

    if query.preset == CGRATES:
        return read_plan([("", chunks())], terms, findings)
    return read_tariff_file(chunks(), query.preset or "", terms, findings)


async def _write(
    api: Api, request: Request, steps: Generator[Callable[[Connection], Any], Any, VersionWritten]
) -> VersionWritten:
    """Do the steps that write a version. What is between them takes long for a long list, so it is done in a thread."""

    def advance(result: Any) -> tuple[Callable[[Connection], Any] | None, VersionWritten | None]:
        try:
            return steps.send(result), None
        except StopIteration as end:
            return None, end.value

    work, written = await _in_thread(api, partial(advance, None))
    while work is not None:
        result = await api.transact(request, partial(_do, work))
        work, written = await _in_thread(api, partial(advance, result))
    assert written is not None
    return written


def _do(step: Callable[[Connection], Any], tx: Connection, _request: Request) -> Any:
    return step(tx)


async def _in_thread(api: Api, work: Callable[[], T]) -> T:
    reactor = api.reader.reactor
    result: T = await deferToThreadPool(reactor, reactor.getThreadPool(), work)
    return result
