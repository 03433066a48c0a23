"""What differs between Asterisk's records and the ledger, by /api/v1."""

from datetime import UTC, datetime

import pytest_twisted

from celcombiller.core.reconciliation.difference_records import record_differences
from celcombiller.core.reconciliation.settlement import PastCatalogue, reconcile_channels
from celcombiller.database.transaction import transact
from tests.core.ledger.test_book import TERMS
from tests.core.reconciliation.test_settlement import HOW, cdr
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture

biller = biller_fixture()


def record(tx):
    now = datetime.now(UTC)
    channels = [cdr(f"{number}.0") for number in range(3)]
    found = reconcile_channels(tx, PastCatalogue(TERMS), HOW, channels, now, apply=False)
    return record_differences(tx, HOW, found, now)


@pytest_twisted.ensureDeferred
async def test_differences_are_listed_in_pages(biller):
    found = transact(biller.engine, record)
    assert len(found) == 3
    admin = await biller.logged_in("admin")
    page = (await admin.get("/api/v1/cdr-differences?limit=2")).body
    assert [each["uniqueid"] for each in page["items"]] == ["2.0", "1.0"]
    first = page["items"][0]
    assert (first["kind"], first["state"], first["cdr_ms"], first["source"], first["row"]) == (
        *("missing", "found", 60_000),
        *("Master.csv", 1),
    )
    rest = (await admin.get(f"/api/v1/cdr-differences?limit=2&cursor={page['next']}")).body
    assert [each["uniqueid"] for each in rest["items"]] == ["0.0"]
    assert (await admin.get("/api/v1/cdr-differences?kind=open")).body["items"] == []
    refused(await (await biller.logged_in("ana")).get("/api/v1/cdr-differences"), 403, "FORBIDDEN")
