"""Calls as a list, one by one and as a file: what they show, to whom, and that a long list costs what a short does."""

import csv
import io
import socket
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed

from celcombiller.core.access import audit_trail
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.ledger import accounts, statement
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.reports import history
from celcombiller.core.schema import tables
from celcombiller.core.voice import call_queries
from celcombiller.database.transaction import transact
from celcombiller.http.transport import streaming as http_streaming
from celcombiller.rest.v1 import calls
from tests.core.ledger.test_book import TERMS, credit, database, ended, initiate
from tests.rest.v1.test_transfers import refused
from tests.support.http.api_service import biller_fixture, header
from tests.support.query_plans import BEGUN, calls_plan, every_question, plans_of, record_calls

biller = biller_fixture()


@pytest.fixture
def record(biller):
    """Record so many calls in bulk; they have no holds, so they go again before the proof at the test's end."""

    def work(tx, count, note):
        subscribers = tx.execute(sa.select(tables.subscriber.c.id).order_by(tables.subscriber.c.id)).scalars().all()
        account_id = (
            tx.execute(sa.select(tables.account.c.id).where(tables.account.c.subscriber_id == 2)).scalars().first()
        )
        record_calls(tx, count, subscribers=[(each, account_id) for each in subscribers[1:3]], note=note)

    yield lambda count, note="": transact(biller.engine, lambda tx: work(tx, count, note))
    made_in_bulk = tables.call.c.reference.not_in(sa.select(tables.hold.c.reference))
    transact(biller.engine, lambda tx: tx.execute(sa.delete(tables.call).where(made_in_bulk)))


def talk(biller, uniqueid="1.0", caller="1002", called="1003", **how):
    def work(tx):
        now = datetime.now(UTC)
        process_batch(tx, TERMS, [credit(100, f"for {uniqueid}", "ana")], now)
        return process_batch(tx, TERMS, [initiate(uniqueid, caller, called), ended(uniqueid, **how)], now)

    return transact(biller.engine, work)


async def items(client, query=""):
    answer = await client.get(f"/api/v1/calls{query}")
    assert answer.code == 200, answer.bytes
    return answer.body["items"]


# -- the list --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_call_shows_rate_times_and_cost(biller):
    admin = await biller.logged_in("admin")
    talk(biller, talk_ms=9500)
    (shown,) = await items(admin)
    for name in ("started_at", "answered_at", "ended_at"):
        assert shown.pop(name).endswith("Z"), name
    assert shown == {
        "id": 1,
        "reference": "call:pbx1:1.0:0",
        "server": "pbx1",
        "uniqueid": "1.0",
        "leg": 0,
        "username": "ana",
        "name": "Ana",
        "from_number": "1002",
        "to_number": "1003",
        "rate": {"prefix": "", "name": "", "connect_fee": 0, "price": 1, "increment_seconds": 1},
        "granted_seconds": 100,
        "state": "settled",
        "talk_ms": 9500,
        "cost": 10,
        "witness": "agi",
        "outcome": "",
        "note": "",
        "tariff_version_id": None,
        "trunk": None,
        "trunks_tried": [],
        "trunk_cost": None,
        "margin": None,
    }


@pytest_twisted.ensureDeferred
async def test_a_call_shows_hold_charge_and_witnesses(biller):
    admin = await biller.logged_in("admin")
    talk(biller, talk_ms=9500)
    transact(
        biller.engine,
        lambda tx: process_batch(tx, TERMS, [ended(talk_ms=1000, witness=Witness.AMI)], datetime.now(UTC)),
    )
    shown = (await admin.get("/api/v1/calls/1")).body
    assert (shown["hold"]["amount"], shown["hold"]["state"], shown["transfer_id"]) == (100, "settled", 2)
    said = [
        (each["witness"], each["talk_ms"], each["difference_ms"], each["discrepancy"]) for each in shown["testimonies"]
    ]
    assert said == [("agi", 9500, None, False), ("ami", 1000, -8500, True)]
    refused(await admin.get("/api/v1/calls/2"), 404, "NOT_FOUND")


@pytest_twisted.ensureDeferred
async def test_open_and_unanswered_calls_show_no_charge(biller):
    admin = await biller.logged_in("admin")
    talk(biller, answered=False)
    transact(biller.engine, lambda tx: process_batch(tx, TERMS, [initiate("2.0", "1002", "1003")], datetime.now(UTC)))
    released, in_progress = [(await admin.get(f"/api/v1/calls/{n}")).body for n in (1, 2)]
    assert (released["state"], released["cost"], released["transfer_id"]) == ("released", 0, None)
    ends = ("answered_at", "ended_at", "talk_ms", "cost", "witness", "transfer_id")
    assert [in_progress[name] for name in ends] == [None] * 6
    assert (in_progress["state"], in_progress["hold"]["ended_at"], in_progress["testimonies"]) == ("open", None, [])


@pytest_twisted.ensureDeferred
async def test_pages_of_calls_stay_complete_despite_additions(biller, record):
    admin = await biller.logged_in("admin")
    record(25)
    seen, cursor = [], ""
    while cursor is not None:
        page = (await admin.get(f"/api/v1/calls?limit=7{cursor and f'&cursor={cursor}'}")).body
        seen += [each["id"] for each in page["items"]]
        cursor = page["next"]
        talk(biller, f"{len(seen)}.9", talk_ms=1000)  # newer than all: on no page that is to come
    assert seen == list(range(25, 0, -1))


@pytest_twisted.ensureDeferred
async def test_calls_are_filtered_by_each_field(biller, record):
    admin = await biller.logged_in("admin")
    record(1200)
    since, until = (BEGUN + timedelta(minutes=n) for n in (300, 305))
    span = f"?since={since:%Y-%m-%dT%H:%M:%SZ}&until={until:%Y-%m-%dT%H:%M:%SZ}"
    assert [each["id"] for each in await items(admin, span)] == [305, 304, 303, 302, 301]
    zone = span.replace("Z", "%2B00:00")
    assert [each["id"] for each in await items(admin, zone)] == [305, 304, 303, 302, 301]
    assert {each["username"] for each in await items(admin, "?username=ana")} == {"ana"}
    assert [each["id"] for each in await items(admin, "?state=expired")] == [1001, 1]
    assert len(await items(admin, "?state=open")) == 20
    assert [each["id"] for each in await items(admin, "?server=pbx2&limit=3")] == [1101, 1001, 901]
    assert await items(admin, "?server=nowhere") == []
    assert [each["id"] for each in await items(admin, f"{span}&number=1000")] == [302]
    by_two = await items(admin, "?username=bia&state=settled")
    assert by_two == []
    assert len(await items(admin, "?username=ana&state=settled&number=2001")) == 50


@pytest_twisted.ensureDeferred
async def test_a_number_filter_needs_a_time_range(biller):
    admin, ana = await biller.logged_in("admin"), await biller.logged_in("ana")
    assert "number" in refused(await admin.get("/api/v1/calls?number=1000"), 422, "INVALID")["fields"]
    assert await items(ana, "?number=1000") == []


@pytest_twisted.ensureDeferred
async def test_a_subscriber_sees_his_own_calls_only(biller):
    ana, bia = await biller.logged_in("ana"), await biller.logged_in("bia")
    talk(biller, talk_ms=1000)
    assert [each["id"] for each in await items(ana)] == [1]
    assert await items(bia) == []
    assert (await ana.get("/api/v1/calls/1")).code == 200
    refused(await bia.get("/api/v1/calls/1"), 404, "NOT_FOUND")
    for path in ("/api/v1/calls", "/api/v1/calls.csv"):
        refused(await bia.get(f"{path}?username=ana"), 404, "NOT_FOUND")
        refused(await bia.get(f"{path}?username=nobody"), 404, "NOT_FOUND")
    assert (await bia.get("/api/v1/calls.csv")).bytes.count(b"\r\n") == 1


WRONG_QUERIES = [
    ("since=yesterday", "since"),
    ("since=2026-01-01", "since"),
    ("since=2026-01-01T00:00:00", "since"),
    ("since=1767225600", "since"),
    ("since=0001-01-01T00:00:00%2B14:00", "since"),
    ("until=9999-12-31T23:59:59-14:00", "until"),
    ("state=over", "state"),
    ("limit=0", "limit"),
    ("limit=501", "limit"),
    ("limit=5.0", "limit"),
    ("limit=99999999999999999999999999", "limit"),
    ("limit=null", "limit"),
    ("limit=%D9%A5", "limit"),
    ("cursor=x", "cursor"),
    ("cursor=W10", "cursor"),
    ("cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwxXQ", "cursor"),
    ("cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwxXQ", "cursor"),
    ("cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsLTFd", "cursor"),
    ("cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsOTk5OTk5OTk5OTk5OTk5OTk5OTk5XQ", "cursor"),
    ("sever=pbx1", "sever"),
    ("page=2", "page"),
]


@pytest_twisted.ensureDeferred
async def test_a_wrong_filter_is_named_and_never_dropped(biller):
    admin = await biller.logged_in("admin")
    for query, field in WRONG_QUERIES:
        answer = await admin.get(f"/api/v1/calls?{query}")
        assert refused(answer, 422, "INVALID")["fields"].keys() == {field}, query


# -- how the database does it ----------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "plans.sqlite")
    yield made
    made.dispose()


def test_no_filter_of_calls_reads_too_much(engine):
    for wanted, after in every_question():
        plan = calls_plan(engine, wanted, after)
        said = f"{wanted} {after}: {plan}"
        (how,) = [line for line in plan if " call" in line]
        assert not [line for line in plan if "TEMP B-TREE" in line], said
        index = how.partition("INDEX ")[2].partition(" ")[0]
        if wanted.subscriber_id is not None:
            assert index == "ix_call_subscriber_id_started_at_id", said
        elif wanted.state in (CallState.OPEN, CallState.EXPIRED):
            assert index == f"ix_call_{wanted.state}", said
        else:
            assert index == ("ix_call_started_at_id" if wanted.server is None else "ix_call_server_started_at_id"), said
        assert ("started_at>" in how) == (wanted.since is not None), said
        assert ("started_at<" in how) == (wanted.until is not None or after is not None), said


OPEN = call_queries.OpenCall(1, "r", "u", 1, BEGUN)


@pytest.mark.parametrize(
    ("work", "index"),
    [
        (lambda tx: call_queries.list_open(tx, "pbx1", after=None, limit=9), "ix_call_open"),
        (lambda tx: call_queries.list_open(tx, "pbx1", after=OPEN, limit=9), "ix_call_open (started_at>?)"),
        (lambda tx: call_queries.overdue_calls(tx, BEGUN, limit=9), "ix_call_open"),
        (lambda tx: history.list_open_holds(tx, limit=51), "ix_hold_open"),
        (lambda tx: history.list_open_holds(tx, limit=51, subscriber_id=2), "ix_hold_open (account_id=?)"),
        (lambda tx: history.list_transfers(tx, limit=51), "ix_transfer_at_id"),
        (lambda tx: history.list_transfers(tx, limit=51, after=(BEGUN, 5)), "ix_transfer_at_id (at<?)"),
        (
            lambda tx: audit_trail.entries(tx, limit=51, actor="ana", before_id=7),
            "ix_trail_actor_id (actor=? AND id<?)",
        ),
        (lambda tx: audit_trail.entries(tx, limit=51, subject="x"), "ix_trail_subject_id (subject=?)"),
    ],
)
def test_other_lists_are_served_by_their_index_too(engine, work, index):
    plan = plans_of(engine, work)
    assert [line for line in plan if index in line], plan
    assert not [line for line in plan if line in ("SCAN call", "SCAN hold", "SCAN transfer", "SCAN trail")], plan


def test_a_statement_is_read_from_both_sides_index(engine):
    with engine.begin() as tx:
        account = next(iter(accounts.balances(tx, 1).values()))
    plan = plans_of(engine, lambda tx: statement.statement(tx, account, limit=51, before_id=9))
    for side in ("credit", "debit"):
        assert [line for line in plan if f"ix_transfer_{side}_account_id_id ({side}_account_id=? AND id<?)" in line], (
            plan
        )


# -- the file --------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_file_has_what_the_list_has(biller, record):
    admin = await biller.logged_in("admin")
    record(1200)
    answer = await admin.get("/api/v1/calls.csv?username=ana")
    assert header(answer, "content-type") == "text/csv; charset=utf-8; header=present"
    assert "attachment" in header(answer, "content-disposition")
    first, *rows = csv.reader(io.StringIO(answer.bytes.decode(), newline=""))
    assert tuple(first) == calls.COLUMNS
    listed = await items(admin, "?username=ana&limit=500")
    assert len(rows) == 600
    for row, each in zip(rows, listed, strict=False):
        cells = dict(zip(first, row, strict=True))
        assert (cells["id"], cells["state"], cells["price"]) == (str(each["id"]), each["state"], "1")
        said = datetime.fromisoformat(cells["started_at"])
        assert said == datetime.fromisoformat(each["started_at"])
        assert cells["cost"] == ("" if each["cost"] is None else str(each["cost"]))
    head = await admin.ask("HEAD", "/api/v1/calls.csv")
    assert (head.code, head.bytes) == (200, b"")
    refused(await admin.get("/api/v1/calls.csv?state=over"), 422, "INVALID")
    refused(await biller.client().get("/api/v1/calls.csv"), 401, "NOT_AUTHENTICATED")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-cmd", "'-cmd"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("\tx", r"\tx"),
        ("+5511", "+5511"),
        ("*100#", "*100#"),
        ('say "a, b"', '"say ""a, b"""'),
        ("two\nlines", r"two\nlines"),
        (-5, "-5"),
        (None, ""),
    ],
)
def test_no_text_in_the_file_is_a_formula(text, cell):
    assert http_streaming.format_csv([[text, "x"]]).decode() == f"{cell},x\r\n"


class Pieces:
    """Counts what the database is asked for."""

    def __init__(self, monkeypatch):
        self.read = 0
        real = history.list_calls

        def counted(*arguments, **named):
            self.read += 1
            return real(*arguments, **named)

        monkeypatch.setattr(history, "list_calls", counted)
        monkeypatch.setattr(calls, "PIECE_ROWS", 10)

    async def settled(self):
        before = -1
        while self.read != before:
            before = self.read
            await deferLater(reactor, 0.3)
        return self.read


def slow_client(biller, client):
    """Ask for the file and do not read."""
    port = int(biller.base.rpartition(":")[2])
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", port))
    made.sendall(f"GET /api/v1/calls.csv HTTP/1.1\r\nHost: x\r\nCookie: session={client.cookie}\r\n\r\n".encode())
    return made


CALLS = 3000


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_paused_client_pauses_the_reading(biller, record, monkeypatch):
    admin = await biller.logged_in("admin")
    record(CALLS, note="x" * 2000)
    pieces = Pieces(monkeypatch)
    slow = slow_client(biller, admin)
    before = await pieces.settled()
    assert 1 <= before < CALLS / 10 / 2
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    slow.setblocking(False)
    body = b""
    while not body.endswith(b"0\r\n\r\n"):
        await deferLater(reactor, 0.005)
        try:
            body += slow.recv(1 << 20)
        except BlockingIOError:
            continue
    slow.close()
    assert body.count(b",call:pbx") == CALLS


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_ends_the_reading(biller, record, monkeypatch):
    admin = await biller.logged_in("admin")
    record(CALLS, note="x" * 2000)
    pieces = Pieces(monkeypatch)
    slow = slow_client(biller, admin)
    before = await pieces.settled()
    slow.close()
    after = await pieces.settled()
    assert after <= before + 1
    assert after < CALLS / 10 / 2


@pytest_twisted.ensureDeferred
async def test_an_unfinished_download_is_visibly_cut(biller, record, monkeypatch, expected_failures):
    admin = await biller.logged_in("admin")
    record(2000)
    real = history.list_calls

    def breaks(*arguments, after=None, **named):
        if after is not None:
            raise RuntimeError("the disk is gone")
        return real(*arguments, after=after, **named)

    monkeypatch.setattr(history, "list_calls", breaks)
    with pytest.raises(ResponseFailed):
        await admin.get("/api/v1/calls.csv")
    (failure,) = expected_failures
    assert failure.check(RuntimeError)
    expected_failures.clear()


class TakesNothing:
    """A request whose connection never has room."""

    path = b"/api/v1/calls.csv"

    def __init__(self):
        self.channel = self
        self.written, self.aborted, self.producer = [], False, None

    def setHeader(self, name, value):
        pass

    def registerProducer(self, producer, streaming):
        assert streaming
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None

    def write(self, data):
        self.written.append(data)
        self.producer.pauseProducing()

    def forceAbortClient(self):
        self.aborted = True


class Reads:
    """A reader whose answers are there at once."""

    async def read(self, work):
        return work(None)


def endless(tx, after):
    return b"x", (after or 0) + 1


def test_pieces_are_written_as_the_client_takes_them():
    request, reader = TakesNothing(), Reads()
    done = Deferred.fromCoroutine(http_streaming.send(request, reader, {}, endless))
    assert request.written == [b"x"]
    request.producer.resumeProducing()
    assert request.written == [b"x", b"x"]
    done.addErrback(lambda _cancelled: None).cancel()


def test_a_vanished_client_leaves_nothing_behind():
    request, reader = TakesNothing(), Reads()
    done = Deferred.fromCoroutine(http_streaming.send(request, reader, {}, endless))
    results = []
    done.addBoth(results.append)
    done.cancel()
    (failure,) = results
    assert isinstance(failure, Failure)
    assert (request.aborted, request.producer) == (False, None)


@pytest_twisted.ensureDeferred
async def test_calls_are_explained_to_who_paid(biller):
    talk(biller, talk_ms=9001)
    ana, bia, admin = [await biller.logged_in(each) for each in ("ana", "bia", "admin")]
    (call,) = await items(admin)
    path = f"/api/v1/calls/{call['id']}/explain"
    own = await ana.get(path)
    assert (own.code, own.body["adds_up"], own.body["charged"], call["cost"]) == (200, True, 10, 10)
    assert "The balance paid 10 credits: it was 100 before and 90 after." in own.body["text"]
    assert (await admin.get(path)).body["text"] == own.body["text"]
    refused(await bia.get(path), 404, "NOT_FOUND")
