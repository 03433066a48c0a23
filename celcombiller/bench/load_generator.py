"""Asterisk's side of the FastAGI wire for very many calls: one process, one epoll, no Twisted.

A call does what the dialplan does: the ``caller`` script to its end, then ``reducer``. Its Dial is answered and ended
at once. To measure calls in progress, each Dial waits instead until all calls have dialled. As a program it reads a
`Plan` in JSON from standard input and writes a `Tally` in JSON to standard output.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

DRAIN_SECONDS = 15.0
"""How long a run waits after its end for calls that are still in progress."""

FIRST_NUMBER = 1_000_000
"""Subscriber n has the number FIRST_NUMBER + n."""

TALK_MS = 30_000

FAR_APART = 61_803_399
"""What lies between the numbers outside of two neighbours (the golden section): any few go to as many destinations."""

_ENVIRONMENT = (
    b"agi_network: yes\nagi_network_script: %b\nagi_request: agi://127.0.0.1/%b\nagi_channel: PJSIP/%b-%b\n"
    b"agi_language: en\nagi_type: PJSIP\nagi_uniqueid: %b\nagi_version: 22.0.0\nagi_callerid: %b\n"
    b"agi_calleridname: unknown\nagi_callingpres: 0\nagi_callingani2: 0\nagi_callington: 0\nagi_callingtns: 0\n"
    b"agi_dnid: %b\nagi_rdnis: unknown\nagi_context: celcombiller\nagi_extension: %b\nagi_priority: 1\n"
    b"agi_enhanced: 0.0\nagi_accountcode: %b\nagi_threadid: 140000000000000\n\n"
)


class Plan(msgspec.Struct, kw_only=True):
    """The load. Times are those of ``time.monotonic``, which all processes of a machine share.

    In a closed loop ``in_flight`` calls are always in progress. In an open loop calls begin at random times, ``rate`` a
    second on average, whatever happens to the others. ``hold`` is the number of Dials that begin and then wait.
    """

    port: int
    begins_at: float
    counts_from: float
    ends_at: float
    in_flight: int = 0
    rate: float = 0.0
    hold: int = 0
    name: str = "bench"
    source: str = "127.0.0.1"
    subscribers: int = 1000
    called_prefix: str = ""
    tells_all: bool = False


class Tally(msgspec.Struct):
    """The result: calls that ended in the counted time, and the microseconds to Dial of those that began in it.

    With ``tells_all``, ``acknowledged`` has for each uniqueid the seconds granted at the Dial (None: not dialled), and
    whether the charge was acknowledged.
    """

    calls: int = 0
    refused: int = 0
    broken: int = 0
    to_dial_us: list[int] = []
    all_dialled_at: float = 0.0
    latest_us: int = 0
    acknowledged: dict[str, tuple[int | None, bool]] = {}


class Call:
    """One call: the socket of the running script, the variables of its channel, and its progress."""

    __slots__ = ("due_at", "number", "out", "rest", "script", "seconds", "settled", "socket", "uniqueid", "values")

    def __init__(self, number: int, uniqueid: bytes, due_at: float) -> None:
        self.number = number
        self.uniqueid = uniqueid
        self.due_at = due_at
        self.values: dict[bytes, bytes] = {b"CHANNEL(state)": b"Ring", b"TIMEOUT(absolute)": b"0"}
        self.rest = b""
        self.out = b""
        self.script = b""
        self.seconds: int | None = None
        self.settled = False
        self.socket: socket.socket


class Traffic:
    """The calls of this process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally(to_dial_us=[], acknowledged={})
        self._epoll = select.epoll()
        self._calls: dict[int, Call] = {}
        self._names: dict[bytes, tuple[bytes, ...]] = {}
        self._waiting: deque[Call] = deque()
        self._made = 0
        self._address = ("127.0.0.1", plan.port)

    def run(self) -> Tally:
        """Carry out the plan until the last call has ended; return the result."""
        plan = self.plan
        time.sleep(max(0.0, plan.begins_at - time.monotonic()))
        if plan.hold:
            self._hold()
        elif plan.rate:
            self._offer()
        else:
            self._keep_busy()
        return self.tally

    def _keep_busy(self) -> None:
        for _ in range(self.plan.in_flight):
            self._begin(time.monotonic())
        while self._calls and time.monotonic() < self.plan.ends_at + DRAIN_SECONDS:
            self._turn(1.0)

    def _offer(self) -> None:
        chance = random.Random(self.plan.name)  # noqa: S311  the same times each run
        due_at = self.plan.begins_at
        watched = [self._epoll.fileno()]
        while due_at < self.plan.ends_at:
            now = time.monotonic()
            if now >= due_at:
                self.tally.latest_us = max(self.tally.latest_us, int((now - due_at) * 1e6))
                self._begin(due_at)
                due_at += chance.expovariate(self.plan.rate)
            elif select.select(watched, (), (), due_at - now)[0]:  # the timeout of epoll has only milliseconds
                self._turn(0)
        while self._calls and time.monotonic() < self.plan.ends_at + DRAIN_SECONDS:
            self._turn(1.0)

    def _hold(self) -> None:
        """Begin all calls, wait until each has dialled, hold them to the end of the plan, then end them."""
        while self._made < self.plan.hold:
            self._begin(time.monotonic())
            if self._made % 32 == 0:
                self._turn(0)
        while len(self._waiting) + self.tally.refused + self.tally.broken < self.plan.hold:
            self._turn(1.0)
            if time.monotonic() > self.plan.ends_at + DRAIN_SECONDS:
                break
        self.tally.all_dialled_at = time.monotonic()
        time.sleep(max(0.0, self.plan.ends_at - time.monotonic()))
        drained_at = time.monotonic() + 4 * DRAIN_SECONDS
        while self._calls and time.monotonic() < drained_at:
            for _ in range(min(64, len(self._waiting))):
                call = self._waiting.popleft()
                self._say(call, b"200 result=-1\n")
            self._turn(0.01)

    # -- the wire -----------------------------------------------------------------------------------------------

    def _turn(self, seconds: float) -> None:
        calls = self._calls
        for number, event in self._epoll.poll(seconds, 512):
            call = calls[number]
            if event & select.EPOLLOUT and call.out:
                self._epoll.modify(number, select.EPOLLIN)
                self._say(call, b"")
            if not event & ~select.EPOLLOUT:
                continue
            try:
                data = call.socket.recv(4096)
            except BlockingIOError:
                continue
            except OSError:
                self._over(call, broken=True)
                continue
            if not data:
                self._over(call, broken=bool(call.rest))
                continue
            if call.rest:
                data = call.rest + data
            if data[-1] != 10:  # noqa: PLR2004  a line feed
                call.rest = data
                continue
            call.rest = b""
            answer = self._answer(call, data)
            if answer:
                self._say(call, answer)

    def _begin(self, due_at: float) -> None:
        number = self._made % self.plan.subscribers
        self._made += 1
        call = Call(
            number, b"%b-%d.%d" % (self.plan.name.encode(), int(self.plan.begins_at * 1000), self._made), due_at
        )
        self._run(call, b"caller")

    def _run(self, call: Call, script: bytes) -> None:
        """Connect, and send the AGI environment as Asterisk does."""
        call.script = script
        made = call.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.plan.source != "127.0.0.1":
            made.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: connect chooses the port
            made.bind((self.plan.source, 0))
        made.connect_ex(self._address)
        caller = b"%d" % (FIRST_NUMBER + call.number)
        called = self._called_by(call)
        extension = called if script == b"caller" else b"h"
        self._calls[made.fileno()] = call
        self._epoll.register(made.fileno(), select.EPOLLIN)
        self._say(
            call,
            _ENVIRONMENT % (script, script, caller, call.uniqueid, call.uniqueid, caller, called, extension, caller),
        )

    def _called_by(self, call: Call) -> bytes:
        """Return the number that is called: the next subscriber's, or one outside; these are far from one another."""
        plan = self.plan
        if plan.called_prefix:
            return b"%b%08d" % (plan.called_prefix.encode(), call.number * FAR_APART % 10**8)
        return b"%d" % (FIRST_NUMBER + (call.number + 1) % plan.subscribers)

    def _say(self, call: Call, data: bytes) -> None:
        data = call.out + data
        try:
            sent = call.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the next read reports the end
        call.out = data[sent:]
        if call.out:
            self._epoll.modify(call.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _answer(self, call: Call, line: bytes) -> bytes:
        """Return the answer of Asterisk 22 to one command; empty for a Dial that is held."""
        if line.startswith(b"GET FULL VARIABLE "):
            return self._evaluate(call, line)
        if line.startswith(b"SET VARIABLE "):
            _, _, name, value = line.split(b" ", 3)
            call.values[name] = value.strip(b'"\n')
            return b"200 result=1\n"
        if line.startswith(b"EXEC DIAL"):
            return self._dial(call)
        if line.startswith(b"EXEC MSET"):
            for each in line[9:].strip(b' "\n').split(b","):
                name, _, value = each.partition(b"=")
                call.values[name] = value
        if line == b"SET AUTOHANGUP 0\n":  # the last command of `caller`: the charge is durable
            call.settled = True
        if line.startswith((b"SET AUTOHANGUP ", b"EXEC ")):
            return b"200 result=0\n"
        return b"510 Invalid or unknown command\n"

    def _evaluate(self, call: Call, line: bytes) -> bytes:
        """Answer ``GET FULL VARIABLE "nonce|${A}|${B}"``; parsed expressions are kept, as they repeat."""
        nonce, _, expressions = line[19:].partition(b"|")
        names = self._names.get(expressions)
        if names is None:
            names = tuple(each.strip(b'${}"\n') for each in expressions.split(b"|"))
            self._names[expressions] = names
        values = call.values
        values[b"STRFTIME(,,%s.%6q)"] = b"%.6f" % time.time()
        return b"200 result=1 (%b)\n" % b"|".join([nonce, *(values.get(name, b"") for name in names)])

    def _dial(self, call: Call) -> bytes:
        now = time.monotonic()
        plan, tally, values = self.plan, self.tally, call.values
        if plan.hold or plan.counts_from <= call.due_at:
            tally.to_dial_us.append(int((now - call.due_at) * 1e6))
        call.seconds = int(values.get(b"CELCOMBILLER_SECONDS", b"0"))
        values[b"DIALSTATUS"] = b"ANSWER"
        values[b"HANGUPCAUSE"] = b"16"
        values[b"ANSWEREDTIME_MS"] = b"%d" % TALK_MS
        if plan.hold:
            self._waiting.append(call)
            return b""
        return b"200 result=-1\n"

    def _over(self, call: Call, *, broken: bool) -> None:
        """End a session; begin the next session of its channel."""
        plan, tally = self.plan, self.tally
        del self._calls[call.socket.fileno()]
        call.socket.close()
        call.out = call.rest = b""
        if not broken and call.script == b"caller" and call.seconds is not None:
            self._run(call, b"reducer")
            return
        now = time.monotonic()
        settled = call.values.get(b"CELCOMBILLER_SETTLED") == b"1"
        # A biller that dies closes the connection without an answer.
        broken = broken or b"CELCOMBILLER_RESULT" not in call.values or (call.seconds is not None and not settled)
        if plan.tells_all:
            tally.acknowledged[call.uniqueid.decode()] = (call.seconds, call.settled or settled)
        if broken:
            tally.broken += 1
        elif not settled:
            tally.refused += 1
        elif plan.counts_from <= now < plan.ends_at:
            tally.calls += 1
        if plan.in_flight and now < plan.ends_at and not broken:
            self._begin(now)


def main(read: Callable[[], bytes] = sys.stdin.buffer.read) -> None:
    """Carry out the plan from standard input."""
    tally = Traffic(msgspec.json.decode(read(), type=Plan)).run()
    sys.stdout.buffer.write(msgspec.json.encode(tally))


if __name__ == "__main__":
    main()
