"""Importing and exporting price lists by the command; about 2 s."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine

from celcombiller.cli.exit_status import DONE, REFUSED
from celcombiller.core.tariffs import tariff_records
from celcombiller.database.transaction import transact
from tests.core.tariffs.files.test_cgrates_plan import FILES

LIST = "prefix,name,price,increment\n55,Brazil,10,60\n5511,São Paulo,5,30/6\n1,USA,20,60\n"


@pytest.fixture
def tariff(ready, here):
    engine = create_engine(f"sqlite:///{here / 'celcombiller.sqlite'}")
    transact(
        engine,
        lambda tx: tariff_records.add(
            tx, name="retail", credits_per_unit=100, time_zone="America/Belem", now=datetime.now(UTC)
        ),
    )
    engine.dispose()
    return ready


def as_json(output):
    return json.loads(output[1])


def rows(here):
    with closing(sqlite3.connect(here / "celcombiller.sqlite")) as database:
        return database.execute("select prefix, since_version, until_version from rate order by id").fetchall()


def test_an_import_without_yes_writes_nothing(tariff, here):
    (here / "list.csv").write_text(LIST)
    status, out, _ = tariff("tariff", "import", "list.csv")
    assert status == DONE
    assert "new: 3" in out
    assert "run it again with --yes" in out
    assert rows(here) == []


def test_an_import_writes_a_version_once(tariff, here):
    (here / "list.csv").write_text(LIST)
    found = as_json(tariff("tariff", "import", "list.csv", "--tariff", "retail", "--yes", "--json"))
    assert (found["written"], found["version"]) == (True, 1)
    assert len(rows(here)) == 3
    again = as_json(tariff("tariff", "import", "list.csv", "--yes", "--json"))
    assert (again["written"], again["counts"]["same"]) == (False, 3)


def test_an_export_imports_as_no_change(tariff, here):
    (here / "list.csv").write_text(LIST)
    tariff("tariff", "import", "list.csv", "--yes")
    status, out, _ = tariff("tariff", "export", "retail", "--version", "1")
    assert status == DONE
    (here / "again.csv").write_bytes(out.encode())
    found = as_json(tariff("tariff", "import", "again.csv", "--json"))
    assert found["counts"] == {"new": 0, "changed": 0, "gone": 0, "same": 3, "overlapping": 0, "suspicious": 0}


def test_a_second_list_shows_its_differences(tariff, here):
    (here / "list.csv").write_text(LIST)
    tariff("tariff", "import", "list.csv", "--yes")
    (here / "next.csv").write_text(
        "prefix,name,price,increment\n55,Brazil,100,60\n5511,São Paulo,6,30/6\n33,France,1,1\n"
    )
    found = as_json(tariff("tariff", "import", "next.csv", "--json"))
    assert [(each["prefix"], each["per_cent"]) for each in found["changed"]] == [("55", 900), ("5511", 20)]
    assert [(each["prefix"], each["why"]) for each in found["suspicious"]] == [("55", "costs 10 times as much")]
    assert [each["prefix"] for each in found["new"] + found["gone"]] == ["33", "1"]
    merged = as_json(tariff("tariff", "import", "next.csv", "--merge", "--json"))
    assert merged["gone"] == []


def test_a_fault_refuses_the_whole_file(tariff, here):
    (here / "list.csv").write_text(LIST + "5.5E+11,x,1,1\n7,y,free,1\n")
    status, out, _ = tariff("tariff", "import", "list.csv", "--yes")
    assert status == REFUSED
    assert "row 5: prefix 5.5E+11" in out
    assert "row 6: price free: is no amount" in out
    assert "2 faults in the file; nothing was written." in out
    assert rows(here) == []


def test_a_version_waits_for_its_time(tariff, here):
    (here / "list.csv").write_text(LIST)
    found = as_json(tariff("tariff", "import", "list.csv", "--at", "2099-01-01T00:00:00Z", "--yes", "--json"))
    assert found["effective_at"] == "2099-01-01T00:00:00Z"
    status, _, err = tariff("tariff", "export", "retail")
    assert status == REFUSED
    assert "has no version in force at this time" in err


def test_a_folder_of_cgrates_is_imported(tariff, here):
    (here / "plan").mkdir()
    for name, text in FILES.items():
        (here / "plan" / name).write_text(text)
    (here / "plan" / "Accounts.csv").write_text("#Tenant,Id\n")
    found = as_json(tariff("tariff", "import", "plan", "--preset", "cgrates", "--json"))
    assert (found["fault_count"], found["counts"]["new"]) == (0, 5)


@pytest.mark.parametrize("words", [("nothing.csv",), (".",), ("nothing", "--preset", "cgrates")])
def test_what_cannot_be_read_is_refused(tariff, words):
    status, _, err = tariff("tariff", "import", *words)
    assert status == REFUSED
    assert "cannot be read" in err


def test_an_unknown_tariff_is_refused(tariff, here):
    (here / "list.csv").write_text(LIST)
    status, _, err = tariff("tariff", "import", "list.csv", "--tariff", "wholesale")
    assert status == REFUSED
    assert "no tariff is called wholesale" in err


def test_an_import_is_in_the_trail(tariff, here):
    (here / "list.csv").write_text(LIST)
    tariff("tariff", "import", "list.csv", "--yes")
    with closing(sqlite3.connect(here / "celcombiller.sqlite")) as database:
        found = database.execute("select action, after from trail where action like 'write version%'").fetchall()
    ((action, after),) = found
    assert action == "write version 1"
    assert json.loads(after)["rates"]["added"] == 3
