"""The operator's command that compares Asterisk's records with the ledger."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from celcombiller.cli.exit_status import DIFFERS, DONE, REFUSED
from celcombiller.core.access import audit_trail
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.reconciliation.difference_records import list_differences
from celcombiller.database.engine import open_engine
from tests.core.ledger.test_book import TERMS, initiate
from tests.core.reconciliation.test_settlement import talked

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
SERVER = ("--server", "pbx1", "--zone", "UTC")


def line(number=0, *, src="2001", dst="2001", talk=60):
    """Return a record of a call of ana's to herself, a minute after the one before."""
    began = BEGAN + timedelta(minutes=number)
    times = [f"{began + timedelta(seconds=each):%F %T}" for each in (0, 5, 5 + talk)]
    values = ["", src, dst, "caller", "x", f"PJSIP/{number}", "PJSIP/2", "Dial", "", *times, 5 + talk, talk, "ANSWERED"]
    return ",".join(f'"{each}"' for each in (*values, "3", f"{int(began.timestamp())}.{number % 100}")) + "\n"


def uniqueid(number):
    return f"{int((BEGAN + timedelta(minutes=number)).timestamp())}.{number}"


@pytest.fixture
def engine(here):
    made = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=5)
    yield made
    made.dispose()


@pytest.fixture
def ledger(ready, here, engine):
    """Return the command. Ana has 500 credits; of five calls one is known, one open, one longer, two are missing."""
    assert ready("credit", "ana", 500)[0] == 0
    with engine.begin() as tx:
        for number, talk in ((0, 60), (1, 30)):
            request, end = talked(uniqueid(number), talk=talk, caller="2001", called="2001")
            began = BEGAN + timedelta(minutes=number)
            process_batch(tx, TERMS, [request], began)
            shifted = {"at": began + timedelta(seconds=5 + talk), "answered_at": began + timedelta(seconds=5)}
            process_batch(tx, TERMS, [replace(end, ending=structs.replace(end.ending, **shifted))], began)
        process_batch(tx, TERMS, [initiate(uniqueid(2), "2001", "2001")], BEGAN + timedelta(minutes=2))
    records = "".join(map(line, range(5))) + line(5, src="5511999999999")
    (here / "Master.csv").write_text(records)
    return ready


def test_a_dry_run_lists_and_changes_nothing(ledger):
    before = ledger("user", "show", "ana", "--json")[1]
    status, out, err = ledger("reconcile", "--cdr", "Master.csv", *SERVER)
    assert (status, err) == (DIFFERS, "")
    lines = out.splitlines()
    assert [each.split()[0] for each in lines[1:5]] == ["duration", "open", "missing", "missing"]
    assert "Settling them would charge 180 credits. Nothing was written: add --apply to settle them." in lines
    assert ledger("user", "show", "ana", "--json")[1] == before


def test_apply_settles_once_and_is_in_the_trail(ledger, engine):
    status, out, _ = ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--apply")
    assert (status, out.splitlines()[-1]) == (DIFFERS, "Settled 3 calls for 180 credits.")
    again = json.loads(ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--apply", "--json")[1])
    assert (again["settled"], again["duration"], again["missing"], again["open"]) == (0, 1, 0, 0)
    assert ledger("audit")[0] == 0
    with engine.begin() as tx:
        (entry,) = [each for each in audit_trail.entries(tx, limit=10) if each.action == "reconcile"]
        assert json.loads(entry.after) == {"source": "Master.csv", "settled": 3, "credits": 180}
        assert [each.state for each in list_differences(tx, limit=10)].count("settled") == 3
    calls = json.loads(ledger("calls", "--json")[1])
    assert sorted(each["witness"] for each in calls) == ["agi", "agi", "cdr", "cdr", "cdr"]


def test_json_and_csv_have_all_differences(ledger):
    document = json.loads(ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--json")[1])
    assert (document["rows"], document["channels"], document["server"], document["zone"]) == (6, 6, "pbx1", "UTC")
    assert [(each["kind"], each["cost"]) for each in document["items"]] == [
        *(("duration", None), ("open", 60), ("missing", 60), ("missing", 60))
    ]
    rows = list(csv.DictReader(io.StringIO(ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--csv")[1])))
    assert [(each["kind"], each["row"]) for each in rows][-1] == ("missing", "5")


def test_rows_that_cannot_be_read_are_named(ledger, here):
    with (here / "Master.csv").open("a") as file:
        file.write('"broken\n' + line(6))
    status, out, err = ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--apply")
    assert status == DIFFERS
    assert err.splitlines()[0] == "Master.csv: row 7 is no CSV: unexpected end of data"
    assert "Settled 4 calls for 240 credits." in out


def test_a_charged_call_without_a_record_is_found(ledger, here):
    (here / "Master.csv").write_text(line(-1) + line(3))
    document = json.loads(ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--json")[1])
    assert [each["kind"] for each in document["items"]] == ["missing", "missing", "no_cdr", "no_cdr"]


def test_nothing_left_is_done(ledger, here):
    (here / "Master.csv").write_text(line(0))
    assert ledger("reconcile", "--cdr", "Master.csv", *SERVER)[0] == DONE
    (here / "Master.csv").write_text("")
    assert ledger("reconcile", "--cdr", "Master.csv", *SERVER)[0] == DONE


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--cdr", "none.csv", *SERVER), "none.csv cannot be read: No such file or directory"),
        (("--cdr", "Master.csv", "--zone", "UTC"), "say with --server"),
        (("--cdr", "Master.csv", "--server", "pbx1", "--zone", "Mars"), "there is no time zone Mars"),
        (("--cdr", "Master.csv", "--server", "pbx1", "--zone", "America/Belem"), "is the time zone right?"),
        (("--cdr", "Master.csv", "--server", "pbx1", "--zone", "Etc/GMT+1"), "state the time zone"),
        (("--cdr", "celcombiller.sqlite", *SERVER), "no such table: cdr"),
        (("--cdr", "mysql+nodriver://x/y", *SERVER), "nodriver"),
    ],
)
def test_what_cannot_be_compared_says_why(ledger, words, reason):
    status, out, err = ledger("reconcile", *words)
    assert (status, out) == (REFUSED, "")
    assert reason in err
    assert len(err.splitlines()) == 1


def test_only_wanted_times_and_contexts_count(ledger):
    since = (BEGAN + timedelta(minutes=4)).isoformat()
    document = json.loads(ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--since", since, "--json")[1])
    assert [each["row"] for each in document["items"]] == [5]
    document = json.loads(ledger("reconcile", "--cdr", "Master.csv", *SERVER, "--context", "other", "--json")[1])
    assert document["missing"] == 0
