"""Makes pages in a process of its own, so that they take nothing from the threads that charge calls.

Python runs one thread of a process at a time, and a page takes some 20 ms: for that long a call would wait. The process
is started when somebody looks at the first page, and runs at a lower priority, on another core if there is one. What it
cannot make is made by the biller itself: all pages until it has started or after it has died, a page that needs the
price lists in memory, and what is refused.

Both ends speak in frames on its standard input and output: a length of four octets, then a pickle. It ends with its
standard input, so also when the biller is killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver

from celcombiller.console.routes import CONSOLE_ROUTES
from celcombiller.core.errors import TooSlow
from celcombiller.database.engine import open_engine
from celcombiller.database.reader import READ_SECONDS_MAX, READING_THREADS, only_reading, read_whole
from celcombiller.http.application import ReceivedPage, answer_in
from celcombiller.runtime.languages import LANGUAGES, load_language
from celcombiller.runtime.process import cpu_affinity

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from celcombiller.config.tables import Config
    from celcombiller.http.route import Request, Response, Route

PAGE_SECONDS_MAX = 6 * READ_SECONDS_MAX
"""After this time without an answer the process is killed, and the biller makes the page. Slow ones may come before."""
PAUSE_SECONDS = 60.0
"""How long after its death the process is not started again."""
FRAME_BYTES_MAX = 64 << 20
NICENESS = 10
_LENGTH = struct.Struct("!I")
_PROGRAM = f"""
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
from {__name__} import main
main()
"""
"""It ignores what a terminal or systemd sends to the biller as well, from its first moment: the biller ends it."""


# -- in the biller -----------------------------------------------------------------------------------------------------


class PageProcess(Service):
    """The process that makes pages, as the biller sees it."""

    _log = Logger()

    def __init__(self, reactor: Any, config: Config) -> None:
        self._reactor, self._config = reactor, config
        self._pages: _Pages | None = None
        self._starts_from = reactor.seconds()

    @property
    def pid(self) -> int | None:
        """The number of the process, once it can make pages."""
        return self._pages.transport.pid if self._pages is not None and self._pages.is_ready else None

    async def make(self, route: Route, request: Request, uri: bytes) -> Response | None:
        """Return the page at an address; ``None``: the process has not made it. Raises `TooSlow`."""
        if self._pages is None:
            self._start()
        if self._pages is None or not self._pages.is_ready:
            return None  # it takes 2 s to start
        # The settings and the price lists are large, and the process has settings of its own.
        bare = replace(request, config=None, catalogue=None)  # type: ignore[arg-type]
        asked = self._pages.ask((route.name, bare, uri))
        try:
            made = await asked.addTimeout(PAGE_SECONDS_MAX, self._reactor)
        except TimeoutError:
            self._log.warn("The process that makes pages did not answer in {seconds} s", seconds=PAGE_SECONDS_MAX)
            self._kill()
            return None
        if isinstance(made, str):
            raise TooSlow(made)
        return made

    def stopService(self) -> None:
        """End the process; pages that it has not made yet are made here."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._kill()

    def _start(self) -> None:
        if not self.running or self._reactor.seconds() < self._starts_from:
            return
        self._starts_from = self._reactor.seconds() + PAUSE_SECONDS
        pages, command = _Pages(self._ended), [sys.executable, "-c", _PROGRAM]
        try:
            self._reactor.spawnProcess(pages, command[0], command, env=None, childFDs={0: "w", 1: "r", 2: 2})
        except OSError as error:
            self._log.warn("No process can be started to make pages: {error}", error=str(error))
            return
        self._pages = pages
        pages.send((self._config, cpu_affinity.find_other_cores()))

    def _ended(self, pages: _Pages, reason: Failure) -> None:
        if self._pages is pages:
            self._pages = None
        if self.running:
            self._log.warn(
                "The process that makes pages has ended ({reason}); the biller makes them itself for {seconds} s",
                reason=reason.getErrorMessage(),
                seconds=PAUSE_SECONDS,
            )

    def _kill(self) -> None:
        pages, self._pages = self._pages, None
        if pages is not None:
            pages.kill()


class _Frames(Int32StringReceiver):
    """Takes frames apart."""

    MAX_LENGTH = FRAME_BYTES_MAX

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear

    def stringReceived(self, string: bytes) -> None:
        """Pass a frame on."""
        self._hear(string)


class _Pages(ProcessProtocol):
    """The pipes to the process, and the pages that are asked for."""

    transport: Any

    def __init__(self, ended: Callable[[_Pages, Failure], None]) -> None:
        self.is_ready = False
        self._ended = ended
        self._waiting: dict[int, Deferred[Response | str | None]] = {}
        self._number = 0
        self._frames = _Frames(self._hear)

    def ask(self, page: Any) -> Deferred[Response | str | None]:
        """Ask for a page: the name of its route, the request, the address. A text says why it took too long."""
        self._number += 1
        asked = self._waiting[self._number] = Deferred()
        self.send((self._number, *page))
        return asked

    def send(self, message: Any) -> None:
        """Send a frame."""
        self._frames.sendString(pickle.dumps(message))  # type: ignore[no-untyped-call]

    def connectionMade(self) -> None:
        """Send frames to the process from now on."""
        self._frames.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def outReceived(self, data: bytes) -> None:
        """Take what the process has written."""
        self._frames.dataReceived(data)  # type: ignore[no-untyped-call]

    def _hear(self, frame: bytes) -> None:
        number, made = pickle.loads(frame)  # noqa: S301  of our own process
        if number == 0:
            self.is_ready = True
        elif number in self._waiting:
            self._waiting.pop(number).callback(made)

    def processEnded(self, reason: Failure) -> None:
        """Answer each page that the process has not made with `None`: the biller makes it."""
        self._ended(self, reason)
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.callback(None)


# -- in the process ----------------------------------------------------------------------------------------------------


class _NotHere:
    """The price lists, which only the biller has: to look at them is an error."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


def main() -> None:
    """Make pages as long as there is an input."""
    frames, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what any library prints is no answer
    config, cores = _read(frames)
    cpu_affinity.run_on(cores)
    os.nice(NICENESS)
    for language in LANGUAGES:
        load_language(language)
    database = config.database
    engine = only_reading(open_engine(database.url, lock_seconds=database.lock_seconds, read_seconds=READ_SECONDS_MAX))
    routes = {each.name: each for each in CONSOLE_ROUTES}
    writing = Lock()

    def answer(number: int, page: Response | str | None) -> None:
        octets = pickle.dumps((number, page))
        with writing:
            answers.write(_LENGTH.pack(len(octets)) + octets)
            answers.flush()

    def make(number: int, name: str, bare: Request, uri: bytes) -> None:
        request = replace(bare, config=config, catalogue=_NotHere())  # type: ignore[arg-type]
        page: Response | str | None
        try:
            page = read_whole(engine, lambda tx: answer_in(tx, routes[name], ReceivedPage(uri), b"", request))
        except TooSlow as error:
            page = str(error)
        except Exception:  # noqa: BLE001  the biller makes the page once more, and says and logs what is wrong
            page = None
        answer(number, page)

    answer(0, None)
    with ThreadPoolExecutor(READING_THREADS) as threads, contextlib.suppress(EOFError):
        while True:
            threads.submit(make, *_read(frames))


def _read(frames: BinaryIO) -> Any:
    """Return the next frame. Raises `EOFError`."""
    head = frames.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(frames.read(*_LENGTH.unpack(head)))  # noqa: S301  of the biller
