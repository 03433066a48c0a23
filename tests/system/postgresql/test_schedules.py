"""Schedules on PostgreSQL: the same runs as on SQLite, and what only several nodes on one database can do."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import memberships, runs
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.jobs.schedule_pass import PassFailure
from tests.support import databases
from tests.support.schedules import DAY, NOW, RULES, TODAY, credit_rows, go, plan, pots, proved, subscriber
from tests.system.lab.biller import Biller
from tests.system.lab.waiting import until

TERMS = ChargingPolicy(Tariff([Rate()]))
MEMBERS = 60


@pytest.fixture
def engine(cluster):
    with databases.on_postgresql(cluster, databases.three_subscribers) as made:
        yield made
        proved(made)


@pytest.fixture
def url(engine):
    return engine.url.render_as_string(hide_password=False)


def group(engine, count=9, **facts):
    with engine.begin() as tx:
        made = plan(tx, **facts)
        for number in range(1, MEMBERS + 1):
            memberships.join(tx, made, subscriber(tx, number).id, count=count, now=NOW)
    return made


class Node(threading.Thread):
    """A node of its own: its own connections, its own thread; it starts when all do."""

    def __init__(self, url, start, work):
        super().__init__()
        self._url = url
        self._start_together = start
        self._work = work
        self.fault = None
        self.start()

    def run(self):
        engine = open_engine(self._url, lock_seconds=10)
        try:
            self._start_together.wait(10)
            self._work(engine)
        except BaseException as error:  # noqa: BLE001
            self.fault = error
        finally:
            engine.dispose()


def at_once(url, *works):
    start = threading.Barrier(len(works))
    nodes = [Node(url, start, work) for work in works]
    for node in nodes:
        node.join(60)
    assert [node.fault for node in nodes] == [None] * len(works)


def round_of(days=0, size=3):
    return lambda engine: go(engine, NOW + days * DAY, size=size)


@pytest.mark.parametrize(("kind", "given"), [(3, (10, 10, 0)), (4, (0, 0, 10))])
def test_nodes_that_race_credit_each_member_once(engine, url, kind, given):
    group(engine, kind=kind)
    at_once(url, *(round_of(size=size) for size in (1, 3, 7, 11)))
    assert len(credit_rows(engine)) == MEMBERS
    assert {pots(engine, f"u{number}") for number in range(1, MEMBERS + 1)} == {given}


def test_racing_nodes_use_one_run_per_missed_date(engine, url):
    made = group(engine, count=3)
    at_once(url, round_of(4), round_of(4, size=5), round_of(2))
    assert len(credit_rows(engine)) == 3 * MEMBERS
    assert {row[2] for row in credit_rows(engine)} == {TODAY, TODAY + DAY, TODAY + 2 * DAY}
    with engine.begin() as tx:
        assert memberships.memberships(tx, schedule_id=made.id, limit=99) == []


def test_calls_and_joins_during_a_run_lose_nothing(engine, url):
    made, other = group(engine), None
    with engine.begin() as tx:
        other = plan(tx, name="other", value=1)
        for number in range(MEMBERS, 0, -1):  # the other order: whoever locks as he likes waits in a ring
            memberships.join(tx, other, subscriber_records.find(tx, f"u{number}").id, count=9, now=NOW)

    def credits_given(engine):
        for turn in range(20):
            asked = [Credit(f"u{n}", Kind.VOICE, 1, "web", f"id:{turn}:{n}") for n in range(MEMBERS, 0, -3)]
            transact(engine, lambda tx, asked=asked: process_batch(tx, TERMS, asked, NOW))

    def members_come_and_go(engine):
        for number in range(1, MEMBERS + 1, 2):

            def work(tx, number=number):
                who = subscriber_records.find(tx, f"u{number}").id
                membership = memberships.member(tx, made.id, who)
                if membership is not None:
                    memberships.leave(tx, membership, NOW)
                memberships.join(tx, made, who, count=9, now=NOW)

            transact(engine, work)

    at_once(url, round_of(), round_of(size=5), credits_given, members_come_and_go)
    go(engine, NOW)
    rows = credit_rows(engine)
    assert sorted(row[1] for row in rows if row[0] == made.id) == sorted(f"u{n}" for n in range(1, MEMBERS + 1))
    assert sum(row[0] == other.id for row in rows) == MEMBERS
    assert len(set(rows)) == len(rows)


def test_an_uncommitted_member_is_not_skipped(engine, url):
    """Ids are given before the commit: without the schedule's lock the run would go on behind a later id."""
    made = group(engine)
    with engine.connect() as slow:
        joining = slow.begin()
        early = memberships.join(slow, made, subscriber_records.find(slow, "u1001").id, now=NOW)
        rounds = Node(url, threading.Barrier(1), round_of())
        rounds.join(0.5)
        assert rounds.is_alive()  # it waits for him
        joining.commit()
    rounds.join(30)
    assert rounds.fault is None
    with engine.begin() as tx:
        later = memberships.join(tx, made, subscriber_records.find(tx, "u1002").id, now=NOW)
    assert early.id < later.id
    go(engine)
    assert len(credit_rows(engine)) == MEMBERS + 2


def test_a_node_cut_off_mid_run_leaves_nothing(engine, url):
    group(engine, kind=3)
    cuts = 0
    for at in range(8, 500, 3):
        node = open_engine(url, lock_seconds=5)
        left = [at]

        def cut(connection, cursor, *_, left=left):
            left[0] -= 1
            if left[0] == 0:
                with engine.begin() as tx:  # as an administrator would, or a broken network
                    tx.execute(
                        sa.text("select pg_terminate_backend(:pid)"), {"pid": cursor.connection.info.backend_pid}
                    )

        sa.event.listen(node, "before_cursor_execute", cut)
        try:
            broken = any(isinstance(each, PassFailure) for each in go(node, NOW + timedelta(minutes=at)))
        except sa.exc.OperationalError:
            broken = True
        node.dispose()
        proved(engine)
        if not broken:
            break
        cuts += 1
    assert cuts > 5
    assert len(credit_rows(engine)) == MEMBERS


@pytest.fixture
def without_statistics(engine):
    """Keep autovacuum from these tables. One that analyzes them now would see them as before the test's import."""
    tables = ("subscriber", "account", "membership")
    with engine.begin() as tx:
        for table in tables:
            tx.execute(sa.text(f"alter table {table} set (autovacuum_enabled = off)"))
    yield
    with engine.begin() as tx:
        for table in tables:
            tx.execute(sa.text(f"alter table {table} reset (autovacuum_enabled)"))


@pytest.mark.usefixtures("without_statistics")
def test_a_chunks_work_is_independent_of_group_size(engine):
    """Also where the database knows nothing of the tables yet: a plan that reads them whole is quick only in tests."""
    many, size = 20_000, 50
    with engine.begin() as tx:
        made = plan(tx, kind=3)
        for words in (
            "insert into subscriber (username, name, clid, imsi, level, enabled, created_at)"
            f" select 'm' || g, 'N', cast(70000 + g as text), cast(990000000000000 + g as text), 1, true, now()"
            f" from generate_series(1, {many}) as n(g)",
            "insert into account (subscriber_id, kind, posted, held) select s.id, k.kind, 0, 0"
            " from subscriber s cross join (values ('voice'), ('data'), ('sms')) as k(kind) where s.username like 'm%'",
            "insert into membership (schedule_id, subscriber_id, count, joined_on)"
            f" select {made.id}, id, 9, '2026-11-01' from subscriber where username like 'm%' order by id",
        ):
            tx.execute(sa.text(words))
        (run,) = runs.decide(tx, made.id, RULES, TODAY, NOW).runs
    read = sa.text("select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_xact_user_tables")
    for chunk in range(60):
        with engine.begin() as tx:
            before = tx.execute(read).scalar_one() or 0
            advanced = runs.advance(tx, run.id, RULES, NOW, size=size)
            assert tx.execute(read).scalar_one() - before < 60 * size, chunk
    assert advanced.run.credited == 60 * size


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_biller_and_command_credit_due_dates_once(tmp_path, cluster, database):
    """As an operator does it. The biller dies at once, as hard as can be, and is started again; nobody gets it twice."""
    biller = Biller(tmp_path / "biller", url=cluster.database() if database == "postgresql" else "")
    biller.prepare({2001: 0, 2002: 0})
    with (biller.folder / "celcombiller.toml").open("a") as settings:
        settings.write('[schedules]\nrun_at = "00:00"\n')
    biller.run("schedules", "add", "gold", "--value", 60, "--kind", "both", "--every", 1, "--zone", "UTC")
    for number in (2001, 2002):
        biller.run("schedules", "join", "gold", f"user{number}")
    biller.start()
    biller.kill9()
    biller.start()
    try:
        # The first biller may have credited them all, and died before it logged that.
        until(lambda: any(run["credited"] == 2 for run in biller.json("schedules", "history")), "both are credited")
        biller.run("schedules", "run")
    finally:
        biller.stop()
    assert [biller.user(number)["voice_balance"] for number in (2001, 2002)] == [60, 60]
    assert [run["credited"] for run in biller.json("schedules", "history")] == [2]
    assert biller.json("audit")["ok"]
    assert "Traceback" not in biller.log
