"""The server time of API requests on a million rows of each kind, and the longest delays of the reactor under load.

`make bench-rest` runs it on SQLite and on its own PostgreSQL, against a real biller in its own process, over HTTP. The
yardstick is a route of the same Klein app that answers a constant. It is not a test: it asserts only that all requests
were answered, and that the ledger it made is right.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from twisted.internet import reactor

from celcombiller import service
from celcombiller.bench.environment import free_port
from celcombiller.bench.postgresql import PostgreSQL
from celcombiller.config.tables import Schedules
from celcombiller.core.access import tokens
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.access.principal import Scope
from celcombiller.core.audit.report import audit
from celcombiller.core.ledger import day_sums
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import migrations, tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.http.application import Api
from celcombiller.http.pagination import make_page
from celcombiller.runtime.credentials.password_hash import hash_password
from celcombiller.service import wiring

FIRST = 1000
"""The ids of the rows that are made here are larger than this."""

PASSWORD = "correct horse"
SECRET = "ccb_bench"
CLIENTS = 200
THINK_SECONDS = 1.0
PROBE_SECONDS = 0.001
AIM_SECONDS = 0.005
WARM, ASKED = 5, 60
MISSING = object()
SETTINGS = """
[database]
url = "{url}"
[rest]
listen = "tcp:{rest}:interface=127.0.0.1:backlog=1000"
[agi]
listen = "tcp:{agi}:interface=127.0.0.1"
"""


# -- a million of each -------------------------------------------------------------------------------------------------


def populate(engine: sa.Engine, rows: int, transfers: int = 0) -> None:
    """Make ``rows`` subscribers, calls and transfers: half of the transfers open accounts, half charge calls.

    More transfers are credits of one unit to each account for calls, as often as it takes.
    """
    sqlite = engine.dialect.name == "sqlite"
    numbers = (
        f"with recursive n(g) as (select 1 union all select g + 1 from n where g < {rows}) select g from n"
        if sqlite
        else f"select g from generate_series(1, {rows}) as series(g)"
    )
    half = rows // 2
    yes, no = ("1", "0") if sqlite else ("true", "false")

    def at(seconds: str) -> str:
        if sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', ({seconds}) || ' seconds') || '000'"
        return f"timestamptz '2026-01-01 00:00:00+00' + ({seconds}) * interval '1 second'"

    payer = f"{FIRST} + 1 + g % {half}"
    reference = "'call:pbx1:' || g || '.0:0'"
    settled = f"(g <= {half} and g % 2 = 0 or g > {half} and (g - {half}) % 2 = 1)"  # once for each payer
    state = f"case when {settled} then 'settled' else 'released' end"
    statements = (
        "insert into subscriber (id, username, name, clid, imsi, cpf, level, enabled, created_at)"
        f" select {FIRST} + g, 'u' || g, 'Name ' || g, cast(55000000 + g as text), cast(724000000000000 + g as text),"
        f" cast(g as text), 1, {yes}, {at('g')} from ({numbers}) as n",
        "insert into account (id, subscriber_id, kind, posted, held)"
        f" select {FIRST} + 2 * g, {FIRST} + g, 'voice', case when g <= {half} then 990 else 0 end, 0"
        f" from ({numbers}) as n",
        "insert into account (id, subscriber_id, kind, posted, held)"
        f" select {FIRST} + 2 * g + 1, {FIRST} + g, 'data', 0, 0 from ({numbers}) as n",
        "insert into account (id, subscriber_id, kind, posted, held)"
        f" select {FIRST} + 2 * {rows} + 1 + g, {FIRST} + g, 'sms', 0, 0 from ({numbers}) as n",
        "insert into transfer (reference, debit_account_id, credit_account_id, amount, origin, at, credit_posted)"
        f" select 'id:o' || g, 1, {FIRST} + 2 * g, 1000, 'web', {at('g')}, 1000"
        f" from ({numbers}) as n where g <= {half}",
        "insert into call (reference, server, uniqueid, leg, authorization_, channel, subscriber_id, account_id,"
        " from_number, to_number, rate_prefix, rate_name, connect_fee, price, increment_seconds, granted_seconds,"
        " answered_early, started_at, state, answered_at, ended_at, talk_ms, cost, witness, outcome)"
        f" select {reference}, 'pbx1', g || '.0', 0, 'a' || g, 'PJSIP/' || g, {payer}, {FIRST} + 2 * (1 + g % {half}),"
        f" cast(55000001 + g % {half} as text), '2001', '', '', 0, 1, 1, 60, {no}, {at(f'{rows} + 10 * g')}, {state},"
        f" case when {settled} then {at(f'{rows} + 10 * g + 3')} end, {at(f'{rows} + 10 * g + 13')},"
        f" case when {settled} then 9500 else 0 end, case when {settled} then 10 else 0 end, 'agi', 'ANSWER'"
        f" from ({numbers}) as n",
        "insert into hold (reference, account_id, amount, state, opened_at, expires_at, ended_at)"
        f" select {reference}, {FIRST} + 2 * (1 + g % {half}), 60, {state}, {at(f'{rows} + 10 * g')},"
        f" {at(f'{rows} + 10 * g + 700')}, {at(f'{rows} + 10 * g + 13')} from ({numbers}) as n",
        "insert into transfer (reference, debit_account_id, credit_account_id, amount, origin, at, debit_posted)"
        f" select {reference}, {FIRST} + 2 * (1 + g % {half}), 1, 10, 'call', {at(f'{rows} + 10 * g + 13')}, 990"
        f" from ({numbers}) as n where {settled}",
    )
    for turn in range(1, transfers // rows):
        statements += (
            f"update account set posted = posted + 1 where kind = 'voice' and id > {FIRST}",
            "insert into transfer (reference, debit_account_id, credit_account_id, amount, origin, at, credit_posted)"
            f" select 'more{turn}:' || id, 1, id, 1, 'web', {at(f'{12 * rows} + {turn} * 90000')}, posted"
            f" from account where kind = 'voice' and id > {FIRST} order by id",
        )
    quoted = '"authorization"'
    with engine.begin() as tx:
        migrations.upgrade(tx)
        for statement in statements:
            tx.exec_driver_sql(statement.replace("authorization_", quoted).replace("%", "%%" if not sqlite else "%"))
        if not sqlite:
            for table in ("subscriber", "account"):
                tx.exec_driver_sql(f"select setval(pg_get_serial_sequence('{table}', 'id'), {FIRST + 3 * rows + 10})")
        _log_ins(tx)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not sqlite:
            connection.exec_driver_sql("vacuum analyze")
            connection.exec_driver_sql("checkpoint")


def _log_ins(tx: sa.Connection) -> None:
    """Make a password for each client and a token for the benchmark."""
    hashed = hash_password(PASSWORD)
    admin = subscriber_records.add(
        tx,
        username="admin",
        name="Admin",
        clid="1",
        imsi="724999999999999",
        cpf=None,
        address="",
        level=Level.ADMINISTRATOR,
        password_hash=hashed,
        now=datetime.now(UTC),
    )
    author = Actor("bench", "", manages=ALL_LEVELS)
    now = datetime.now(UTC)
    tokens.make_token(tx, author, SECRET, admin.id, name="bench", scopes=[Scope.ADMIN], expires_at=None, now=now)
    table = tables.subscriber
    tx.execute(sa.update(table).where(table.c.id.between(FIRST + 1, FIRST + CLIENTS)).values(password_hash=hashed))


# -- the server --------------------------------------------------------------------------------------------------------


class Measured(Api):
    """The API with a timer for each route, a yardstick, and a probe of the reactor."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.took = defaultdict(list)
        self.gaps = []
        self._last = None
        self._scheduler = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self.app.route("/bench/constant", methods=["GET"], endpoint="constant")(Measured.constant)
        self.app.route("/bench/taken", methods=["GET"], endpoint="taken")(Measured.taken)

    async def _serve(self, route, request, path):
        began = time.perf_counter()
        try:
            return await super()._serve(route, request, path)
        finally:
            self.took[route.name].append(time.perf_counter() - began)

    def constant(self, request):
        return _sent(request, b'{"constant":true}')

    def taken(self, request):
        """Return what was measured since the last request of this kind."""
        said = {"took": dict(self.took), "gaps": sorted(self.gaps, reverse=True)[:1000], "probes": len(self.gaps)}
        self.took, self.gaps, self._last = defaultdict(list), [], None
        return _sent(request, json.dumps(said).encode())

    def probe(self, reactor) -> None:
        """Record how late this runs, and for how much of that time the thread waited for a core."""
        now = time.perf_counter()
        ran, waited = (int(each) / 1e9 for each in os.pread(self._scheduler, 100, 0).split()[:2])
        if self._last is not None:
            gap = max(0.0, now - self._last[0] - PROBE_SECONDS)
            self.gaps.append((gap, waited - self._last[2], ran - self._last[1]))
        self._last = now, ran, waited
        reactor.callLater(PROBE_SECONDS, self.probe, reactor)


def _sent(request, body: bytes) -> bytes:
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", str(len(body)).encode())
    return body


def serve(file: str) -> None:
    """Run the biller as twistd does, with the measured API in place of the API."""
    made = []

    def build_api(*arguments):
        made.append(Measured(*arguments))
        return made[-1]

    wiring.Api = build_api
    options = service.Options()
    options.parseOptions(["--config", file])
    biller = service.makeService(options)
    biller.privilegedStartService()
    biller.startService()
    reactor.addSystemEventTrigger("before", "shutdown", biller.stopService)
    made[0].probe(reactor)
    reactor.run()


# -- the client --------------------------------------------------------------------------------------------------------


class Connection:
    """One persistent connection, from its own address, because logins are counted by address."""

    def __init__(self, port: int, number: int = 0) -> None:
        self._port = port
        self._from = f"127.0.{1 + number // 200}.{1 + number % 200}"

    async def ask(self, method: str, path: str, body: object = None, headers: str = "") -> tuple[int, bytes]:
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, local_addr=(self._from, 0)
            )
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if sent else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}{kind}Content-Length: {len(sent)}\r\n\r\n"
        self._writer.write(head.encode() + sent)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return status, await self._reader.readexactly(length)

    def close(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.close()


TOKEN = f"Authorization: Bearer {SECRET}\r\n"


def questions() -> list[tuple[str, str, object]]:
    """Return the requests: a name, the method and path, and the function that makes the body (``MISSING``: no body)."""
    middle = "cursor={cursor}"
    return [
        ("yardstick: a constant", "GET /bench/constant", MISSING),
        ("50 calls", "GET /api/v1/calls?limit=50", MISSING),
        ("50 calls, from the middle", f"GET /api/v1/calls?limit=50&{middle}", MISSING),
        ("calls of a server and a state", "GET /api/v1/calls?limit=50&server=pbx1&state=released", MISSING),
        ("calls of a subscriber", "GET /api/v1/calls?limit=50&username=u{n}", MISSING),
        ("50 subscribers", "GET /api/v1/subscribers?limit=50", MISSING),
        ("50 subscribers, from the middle", f"GET /api/v1/subscribers?limit=50&{middle}", MISSING),
        ("50 transfers", "GET /api/v1/transfers?limit=50", MISSING),
        ("50 transfers, from the middle", f"GET /api/v1/transfers?limit=50&{middle}", MISSING),
        ("a statement", "GET /api/v1/subscribers/u{n}/statement", MISSING),
        ("a balance", "GET /api/v1/subscribers/u{n}/accounts", MISSING),
        ("page: start", "GET /ui/start", MISSING),
        ("page: a subscriber", "GET /ui/subscribers/u{n}", MISSING),
        ("page: a statement", "GET /ui/subscribers/u{n}/statement", MISSING),
        ("page: 50 subscribers", "GET /ui/subscribers", MISSING),
        ("a credit", "POST /api/v1/transfers", lambda n: {"username": f"u{n}", "kind": "voice", "value": 1}),
        ("original: 50 users", "GET /api/users?results_per_page=50", MISSING),
        ("original: 50 users, page 1000", "GET /api/users?results_per_page=50&page=1000", MISSING),
        ("original: 50 voice_balance", "GET /api/voice_balance?results_per_page=50", MISSING),
    ]


def cursor_of(path: str, rows: int) -> str:
    """Return the cursor of the middle of a list."""
    middle = rows // 2
    at = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + rows + (5 * rows if "calls" in path else 0)
    place = FIRST + middle if "subscribers" in path else (datetime.fromtimestamp(at, UTC), middle)
    return make_page([0, 1], 1, lambda _: place, str).next


async def one_by_one(port: int, rows: int, chance: random.Random) -> list[dict]:
    """Send each request several times, one after the other; return the times at the server and at the client."""
    connection = Connection(port)
    told = []
    for name, line, body in questions():
        method, _, path = line.partition(" ")
        waits, sizes = [], []
        for turn in range(WARM + ASKED):
            n = chance.randrange(1, rows // 2)
            headers = TOKEN + (f"Idempotency-Key: {name}{turn}{time.time_ns()}\r\n" if method == "POST" else "")
            asked = path.format(n=n, cursor=cursor_of(path, rows)) if "{" in path else path
            if turn == WARM:
                await connection.ask("GET", "/bench/taken")
            began = time.perf_counter()
            status, answer = await connection.ask(method, asked, None if body is MISSING else body(n), headers)
            waits.append(time.perf_counter() - began)
            sizes.append(len(answer))
            assert status in (200, 201), (asked, status, answer[:300])
        _, said = await connection.ask("GET", "/bench/taken")
        took = next((times for times in json.loads(said)["took"].values() if times), waits[WARM:])
        told.append({"name": name, "server": took, "client": waits[WARM:], "bytes": sizes[-1]})
    connection.close()
    return told


async def crowd(port: int, seconds: float, *, listing: int, logging_in: int, constant: int = 0) -> dict:
    """Let clients send requests, each with a pause of a second between; return what the probe measured meanwhile."""
    until = time.perf_counter() + seconds
    answers = defaultdict(int)
    waits = defaultdict(list)
    lists = ("calls", "subscribers", "transfers")

    async def client(number: int, what: str) -> None:
        connection = Connection(port, number)
        await asyncio.sleep(random.random() * THINK_SECONDS)
        while time.perf_counter() < until:
            began = time.perf_counter()
            if what == "list":
                kind = random.choice(lists)
                path = f"/api/v1/{kind}?limit=50"
                status, _ = await connection.ask("GET", path, headers=TOKEN)
            elif what == "login":
                body = {"username": f"u{1 + number}", "password": PASSWORD}
                status, _ = await connection.ask("POST", "/login", body)
            else:
                status, _ = await connection.ask("GET", "/bench/constant")
            answers[what, status] += 1
            waits[what].append(time.perf_counter() - began)
            await asyncio.sleep(THINK_SECONDS)
        connection.close()

    probe = Connection(port)
    await probe.ask("GET", "/bench/taken")
    who = ["list"] * listing + ["login"] * logging_in + ["constant"] * constant
    await asyncio.gather(*(client(number, what) for number, what in enumerate(who)))
    _, said = await probe.ask("GET", "/bench/taken")
    probe.close()
    return {"answers": dict(answers), "waits": dict(waits)} | json.loads(said)


# -- the report --------------------------------------------------------------------------------------------------------


def milliseconds(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000


def report(told: list[dict]) -> None:
    yardstick = statistics.median(told[0]["client"])
    print(f"  {'':34}{'server p50':>11}{'p95':>9}{'client p50':>12}{'x yardstick':>13}{'KiB':>7}")
    for each in told:
        p50, p95 = (milliseconds(each["server"], share) for share in (0.5, 0.95))
        client = milliseconds(each["client"], 0.5)
        times = client / yardstick / 1000
        kib = each["bytes"] / 1024
        print(f"  {each['name']:34}{p50:9.2f}ms{p95:7.2f}ms{client:10.2f}ms{times:13.1f}{kib:7.1f}")


def report_crowd(name: str, seen: dict) -> None:
    """Say how long the reactor was away: as the clock has it, and without what its thread waited for a core."""
    gaps = seen["gaps"] or [(0.0, 0.0, 0.0)]
    own = sorted((max(0.0, gap - waited) for gap, waited, _ in gaps), reverse=True)
    more = sum(gap > AIM_SECONDS for gap in own)
    counted = ", ".join(f"{count} {what} {status}" for (what, status), count in sorted(seen["answers"].items()))
    print(
        f"  {name:28} longest stall {gaps[0][0] * 1000:6.1f} ms; without waiting for a core {own[0] * 1000:5.1f} ms,"
        f" {more} of {seen['probes']} over {AIM_SECONDS * 1000:.0f} ms; {counted}"
    )
    for what, waits in seen["waits"].items():
        p50, p99 = (milliseconds(waits, share) for share in (0.5, 0.99))
        print(f"  {'':28} {what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms at the client")


def _until_added_up(url: str) -> None:
    """Wait until the biller has each transfer in its sums by day, which the start page shows."""
    engine, zone = open_engine(url, lock_seconds=60), ZoneInfo(Schedules().zone)
    began = time.perf_counter()
    while left := transact(engine, lambda tx: day_sums.count_uncounted(tx, zone)):
        print(f"  {left} transfers are in no sum yet", end="\r", flush=True)
        time.sleep(1)
    print(f"  the sums by day took {time.perf_counter() - began:.0f} s" + " " * 20, flush=True)
    engine.dispose()


def measure(url: str, rows: int, seconds: float, folder: Path) -> None:
    port = free_port()
    file = folder / "celcombiller.toml"
    file.write_text(SETTINGS.format(url=url, rest=port, agi=free_port()))
    server = subprocess.Popen([sys.executable, __file__, "serve", str(file)], cwd=folder)
    try:
        _until_ready(port)
        _until_added_up(url)
        report(asyncio.run(one_by_one(port, rows, random.Random(7))))
        for name, who in (
            ("no client", {"listing": 0, "logging_in": 0}),
            ("200 of a constant", {"listing": 0, "logging_in": 0, "constant": CLIENTS}),
            ("200 listing", {"listing": CLIENTS, "logging_in": 0}),
            ("190 listing, 10 logging in", {"listing": CLIENTS - 10, "logging_in": 10}),
            ("100 listing, 100 logging in", {"listing": CLIENTS // 2, "logging_in": CLIENTS // 2}),
        ):
            if sum(who.values()) == 0:
                report_crowd(name, asyncio.run(_idle(port, seconds)))
            else:
                report_crowd(name, asyncio.run(crowd(port, seconds, **who)))
    finally:
        server.terminate()
        server.wait(30)


async def _idle(port: int, seconds: float) -> dict:
    probe = Connection(port)
    await probe.ask("GET", "/bench/taken")
    await asyncio.sleep(seconds)
    _, said = await probe.ask("GET", "/bench/taken")
    return {"answers": {}, "waits": {}} | json.loads(said)


def _until_ready(port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
            return
        time.sleep(0.1)
    raise SystemExit("the biller did not start")


def run(kind: str, rows: int, transfers: int, seconds: float, keep: Path | None) -> None:
    folder = keep or Path(tempfile.mkdtemp(prefix="celcombiller-bench-rest-"))
    cluster = PostgreSQL() if kind == "postgresql" else None
    url = f"sqlite:///{folder / 'bench.sqlite'}" if cluster is None else cluster.database()
    try:
        file = folder / "bench.sqlite"
        is_new = cluster is not None or not file.exists()
        file.touch()
        engine = open_engine(url, lock_seconds=60, foreign_keys=False)
        if is_new:
            began = time.perf_counter()
            populate(engine, rows, transfers)
            proved = transact(engine, audit)
            assert proved.ok, proved.differences[:3]
            took = time.perf_counter() - began
            print(
                f"{kind}: {rows} of each, {max(rows, transfers)} transfers, made and proved in {took:.0f} s", flush=True
            )
        engine.dispose()
        measure(url, rows, seconds, folder)
    finally:
        if cluster is not None:
            cluster.remove()
        if keep is None:
            shutil.rmtree(folder)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each kind")
    parser.add_argument("--transfers", type=int, default=0, help="10000000: so many in place of --rows")
    parser.add_argument("--seconds", type=float, default=10, help="of each crowd")
    parser.add_argument("--keep", type=Path, help="a folder in which the SQLite file is kept and found again")
    chosen = parser.parse_args()
    for kind in ("sqlite", "postgresql"):
        if chosen.database in (kind, "both"):
            run(kind, chosen.rows, chosen.transfers, chosen.seconds, chosen.keep)


if __name__ == "__main__":
    main()
