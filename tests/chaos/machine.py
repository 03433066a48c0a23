"""What faults befall: the billers as a service keeps them running, their database, their disk and their clock."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.bench.postgresql import PostgreSQL
from tests.system.lab.waiting import free_ports

if TYPE_CHECKING:
    from tests.system.lab import forking
    from tests.system.lab.biller import Biller

SHIM = Path(__file__).with_name("clock_step.c")
RESTART_SECONDS = 0.3
"""After so long a biller that has ended is started again, as systemd does."""


class Clock:
    """The wall clock of the billers, which a fault may set. Without a C compiler it cannot be set."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_bytes(struct.pack("<q", 0))
        self.seconds = 0.0
        self.environment: dict[str, str] = {}
        compiler = shutil.which("cc")
        if compiler is not None:
            library = folder / "clock_step.so"
            command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SHIM), "-ldl"]
            subprocess.run(command, check=True, capture_output=True)
            self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    @property
    def can_step(self) -> bool:
        """Whether it can be set."""
        return bool(self.environment)

    def step(self, seconds: float) -> None:
        """Set it, forward or back."""
        self.seconds += seconds
        with self._file.open("r+b") as file:
            file.write(struct.pack("<q", int(self.seconds * 1e9)))


class Service:
    """A biller that is started again whenever it ends."""

    def __init__(self, biller: Biller, parent: forking.Parent) -> None:
        self.biller = biller
        self._parent = parent
        self._process: forking.Forked | None = None
        self._again_at = 0.0
        self.starts = 0
        self.is_stopped = False
        """It stands still."""

    def look(self) -> None:
        """Start it if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            self._process, self._again_at = None, time.monotonic() + RESTART_SECONDS
        if time.monotonic() >= self._again_at:
            self._process = self._parent.start(self.biller.folder)
            self.starts += 1

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.is_stopped = number == signal.SIGSTOP
        if self._process is not None:
            self._process.send_signal(number)

    def end(self) -> None:
        """End it for good."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            self._process.kill()


class SmallDisk:
    """A small file system of its own; where none can be mounted, a folder that never gets full."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        self.is_small = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no block free."""
        if self.is_small:
            with self._filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 16))

    def clear(self) -> None:
        """Take away what filled it."""
        self._filler.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it."""
        if self.is_small:
            subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True, check=False)


class Cluster:
    """A PostgreSQL with a standby that takes over, on two ports for good; a new standby follows in its place."""

    def __init__(self, disk: SmallDisk) -> None:
        disk.folder.chmod(0o777)
        self._disk = disk
        self._ports = [free_ports(1, for_good=True), free_ports(1, for_good=True)]
        self.primary = self._server(self._ports[0])
        self.name = self.primary.database().rpartition("/")[2]
        self.standby: PostgreSQL | None = None
        self._follow(self._ports[1])

    @property
    def url(self) -> str:
        """The URL of both, of which the one that takes writes is used."""
        hosts = "&".join(f"host=127.0.0.1:{port}" for port in self._ports)
        return f"postgresql+psycopg://postgres@/{self.name}?{hosts}&target_session_attrs=read-write"

    def _server(self, port: int, *, standby_of: PostgreSQL | None = None) -> PostgreSQL:
        settings = ("max_wal_size=48MB", "min_wal_size=32MB", "shared_buffers=16MB", "max_connections=60")
        return PostgreSQL(self._disk.folder, port=port, settings=settings, standby_of=standby_of)

    def _follow(self, port: int) -> None:
        """Make a standby, and acknowledge no commit without it from then on."""
        self.standby = self._server(port, standby_of=self.primary)
        self.primary.sql("alter system set synchronous_standby_names = '*'")
        self.primary.sql("select pg_reload_conf()")

    def fail_over(self) -> None:
        """Promote the standby of a primary that was killed."""
        assert self.standby is not None
        self.standby.sql("alter system set synchronous_standby_names = ''")
        self.standby.promote()
        self.standby.sql("alter system set synchronous_standby_names = ''")
        self.standby.sql("select pg_reload_conf()")
        gone, self.primary, self.standby = self.primary, self.standby, None
        gone.remove()

    def renew_standby(self) -> None:
        """Have a standby again, where the old primary was."""
        if self.standby is None:
            (port,) = {*self._ports} - {self.primary.port}
            self._follow(port)

    def revive(self) -> None:
        """Start what has ended because no block was free."""
        for each in (self.primary, self.standby):
            if each is not None and not each.sql("select 1"):
                each.kill()
                each.start()

    def remove(self) -> None:
        """Stop both."""
        for each in (self.standby, self.primary):
            if each is not None:
                each.remove()
