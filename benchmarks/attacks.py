"""The time to Dial while clients of the API or of the AGI port use up each limit, beside the time without them.

`make bench-attacks` starts a biller with the settings of every installation and offers calls at a steady rate. Each
attack runs in a process of its own, with the lowest priority so that it takes no time from the load generator; before
each measurement under attack there is one without. It is not a test: it asserts only that calls were dialled.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from celcombiller.bench import environment
from celcombiller.bench.environment import memory_bytes
from celcombiller.bench.measurements import run

SUBSCRIBERS = 1000
SETTLE_SECONDS = 2.0
AIM = 3.0
"""The 99th percentile under attack may be so many times that without."""


# -- the attacker, a process of its own --------------------------------------------------------------------------------


def addresses():
    """Yield addresses of this machine again and again, so that no limit of one address is met first."""
    while True:
        for each in range(1, 200):
            yield f"127.0.1.{each}"


ADDRESSES = addresses()


async def connect(port, address=None):
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(address or next(ADDRESSES), 0))


async def forever(step, *arguments):
    """Repeat a step, whatever the biller does to its connection."""
    while True:
        try:
            await step(*arguments)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            await asyncio.sleep(0.01)


async def idle(port):
    reader, writer = await connect(port)
    await reader.read()
    writer.close()


async def slow_head(port):
    _, writer = await connect(port)
    writer.write(b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\n")
    for _ in range(30):
        await asyncio.sleep(0.5)
        writer.write(b"X: y\r\n")
        await writer.drain()


async def slow_body(port):
    _, writer = await connect(port)
    writer.write(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
    for _ in range(120):
        await asyncio.sleep(0.5)
        writer.write(b"x")
        await writer.drain()


async def unread(port):
    with socket.create_connection(("127.0.0.1", port), source_address=(next(ADDRESSES), 0)) as client:
        client.setblocking(False)
        requests = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60_000
        await asyncio.get_running_loop().sock_sendall(client, requests)


async def ask(port, request, times=1000):
    """Send requests on one connection and read the answers."""
    reader, writer = await connect(port)
    try:
        for _ in range(times):
            writer.write(request() if callable(request) else request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: ([0-9]+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()


def post(path, body):
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        path,
        len(body),
        body,
    )


def wrong_login():
    name = f"u{1_000_000 + random.randrange(SUBSCRIBERS)}"
    return post(b"/login", json.dumps({"username": name, "password": "a wrong one"}).encode())


UNKNOWN = b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
FORGED = b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nCookie: session=x\r\n\r\n"
NESTED = post(b"/login", b'{"username":' + b"[" * 900 + b"]" * 900 + b',"a":[' + b"1e5," * 15_000 + b"0]}")
BROKEN = post(b"/login", b'{"a":1e9999999999999999999}')


async def storm(port):
    _, writer = await connect(port)
    writer.transport.abort()


async def garbage(port):
    reader, writer = await connect(port)
    writer.write(b"\x00garbage\n\n")
    await reader.read()
    writer.close()


ATTACKS = {
    # name: which port, how many at once, what each does
    "connections idle": ("rest", 600, idle, ()),
    "heads, a line now and then": ("rest", 400, slow_head, ()),
    "bodies, an octet now and then": ("rest", 400, slow_body, ()),
    "60,000 requests, none read": ("rest", 50, unread, ()),
    "requests for long answers": ("rest", 50, ask, (LONG,)),
    "requests without a login": ("rest", 150, ask, (UNKNOWN,)),
    "requests with a forged cookie": ("rest", 150, ask, (FORGED,)),
    "requests that are broken": ("rest", 50, ask, (BROKEN,)),
    "bodies of 64 KiB": ("rest", 50, ask, (NESTED,)),
    "logins that are wrong": ("rest", 150, ask, (wrong_login,)),
    "connections, one after the other": ("rest", 4, storm, ()),
    "AGI connections idle": ("agi", 1000, idle, ()),
    "AGI connections with garbage": ("agi", 4, garbage, ()),
}


async def attack(name, ports):
    which, count, step, arguments = ATTACKS[name]
    await asyncio.gather(*(forever(step, ports[which], *arguments) for _ in range(count)))


# -- the measurement ---------------------------------------------------------------------------------------------------


def begin(name, ports):
    return subprocess.Popen([sys.executable, __file__, "--attack", name, "--ports", json.dumps(ports)])


def scrape(port):
    """Return the counters of limits that were reached."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = re.findall(r'^celcombiller_(rest|agi)_limited_total\{.*?setting="(\w+)".*?\} ([0-9.]+)', text, re.MULTILINE)
    return {f"{section}.{setting}": float(count) for section, setting, count in found}


def measure(name, biller, ports, arguments):
    """Return the 99th percentiles without and under an attack in ms, pair by pair, and which limits it reached."""
    pairs, before = [], scrape(ports["rest"])
    for _ in range(arguments.pairs):
        quiet = run("none", "sqlite", biller, arguments.seconds, rate=arguments.rate, subscribers=SUBSCRIBERS)
        attacker = begin(name, ports)
        try:
            time.sleep(SETTLE_SECONDS)
            loud = run(name, "sqlite", biller, arguments.seconds, rate=arguments.rate, subscribers=SUBSCRIBERS)
        finally:
            attacker.send_signal(signal.SIGKILL)
            attacker.wait()
        time.sleep(1.0)
        assert loud.broken == 0, f"{loud.broken} calls were lost under {name}"
        pairs.append((quiet, loud))
    reached = {each for each, count in scrape(ports["rest"]).items() if count > before[each]}
    return pairs, reached


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=3, help="measurements of each attack, each beside one without")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measurement")
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second")
    parser.add_argument("--only", default="", help="attacks whose name has this in it")
    parser.add_argument("--attack", choices=ATTACKS, help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if arguments.attack:
        os.nice(19)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(attack(arguments.attack, arguments.ports))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder}/ledger.sqlite"
        environment.fill(url, SUBSCRIBERS)
        with environment.biller(url, folder) as biller:
            file = folder.joinpath(f"celcombiller-{biller.port}.toml").read_text("utf-8")
            ports = {"agi": biller.port, "rest": int(re.findall(r"tcp:([0-9]+):", file)[0])}
            print(f"{arguments.rate:g} calls a second, time to Dial in ms, medians of {arguments.pairs} pairs\n")
            print("| attack | without: 50 % | 99 % | under it: 50 % | 99 % | ratio of 99 % | MiB | limits reached |")
            print("|---|---|---|---|---|---|---|---|")
            for each in ATTACKS:
                if arguments.only not in each:
                    continue
                pairs, reached = measure(each, biller, ports, arguments)
                ratio = statistics.median(loud.dial_p99_ms / quiet.dial_p99_ms for quiet, loud in pairs)
                figures = [
                    statistics.median(getattr(pair[side], name) for pair in pairs)
                    for side in (0, 1)
                    for name in ("dial_p50_ms", "dial_p99_ms")
                ]
                cells = " | ".join(f"{figure:.1f}" for figure in figures)
                mark = "" if ratio <= AIM else " (!)"
                memory = memory_bytes(biller.id) / 2**20
                print(
                    f"| {each} | {cells} | {ratio:.1f}{mark} | {memory:.0f} | {', '.join(sorted(reached))} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
