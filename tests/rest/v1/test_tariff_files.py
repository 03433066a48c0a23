"""Price lists as files by /api/v1/tariffs/{id}/rates; about 3 s."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted

from celcombiller.core.schema import tables
from tests.core.tariffs.files.test_cgrates_plan import FILES
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture, header

biller = biller_fixture(upload_mib_max=1, body_kib_max=1)
TARIFF = "/api/v1/tariffs/1"
RATES = f"{TARIFF}/rates"
CSV = {"Content-Type": "text/csv; charset=utf-8"}
LIST = "prefix,name,price,increment\n55,Brazil,10,60\n5511,São Paulo,5,30/6\n1,USA,20,60\n".encode()


async def administrator(biller, **fields):
    admin = await biller.logged_in("admin")
    answer = await admin.post(
        "/api/v1/tariffs", {"name": "retail", "credits_per_unit": 100, "time_zone": "UTC", **fields}
    )
    assert answer.code == 201, answer.bytes
    return admin


async def upload(client, data, query="", method="PUT", headers=CSV):
    return await client.ask(method, f"{RATES}{query}", raw=data, headers=headers)


@pytest_twisted.ensureDeferred
async def test_a_dry_run_shows_and_writes_nothing(biller):
    admin = await administrator(biller)
    answer = await upload(admin, LIST, "?dry_run=true")
    assert answer.code == 200, answer.bytes
    assert (answer.body["written"], answer.body["counts"]["new"]) == (False, 3)
    assert [each["cost"] for each in answer.body["new"]] == ["10", "5", "20"]
    assert not biller.rows(tables.rate)


@pytest_twisted.ensureDeferred
async def test_an_upload_becomes_the_next_version(biller):
    admin = await administrator(biller)
    answer = await upload(admin, LIST)
    assert (answer.code, answer.body["version"]) == (200, 1)
    assert len(biller.rows(tables.rate)) == 3
    assert (await upload(admin, LIST)).body["written"] is False
    trail = [row["action"] for row in biller.rows(tables.trail) if row["subject"] == "tariff:1"]
    assert trail == ["add", "write version 1"]


@pytest_twisted.ensureDeferred
async def test_a_merged_upload_keeps_other_prefixes(biller):
    admin = await administrator(biller)
    await upload(admin, LIST)
    at = (datetime.now(UTC) + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    merged = await upload(admin, b"prefix,price\n1,40\n", f"?at={at}", "POST")
    assert (merged.body["counts"]["gone"], merged.body["effective_at"][:19]) == (0, at[:19])
    assert [each["per_cent"] for each in merged.body["changed"]] == [100]
    replaced = await upload(admin, b"prefix,price\n1,40\n", f"?dry_run=true&at={at}")
    assert replaced.body["counts"] == {"new": 0, "changed": 0, "gone": 2, "same": 1, "overlapping": 0, "suspicious": 0}


@pytest_twisted.ensureDeferred
async def test_a_download_can_be_uploaded_again(biller):
    admin = await administrator(biller)
    await upload(admin, LIST)
    answer = await admin.get(f"{RATES}.csv?version=1")
    assert (answer.code, header(answer, "content-type")) == (200, "text/csv; charset=utf-8; header=present")
    again = await upload(admin, answer.bytes, "?dry_run=true")
    assert (again.body["fault_count"], again.body["counts"]["same"], again.body["counts"]["gone"]) == (0, 3, 0)
    refused(await admin.get(f"{RATES}.csv"), 422, "INVALID")
    refused(await admin.get(f"{RATES}.csv?version=9"), 404, "UNKNOWN_TARIFF")


@pytest_twisted.ensureDeferred
async def test_faults_name_their_rows_and_nothing_is_written(biller):
    admin = await administrator(biller)
    data = LIST + b"5.5E+11,x,1,1\n7,y,free,1\n"
    answer = await upload(admin, data)
    refused(answer, 422, "INVALID")
    assert "price free: is no amount" in str(answer.body)
    assert "row 5" in str(answer.body)
    dry = await upload(admin, data, "?dry_run=true")
    assert [each["row"] for each in dry.body["faults"]] == [5, 6]
    assert not biller.rows(tables.rate)


@pytest_twisted.ensureDeferred
async def test_tables_of_cgrates_are_one_upload(biller):
    admin = await administrator(biller)
    answer = await upload(admin, "\n".join(FILES.values()).encode(), "?preset=cgrates&dry_run=true")
    assert (answer.body["fault_count"], answer.body["counts"]["new"]) == (0, 5)


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (LIST, {"Content-Type": "application/json"}, 415, "WRONG_MEDIA_TYPE"),
        (b"prefix,price\n" + b"1,1\n" * 300_000, CSV, 413, "TOO_LARGE"),
        (b"", CSV, 422, "INVALID"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_file_of_csv_is_refused(biller, data, headers, status, code):
    admin = await administrator(biller)
    answer = await upload(admin, data, headers=headers)
    assert answer.code == status, answer.bytes
    assert answer.body["code"] == code


@pytest_twisted.ensureDeferred
async def test_only_administrators_bring_price_lists(biller):
    admin = await administrator(biller)
    await upload(admin, LIST)
    for name in ("clara", "ana"):
        client = await biller.logged_in(name)
        refused(await upload(client, LIST), 403, "FORBIDDEN")
        assert (await client.get(f"{RATES}.csv?version=1")).code == (200 if name == "clara" else 403)
    refused(await upload(biller.client(), LIST), 401, "NOT_AUTHENTICATED")


@pytest_twisted.ensureDeferred
async def test_a_large_upload_needs_a_login(biller):
    answer = await upload(biller.client(), b"x" * 5000)
    refused(answer, 401, "NOT_AUTHENTICATED")


@pytest_twisted.ensureDeferred
async def test_csv_at_other_addresses_is_refused(biller):
    admin = await administrator(biller)
    answer = await admin.ask("POST", "/api/v1/tariffs", raw=b"x" * 5000, headers=CSV)
    assert answer.code == 415, answer.bytes
