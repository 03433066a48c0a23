"""The part of ``doctor`` about the calls that went without the ledger."""

import pytest

from celcombiller.asterisk.outage.journal_entries import Done
from celcombiller.asterisk.outage.journal_file import JournalFile
from celcombiller.asterisk.outage.journal_place import find_journal, name_ledger
from celcombiller.cli.operations.doctor import _journal
from celcombiller.config.tables import Calls, Config, Database
from tests.asterisk.outage.test_journal_file import ended, went, write


@pytest.fixture
def config(tmp_path):
    return Config(database=Database(url=f"sqlite:///{tmp_path}/ledger.sqlite"))


@pytest.fixture
def file(config):
    made = JournalFile(find_journal(config), name_ledger(config))
    yield made
    made.close()


def said(config):
    return [(f"{each.found}", each.remedy != "") for each in _journal(config)]


def test_without_a_journal_nothing_waits(config, tmp_path):
    assert said(config) == [(f"{tmp_path}/ledger.sqlite.calls: no call waits", False)]


def test_each_call_that_waits_is_listed(config, file, tmp_path):
    write(file, went("a"), went("b"), ended("b"))
    before = file.path.read_bytes()
    (summary, needs_remedy), *calls = said(config)
    assert "2 calls wait for their charge, 15 credits are exposed" in summary
    assert needs_remedy
    assert [line for line, _ in calls] == [
        "a.0 at pbx1, from 1001 to 1002, since 2026-01-05 12:00:00 UTC: was seen last at 2026-01-05 12:00:00 UTC, 10 credits",
        "b.0 at pbx1, from 1001 to 1002, since 2026-01-05 12:00:00 UTC: has ended, 5 credits",
    ]
    assert file.path.read_bytes() == before
    write(file, Done("a"), Done("b"))
    assert said(config)[0][1] is False


def test_a_foreign_journal_is_a_finding(config, file):
    file.path.write_text("hello\n" * 100)
    ((line, needs_remedy),) = said(config)
    assert "is no journal of this program" in line
    assert needs_remedy


def test_a_named_journal_is_found(tmp_path):
    config = Config(calls=Calls(journal=str(tmp_path / "mine")))
    assert find_journal(config) == tmp_path / "mine"


def test_a_postgresql_journal_is_where_it_runs(tmp_path):
    config = Config(database=Database(url="postgresql+psycopg://u@h/ledger"))
    assert find_journal(config, tmp_path) == tmp_path / "celcombiller.calls"
    assert name_ledger(config) == "postgresql ledger"
