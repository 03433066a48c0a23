"""Several processes on the same listening ports (``[service] workers``): a parent, and workers that do the work.

The parent binds the ports, starts the workers, starts one again that died, and ends them all together; it takes no
call itself. Each worker is a whole biller with its own AMI links, on sockets it inherits: whoever is free takes the
next connection, and while one worker is away those that wait are taken by the others. Nothing else joins them but
PostgreSQL, so they are to each other what billers on several machines are.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError, ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from celcombiller.core.errors import ConfigError
from celcombiller.runtime.log.observers import Logged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twisted.internet.interfaces import IListeningPort

WORKER = "CELCOMBILLER_WORKER"
"""The environment variable that tells a worker its number."""

DESCRIPTORS = {"agi": 3, "rest": 4}
"""Which open file of a worker is the listening socket of which section."""

STOP_SECONDS = 30.0
"""A worker is killed that has not ended this many seconds after it was told to; its own drain takes ten at most."""

STEADY_SECONDS = 60.0
"""A worker that lived this many seconds is started again at once when it dies; one that keeps dying, ever later."""

_LOG = Logger(namespace="celcombiller.runtime.prefork.Workers")  # the name that operators filter by
_TWISTD = ("-P", "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon", "--pidfile=")


# -- the parent --------------------------------------------------------------------------------------------------------


class Workers(Logged, Service):
    """The parent: the sockets and the processes."""

    def __init__(self, reactor: Any, listens: Mapping[str, str], count: int, config_file: Path | None) -> None:
        self._reactor = reactor
        self._listens = listens
        self._count = count
        self._config_file = config_file
        self._ports: dict[str, Any] = {}
        self._alive: dict[int, _Process] = {}
        self._failures: dict[int, int] = {}
        self._delay = backoffPolicy(initialDelay=0.5, maxDelay=30.0, factor=2.0)

    def privilegedStartService(self) -> None:
        """Bind; a port that is taken is one line."""
        for section, listen in self._listens.items():
            try:
                endpoint = serverFromString(self._reactor, listen)
            except ValueError as error:
                raise SystemExit(f"celcombiller: {section}.listen: {listen!r} is no endpoint: {error}") from None
            endpoint.listen(Factory()).addBoth(self._bound, section)

    def _bound(self, result: Any, section: str) -> None:
        if isinstance(result, Failure):
            result.trap(CannotListenError)
            raise SystemExit(f"celcombiller: {result.value}") from None
        result.stopReading()  # it is the workers who accept
        self._ports[section] = result

    def startService(self) -> None:
        """Start the workers."""
        super().startService()
        for number in range(1, self._count + 1):
            self._reactor.callWhenRunning(self._start, number)

    def _start(self, number: int) -> None:
        if not self.running:
            return
        words = ["celcombiller"]
        if self._config_file is not None:
            words += ["--config", str(self._config_file.absolute())]
        process = self._alive[number] = _Process(self, number, self._reactor.seconds())
        self._reactor.spawnProcess(
            process,
            sys.executable,
            [sys.executable, *_TWISTD, *words],
            env=os.environ | {WORKER: str(number)},
            childFDs={0: "w", 1: 1, 2: 2} | {DESCRIPTORS[name]: port.fileno() for name, port in self._ports.items()},
        )
        _LOG.info("Worker {number} is process {pid}", number=number, pid=process.pid)

    def ended(self, process: _Process, reason: str) -> None:
        """Start a worker again that ended by itself."""
        number = process.number
        del self._alive[number]
        if not self.running:
            return
        lived_seconds = self._reactor.seconds() - process.started_at
        failures = self._failures[number] = 0 if lived_seconds > STEADY_SECONDS else self._failures.get(number, -1) + 1
        wait_seconds = self._delay(failures)
        _LOG.error(
            "Worker {number} ended ({reason}); the others go on, another is started in {seconds:.1f} s",
            number=number,
            reason=reason,
            seconds=wait_seconds,
        )
        self._reactor.callLater(wait_seconds, self._start, number)

    def stopService(self) -> Deferred[Any]:
        """Close the ports and end every worker; fires when the last has given its last answer."""
        super().stopService()
        closing = [Deferred.fromCoroutine(_closed(port)) for port in self._ports.values()]
        ending = [process.end(self._reactor) for process in self._alive.values()]
        return DeferredList([*closing, *ending])


async def _closed(port: IListeningPort) -> None:
    closed = port.stopListening()
    if closed is not None:
        await closed


class _Process(ProcessProtocol):
    """One worker as its parent sees it. Its standard input stays open as long as the parent lives, and says nothing."""

    def __init__(self, workers: Workers, number: int, started_at: float) -> None:
        self._workers = workers
        self.number = number
        self.started_at = started_at
        self._over: Deferred[None] = Deferred()

    def end(self, reactor: Any) -> Deferred[None]:
        """Ask it to end, and kill it if it does not."""
        self._signal("TERM")
        late = reactor.callLater(STOP_SECONDS, self._signal, "KILL")

        def done(_ended: None) -> None:
            if late.active():
                late.cancel()

        return self._over.addCallback(done)

    @property
    def pid(self) -> int:
        """Its process."""
        transport: Any = self.transport
        return int(transport.pid)

    def _signal(self, name: str) -> None:
        transport: Any = self.transport
        with suppress(ProcessExitedAlready):
            transport.signalProcess(name)

    def processEnded(self, reason: Failure) -> None:
        """Pass it on."""
        self._workers.ended(self, reason.getErrorMessage().rstrip("."))
        self._over.callback(None)


# -- a worker ----------------------------------------------------------------------------------------------------------


def number(environ: Mapping[str, str]) -> int | None:
    """Return which worker this process is; None: it is no worker."""
    text = environ.get(WORKER, "")
    return int(text) if text.isdecimal() else None


def join(reactor: Any) -> None:
    """Live and end with the parent: with it when it is killed, by its word and not by the terminal's Ctrl-C."""
    reactor.callWhenRunning(signal.signal, signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, args=(reactor,), name="parent", daemon=True).start()


def _outlive_nobody(reactor: Any) -> None:
    while os.read(0, 1):
        pass
    reactor.callFromThread(reactor.stop)


class InheritedSocketReactor:
    """Stands in for the reactor where an endpoint binds: what listens is the parent's socket."""

    def __init__(self, reactor: Any, section: str) -> None:
        self._reactor = reactor
        self._descriptor = DESCRIPTORS[section]

    def listenTCP(self, _port: int, factory: Any, backlog: int = 50, interface: str = "") -> IListeningPort:  # noqa: ARG002
        """Listen on it."""
        with socket.socket(fileno=os.dup(self._descriptor)) as inherited:
            family = inherited.family
        port: IListeningPort = self._reactor.adoptStreamPort(self._descriptor, family, factory)
        os.close(self._descriptor)  # the port has its own: when that is closed, nothing listens here any more
        return port

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Speak TLS on it."""
        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface)


def check_attended(options: Any) -> None:
    """Refuse to start workers where their lines would go nowhere: twistd in the background, or with a file of its own.

    ``options`` are twistd's own, or None where another program runs the service.
    """
    if options is None or not hasattr(options, "get"):
        return
    if not options.get("nodaemon") or options.get("syslog") or options.get("logfile") not in (None, "", "-"):
        raise ConfigError(
            "service.workers: workers write to standard output: run twistd with --nodaemon and without --logfile and"
            " --syslog, under systemd or another supervisor"
        )
