"""A biller that is killed under load, again and again: what it acknowledged on the wire is in the database, once.

It is killed until a kill has met each of what it can meet, with one call at a time and with many; the nightly run goes
on to as many kills as it is told.
"""

import random
import time

import pytest
import sqlalchemy as sa

from celcombiller.bench import environment
from celcombiller.bench.load_generator import Plan
from celcombiller.bench.measurements import LEAD_SECONDS, play, tallies
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from tests.support import databases
from tests.system.lab.biller import Biller

SUBSCRIBERS = 20
"""Few, so that calls in one batch share accounts."""
IN_FLIGHT = (1, 8, 64)
ROUNDS_MOST = 60


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return databases.postgresql(request.getfixturevalue("cluster"))
    return f"sqlite:///{tmp_path}/killed.sqlite"


@pytest.mark.parametrize("rounds_least", [1, pytest.param(100, marks=pytest.mark.nightly)])
def test_acknowledged_work_survives_a_kill_once(url, tmp_path, rounds_least):
    environment.fill(url, SUBSCRIBERS)
    wanted = {(in_flight, moment) for in_flight in IN_FLIGHT for moment in ("dialled", "charged")}
    done = 0
    while done < rounds_least or wanted:
        assert done < rounds_least + ROUNDS_MOST, f"no kill fell on {wanted}"
        in_flight = IN_FLIGHT[done % len(IN_FLIGHT)]
        acknowledged = _load_and_kill(url, tmp_path, in_flight, number=done)
        _check_recorded(url, acknowledged, prefix=f"kill{done}-")
        done += 1
        wanted -= {
            (in_flight, "charged" if settled else "dialled")
            for seconds, settled in acknowledged.values()
            if seconds is not None
        }
    assert environment.differences(url) == 0


def _load_and_kill(url, folder, in_flight, number):
    """Start a biller, let calls come, kill it at any moment; give what it had said until then."""
    biller = Biller(folder / "biller", url=url)
    biller.calls = {"decision_seconds": 60}
    biller.agi = {"idle_seconds": 60}
    biller.write()
    biller.start()
    try:
        begins_at = time.monotonic() + LEAD_SECONDS
        kill_at = begins_at + random.uniform(0.02, 0.7) * (1 + number / 10)  # a busy machine takes longer to begin
        plan = Plan(
            port=biller.agi_port,
            begins_at=begins_at,
            counts_from=begins_at,
            ends_at=kill_at + 10,
            in_flight=in_flight,
            name=f"kill{number}",
            subscribers=SUBSCRIBERS,
            tells_all=True,
        )
        drivers = play([plan])
        time.sleep(max(0.0, kill_at - time.monotonic()))
    finally:
        biller.kill9()
    (tally,) = tallies(drivers, 30)
    return tally.acknowledged


def _check_recorded(url, acknowledged, prefix):
    call, hold, transfer = tables.call, tables.hold, tables.transfer
    engine = open_engine(url, lock_seconds=5)
    with engine.begin() as tx:
        rows = tx.execute(
            sa.select(call.c.uniqueid, call.c.state, call.c.granted_seconds, call.c.cost, hold.c.amount.label("held"))
            .join(hold, hold.c.reference == call.c.reference)
            .where(call.c.uniqueid.startswith(prefix))
        ).all()
        charges = dict(
            tx.execute(
                sa.select(call.c.uniqueid, sa.func.count(transfer.c.id))
                .join(transfer, transfer.c.reference == call.c.reference)
                .where(call.c.uniqueid.startswith(prefix))
                .group_by(call.c.uniqueid)
            ).all()
        )
    engine.dispose()
    recorded = {row.uniqueid: row for row in rows}
    assert len(recorded) == len(rows), "a call is there twice"
    for uniqueid, (seconds, settled) in acknowledged.items():
        row = recorded.get(uniqueid)
        if seconds is not None:
            assert row is not None, f"{uniqueid} was dialled, and is not recorded"
            assert (row.granted_seconds, row.held) == (seconds, seconds), uniqueid
        if settled:
            assert (row.state, row.cost, charges.get(uniqueid)) == ("settled", 30, 1), uniqueid
        if row is not None:
            assert charges.get(uniqueid, 0) == (row.state == "settled"), uniqueid
