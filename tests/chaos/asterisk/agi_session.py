"""One FastAGI session as Asterisk holds it, measured on Asterisk 22.

One command at a time: of several in one segment the first is answered, each other one when more bytes come. A caller
who hangs up is announced by a line ``HANGUP``, once, unasked. A channel that has hung up refuses some commands by 511.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.asterisk.channel import Channel

CONNECT_SECONDS = 2.0
"""MAX_AGI_CONNECT of res_agi.c."""
DEAD = "511 Command Not Permitted on a dead channel or intercept routine"
_NEED_LIFE = re.compile(r"(ANSWER|HANGUP|STREAM FILE|SAY |WAIT FOR DIGIT|CHANNEL STATUS|SET AUTOHANGUP)", re.IGNORECASE)


class AgiSession:
    """One run of AGI() on a channel."""

    def __init__(self, channel: Channel, *, after_hangup: bool) -> None:
        self._channel = channel
        self._after_hangup = after_hangup
        """In a hangup handler, or in ``h``: the channel's end is known, and is not announced."""
        self._announced = after_hangup
        self._buffer = b""

    async def run(self, port: int, script: str, argument: str = "") -> str:
        """Run a script to the end of its session; return how it ended: FAILURE, HANGUP or SUCCESS."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # TimeoutError is one
            return "FAILURE"
        try:
            extension = "h" if self._after_hangup else None
            environment = self._channel.environment(script, f"127.0.0.1:{port}", extension=extension)
            if argument:
                environment = environment[:-1] + f"agi_arg_1: {argument}\n\n".encode()
            writer.write(environment)
            await self._converse(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort() if self._channel.crashed else writer.close()
        return "HANGUP" if self._channel.is_hung_up else "SUCCESS"

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._wait(reader, writer):
            self._buffer += data
            line, found, rest = self._buffer.partition(b"\n")
            if not found:
                continue
            self._buffer = rest  # waits for more bytes, even if it is a whole command
            answer = await self._answer(line.decode(errors="replace"))
            if self._channel.crashed:
                return
            if self._channel.is_hung_up and not self._announced and self._channel.chance(0.5):
                self._announced = True  # in front of the answer; else behind it
                answer = f"HANGUP\n{answer}"
            writer.write(answer.encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    async def _wait(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Wait for bytes; meanwhile announce that the channel has hung up. Empty at the end of the session."""
        reading = asyncio.ensure_future(reader.read(8192))
        try:
            while not reading.done():
                hangup = self._channel.hangup if not self._announced else self._channel.crash
                ending = asyncio.ensure_future(hangup.wait())
                await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
                if self._channel.crashed:
                    return b""
                if not reading.done() and self._channel.is_hung_up and not self._announced:
                    self._announced = True
                    writer.write(b"HANGUP\n")
            return reading.result()
        finally:
            reading.cancel()

    async def _answer(self, line: str) -> str:
        channel = self._channel
        if (self._after_hangup or channel.is_hung_up) and _NEED_LIFE.match(line):
            return DEAD
        words = re.match(r'EXEC "?DIAL"? (.*)', line, re.IGNORECASE)
        if words:
            return await channel.dial(words[1].strip('"'))
        if channel.crashed:
            return ""
        answer = channel.answer(line)
        channel.apply_limit()
        return answer
