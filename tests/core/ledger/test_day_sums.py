"""Sums by day are what a plain count of all transfers gives: under any order of movements, looks, kills and zones."""

from collections import Counter
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from twisted.internet.task import Clock

from celcombiller.core.audit.report import audit
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.ledger import bookmarks, day_sums
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.day_sums import Movement
from celcombiller.core.schema import tables
from celcombiller.core.validity.validity_terms import NO_TOP_UPS, TopUp
from celcombiller.jobs.day_sums import DaySumService
from tests.support import databases
from tests.support.databases import NOW
from tests.support.properties import share
from tests.support.schedules import drive

ZONES = ("America/Belem", "Asia/Kathmandu", "America/St_Johns")
LAW = "sums of a day are its transfers"
WORDS = st.sampled_from([*Movement, "web", "my own word"])


def with_a_seller(tx):
    databases.three_subscribers(tx)
    made = {"subscriber_id": 1, "kind": "seller", "posted": 0, "held": 0}
    tx.execute(sa.insert(tables.account).values(made))


def accounts(engine):
    """Give who has each account, and of which kind; those of the operator last."""
    with engine.begin() as tx:
        rows = tx.execute(sa.select(tables.account.c.id, tables.account.c.subscriber_id, tables.account.c.kind))
        return {row.id: (row.subscriber_id, row.kind) for row in rows if row.kind in ("voice", "data", "seller")}


class Node:
    """The service of one biller; it may die before or after a commit."""

    def __init__(self, engine, zone="America/Belem"):
        self.engine, self.left, self.after = engine, None, False
        self.service = DaySumService(Clock(), ZoneInfo(zone), transact=self.transact, read=self.read)

    async def transact(self, work):
        if self.left is not None:
            self.left -= 1
        with self.engine.begin() as tx:
            done = work(tx)
            if self.left == 0 and not self.after:
                raise StoreUnavailable("killed before the commit")
        if self.left == 0:
            raise StoreUnavailable("killed after the commit")
        return done

    async def read(self, work):
        with self.engine.begin() as tx:
            return work(tx)

    def look(self, dies_at=None, after=False):
        self.left, self.after = dies_at, after
        try:
            drive(self.service.look())
        except StoreUnavailable:
            return False
        return True


def voice_of(engine):
    """Give the voice accounts of subscribers."""
    return [each for each, (who, kind) in sorted(accounts(engine).items()) if who and kind == "voice"]


def post(engine, number, debit, credit, amount, origin, at):
    with engine.begin() as tx:
        book = Book()
        book.load(tx, [debit, credit])
        book.post(f"id:{number}", debit, credit, amount, origin=origin, now=at, note="any", beyond_floor=True)
        book.save(tx)


def sums(engine):
    with engine.begin() as tx:
        return {(*row[:4],): (*row[4:],) for row in tx.execute(sa.select(tables.day_sum))}


def differences(engine):
    with engine.begin() as tx:
        return [each for each in audit(tx).differences if each.law == LAW]


def key_of(whose, debit, credit, origin, at, zone):
    """Give what a transfer counts as, as a bookkeeper would say it."""
    (giver, from_kind), (taker, to_kind) = whose[debit], whose[credit]
    kind = to_kind if taker and not (giver and to_kind == "seller") else from_kind
    if giver and taker and from_kind == to_kind:
        way = "between"
    else:
        way = "in" if taker and not (giver and to_kind == "seller") else "out"
    return at.astimezone(ZoneInfo(zone)).date(), origin if origin in set(Movement) else "operator", kind, way


class DaySumMachine(RuleBasedStateMachine):
    """Two nodes that are killed, an operator who moves to another zone, and movements of each kind."""

    @initialize(zone=st.sampled_from(ZONES))
    def begin(self, zone):
        self.engine = self.made()
        self.whose, self.now, self.number, self.moved = accounts(self.engine), NOW, 0, []
        self.operator_moves(zone)

    def made(self):
        return databases.sqlite(fill=with_a_seller)

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.dispose()

    @rule(zone=st.sampled_from(ZONES))
    def operator_moves(self, zone):
        self.zone, self.nodes = zone, [Node(self.engine, zone) for _ in range(2)]

    @rule(data=st.data(), origin=WORDS, times=st.integers(1, 9))
    def move(self, data, origin, times):
        debit, credit = data.draw(st.permutations(sorted(self.whose)).map(lambda each: each[:2]))
        kinds = {self.whose[debit][1], self.whose[credit][1]}
        if (len(kinds) > 1 and kinds != {"voice", "seller"}) or not (self.whose[debit][0] or self.whose[credit][0]):
            return
        for amount in range(1, times + 1):
            self.number += 1
            self.now += timedelta(minutes=7)
            post(self.engine, self.number, debit, credit, amount, origin, self.now)
            self.moved.append((debit, credit, origin, self.now, amount))

    @rule(hours=st.integers(-60, 60))
    def clock_is_set(self, hours):
        self.now += timedelta(hours=hours)

    @rule(node=st.integers(0, 1), dies_at=st.none() | st.integers(1, 4), after=st.booleans())
    def look(self, node, dies_at, after):
        whole = day_sums.IDS_PER_CHUNK_MAX
        day_sums.IDS_PER_CHUNK_MAX = 4
        try:
            if not self.nodes[node].look(dies_at, after):
                assert differences(self.engine) == []
                assert self.nodes[1 - node].look()
        finally:
            day_sums.IDS_PER_CHUNK_MAX = whole
        expected, amounts = Counter(), Counter()
        for debit, credit, origin, at, amount in self.moved:
            key = key_of(self.whose, debit, credit, origin, at, self.zone)
            expected[key] += 1
            amounts[key] += amount
        assert sums(self.engine) == {key: (number, amounts[key]) for key, number in expected.items()}
        assert differences(self.engine) == []


DaySumMachine.TestCase.settings = share(0.2, stateful_step_count=30)
TestDaySums = DaySumMachine.TestCase


@pytest.mark.real
def test_day_sums_on_postgresql(cluster):
    """The same on PostgreSQL, fewer times (about 5 s)."""
    with databases.on_postgresql(cluster, with_a_seller) as engine:

        class OnPostgreSQL(DaySumMachine):
            def made(self):
                with engine.begin() as tx:
                    for table in (tables.day_sum, tables.bookmark, tables.transfer):
                        tx.execute(sa.delete(table))
                    tx.execute(sa.update(tables.account).values(posted=0))
                return engine

            def teardown(self):
                pass

        run_state_machine_as_test(OnPostgreSQL, settings=share(0.03, stateful_step_count=20, deadline=None))


@pytest.mark.real
def test_late_commits_of_low_ids_are_counted(cluster):
    with databases.on_postgresql(cluster, with_a_seller) as engine:
        node, slow = Node(engine), Node(engine)
        with engine.begin() as tx:
            low, high, _ = voice_of(engine)
            book = Book()
            book.load(tx, [low])
            book.post("id:low", 1, low, 5, origin="web", now=NOW)
            book.save(tx)
            post(engine, "high", 1, high, 7, "web", NOW)
            assert node.look()
            assert sums(engine) == {}, "the low id is not committed yet"
        for each in (node, slow):
            assert each.look()
        assert list(sums(engine).values()) == [(2, 12)]
        assert differences(engine) == []


@pytest.mark.parametrize(
    "damage",
    [
        "update day_sum set credits = credits + 1",
        "update day_sum set transfers = transfers + 1",
        "update day_sum set movement = 'fee'",
        "update day_sum set day = '2026-10-31'",
        "delete from day_sum",
        "insert into day_sum values ('2026-12-01', 'fee', 'voice', 'out', 1, 1)",
        "update bookmark set transfer_id = transfer_id - 1",
        "delete from bookmark",
    ],
)
def test_audit_finds_a_changed_sum(engine, damage):
    for number in (1, 2):
        post(engine, number, 1, voice_of(engine)[0], 50, "web", NOW)
    assert Node(engine).look()
    assert differences(engine) == []
    with engine.begin() as tx:
        tx.execute(sa.text(damage))
    assert differences(engine)


def test_first_look_counts_an_old_ledger(engine):
    for number in range(1, 6):
        post(engine, number, 1, voice_of(engine)[0], 10, "cash", NOW - timedelta(days=number))
    assert Node(engine).look()
    assert {each[0]: total for each, total in sums(engine).items()} == {
        date(2026, 11, 1) - timedelta(days=number): (1, 10) for number in range(1, 6)
    }


def test_node_of_another_zone_leaves_sums_alone(engine):
    post(engine, 1, 1, voice_of(engine)[0], 10, "cash", NOW)
    old, new = Node(engine, "UTC"), Node(engine, "Asia/Kathmandu")
    assert old.look()
    assert new.look()
    before = sums(engine)
    post(engine, 2, 1, voice_of(engine)[0], 10, "cash", NOW)
    assert old.look()
    assert sums(engine) == before
    with engine.begin() as tx:
        assert bookmarks.read_bookmark(tx, day_sums.bookmark_of(ZoneInfo("UTC"))) is None


def test_sums_of_another_zone_are_dropped(engine):
    voice = voice_of(engine)[0]
    post(engine, 1, 1, voice, 10, "cash", NOW.replace(hour=23))
    assert Node(engine, "UTC").look()
    assert [each[0] for each in sums(engine)] == [NOW.date()]
    assert Node(engine, "Asia/Kathmandu").look()
    assert [each[0] for each in sums(engine)] == [NOW.date() + timedelta(days=1)]


def test_sums_of_two_zones_at_once_begin_again(engine):
    post(engine, 1, 1, voice_of(engine)[0], 10, "cash", NOW)
    assert Node(engine).look()
    with engine.begin() as tx:
        tx.execute(sa.text("insert into bookmark values ('day_sums:UTC', 1)"))
        tx.execute(sa.text("insert into day_sum values ('2026-10-31', 'operator', 'voice', 'in', 1, 10)"))
    assert Node(engine).look()
    assert list(sums(engine).values()) == [(1, 10)]
    assert differences(engine) == []


def test_each_known_origin_has_its_movement():
    known = NO_TOP_UPS | {each.value for each in TopUp} | {"vouchers"}
    assert {each.value for each in Movement} == known


@given(at=st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)), zone=st.sampled_from((*ZONES, "Pacific/Apia")))  # noqa: DTZ001
def test_days_follow_each_other_without_gaps(at, zone):
    zone = ZoneInfo(zone)
    at = at.replace(tzinfo=ZoneInfo("UTC"))
    begin, end = day_sums.span_of_day(day_sums.day_of(at, zone), zone)
    assert begin <= at < end
