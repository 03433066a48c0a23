"""The played Asterisk: its channels, its clock, its database of notes, its AMI, and what becomes of it.

As a program it reads a `Plan` and then orders from standard input, a line of JSON each, makes the calls of the plan,
and writes what it knows of each call to standard output when the call is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys
import time

import msgspec

from tests.chaos.asterisk.channel import STANDS_SECONDS, Channel, Leg
from tests.chaos.asterisk.manager import Manager
from tests.chaos.asterisk.plan import Plan, draw_calls

LISTEN_TRIES_SECONDS = 0.05
RESTART_SECONDS = 1.0
"""How long ``core restart now`` takes: 0.5 s when idle. In less than a second uniqueids would come again."""


class Order(msgspec.Struct):
    """What the run wants of the played Asterisk: ``restart``, ``kill``, ``step`` the clock, ``stop`` new calls."""

    do: str
    seconds: float = 0.0


class Pbx:
    """One Asterisk server."""

    system_name = "pbx1"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = random.Random(f"{plan.seed} asterisk")
        self.billers = (*plan.agi_ports, None)[:2]
        self.legs: dict[str, Leg] = {}
        self.managers: set[Manager] = set()
        self.notes: dict[str, str] = {}
        """Asterisk's own database, which outlives it."""
        self.variables: dict[str, str] = {}
        self._step = 0.0
        self._named: set[tuple[int, int]] = set()
        """What the uniqueids so far are made of: the second and the number."""
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._is_up = False
        self._is_over = False
        self._one_end = asyncio.Lock()
        """It ends once at a time."""
        self._begin_again()

    def _begin_again(self) -> None:
        """Count channels from 0, as each start of Asterisk does."""
        self.booted = time.monotonic()
        self._names = itertools.count()
        self.variables = {
            name: "" if port is None else f"agi://127.0.0.1:{port}"
            for name, port in zip(("CELCOMBILLER", "CELCOMBILLER_SECOND"), self.billers, strict=True)
        }

    # -- the clock ---------------------------------------------------------------------------------------------------

    def wall(self) -> float:
        """Return the seconds since 1970 by this Asterisk's clock, which faults may set."""
        return time.time() + self._step

    def now(self) -> str:
        """Return its time as it writes it."""
        return f"{self.wall():.6f}"

    def step(self, seconds: float) -> None:
        """Set the clock; limits are moments of it, so they come sooner or later."""
        self._step += seconds
        for leg in list(self.legs.values()):
            leg.arm()

    # -- channels ----------------------------------------------------------------------------------------------------

    def name_channel(self, base: str) -> tuple[str, str]:
        """Return the name and the uniqueid of a new channel.

        The real one's comes again where its clock is set back to the second of a start; records are kept by them.
        """
        second = int(self.wall())
        number = next(each for each in self._names if (second, each) not in self._named)
        self._named.add((second, number))
        return f"{base}-{number:08x}", f"{self.system_name}-{second}.{number}"

    def caller_of(self, callee: Leg) -> Channel | None:
        """Return the channel that dialled this one."""
        return next(
            (leg for leg in self.legs.values() if isinstance(leg, Channel) and leg.uniqueid == callee.linkedid), None
        )

    def stands_still(self) -> bool:
        """Return whether the first biller's sign of life is too old, as the fragment reckons."""
        alive = int(self.variables.get("CELCOMBILLER_ALIVE") or 0)
        return alive > 0 and int(self.wall()) - alive > STANDS_SECONDS

    # -- events ------------------------------------------------------------------------------------------------------

    def snapshot(self, leg: Leg, prefix: str = "") -> str:
        """Return the lines of a channel as each event has them."""
        values = (
            *(("Channel", leg.name), ("ChannelState", 6 if leg.state == "Up" else 4), ("ChannelStateDesc", leg.state)),
            *(("CallerIDNum", leg.number), ("CallerIDName", "<unknown>"), ("ConnectedLineNum", leg.peer_number)),
            *(("ConnectedLineName", "<unknown>"), ("Language", "en"), ("AccountCode", ""), ("Context", "phones")),
            *(("Exten", leg.peer_number), ("Priority", 1), ("Uniqueid", leg.uniqueid), ("Linkedid", leg.linkedid)),
        )
        return "".join(f"{prefix}{key}: {value}\r\n" for key, value in values)

    def _emit(self, name: str, body: str) -> None:
        event = f"Event: {name}\r\nPrivilege: call,all\r\nTimestamp: {self.now()}\r\n{body}\r\n".encode()
        for each in self.managers:
            each.send(event)

    def emit_dial(self, name: str, caller: Leg, callee: Leg, last: str) -> None:
        """Tell of the beginning or the end of a Dial's wait."""
        self._emit(name, f"{self.snapshot(caller)}{self.snapshot(callee, 'Dest')}{last}\r\n")

    def emit_hangup(self, leg: Leg) -> None:
        """Tell that a channel is gone."""
        self._emit("Hangup", f"{self.snapshot(leg)}Cause: {leg.cause}\r\nCause-txt: Normal Clearing\r\n")

    def emit_hangup_request(self, leg: Leg) -> None:
        """Tell that a phone has hung up."""
        self._emit("HangupRequest", f"{self.snapshot(leg)}Cause: 16\r\n")

    def emit_transfer(self, caller: Leg, callee: Leg) -> None:
        """Tell that the callee has sent the caller elsewhere."""
        transferer, transferee = self.snapshot(callee, "Transferer"), self.snapshot(caller, "Transferee")
        self._emit(
            "BlindTransfer", f"Result: Success\r\n{transferer}{transferee}IsExternal: Yes\r\nExtension: 7000\r\n"
        )

    # -- its life ----------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Listen for managers."""
        loop = asyncio.get_running_loop()
        while self._server is None:
            with contextlib.suppress(OSError):
                self._server = await loop.create_server(lambda: Manager(self), "127.0.0.1", self.plan.ami_port)
            await asyncio.sleep(0 if self._server else LISTEN_TRIES_SECONDS)
        self._is_up = True

    async def _stop_listening(self) -> None:
        self._is_up = False
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for each in list(self.managers):
            each.transport.abort()
        self.managers.clear()

    async def kill(self, seconds: float) -> None:
        """Die as by ``kill -9``: no dialplan goes on, nothing is said.

        It starts again after so many seconds, and not in the same: uniqueids would come again.
        """
        await self._stop_listening()
        for leg in list(self.legs.values()):
            leg.crash.set()
            leg.hang_up("crash")
        self.legs.clear()
        await asyncio.sleep(max(1.0, seconds))
        self._begin_again()
        await self.boot()

    async def restart(self) -> None:
        """Do as ``core restart now``: all channels are hung up, their dialplans go on to the end, then it restarts."""
        self._is_up = False
        calls = list(self._calls)
        for leg in list(self.legs.values()):
            leg.hang_up("restart", 4)
        if calls:
            await asyncio.wait(calls, timeout=20)
        await self._stop_listening()
        for leg in list(self.legs.values()):  # a silent biller holds them; they are killed in the end
            leg.crash.set()
            leg.hang_up("crash")
        await asyncio.sleep(RESTART_SECONDS)
        self._begin_again()
        await self.boot()

    # -- the run -----------------------------------------------------------------------------------------------------

    async def make_calls(self) -> None:
        """Make the calls of the plan at their moments; those that come while it is down find no Asterisk."""
        began = time.monotonic()
        for call in draw_calls(self.plan):
            await asyncio.sleep(max(0.0, began + call.at_seconds - time.monotonic()))
            if self._is_over:
                break
            if self._is_up:
                task = asyncio.ensure_future(self._make(Channel(self, call)))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
        while self._calls:
            await asyncio.wait(list(self._calls))

    async def _make(self, channel: Channel) -> None:
        try:
            await channel.run()
        finally:
            sys.stdout.write(msgspec.json.encode(channel.record).decode() + "\n")
            sys.stdout.flush()

    async def obey(self, line: bytes) -> None:
        """Carry out one order."""
        order = msgspec.json.decode(line, type=Order)
        match order.do:
            case "kill":
                async with self._one_end:
                    await self.kill(order.seconds)
            case "restart":
                async with self._one_end:
                    await self.restart()
            case "step":
                self.step(order.seconds)
            case "stop":
                self._is_over = True


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    pbx = Pbx(msgspec.json.decode(await orders.readline(), type=Plan))
    await pbx.boot()
    sys.stdout.write('"up"\n')
    sys.stdout.flush()

    async def listen() -> None:
        while line := await orders.readline():
            under_way.add(asyncio.ensure_future(pbx.obey(line)))

    under_way: set[asyncio.Future[None]] = set()
    listening = asyncio.ensure_future(listen())
    await pbx.make_calls()
    sys.stdout.write('"over"\n')
    sys.stdout.flush()
    await listening  # the run ends it: its managers may still ask


if __name__ == "__main__":
    asyncio.run(_serve())
