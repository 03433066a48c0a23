"""A PostgreSQL server of a run's own: a private cluster on a loopback port, with no user but postgres.

The benchmark, the programs in ``benchmarks/`` and the tests all use this one. PostgreSQL refuses to run as root; where
we are root, its programs run as the user postgres.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.bench.environment import NOTHING, START_SECONDS, Process, children, cpu_seconds, free_port
from celcombiller.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STANDBY_SECONDS = 60.0


def find_programs() -> Path | None:
    """Return the folder of the newest initdb, which Debian keeps out of PATH; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    in_path = shutil.which("initdb")
    return Path(in_path).resolve().parent if in_path else None


class PostgreSQL:
    """A cluster in a folder of its own, which is made in ``parent``; it runs when the constructor returns.

    Its settings are the default ones, except the port and those given: so commits are synchronous. With ``standby_of``
    another, it streams from that one and takes no writes. Raises `StoreUnavailable` where PostgreSQL is not installed,
    or does not start.
    """

    def __init__(
        self,
        parent: Path | None = None,
        *,
        port: int = 0,
        settings: Sequence[str] = (),
        environment: Mapping[str, str] = NOTHING,
        standby_of: PostgreSQL | None = None,
    ) -> None:
        programs = find_programs()
        if programs is None:
            raise StoreUnavailable("PostgreSQL's initdb is not on this machine")
        self._programs = programs
        self._settings = settings
        self._environment = environment
        self._made = 0
        self.port = port or free_port()
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/"
        self.folder = Path(tempfile.mkdtemp(prefix="celcombiller-postgresql-", dir=parent))
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
            if parent is not None:
                parent.chmod(parent.stat().st_mode | 0o011)
        self._data = str(self.folder / "data")
        if standby_of is None:
            # Without --no-sync it waits for the disk a second or two. What matters is written by the server itself.
            user = ("-U", "postgres", "-A", "trust")
            self._run("initdb", "-D", self._data, *user, "-E", "UTF8", "--no-instructions", "--no-sync")
        else:
            source = ("-h", "127.0.0.1", "-p", str(standby_of.port), "-U", "postgres")
            self._run("pg_basebackup", "-D", self._data, *source, "-R", "-X", "stream", "-c", "fast")
        self.start()

    def start(self) -> None:
        """Start it, also again after `stop` or `kill`, and wait until it answers."""
        words = [word for each in ("listen_addresses=127.0.0.1", *self._settings) for word in ("-c", each)]
        command = self._command("postgres", "-D", self._data, "-p", str(self.port), "-k", str(self.folder), *words)
        self._process = Process(command, self.port, self.folder, self._environment)
        self._wait_for("select 1", START_SECONDS)

    def stop(self) -> None:
        """Stop it as its service does on a restart: sessions are cut, what is committed is there at the next start."""
        self._process.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill all of its processes at once, as a power cut does."""
        for each in (self._process.id, *children(self._process.id)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.kill()

    def remove(self) -> None:
        """Stop it and remove its folder."""
        self._process.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def replicate(self) -> PostgreSQL:
        """Return a new standby of it, and from then on acknowledge no commit before the standby has it on its disk."""
        standby = PostgreSQL(standby_of=self)
        self.sql("alter system set synchronous_standby_names = '*'")
        self.sql("select pg_reload_conf()")
        self._wait_for("select count(*) from pg_stat_replication where sync_state = 'sync'", STANDBY_SECONDS)
        return standby

    def promote(self) -> None:
        """Make the standby that it is a primary, which takes writes."""
        self._run("pg_ctl", "promote", "-w", "-D", self._data)

    def database(self, template: str = "template1") -> str:
        """Make a database, empty or a copy of another, and return its URL."""
        self._made += 1
        name = f"made{self._made}"
        self.sql(f"create database {name} template {template}")
        return self.url + name

    def sql(self, statement: str) -> str:
        """Return what psql prints for one statement; empty while no server answers."""
        command = [str(self._programs / "psql"), "-X", "-q", "-A", "-t"]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all its processes; those of ended ones are counted in their parent."""
        return sum(cpu_seconds(each) for each in (self._process.id, *children(self._process.id)))

    def _wait_for(self, question: str, seconds: float) -> None:
        wait_until = time.monotonic() + seconds
        while self.sql(question) != "1":
            if time.monotonic() > wait_until:
                raise StoreUnavailable(f"PostgreSQL did not answer within {seconds:.0f} s: {question}")
            time.sleep(0.05)

    def _command(self, program: str, *words: str) -> list[str]:
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return [*(as_postgres if os.geteuid() == 0 else []), str(self._programs / program), *words]

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(self._command(program, *words), check=True, capture_output=True, cwd="/")  # noqa: S603
