"""``/api/v1/audit``: the ledger recomputed, beside the thread that charges."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import BillerError, Overloaded, TooSlow
from celcombiller.core.reports.views import make_view
from celcombiller.database.reader import READ_SECONDS_MAX
from celcombiller.http.route import Response

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.audit.report import AuditReport
    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

FINDINGS_MAX = 1000


class AuditDifferenceView(msgspec.Struct, kw_only=True):
    """One law that is broken."""

    law: str
    subject: Annotated[str, Meta(description="where it is broken")]
    expected: Annotated[int | str | None, Meta(description="the value that the records make, mostly in credits")]
    found: Annotated[int | str | None, Meta(description="the value that is there, mostly in credits")]


class OverdueHoldView(msgspec.Struct, kw_only=True):
    """An open hold that is older than its validity. It is no difference: it ends once its use is known to be over."""

    reference: str
    account: str
    amount: Annotated[int, Meta(description="credits")]
    expires_at: Annotated[datetime, Meta(tz=True, description="until when it was valid (RFC 3339, UTC)")]


class AuditView(msgspec.Struct, kw_only=True):
    """How much was recomputed, and what differs."""

    ok: Annotated[bool, Meta(description="whether all is as recorded")]
    seconds: Annotated[float, Meta(description="seconds that it took")]
    accounts: Annotated[int, Meta(description="number of accounts")]
    transfers: Annotated[int, Meta(description="number of transfers")]
    holds: Annotated[int, Meta(description="number of holds")]
    calls: Annotated[int, Meta(description="number of calls")]
    schedule_credits: Annotated[int, Meta(description="number of scheduled credits")]
    differences_total: Annotated[int, Meta(description="number of differences")]
    differences: Annotated[list[AuditDifferenceView], Meta(description=f"the first {FINDINGS_MAX}")]
    overdue_holds: Annotated[list[OverdueHoldView], Meta(description=f"the first {FINDINGS_MAX}, the oldest first")]


async def run(api: Api, _http_request: HttpRequest, request: Request) -> Response:
    """Recompute every balance and hold, as `celcombiller audit` does, and list what differs."""
    if api.is_auditing:
        raise Overloaded("the ledger is being recomputed already: wait for that")
    api.is_auditing = True

    def work(tx: Connection) -> tuple[AuditReport, float]:
        began = time.monotonic()
        try:
            return audit(tx, request.now), time.monotonic() - began
        finally:  # here, for who asked may have left meanwhile
            api.is_auditing = False

    try:
        report, seconds = await api.reader.read_snapshot(work)
    except BillerError as error:
        api.is_auditing = False
        if isinstance(error, TooSlow):
            text = f"this ledger takes more than {READ_SECONDS_MAX:.0f} s: run `celcombiller audit` on its machine"
            raise TooSlow(text) from error
        raise
    view = make_view(
        AuditView,
        report,
        seconds=round(seconds, 3),
        differences_total=len(report.differences),
        differences=report.differences[:FINDINGS_MAX],
        overdue_holds=report.overdue_holds[:FINDINGS_MAX],
    )
    return Response(view)
