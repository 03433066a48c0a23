"""``/api/v1/overview``: what happens now, and what needs a person."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.reports import overview
from celcombiller.core.reports.overview import Need
from celcombiller.core.reports.views import AccountWord, make_view
from celcombiller.rest.v1.reports.spans import zone_of
from celcombiller.runtime.languages import mark_text as _

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.http.route import Request

REMEDIES: dict[Need, tuple[str, str]] = {
    Need.OVERDUE_CALLS: (
        "/ui/calls?state=open",
        _("Calls that must be over were not reported: see that the biller is connected to each Asterisk."),
    ),
    Need.NETWORKS_BEHIND: (
        "/ui/networks",
        _("A radio network does not have all changes: see that it answers."),
    ),
    Need.MESSAGES_STUCK: (
        "/ui/messages?state=queued",
        _("Text messages wait for more than 15 minutes: see that the SMSC and Asterisk take them."),
    ),
    Need.CDR_DIFFERENCES: (
        "/ui/cdr-differences",
        _("Records of Asterisk differ from the ledger: compare them, and settle what is missing."),
    ),
    Need.SCHEDULES_WAITING: (
        "/ui/schedules",
        _("Scheduled credits are due and not made: see the runs of the schedules."),
    ),
    Need.SELLERS_LOW: (
        "/ui/sellers",
        _("Sellers have less to sell than they sold in the last 24 hours: refill them."),
    ),
    Need.FEES_UNPAID: (
        "/ui/fees?state=owed",
        _("Fees are unpaid: they are taken when credit comes, or waive them."),
    ),
    Need.PAYMENTS_UNASSIGNED: (
        "/ui/payments?state=unassigned",
        _("Payments came for nobody that is known: say whose they are."),
    ),
}
"""The page where each need is seen to, and what to do."""


class NeedView(msgspec.Struct, kw_only=True):
    """Something that needs a person."""

    need: Annotated[Need, Meta(description="what it is")]
    count: Annotated[int, Meta(description="number of them")]
    remedy: Annotated[str, Meta(description="what it means, and what to do, in one sentence")]
    link: Annotated[str, Meta(description="the page of the console that shows them")]


class FiguresView(msgspec.Struct, kw_only=True):
    """What was sold and used of one kind of credit."""

    account: AccountWord
    sold_today: Annotated[int, Meta(description="credits sold or given today, in the operator's time zone")]
    used_today: Annotated[int, Meta(description="credits that calls, messages, data, plans and fees took today")]
    sold_month: Annotated[int, Meta(description="credits sold or given in this month")]
    used_month: Annotated[int, Meta(description="credits that calls, messages, data, plans and fees took this month")]


class OverviewView(msgspec.Struct, kw_only=True):
    """What happens now, and what needs a person."""

    calls: Annotated[int, Meta(description="number of calls in progress")]
    today: Annotated[date, Meta(description="the day of the figures, in the operator's time zone")]
    figures: list[FiguresView]
    needs: list[NeedView]
    uncounted: Annotated[int, Meta(description="number of the newest transfers that are in no sum yet, about")]


def show(tx: Connection, request: Request) -> OverviewView:
    """Show what happens now, what was sold and used, and what needs a person and what to do about it."""
    found = overview.look_over(tx, request.config.schedules.rules, zone_of(request), request.now)
    needs = [
        NeedView(need=need, count=count, remedy=REMEDIES[need][1], link=REMEDIES[need][0])
        for need, count in found.needs.items()
    ]
    return make_view(OverviewView, found, needs=needs)
