"""A ledger that was written before the tree was moved and renamed: it is used as it is, and every credit is there.

``tests/data/ledger_before_move.sql`` has rows in every table: calls, text messages and data sessions that are open and
that are over, holds, credits by hand and by schedule, a reversal, notices, tokens, sessions, entries of a radio network.
"""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from celcombiller.cli import main
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Terminate
from celcombiller.core.data.accounting_reports import AcctStatusType as UsageTold
from celcombiller.core.data.accounting_reports import Conditions, Usage
from celcombiller.core.model.calls import CallReport, Witness
from celcombiller.core.model.messages import MessageState
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import migrations
from celcombiller.core.sms.charging import MessageOutcome as MessageTold
from celcombiller.database.engine import open_engine

DUMP = Path(__file__).parent / "data" / "ledger_before_move.sql"
OPENED_AT = datetime(2026, 3, 2, 16, tzinfo=UTC)
TERMS = ChargingPolicy(Tariff([Rate()]))
BALANCES = {
    # username: posted and held of voice, of data, of sms
    "admin": (0, 0, 0, 0, 0, 0),
    "ana": (484, 0, 4598, 500, 15, 1),
    "bia": (400, 400, 1100, 500, 0, 0),
    "clara": (0, 0, 0, 0, 0, 0),
    "davi": (40, 0, 0, 0, 0, 0),
    "eva": (10, 0, 0, 0, 5, 1),
}


pytestmark = pytest.mark.xdist_group("old ledger")  # one migration for all of it, which takes 3 s


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(DUMP.read_text(encoding="utf-8"))
    engine = open_engine(f"sqlite:///{path}", lock_seconds=1, foreign_keys=False)
    with engine.begin() as tx:
        migrations.upgrade(tx)
    engine.dispose()  # what is in the log beside the file is written to it then
    return path.read_bytes()


@pytest.fixture
def ledger(migrated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(migrated)
    monkeypatch.setenv("CELCOMBILLER_DATABASE_URL", f"sqlite:///{path}")
    return path


@pytest.fixture
def command(ledger, capsys):
    def run(*words):
        status = main([*words, "--json"])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


@pytest.fixture
def ask(ledger):
    engine = open_engine(f"sqlite:///{ledger}", lock_seconds=1)

    def one(request, at):
        with engine.begin() as tx:
            (answer,) = process_batch(tx, TERMS, [request], at)
        return answer

    yield one
    engine.dispose()


def balances(command):
    kinds = ("voice", "data", "sms")
    return {
        user["username"]: tuple(user[f"{kind}_{what}"] for kind in kinds for what in ("balance", "held"))
        for user in command("user", "list")
    }


def content(path):
    with closing(sqlite3.connect(path)) as tx:
        return list(tx.iterdump())


def test_it_is_opened_and_proved_without_a_migration(ledger, command):
    before = content(ledger)
    report = command("audit")
    counted = [report[name] for name in ("ok", "accounts", "transfers", "holds", "calls", "schedule_credits")]
    assert counted == [True, 28, 22, 15, 5, 4]  # four of them are the operators of bundles
    assert content(ledger) == before


def test_every_balance_is_as_it_was(command):
    assert balances(command) == BALANCES


def test_its_open_call_is_charged_once(ask, command):
    end = OPENED_AT + timedelta(seconds=67)
    ending = CallReport(answered=True, at=end, talk_ms=61_500, outcome="ANSWER 16")
    request = Terminate("pbx1", "pbx1-5.0", Witness.AGI, ending)
    first, again = ask(request, end), ask(request, end)
    assert (first.first, first.call.state, first.call.cost) == (True, "settled", 62)
    assert (again.first, again.call.cost) == (False, 62)
    assert balances(command)["bia"] == (338, 0, 1100, 500, 0, 0)
    assert command("audit")["ok"]


def test_its_open_data_session_is_charged_on(ask, command):
    conditions = Conditions(octets_per_credit=10, quota_octets=5000)
    end = OPENED_AT + timedelta(minutes=4)
    stop = Usage("hotspot/nas1", "A2", "ana", UsageTold.STOP, end, 2500, 10, conditions=conditions)
    assert ask(stop, end).charged == 251
    assert balances(command)["ana"] == (484, 0, 4598 - 150, 0, 15, 1)
    assert command("audit")["ok"]


@pytest.mark.parametrize(("outcome", "posted"), [(MessageState.ACCEPTED, 14), (MessageState.EXPIRED, 15)])
def test_its_queued_message_ends_as_its_carrier_says(ask, command, outcome, posted):
    assert ask(MessageTold("sms:a4", outcome), OPENED_AT + timedelta(minutes=1)).message.state == outcome
    assert balances(command)["ana"] == (484, 0, 4598, 500, posted, 0)
    assert command("audit")["ok"]
