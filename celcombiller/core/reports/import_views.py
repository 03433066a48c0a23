"""What an import of a price list found and changes, as the command prints it and the API answers it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.tariffs.differences import cost_of_use

if TYPE_CHECKING:
    from celcombiller.core.tariffs.differences import Differences, RateChange
    from celcombiller.core.tariffs.files.findings import Finding, Findings
    from celcombiller.core.tariffs.rate_row import RateRow
    from celcombiller.core.tariffs.tariff_records import TariffRecord
    from celcombiller.core.tariffs.versions import VersionRecord

_COST = "credits of one minute, message or MiB, with its fee; with ~, rounded"


class FileFinding(msgspec.Struct, kw_only=True):
    """What was found in a row of a file."""

    row: Annotated[int, Meta(description="the number of the row in the file, from 1; 0: the whole file")]
    text: Annotated[str, Meta(description="what is wrong or odd")]
    file: Annotated[str, Meta(description="which file, where there are several")] = ""


class ListedRate(msgspec.Struct, kw_only=True):
    """A rate of a list, in short."""

    service: str
    prefix: str
    name: str
    window: str
    cost: Annotated[str, Meta(description=_COST)]


class ChangedRate(msgspec.Struct, kw_only=True):
    """A rate before and after."""

    service: str
    prefix: str
    name: str
    window: str
    before: Annotated[str, Meta(description=_COST)]
    after: Annotated[str, Meta(description=_COST)]
    per_cent: Annotated[int, Meta(description="the change in per cent of the credits before; null: they were 0")] | None
    why: Annotated[str, Meta(description="why it is suspicious, or empty")] = ""


class OverlappingRate(msgspec.Struct, kw_only=True):
    """A new rate for part of the numbers of another destination."""

    service: str
    prefix: str
    name: str
    cost: Annotated[str, Meta(description=_COST)]
    within: Annotated[str, Meta(description="the shorter prefix, which those numbers had before")]
    within_name: str
    within_cost: Annotated[str, Meta(description=_COST)]


class ImportView(msgspec.Struct, kw_only=True):
    """What was found in a price list, and what it changes. With a fault nothing is written."""

    tariff: str
    written: Annotated[bool, Meta(description="whether a version was written")]
    version: Annotated[int, Meta(description="the number of the new version")] | None
    effective_at: Annotated[datetime, Meta(tz=True, description="when it takes effect (RFC 3339, UTC)")] | None
    fault_count: Annotated[int, Meta(description="the number of faults in the file")]
    faults: Annotated[list[FileFinding], Meta(description="the first of those that must be mended")]
    remark_count: Annotated[
        int, Meta(description="the number of rows that were read otherwise than they stand, or left out")
    ]
    remarks: list[FileFinding]
    counts: Annotated[
        dict[str, int],
        Meta(description="the number of rates that are new, changed, gone, same, overlapping, suspicious"),
    ]
    new: list[ListedRate] = []
    changed: list[ChangedRate] = []
    gone: list[ListedRate] = []
    overlapping: list[OverlappingRate] = []
    suspicious: list[ChangedRate] = []


def view_of_import(
    tariff: TariffRecord, findings: Findings, found: Differences | None, version: VersionRecord | None
) -> ImportView:
    """Return the view; without differences, because of a fault."""
    view = ImportView(
        tariff=tariff.name,
        written=version is not None,
        version=None if version is None else version.number,
        effective_at=None if version is None else version.effective_at,
        fault_count=findings.fault_count,
        faults=[_view_of_finding(each) for each in findings.faults],
        remark_count=findings.remark_count,
        remarks=[_view_of_finding(each) for each in findings.remarks],
        counts={} if found is None else found.counts,
    )
    if found is not None:
        view.new = [_view_of_rate(each) for each in found.new]
        view.changed = [_view_of_change(each) for each in found.changed]
        view.gone = [_view_of_rate(each) for each in found.gone]
        view.suspicious = [_view_of_change(each) for each in found.suspicious]
        view.overlapping = [_view_of_overlap(*each) for each in found.overlapping]
    return view


def _view_of_finding(finding: Finding) -> FileFinding:
    return FileFinding(row=finding.row, text=finding.text, file=finding.file)


def _view_of_rate(rate: RateRow) -> ListedRate:
    prefix = "on-net" if rate.on_net else rate.prefix
    return ListedRate(service=rate.service, prefix=prefix, name=rate.name, window=rate.window, cost=_cost(rate))


def _view_of_change(change: RateChange) -> ChangedRate:
    rate = change.after
    return ChangedRate(
        service=rate.service,
        prefix="on-net" if rate.on_net else rate.prefix,
        name=rate.name,
        window=rate.window,
        before=_cost(change.before),
        after=_cost(rate),
        per_cent=change.per_cent,
        why=change.reason,
    )


def _view_of_overlap(rate: RateRow, wider: RateRow) -> OverlappingRate:
    return OverlappingRate(
        service=rate.service,
        prefix=rate.prefix,
        name=rate.name,
        cost=_cost(rate),
        within=wider.prefix,
        within_name=wider.name,
        within_cost=_cost(wider),
    )


def _cost(rate: RateRow) -> str:
    """Return credits with at most three decimals: exact where they are fewer, else beginning with ``~``."""
    thousandths, rest = divmod(cost_of_use(rate) * 1000, 1)
    text = f"{int(thousandths) // 1000}.{int(thousandths) % 1000:03}".rstrip("0").rstrip(".")
    return f"~{text}" if rest else text
