"""Calls without telephones: Asterisk's side of the wire to several billers, and what was acknowledged on it.

Each caller's line makes one call after the other, as the shipped dialplan does: one biller, else the next, is asked
for `caller`, and at the end for `reducer` until one says that the charge is safe. A biller that dies in mid-call ends
a session and not the call.
"""

import asyncio
import itertools
import random
import threading
import time
from dataclasses import dataclass, field

from celcombiller.asterisk.agi.simulator import Channel

SESSION_SECONDS = 20


@dataclass
class Played:
    """One call: when it was dialled with which grant, when it ended, and what its billers said."""

    number: int
    channel: Channel
    began_at: float
    decided_at: float = 0.0
    dialled_at: float = 0.0
    ended_at: float = 0.0
    granted_seconds: int = 0
    sessions_lost: int = 0
    forsaken: bool = False
    """Its Asterisk died with it: nobody ever told a biller of its end."""

    @property
    def uniqueid(self) -> str:
        return self.channel.uniqueid

    @property
    def result(self) -> str:
        return self.channel.variables.get("CELCOMBILLER_RESULT", "")

    @property
    def settled(self) -> bool:
        """A biller said that this call's charge is safe."""
        return self.channel.variables.get("CELCOMBILLER_SETTLED") == "1"

    @property
    def cost(self) -> int:
        """At one credit a begun second."""
        return -(-self.channel.talk_ms // 1000) if self.dialled_at else 0


@dataclass
class Traffic:
    """Started by `start`, ended by `stop`, which gives every call that was made."""

    ports: list[int]
    lines: list[int]
    """The caller's number of each line; a number that is there twice can be in two calls at once."""
    callee: int
    talk_ms: tuple[int, int] = (50, 400)
    forsaken_of_lost: float = 0.0
    pause: float = 0.0
    played: list[Played] = field(default_factory=list)
    _over: bool = False
    _numbers: itertools.count = field(default_factory=itertools.count)
    _prefix: str = field(default_factory=lambda: f"pbx1-{time.time():.0f}")

    def start(self) -> "Traffic":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        return self

    def stop(self, seconds: float = 120) -> list[Played]:
        """Let every line end its call."""
        self._over = True
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "a call did not come to its end"
        return self.played

    def count(self) -> int:
        """How many calls are over."""
        return len(self.played)

    async def _run(self) -> None:
        await asyncio.gather(*map(self._line, self.lines))

    async def _line(self, number: int) -> None:
        while not self._over:
            await self._call(number)
            await asyncio.sleep(self.pause)

    async def _call(self, number: int) -> None:
        uniqueid = f"{self._prefix}.{next(self._numbers)}"
        channel = Channel(str(number), str(self.callee), talk_ms=random.randint(*self.talk_ms), uniqueid=uniqueid)
        call = Played(number, channel, time.monotonic())
        for port in random.sample(self.ports, len(self.ports)):
            await self._session(port, call, "caller")
            if call.result:
                break
        call.forsaken = bool(call.sessions_lost) and random.random() < self.forsaken_of_lost
        for port in random.sample(self.ports, len(self.ports)):
            if not call.forsaken and not call.settled:
                await self._session(port, call, "reducer")
        self.played.append(call)

    async def _session(self, port: int, call: Played, script: str) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        extension = "h" if script == "reducer" else None
        try:
            writer.write(call.channel.environment(script, "127.0.0.1", extension=extension))
            async with asyncio.timeout(SESSION_SECONDS):
                while line := (await reader.readline()).decode().strip():
                    answer = await self._answer(call, line)
                    writer.write(answer.encode() + b"\n")
                    await writer.drain()
            if script == "caller" and not call.result:
                call.sessions_lost += 1
        except OSError:
            call.sessions_lost += 1
        finally:
            writer.close()

    async def _answer(self, call: Played, line: str) -> str:
        """Answer one command; a Dial takes as long as its talk, whatever becomes of the session meanwhile."""
        if line.startswith("EXEC") and "DIAL" in line.upper().split()[1]:
            assert not call.dialled_at, "dialled twice"
            call.granted_seconds = int(call.channel.variables["CELCOMBILLER_SECONDS"])
            call.dialled_at = time.monotonic()
            await asyncio.sleep(call.channel.talk_ms / 1000)
            call.ended_at = time.monotonic()
        answer = call.channel.answer(line)
        if call.result and not call.decided_at:
            call.decided_at = time.monotonic()
        return answer


def balance(port: int, number: int) -> str:
    """Ask a biller as the dialplan's `balance` does; empty when it could not say."""
    channel = Channel(str(number), "")
    asyncio.run(Traffic([port], [], 0)._session(port, Played(number, channel, 0.0), "balance"))
    return channel.variables.get("CELCOMBILLER_VOICE_BALANCE", "")


def most_spoken_for(played: list[Played], number: int) -> int:
    """Give the most credits of an account that were granted or spent at one moment, as the wire saw it.

    What is granted counts from the Dial to its end, what was talked from then on: the hold begins before the first
    and is settled after the second, so the true figure is never lower.
    """
    events = []
    for call in played:
        if call.number == number and call.dialled_at:
            events += [(call.dialled_at, call.granted_seconds), (call.ended_at, call.cost - call.granted_seconds)]
    return max(itertools.accumulate((change for _, change in sorted(events)), initial=0))
