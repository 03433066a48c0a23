"""Find rates among 1 and 1,000,000 prefixes: the time of a look-up, the memory, and the stall while they are loaded.

The rates are loaded in a thread that takes short turns, as a biller does it, while the reactor measures how late a call
of every millisecond comes. A busy machine lets it wait for longer, as the idle figure shows; the longest step is that
of one rate. ``hot`` look-ups are of 1,000 numbers, ``cold`` ones of numbers to all destinations, whose rates must be
made. Look-ups and steps are measured in CPU time. The yardstick: the same ``hot`` look-ups in a dictionary.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react
from twisted.internet.threads import deferToThread

from celcombiller.core.model.tariffs import Prices, Rate, Step
from celcombiller.core.rating.tariff import TariffBuilder
from celcombiller.runtime.process.thread_turns import take_short_turns

LOOKUPS = 200_000
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PAGE_BYTES = 4096
TICK_SECONDS = 0.001
QUIET_SECONDS = 5.0


def rates(count):
    """Yield rates of this many prefixes in order, some within others, with 20,000 names and 5,000 price lists."""
    digits = len(str(count - 1)) if count > 1 else 0
    made = ("".join(each) for each in product("0123456789", repeat=digits))
    chance = random.Random(1)
    for place, prefix in zip(range(count), made, strict=False):
        # Every tenth prefix is that of the ten that it begins.
        shown = prefix[:-1] if digits and place % 10 == 0 else prefix
        steps = (Step(0, 60, chance.randrange(5000), 60), Step(60, 6, 30, 60))
        yield Rate(shown, f"Destination {place // 50}", Prices(0, steps))


def build(count):
    """Return a tariff of this many prefixes and the seconds that it took."""
    began = time.perf_counter()
    builder = TariffBuilder()
    for rate in rates(count):
        builder.add(rate)
    return builder.finish(), time.perf_counter() - began


def longest_step_ms(count):
    """Return the CPU milliseconds of the longest step of a build: no other thread runs in it at the worst."""
    builder, longest = TariffBuilder(), 0.0
    for rate in rates(count):
        began = time.thread_time()
        builder.add(rate)
        longest = max(longest, time.thread_time() - began)
    return longest * 1000


def resident_bytes():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


class Lateness:
    """How late the reactor calls what it should call every millisecond."""

    def __init__(self):
        self.worst = 0.0
        self._last = time.perf_counter()
        self._call = LoopingCall(self._tick)
        self._call.start(TICK_SECONDS, now=False)

    def _tick(self):
        now = time.perf_counter()
        self.worst = max(self.worst, now - self._last - TICK_SECONDS)
        self._last = now

    def stop(self):
        self._call.stop()
        return self.worst * 1000


def microseconds(find, numbers):
    """Return the microseconds of a look-up in the fastest of nine series: what a machine at its full speed takes."""
    series = []
    for _ in range(9):
        began = time.process_time()
        for number in numbers:
            find(number, NOW)
        series.append((time.process_time() - began) / len(numbers) * 1e6)
    return min(series)


def numbers(count, different):
    chance = random.Random(2)
    some = [f"{chance.randrange(10**13):013}" for _ in range(different)]
    return [chance.choice(some) for _ in range(count)]


async def measure(count):
    quiet = Lateness()
    pause = Deferred()
    reactor.callLater(QUIET_SECONDS, pause.callback, None)
    await pause
    idle_ms = quiet.stop()
    before, late = resident_bytes(), Lateness()
    with take_short_turns():
        tariff, seconds = await deferToThread(build, count)
    stall_ms, memory = late.stop(), resident_bytes() - before
    hot = numbers(LOOKUPS, 1000)
    return {
        "prefixes": count,
        "hot_us": round(microseconds(tariff.rate_for, hot), 2),
        "cold_us": round(microseconds(tariff.rate_for, numbers(LOOKUPS, LOOKUPS)), 2),
        "dictionary_us": round(microseconds(dict.fromkeys(hot, NOW).get, hot), 2),
        "memory_mib": round(memory / 2**20, 1),
        "build_seconds": round(seconds, 2),
        "step_ms": round(longest_step_ms(count), 2),
        "stall_ms": round(stall_ms, 1),
        "stall_idle_ms": round(idle_ms, 1),
    }


async def main(_reactor, options):
    results = [await measure(count) for count in options.prefixes]
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for each in results:
        print(
            f"{each['prefixes']:>9,} prefixes: look-up {each['hot_us']} µs (cold {each['cold_us']} µs,"
            f" in a dictionary {each['dictionary_us']} µs), {each['memory_mib']} MiB, built in"
            f" {each['build_seconds']} s, longest step {each['step_ms']} ms, longest stall"
            f" {each['stall_ms']} ms (idle: {each['stall_idle_ms']} ms)"
        )


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefixes", type=int, nargs="+", default=[1, 1_000_000], metavar="N")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    react(main, [parse(sys.argv[1:])])
