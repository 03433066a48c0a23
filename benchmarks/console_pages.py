"""The time to Dial while 50 people click through the console, beside the time without them.

`make bench-console` starts a biller with the settings of every installation and offers calls at a steady rate. The
people run in a process of their own, with the lowest priority so that it takes no time from the load generator. Each
measurement with them stands between two without, and is compared with the mean of both. The yardstick: the same people
click on another biller of this machine, with a ledger of its own. So much is due to the machine, which has to do the
work of the pages wherever they are made. It is not a test: it asserts only that calls were dialled and that pages were
read.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from celcombiller.bench import environment
from celcombiller.bench.measurements import run
from celcombiller.bench.postgresql import PostgreSQL
from celcombiller.core.model.subscribers import Level
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.password_hash import hash_password

SUBSCRIBERS = 10_000
FIRST_USERNAME = 1_000_000
PEOPLE = 50
PASSWORD = "correct horse"
LOGINS_AT_ONCE = 4
AIM = 1.1
"""With the people, a percentile may be so many times that without."""

CLICKS = (
    "/ui/start",
    "/ui/subscribers",
    "/ui/subscribers?q=u{n}",
    "/ui/subscribers/u{n}",
    "/ui/subscribers/u{n}/statement",
    "/ui/calls",
    "/ui/calls?username=u{n}",
    "/ui/live",
    "/ui/reports/days",
)


def hire(url):
    """Make an account of staff for each person, all with one password, which is hashed once."""
    hashed = hash_password(PASSWORD)

    def add(tx):
        for number in range(PEOPLE):
            subscriber_records.add(
                tx,
                username=f"staff{number}",
                name="Staff",
                clid=f"9{number:03}",
                imsi=f"724990000000{number:03}",
                cpf=None,
                address="",
                level=Level.ADMINISTRATOR,
                password_hash=hashed,
                now=datetime.now(UTC),
            )

    engine = open_engine(url, lock_seconds=60)
    transact(engine, add)
    engine.dispose()


# -- the people, in a process of their own -----------------------------------------------------------------------------


class Browser:
    """One connection that is kept, from its own address, because logins are counted by address."""

    def __init__(self, port, number):
        self._port, self._address, self._cookie = port, f"127.0.1.{1 + number}", ""
        self._writer = None

    async def _open(self):
        where = ("127.0.0.1", self._port)
        self._reader, self._writer = await asyncio.open_connection(*where, local_addr=(self._address, 0))

    async def ask(self, line, body=b"", more=""):
        """Send a request, on a new connection if the last one was closed; return the status and the answer's head."""
        if self._writer is None:
            await self._open()
        try:
            return await self._ask(line, body, more)
        except (OSError, asyncio.IncompleteReadError):
            await self._open()
            return await self._ask(line, body, more)

    async def _ask(self, line, body, more):
        head = f"{line} HTTP/1.1\r\nHost: x\r\nCookie: {self._cookie}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        await self._reader.readexactly(int(re.search("(?i)content-length: ([0-9]+)", answer)[1]))
        return int(answer.split(" ", 2)[1]), answer

    async def log_in(self, username):
        body = json.dumps({"username": username, "password": PASSWORD}).encode()
        status, answer = await self.ask("POST /login", body, "Content-Type: application/json\r\n")
        assert status == HTTPStatus.OK, answer
        self._cookie = re.search("(?i)set-cookie: ([^;\r]+)", answer)[1]


async def click(port, seconds):
    """Log all people in, say so, and let each click until this process is ended."""
    browsers = [Browser(port, number) for number in range(PEOPLE)]
    at_once = asyncio.Semaphore(LOGINS_AT_ONCE)

    async def begin(number):
        async with at_once:
            await browsers[number].log_in(f"staff{number}")

    await asyncio.gather(*map(begin, range(PEOPLE)))
    print("ready", flush=True)
    took = []

    async def person(browser):
        await asyncio.sleep(random.random() * seconds)
        while True:
            n = FIRST_USERNAME + random.randrange(SUBSCRIBERS)
            began = time.perf_counter()
            status, answer = await browser.ask(f"GET {random.choice(CLICKS).format(n=n)}")
            assert status == HTTPStatus.OK, answer
            took.append(time.perf_counter() - began)
            await asyncio.sleep(seconds * (0.5 + random.random()))

    clicking = asyncio.gather(*map(person, browsers))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, clicking.cancel)
    try:
        await clicking
    except asyncio.CancelledError:
        print(json.dumps(took), flush=True)


# -- the measurement ---------------------------------------------------------------------------------------------------


def measure(kind, biller, other, arguments):
    """Print the time to Dial of each pair, and the medians of the ratios: people here, and at the other biller."""

    def calls():
        played = run("console", kind, biller, arguments.seconds, rate=arguments.rate, subscribers=SUBSCRIBERS)
        assert played.broken == 0, f"{played.broken} calls were lost"
        return played

    places = {"here": biller, "elsewhere": other}
    ratios = {(name, place): [] for place in places for name in ("p50", "p99")}
    waits, without = {place: [] for place in places}, calls()
    for place in (*places,) * arguments.pairs:
        with people_at(places[place], arguments.every) as took:
            with_them = calls()
        waits[place] += took
        after = calls()
        p50 = (without.dial_p50_ms + after.dial_p50_ms) / 2
        p99 = (without.dial_p99_ms + after.dial_p99_ms) / 2
        ratios["p50", place].append(with_them.dial_p50_ms / p50)
        ratios["p99", place].append(with_them.dial_p99_ms / p99)
        print(
            f"  {kind}: without them p50 {p50:.2f} ms, p99 {p99:.2f} ms; {place} p50 {with_them.dial_p50_ms:.2f} ms,"
            f" p99 {with_them.dial_p99_ms:.2f} ms; {len(took)} pages",
            flush=True,
        )
        without = after
    for place in places:
        said = ", ".join(f"{name} x {statistics.median(ratios[name, place]):.2f}" for name in ("p50", "p99"))
        page = f"a page p50 {statistics.median(waits[place]) * 1000:.0f} ms at the client"
        where = f"aim: at most {AIM}" if place == "here" else "on another biller of this machine"
        print(
            f"{kind}: time to Dial with {PEOPLE} people: {said} ({where}); {len(waits[place])} pages, {page}",
            flush=True,
        )


@contextlib.contextmanager
def people_at(biller, every):
    """Let people click at a biller; the list has at the end how long each page took, in seconds."""
    rest = re.findall(r"tcp:([0-9]+):", Path(f"celcombiller-{biller.port}.toml").read_text("utf-8"))[0]
    command = [sys.executable, __file__, "--port", rest, "--every", str(every)]
    took = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as people:
        try:
            assert people.stdout.readline() == "ready\n"
            time.sleep(every)
            yield took
        finally:
            people.terminate()
        took += json.loads(people.stdout.read() or "[]")
    assert took, "the people did not click to the end"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5, help="measurements with the people at each place")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a measurement")
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two clicks of a person, on average")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.port:
        os.nice(19)
        asyncio.run(click(arguments.port, arguments.every))
        return
    for kind in ("sqlite", "postgresql"):
        if arguments.database not in (kind, "both"):
            continue
        cluster = PostgreSQL() if kind == "postgresql" else None
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                with contextlib.ExitStack() as stack:
                    billers = []
                    for name in ("ledger", "other"):
                        url = cluster.database() if cluster else f"sqlite:///{folder}/{name}.sqlite"
                        environment.fill(url, SUBSCRIBERS)
                        hire(url)
                        billers.append(stack.enter_context(environment.biller(url, Path(folder))))
                    measure(kind, *billers, arguments)
            finally:
                os.chdir("/")
                if cluster:
                    cluster.remove()


if __name__ == "__main__":
    main()
