"""The operator's commands for the overview and for reports."""

import json

import pytest
import sqlalchemy as sa

from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine


@pytest.fixture
def counted(ready, here):
    """Return the command, beside a ledger with a day of sums and a movement that is in none yet."""
    engine = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=5)
    with engine.begin() as tx:
        tx.execute(sa.text("insert into day_sum values ('2026-11-01', 'sale', 'voice', 'in', 2, 150)"))
        tx.execute(sa.delete(tables.bookmark))
    engine.dispose()
    assert ready("credit", "ana", 5)[0] == 0
    return ready


def test_days_are_reported_with_what_is_uncounted(counted):
    status, out, err = counted("report", "days", "--from", "2026-11-01", "--until", "2026-11-02")
    assert status == 0
    assert out.splitlines()[1].split()[:4] == ["2026-11-01", "voice", "150", "0"]
    assert "1 of the newest movements" in err
    (row,) = json.loads(counted("report", "days", "--by", "month", "--from", "2026-10-01", "--json")[1])
    assert (row["day"], row["sold"], row["movements"][0]["transfers"]) == ("2026-11-01", 150, 2)


@pytest.mark.parametrize("name", ["sellers", "destinations", "trunks"])
def test_reports_of_nothing_have_their_columns(counted, name):
    status, out, _ = counted("report", name, "--from", "2026-11-01")
    assert (status, len(out.splitlines())) == (0, 1)
    assert counted("report", name, "--from", "2026-11-02", "--until", "2026-11-01")[0] == 3


def test_overview_names_the_command_for_each_need(counted, here):
    engine = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=5)
    with engine.begin() as tx:
        tx.execute(
            sa.text(
                "insert into payment (provider, provider_id, recipient, amount, currency, credits, state, received_at)"
                " values ('p', '1', '9', '1', 'USD', 5, 'unassigned', '2026-11-01 00:00:00.000000')"
            )
        )
    engine.dispose()
    status, out, _ = counted("overview")
    assert status == 0
    assert "0 calls in progress" in out
    assert "payments unassigned: 1 (celcombiller payment list --state unassigned)" in out
    found = json.loads(counted("overview", "--json")[1])
    assert (found["needs"], found["uncounted"]) == ({"payments_unassigned": 1}, 1)
