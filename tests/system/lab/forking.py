"""`twistd` in a process of its own, forked from one that has imported all of it: that is most of what a start costs.

Run as a program it forks a twistd for each folder that it reads a line of, and answers its process id.
"""

import atexit
import contextlib
import functools
import gc
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


def start_twistd(folder: Path) -> "Forked":
    """Start `twistd celcombiller` in that folder, with the folder's `log` as its output."""
    return _parent().start(folder)


@functools.cache
def _parent() -> "Parent":
    parent = Parent()
    atexit.register(parent.end)
    return parent


class Parent:
    """The process that has imported all of it, in this process's environment and more."""

    def __init__(self, more: Mapping[str, str] = MappingProxyType({})) -> None:
        from tests.system.lab.command import environment  # noqa: PLC0415

        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment() | more,
            text=True,
            cwd="/",
        )

    def start(self, folder: Path) -> "Forked":
        """Start a twistd in that folder."""
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        return Forked(int(self._process.stdout.readline()))

    def end(self) -> None:
        """End it; those that it started run on."""
        self._process.stdin.close()
        self._process.wait(10)


class Forked:
    """A process that is not this one's child: what `subprocess.Popen` can do, but for its exit status."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self._handle = None

    def poll(self) -> int | None:
        """Return 0 once it has ended."""
        return 0 if self._over(0) else None

    def wait(self, seconds: float) -> int:
        """Wait for its end; raise `subprocess.TimeoutExpired`."""
        if not self._over(seconds):
            raise subprocess.TimeoutExpired("twistd", seconds)
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _over(self, seconds: float) -> bool:
        if self._handle is not None:
            ended = select.poll()  # `select` has no place for descriptors beyond 1023
            ended.register(self._handle, select.POLLIN)
            if ended.poll(seconds * 1000):
                os.close(self._handle)
                self._handle = None
        return self._handle is None


def _serve() -> None:
    import msgspec  # noqa: PLC0415
    import twisted.internet  # noqa: PLC0415
    from twisted.scripts import twistd  # noqa: PLC0415

    import twisted.plugins.celcombiller_plugin  # noqa: PLC0415
    from celcombiller.config.tables import Config  # noqa: PLC0415
    from celcombiller.http.application import _make_app  # noqa: PLC0415
    from celcombiller.http.openapi import encode_description  # noqa: PLC0415
    from celcombiller.runtime.languages import LANGUAGES, load_language  # noqa: PLC0415
    from celcombiller.service.wiring import CONSOLE_ROUTES, ROUTES  # noqa: PLC0415

    # Klein imports a reactor for a method that is not used here; each fork makes its own, for it holds open files.
    del sys.modules["twisted.internet.reactor"], twisted.internet.reactor
    # What a process computes once, half of what is left of a start: each fork has it.
    encode_description(tuple(ROUTES))
    _make_app((*ROUTES, *CONSOLE_ROUTES)).url_map.update()
    msgspec.convert({}, Config)
    for name in LANGUAGES:
        load_language(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, _bury)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _become(twistd, line.rstrip("\n"))
        sys.stdout.write(f"{process}\n")
        sys.stdout.flush()


def _bury(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(twistd: object, folder: str) -> None:
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(folder)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for old, new in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(old, new)
        os.close(nothing)
        os.close(log)
        sys.argv = ["twistd", "--nodaemon", "--pidfile=", "celcombiller"]
        gc.unfreeze()
        twistd.run()
        status = 0
    except SystemExit as over:
        if isinstance(over.code, str):
            sys.stderr.write(f"{over.code}\n")
        status = 1 if isinstance(over.code, str) else over.code or 0
    except BaseException:  # noqa: BLE001  as an interpreter tells it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
