"""``celcombiller bench``: all measurements on each database, as a table, as ratios with their aims, and as JSON."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from celcombiller.bench import environment
from celcombiller.bench.long_history import fill_history, rates
from celcombiller.bench.measurements import Run, hold, load, run
from celcombiller.bench.postgresql import PostgreSQL
from celcombiller.bench.priced_network import EXTERNAL_DIAL, OUTSIDE, add_prices
from celcombiller.core.errors import StoreUnavailable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

SUBSCRIBERS = 1000
SLOW_SYNC_MS = 10
IN_FLIGHT = (1, 8, 64, 256)
OFFERED = (100, 500, 1000)
HELD = 15_000
BURST = 5_000
COMMITS_SECONDS = 1.0
PLAIN, PRICED = "without prices", "with prices"

UNBATCHED_IN_FLIGHT = 32
"""Calls at once where each request has its own transaction: more would only wait, some of them for the whole run."""

A2BILLING_CALLS_PER_SECOND = 36
A2BILLING_CPU_MS = 53
"""A2Billing 2.3 on two cores, 8 calls in flight: the most common program of this kind."""

Aim = tuple[str, str, str, dict[str, float]]
PRICES_AIM: Aim = (
    *("i", "calls/s at 256 with tariff, bundle and trunks : without", ">="),
    {"sqlite": 0.9, "postgresql": 0.9},
)
AIMS: tuple[Aim, ...] = (
    ("a", "calls/s at 256 in flight : the wire alone", ">=", {"sqlite": 0.6, "postgresql": 0.5}),
    ("b", "CPU of the biller per call at 256 : the wire alone", "<=", {"sqlite": 2, "postgresql": 2}),
    ("c", "calls/s with every sync 10 ms slower : without", ">=", {"sqlite": 0.7, "postgresql": 0.4}),
    ("d", "with slow syncs: group commit : a transaction a request", ">=", {"sqlite": 50, "postgresql": 8}),
    ("e", "ms to Dial, p50, one call at a time", "<=", {"sqlite": 1, "postgresql": 2}),
    ("f", "ms to Dial, p99, 500 calls/s offered", "<=", {"sqlite": 6, "postgresql": 10}),
    ("g", "calls/s at 8 in flight : A2Billing's 36", ">=", {"sqlite": 40, "postgresql": 25}),
    ("g", "A2Billing's 53 ms of CPU a call : ours with the database's", ">=", {"sqlite": 80, "postgresql": 40}),
    ("h", "KiB a call in progress, of 15,000", "<=", {"sqlite": 16, "postgresql": 16}),
    ("h", "seconds until 5,000 calls begun at once are dialled", "<=", {"sqlite": 1, "postgresql": 1.5}),
    PRICES_AIM,
)


class Result(msgspec.Struct):
    """Everything that is written to the JSON file."""

    machine: str
    load_before: float
    runs: list[Run]
    commits_per_second: dict[str, float]
    ratios: dict[str, dict[str, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Measure this biller on this machine: a load generator plays Asterisk's side against a biller of its own in a"
        " temporary folder; it touches nothing in use. The figures hold for this machine at this time; the"
        " ratios to the yardsticks of the same run can be compared between machines. PostgreSQL is measured where its"
        " initdb is installed, slower disks where there is a C compiler."
    )
    parser.add_argument("--quick", action="store_true", help="about a minute a database: one round of short runs")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="measure only this database")
    parser.add_argument("--seconds", type=float, default=8.0, help="the length of each run (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="the number of rounds, whose medians count (default: 3)")
    parser.add_argument("--held", type=int, default=HELD, metavar="CALLS", help=f"calls in progress (default: {HELD})")
    parser.add_argument(
        "--history",
        type=int,
        default=0,
        metavar="TRANSFERS",
        help="also compare with a database of this many transfers, a tenth as many subscribers and 200,000 rates",
    )
    parser.add_argument(
        "--only-prices",
        action="store_true",
        help="only compare calls with tariffs, bundles and trunks with the same without",
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="the JSON file (default: bench.json)")


def bench(arguments: argparse.Namespace) -> int:
    """Do all measurements. Raises `StoreUnavailable` when the audit finds a difference after a run."""
    if arguments.quick:
        arguments.seconds, arguments.rounds, arguments.held = 3.0, 1, min(arguments.held, 5000)
    result = Result(f"{platform.platform()}, {os.cpu_count()} cores", load(), [], {}, {})
    for database in ("sqlite", "postgresql"):
        if arguments.database in (None, database):
            try:
                with tempfile.TemporaryDirectory(prefix="celcombiller-bench-") as folder:
                    Series(database, Path(folder), arguments, result).measure()
            except StoreUnavailable as error:
                if arguments.database:
                    raise
                print(f"{database} is left out: {error}")
    print_ratios(result)
    arguments.output.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    print(f"All figures are in {arguments.output}.")
    return 0


class Series:
    """All measurements on one database."""

    def __init__(self, database: str, folder: Path, arguments: argparse.Namespace, result: Result) -> None:
        self._database = database
        self._folder = folder
        self._arguments = arguments
        self._seconds = arguments.seconds
        self._result = result
        self._cluster: PostgreSQL | None = None
        self._subscribers = SUBSCRIBERS
        self._made = 0

    def measure(self) -> None:
        """Measure in rounds, so that other work of the machine affects all measurements alike."""
        print(HEADER)
        with contextlib.ExitStack() as ending:
            slowly = environment.slow_sync(self._folder, SLOW_SYNC_MS)
            cluster = slow_cluster = None
            if self._database == "postgresql":
                cluster = PostgreSQL(self._folder)
                ending.callback(cluster.remove)
                slow_cluster = PostgreSQL(self._folder, environment=slowly)
                ending.callback(slow_cluster.remove)
            if self._arguments.only_prices:
                self._cluster = cluster
                medians = [self._floor(), *self._with_prices()]
                self._result.ratios[self._database] = _price_ratios(medians)
                self._result.runs += medians
                return
            rounds: list[list[Run]] = []
            for _ in range(self._arguments.rounds):
                self._cluster = cluster
                now = [self._floor(), *self._plain(), *self._unbatched({})]
                self._cluster = slow_cluster
                own = {} if slow_cluster else slowly
                now += [*self._slow(own), *self._unbatched(own, "slow, unbatched")]
                rounds.append(now)
            medians = [median_of(list(runs)) for runs in zip(*rounds, strict=True)]
            self._cluster = cluster
            medians += self._with_prices()
            medians += self._many()
            self._result.commits_per_second[self._database] = environment.commits_per_second(
                self._url(), COMMITS_SECONDS
            )
            if self._arguments.history:
                medians += self._with_history()
        self._result.runs += medians
        self._result.ratios[self._database] = self._ratios(medians)

    def _url(self) -> str:
        """Make a database with subscribers, and return its URL."""
        self._made += 1
        url = self._cluster.database() if self._cluster else f"sqlite:///{self._folder}/bench{self._made}.sqlite"
        environment.fill(url, self._subscribers)
        return url

    @contextlib.contextmanager
    def _biller(
        self,
        own: Mapping[str, str] | None = None,
        *,
        unbatched: bool = False,
        url: str = "",
        settings: str = "",
        prove: bool = True,
    ) -> Iterator[environment.Process]:
        """Run a biller on a database, and audit its ledger afterwards. ``own`` is added to its environment."""
        url = url or self._url()
        with environment.biller(url, self._folder, own or {}, unbatched=unbatched, settings=settings) as server:
            yield server
        if prove:
            self._prove(url)

    def _prove(self, url: str) -> None:
        differences = environment.differences(url)
        if differences:
            raise StoreUnavailable(f"the audit found {differences} differences after a run on {self._database}")

    def _run(
        self,
        name: str,
        server: environment.Process,
        *,
        in_flight: int = 0,
        rate: float = 0.0,
        called_prefix: str = "",
    ) -> Run:
        made = run(
            name,
            self._database,
            server,
            self._seconds,
            in_flight=in_flight,
            rate=rate,
            subscribers=self._subscribers,
            called_prefix=called_prefix,
            cluster=self._cluster,
        )
        return _shown(made)

    def _floor(self) -> Run:
        with environment.floor(self._folder) as server:
            return self._run("the wire alone", server, in_flight=256)

    def _plain(self) -> Iterator[Run]:
        with self._biller() as server:
            for in_flight in IN_FLIGHT:
                yield self._run("biller", server, in_flight=in_flight)
            for rate in OFFERED:
                yield self._run("biller", server, rate=rate)

    def _unbatched(self, own: dict[str, str], name: str = "unbatched") -> Iterator[Run]:
        with self._biller(own, unbatched=True) as server:
            yield self._run(name, server, in_flight=UNBATCHED_IN_FLIGHT)

    def _slow(self, own: dict[str, str]) -> Iterator[Run]:
        with self._biller(own) as server:
            yield self._run("slow", server, in_flight=256)

    def _many(self) -> Iterator[Run]:
        for name, calls, seconds in (("burst", BURST, 4.0), ("held", self._arguments.held, 20.0)):
            with self._biller() as server:
                # A few calls first, so that what the first call loads is not counted.
                hold("first", self._database, server, 8, seconds=1.0, subscribers=self._subscribers)
                found = hold(name, self._database, server, calls, seconds=seconds, subscribers=self._subscribers)
                yield _shown(found)

    def _with_prices(self) -> Iterator[Run]:
        """Compare calls that have a tariff, a bundle and trunks with the same calls without, in pairs."""
        plain, priced = self._url(), self._url()
        add_prices(priced)
        pairs: list[list[Run]] = []
        for number in range(self._arguments.rounds):
            of_round: dict[str, list[Run]] = {}
            for name, url in ((PLAIN, plain), (PRICED, priced))[:: -1 if number % 2 else 1]:
                with self._biller(url=url, settings=EXTERNAL_DIAL) as server:
                    of_round[name] = [
                        self._run(name, server, in_flight=in_flight, called_prefix=OUTSIDE) for in_flight in (1, 256)
                    ]
            pairs.append(of_round[PLAIN] + of_round[PRICED])
        yield from (median_of(list(runs)) for runs in zip(*pairs, strict=True))

    def _with_history(self) -> Iterator[Run]:
        """Compare a long history with none, in pairs, so that other work of the machine affects both alike."""
        subscribers = max(SUBSCRIBERS, self._arguments.history // 10)
        past, empty = self._url(), self._url()
        print(f"{self._database}: making {self._arguments.history:,} transfers of {subscribers:,} subscribers …")
        fill_history(past, self._arguments.history, subscribers)
        pairs: list[list[Run]] = []
        for _ in range(self._arguments.rounds):
            pairs.append([])
            for name, url, settings, count in (
                ("no history", empty, "", SUBSCRIBERS),
                ("with history", past, rates(), subscribers),
            ):
                self._subscribers = count
                with self._biller(url=url, settings=settings, prove=False) as server:
                    pairs[-1] += [self._run(name, server, in_flight=in_flight) for in_flight in (1, 256)]
        self._subscribers = SUBSCRIBERS
        for url in (empty, past):
            self._prove(url)
        yield from (median_of(list(runs)) for runs in zip(*pairs, strict=True))

    def _ratios(self, runs: list[Run]) -> dict[str, float]:
        one = partial(_find, runs)
        floor, busy, eight = one("the wire alone"), one("biller", 256), one("biller", 8)
        slow, slow_single = one("slow"), one("slow, unbatched")
        cpu_ms = eight.cpu_ms_per_call + eight.database_cpu_ms_per_call
        values = (
            busy.calls_per_second / floor.calls_per_second,
            busy.cpu_ms_per_call / floor.cpu_ms_per_call,
            slow.calls_per_second / busy.calls_per_second,
            _over(slow.calls_per_second, slow_single.calls_per_second),
            one("biller", 1).dial_p50_ms,
            one("biller", offered=500).dial_p99_ms,
            eight.calls_per_second / A2BILLING_CALLS_PER_SECOND,
            A2BILLING_CPU_MS / cpu_ms,
            one("held").kib_per_call,
            one("burst").all_dialled_seconds,
        )
        ratios = {f"{letter}: {what}": value for (letter, what, *_), value in zip(AIMS[:-1], values, strict=True)}
        ratios |= _price_ratios(runs)
        ratios["calls/s at 256 in flight : commits/s of one row"] = (
            busy.calls_per_second / self._result.commits_per_second[self._database]
        )
        ratios["calls/s at 256 in flight : a transaction a request"] = _over(
            busy.calls_per_second, one("unbatched").calls_per_second
        )
        if self._arguments.history:
            ratios["calls/s at 256 with history : without"] = (
                one("with history", 256).calls_per_second / one("no history", 256).calls_per_second
            )
            ratios["ms to Dial, p50, with history : without"] = (
                one("with history", 1).dial_p50_ms / one("no history", 1).dial_p50_ms
            )
        return ratios


def _find(runs: list[Run], name: str, in_flight: int = 0, offered: float = 0) -> Run:
    """Return the run of this name and load."""
    return next(
        each for each in runs if (each.name, each.offered) == (name, offered) and in_flight in (0, each.in_flight)
    )


def _price_ratios(runs: list[Run]) -> dict[str, float]:
    """Return what tariffs, bundles and trunks add to a call, and where the same calls stand beside the wire alone."""
    one = partial(_find, runs)
    plain, priced, floor = one(PLAIN, 256), one(PRICED, 256), one("the wire alone")
    letter, what, *_ = PRICES_AIM
    return {
        f"{letter}: {what}": _over(priced.calls_per_second, plain.calls_per_second),
        "calls/s at 256 with prices : the wire alone": _over(priced.calls_per_second, floor.calls_per_second),
        "CPU of the biller per call at 256, with prices : without": _over(
            priced.cpu_ms_per_call, plain.cpu_ms_per_call
        ),
        "CPU of the database per call at 256, with prices : without": _over(
            priced.database_cpu_ms_per_call, plain.database_cpu_ms_per_call
        ),
        "ms to Dial, p50, one call at a time, with prices : without": _over(
            one(PRICED, 1).dial_p50_ms, one(PLAIN, 1).dial_p50_ms
        ),
    }


def _over(calls: float, others: float) -> float:
    """Return the ratio; not a number when no call succeeded to compare with."""
    return calls / others if others else math.nan


HEADER = (
    f"{'database':11}{'run':16}{'in flight':>9}{'offered':>8}{'calls/s':>9}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}"
    f"{'CPU ms':>8}{'db CPU':>8}{'KiB':>6}{'broken':>7}"
)


def _shown(made: Run) -> Run:
    """Print a run as a row at once, and return it."""
    print(
        f"{made.database:11}{made.name:16}{made.in_flight or '':>9}{made.offered or '':>8}{made.calls_per_second:9.0f}"
        f"{made.dial_p50_ms:8.2f}{made.dial_p95_ms:8.2f}{made.dial_p99_ms:8.2f}{made.cpu_ms_per_call:8.3f}"
        f"{made.database_cpu_ms_per_call:8.3f}{made.kib_per_call:6.1f}{made.broken + made.refused:7}"
    )
    sys.stdout.flush()
    return made


def median_of(runs: list[Run]) -> Run:
    """Return a run with the median of each figure."""
    first = runs[0]
    return Run(
        **{
            name: median(getattr(each, name) for each in runs)
            if isinstance(getattr(first, name), float)
            else getattr(first, name)
            for name in Run.__struct_fields__
        }
    )


def print_ratios(result: Result) -> None:
    """Print each ratio with its aim."""
    compare: dict[str, Callable[[float, float], bool]] = {">=": float.__ge__, "<=": float.__le__}
    for database, ratios in result.ratios.items():
        print(f"\n{database}, on {result.machine}, load {result.load_before:.1f} before:")
        aims = {f"{letter}: {what}": (sign, aim[database]) for letter, what, sign, aim in AIMS}
        for what, value in ratios.items():
            sign, aim = aims.get(what, ("", 0.0))
            verdict = _verdict(value, compare.get(sign), float(aim))
            print(f"  {what:62}{value:10.2f}  {f'aim {sign} {aim:g}' if sign else '':12} {verdict}")


def _verdict(value: float, is_good: Callable[[float, float], bool] | None, aim: float) -> str:
    if is_good is None:
        return ""
    if math.isnan(value):
        return "unknown: no call succeeded to compare with"
    return "reached" if is_good(value, aim) else "missed"
