"""What stands between the biller and Asterisk: it passes bytes on, and delays, cuts, repeats and swaps as it is set.

Responses of AMI are only delayed. Events of calls are also sent twice, and swapped with the one after.
"""

from __future__ import annotations

import asyncio
import random
import threading

EVENT_BYTES_MAX = 1 << 20
CHUNK_BYTES = 65536


class Relay:
    """One port of loopback that leads to another. Its faults are attributes, which any thread may set."""

    def __init__(self, target: int, seed: str, *, is_ami: bool = False) -> None:
        self._target = target
        self._is_ami = is_ami
        self._random = random.Random(f"{seed} relay {is_ami}")
        self._writers: set[asyncio.StreamWriter] = set()
        self._started = threading.Event()
        self.delay_seconds = 0.0
        """Each segment waits up to so long."""
        self.shares = (0.0, 0.0)
        """The shares of events that come twice, and that change places with the next one."""
        self.is_closed = False
        """Connections are refused."""
        self.stands = False
        """Nothing is passed on, in neither direction."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        self._started.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.port: int = self._server.sockets[0].getsockname()[1]
            self._started.set()

        self._loop.run_until_complete(listen())
        self._loop.run_forever()

    def cut(self, share: float = 1.0) -> None:
        """Cut the connections that are open, or some of them."""

        def abort() -> None:
            for each in list(self._writers):
                if self._random.random() < share:
                    each.transport.abort()

        self._loop.call_soon_threadsafe(abort)

    def close(self) -> None:
        """Cut all, and pass nothing on any more."""
        self.is_closed = True
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_closed:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        from_far = self._pass_messages if self._is_ami else self._pass
        try:
            await asyncio.gather(self._pass(reader, far_writer), from_far(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}
            for each in (writer, far_writer):
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on until one side ends; the other learns of it behind the last byte."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._wait()
                writer.write(data)
                await writer.drain()
            await self._wait()
            writer.close()
        except OSError:
            writer.transport.abort()

    async def _pass_messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass AMI on, a message at a time."""
        held = b""
        try:
            writer.write(await reader.readuntil(b"\r\n"))
            while True:
                try:
                    async with asyncio.timeout(0.2 if held else None):
                        message = await reader.readuntil(b"\r\n\r\n")
                except TimeoutError:  # no other event came to change places with
                    message = b""
                await self._wait()
                repeated, swapped = self.shares
                is_event = message.startswith(b"Event: ") and b"\r\nActionID: " not in message
                if is_event and self._random.random() < repeated:
                    message += message
                if is_event and not held and self._random.random() < swapped:
                    held = message
                    continue
                writer.write(message + held)
                held = b""
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()
        except OSError:
            writer.transport.abort()

    async def _wait(self) -> None:
        while self.stands:  # noqa: ASYNC110  another thread sets it
            await asyncio.sleep(0.02)
        if self.delay_seconds:
            await asyncio.sleep(self._random.uniform(0, self.delay_seconds))
