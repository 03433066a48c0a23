"""The routes of reports and of the overview, for the table of `/api/v1`."""

from __future__ import annotations

from celcombiller.core.errors import PasswordNeeded
from celcombiller.http.authorization import STAFF_READ
from celcombiller.http.route import Route
from celcombiller.http.transport.streaming import CSV_TYPE
from celcombiller.rest.v1.reports import day_sums, overview, uses
from celcombiller.rest.v1.reports.spans import SpanQuery

V1 = "/api/v1"

REPORTS = f"{V1}/reports"

_REPORTS = (
    ("days", day_sums.show, day_sums.DayQuery, day_sums.DayReport),
    ("sellers", uses.show_sellers, SpanQuery, uses.SellerReport),
    ("destinations", uses.show_destinations, uses.DestinationQuery, uses.DestinationReport),
    ("trunks", uses.show_trunks, SpanQuery, uses.TrunkReport),
)

_FILES = (
    ("days", day_sums.download_days, day_sums.DayQuery),
    ("sellers", uses.download_sellers, SpanQuery),
    ("destinations", uses.download_destinations, SpanQuery),
    ("trunks", uses.download_trunks, SpanQuery),
)

REPORT_ROUTES = (
    Route(method="GET", path=f"{V1}/overview", who=STAFF_READ, do=overview.show, answer=overview.OverviewView),
    *(
        Route(method="GET", path=f"{REPORTS}/{name}", who=STAFF_READ, do=show, query=query, answer=answer)
        for name, show, query, answer in _REPORTS
    ),
    *(
        Route(
            method="GET",
            path=f"{REPORTS}/{name}.csv",
            who=STAFF_READ,
            serve=serve,
            query=query,
            answer=str,
            answer_type=CSV_TYPE,
            refusals=(PasswordNeeded,),
        )
        for name, serve, query in _FILES
    ),
)
