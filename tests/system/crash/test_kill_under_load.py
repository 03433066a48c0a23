"""A biller that is killed under load, again and again: what it acknowledged on the wire is in the database, once.

As many rounds as fit into ROUNDS_SECONDS run by default; CELCOMBILLER_TEST_KILLS=300 makes it so many.
"""

import os
import random
import time

import pytest
import sqlalchemy as sa

from celcombiller.bench import environment
from celcombiller.bench.load_generator import Plan
from celcombiller.bench.measurements import LEAD_SECONDS, play, tallies
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine

SUBSCRIBERS = 20
"""Few, so that calls in one batch share accounts."""
ROUNDS_SECONDS = 35


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("cluster").database()
    return f"sqlite:///{tmp_path}/killed.sqlite"


def test_what_was_acknowledged_before_a_kill_is_recorded_once(url, tmp_path):
    environment.fill(url, SUBSCRIBERS)
    rounds = int(os.environ.get("CELCOMBILLER_TEST_KILLS", "0"))
    ends_at = time.monotonic() + ROUNDS_SECONDS
    done, dialled, charged, unfinished = 0, 0, 0, 0
    while done < rounds or (not rounds and time.monotonic() < ends_at):
        acknowledged = _load_and_kill(url, tmp_path, number=done)
        _check_recorded(url, acknowledged, prefix=f"kill{done}-")
        done += 1
        dialled += sum(seconds is not None for seconds, _ in acknowledged.values())
        charged += sum(settled for _, settled in acknowledged.values())
        unfinished += sum(seconds is not None and not settled for seconds, settled in acknowledged.values())
    assert environment.differences(url) == 0
    assert done >= 2
    assert min(dialled, charged, unfinished) > 0, (done, dialled, charged, unfinished)


def _load_and_kill(url, folder, number):
    """Start a biller, let calls come, kill it at any moment; give what it had said until then."""
    biller = environment.biller(url, folder)
    try:
        begins_at = time.monotonic() + LEAD_SECONDS
        kill_at = begins_at + random.uniform(0.02, 0.7)
        plan = Plan(
            port=biller.port,
            begins_at=begins_at,
            counts_from=begins_at,
            ends_at=kill_at + 10,
            in_flight=random.choice([1, 8, 64]),
            name=f"kill{number}",
            subscribers=SUBSCRIBERS,
            tells_all=True,
        )
        drivers = play([plan])
        time.sleep(max(0.0, kill_at - time.monotonic()))
    finally:
        biller.kill()
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
