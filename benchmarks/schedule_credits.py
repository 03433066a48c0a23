"""How fast many members are credited, or charged a fee, on a due date, and how long calls wait meanwhile.

`make bench-schedules` runs it on SQLite and on its own PostgreSQL. `make bench-fees` takes a fee in the same way after
it, credits the same members once more, and compares the fee with the mean of both credits: tables and indexes grow from
run to run. The yardstick: the same rows, written by four set-wise statements in one transaction to
a copy of the same database. It is not a test: it asserts only that every member was credited, and paid, and that the
ledger is right.
"""

import argparse
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

sys.path.insert(0, str(Path(__file__).parents[1]))

from typing import TYPE_CHECKING

from celcombiller.bench.postgresql import PostgreSQL
from celcombiller.core.audit.report import audit
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit, Initiate, Terminate
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.calls import CallGrant, CallReport, Witness
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import schedule_records
from celcombiller.core.schedules.runs import ScheduleRules, history
from celcombiller.core.schema import migrations, tables
from celcombiller.database.batch_writer import BatchWriter
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.jobs.schedule_pass import SchedulePass

if TYPE_CHECKING:
    from celcombiller.core.model.schedules import Run

TERMS = ChargingPolicy(Tariff([Rate()]), external=True)
CALLERS = 500
VALUE = 60
_NUMBERS = count(1)

FIRST = 1000
"""The subscriber ids of members are larger than this."""


def populate(engine: sa.Engine, members: int) -> None:
    """Make the subscribers; the first have credit and make calls."""
    numbers = (
        "with recursive n(g) as (select 1 union all select g + 1 from n where g < :members) select g from n"
        if engine.dialect.name == "sqlite"
        else "select g from generate_series(1, :members) as series(g)"
    )
    now = datetime.now(UTC)
    given = {"members": members, "now": now, "today": now.date()}
    with engine.begin() as tx:
        migrations.upgrade(tx)
        execute(
            tx,
            "insert into subscriber (id, username, name, clid, imsi, level, enabled, created_at)"
            f" select {FIRST} + g, 'u' || g, 'N', cast(55000000 + g as text), cast(724000000000000 + g as text),"
            f" 1, true, :now from ({numbers}) as n",
            given,
        )
        for kind in Kind:
            columns = f"select id, '{kind}', 0, 0 from subscriber order by id"
            execute(tx, f"insert into account (subscriber_id, kind, posted, held) {columns}", given)
        rich = [Credit(f"u{n}", Kind.VOICE, 10**9, "web", f"id:{n}") for n in range(1, min(members, CALLERS) + 1)]
        process_batch(tx, TERMS, rich, now)


def add_schedule(engine: sa.Engine, name: str, **terms: object) -> None:
    """Make a schedule with all subscribers that comes due today; those before it come due no more."""
    now = datetime.now(UTC)
    with engine.begin() as tx:
        for each in tx.execute(sa.select(tables.schedule.c.id)).scalars().all():
            schedule_records.change(tx, each, enabled=False)
        made = schedule_records.add(
            tx,
            name=name,
            kind=1,
            value=VALUE,
            recurrence="days",
            day=None,
            interval_days=1,
            first_on=date(2020, 1, 1),
            count=12,
            time_zone="UTC",
            now=now,
            **terms,
        )
        columns = f"select {made.id}, id, 12, :today from subscriber order by id"
        joined = f"insert into membership (schedule_id, subscriber_id, count, joined_on) {columns}"
        execute(tx, joined, {"today": now.date()})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("vacuum analyze")
            connection.exec_driver_sql("checkpoint")


def execute(tx: sa.Connection, statement: str, given: dict) -> None:
    types = {"now": tables.Instant(), "today": sa.Date()}
    named = {name: value for name, value in given.items() if f":{name}" in statement}
    typed = [sa.bindparam(name, type_=types.get(name)) for name in named]
    tx.execute(sa.text(statement).bindparams(*typed), named)


def yardstick(engine: sa.Engine) -> float:
    """Write the same rows by set-wise SQL in one transaction; return the seconds that it took."""
    now = datetime.now(UTC)
    given = {"now": now, "value": VALUE, "today": now.date()}
    due = ":today" if engine.dialect.name == "sqlite" else "cast(:today as date)"
    reference = f"'schedule:' || m.schedule_id || ':' || m.subscriber_id || ':' || {due} || '\\:voice'"
    began = time.perf_counter()
    with engine.begin() as tx:
        for statement in (
            "insert into transfer (reference, debit_account_id, credit_account_id, amount, origin, at, credit_posted)"
            f" select {reference}, 1, a.id, :value, 'schedule', :now, a.posted + :value"
            " from membership m join account a on a.subscriber_id = m.subscriber_id and a.kind = 'voice' order by m.id",
            "update account set posted = posted + :value"
            " where kind = 'voice' and subscriber_id in (select subscriber_id from membership)",
            "insert into schedule_credit"
            " (schedule_id, subscriber_id, due_on, membership_id, outcome, voice_reference, at)"
            f" select m.schedule_id, m.subscriber_id, {due}, m.id, 'credited', {reference}, :now"
            " from membership m order by m.id",
            "update membership set count = count - 1",
        ):
            execute(tx, statement, given)
    return time.perf_counter() - began


class Callers:
    """Authorizations of calls at a steady rate, whatever else the batch writer does."""

    def __init__(self, reactor, store: BatchWriter, members: int, per_second: float) -> None:
        self._reactor = reactor
        self._store = store
        self._callers = min(members, CALLERS)
        self.waits: list[float] = []
        self._pace = LoopingCall(self._call)
        self._per_second = per_second

    def start(self) -> None:
        self._pace.start(1 / self._per_second)

    def stop(self) -> None:
        self._pace.stop()

    def taken(self) -> list[float]:
        waits, self.waits = self.waits, []
        return waits

    def _call(self) -> None:
        Deferred.fromCoroutine(self._authorize())

    async def _authorize(self) -> None:
        uniqueid = f"{next(_NUMBERS)}.0"
        previous = CallReport(answered=False, at=datetime.now(UTC))
        caller = f"u{random.randint(1, self._callers)}"
        asked = Initiate("pbx1", uniqueid, uniqueid, f"PJSIP/{uniqueid}", caller, "", "55119", False, previous)
        began = time.perf_counter()
        try:
            grant = await self._store.charge(asked)
        except Exception as error:  # the whole balance of this caller is held
            if type(error).__name__ != "InsufficientBalance":
                raise
            return
        finally:
            self.waits.append(time.perf_counter() - began)
        assert isinstance(grant, CallGrant)
        await self._store.charge(Terminate("pbx1", uniqueid, Witness.AGI, previous))


def told(what: str, waits: list[float]) -> str:
    cut = statistics.quantiles(waits, n=1000)
    return (
        f"authorizations {what}: {len(waits)}, p50 {cut[499] * 1000:.1f} ms, p99 {cut[989] * 1000:.1f} ms,"
        f" p99.9 {cut[998] * 1000:.1f} ms, most {max(waits) * 1000:.1f} ms"
    )


async def measure(reactor, engine: sa.Engine, members: int, arguments: argparse.Namespace) -> float:
    store = BatchWriter(reactor, engine, lambda tx, requests, now: process_batch(tx, TERMS, requests, now))
    store.start()
    callers = Callers(reactor, store, members, arguments.calls)
    callers.start()
    await _later(reactor, arguments.idle)
    print(told("idle", callers.taken()), flush=True)
    sizes: list[int] = []
    chunks: list[float] = []
    last: list[Run] = []

    def tell(event) -> None:
        run = getattr(event, "run", None)
        if run is not None:
            sizes.append(run.credited - (last[-1].credited if last else 0))
            last[:] = [run]
            chunks.append(time.perf_counter())

    began = time.perf_counter()
    due = SchedulePass(
        store.transact, ScheduleRules(), clock=lambda: datetime.now(UTC), seconds=time.monotonic, tell=tell
    )
    await due.run()
    took = time.perf_counter() - began
    print(f"run: {members / took:,.0f} members/s, {took:.1f} s, {len(sizes)} chunks of {statistics.median(sizes):.0f}")
    print(told("during the run", callers.taken()), flush=True)
    callers.stop()
    await _later(reactor, 0.5)
    await store.close()
    return took


def _later(reactor, seconds: float) -> Deferred:
    over: Deferred = Deferred()
    reactor.callLater(seconds, over.callback, None)
    return over


async def on(reactor, name: str, engine: sa.Engine, copy, arguments: argparse.Namespace) -> None:
    print(f"-- {name}, {arguments.members:,} members", flush=True)
    populate(engine, arguments.members)
    add_schedule(engine, "bench")
    engine.dispose()
    own = copy()
    seconds = yardstick(own)
    own.dispose()
    print(f"yardstick: {arguments.members / seconds:,.0f} members/s, {seconds:.1f} s", flush=True)
    took = await measure(reactor, engine, arguments.members, arguments)
    print(f"ratio: {took / seconds:.2f} x the yardstick", flush=True)
    if arguments.fees:
        add_schedule(engine, "fee", when_short="retry", suspend_days=7)
        taken = await measure(reactor, engine, arguments.members, arguments)
        add_schedule(engine, "once more")
        again = await measure(reactor, engine, arguments.members, arguments)
        print(f"fees: {2 * taken / (took + again):.2f} x the runs that gave credit", flush=True)
    runs = transact(engine, lambda tx: history(tx, limit=9))
    assert len(runs) == (3 if arguments.fees else 1)
    for run in runs:
        assert (run.credited, run.passed, run.failed) == (arguments.members, 0, 0), run
    if arguments.audit:
        began = time.perf_counter()
        report = transact(engine.execution_options(reading=True), audit)
        assert report.ok, report.differences[:3]
        print(f"audit: right, {time.perf_counter() - began:.1f} s", flush=True)
    engine.dispose()


async def sqlite(reactor, arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        original, copied = Path(folder) / "bench.sqlite", Path(folder) / "copy.sqlite"
        original.touch()

        def copy() -> sa.Engine:
            with closing(sqlite3.connect(original)) as connection:
                connection.execute("pragma wal_checkpoint(truncate)")
            shutil.copy(original, copied)
            return open_engine(f"sqlite:///{copied}", lock_seconds=5)

        await on(reactor, "SQLite", open_engine(f"sqlite:///{original}", lock_seconds=5), copy, arguments)


async def postgresql(reactor, arguments: argparse.Namespace) -> None:
    cluster = PostgreSQL()
    try:
        url = cluster.database()

        def copy() -> sa.Engine:
            admin = sa.create_engine(url.rpartition("/")[0] + "/postgres", isolation_level="AUTOCOMMIT")
            with admin.connect() as connection:
                connection.exec_driver_sql(f"create database copy template {url.rpartition('/')[2]}")
                connection.exec_driver_sql("checkpoint")
            admin.dispose()
            return open_engine(url.rpartition("/")[0] + "/copy", lock_seconds=5)

        await on(reactor, "PostgreSQL", open_engine(url, lock_seconds=5), copy, arguments)
    finally:
        cluster.remove()


async def main(reactor, arguments: argparse.Namespace) -> None:
    for name, bench in (("sqlite", sqlite), ("postgresql", postgresql)):
        if arguments.database in (name, "both"):
            await bench(reactor, arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--calls", type=float, default=50, help="authorizations a second")
    parser.add_argument("--idle", type=float, default=20, help="seconds to measure without a run")
    parser.add_argument("--fees", action="store_true", help="then take a fee from the same members")
    parser.add_argument("--audit", action="store_true", help="audit the ledger afterwards")
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, given)))
