"""A PostgreSQL of the tests' own: a private folder, the postgres user, loopback; ended by its process."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.parts import postgresql_programs
from lab.waiting import end, free_ports, until


class Cluster:
    """Started at once; `database` makes a fresh one."""

    def __init__(self) -> None:
        self._programs = postgresql_programs()
        self.folder = Path(tempfile.mkdtemp(prefix="celcombiller-postgres-"))
        self.port = free_ports(1)
        self._made = 0
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        data = self.folder / "data"
        self._as_postgres("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-instructions")
        self._start()

    def _start(self) -> None:
        command = self._command("postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, "-c", "listen_addresses=127.0.0.1"], stdout=log, stderr=log)
        until(lambda: self._sql("postgres", "select 1") == 0, "PostgreSQL answers", seconds=30)

    def database(self) -> str:
        """Make an empty database and give its URL."""
        self._made += 1
        name = f"test{self._made}"
        assert self._sql("postgres", f"create database {name}") == 0
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        end(self._process, first=2)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, program: str, *words: object) -> list[str]:
        command = [str(self._programs / program), *map(str, words)]
        return (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
            if os.geteuid() == 0
            else command
        )

    def _as_postgres(self, program: str, *words: object) -> None:
        subprocess.run(self._command(program, *words), check=True, capture_output=True, cwd="/")

    def _sql(self, database: str, statement: str) -> int:
        command = ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        return subprocess.run([*command, "-c", statement], capture_output=True, check=False).returncode
