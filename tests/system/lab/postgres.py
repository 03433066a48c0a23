"""A PostgreSQL of the tests' own: a private folder, the postgres user, loopback; ended by its process."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import sqlalchemy as sa

from celcombiller.core.schema import migrations
from celcombiller.core.schema import tables as schema_tables
from tests.system.lab.requirements import postgresql_programs
from tests.system.lab.waiting import end, free_ports, until

MEMORY = Path("/dev/shm")
MEMORY_BYTES_LEAST = 4 << 30
"""A database has 8 MB and 300 files, and each test has its own."""


def emptied(engine: sa.Engine) -> None:
    """Make a database of ours as `Cluster.upgraded` gives it: a new one for each test is much work for the disk."""
    tables = ", ".join(table.name for table in schema_tables.metadata.sorted_tables)
    with engine.begin() as tx:
        tx.execute(sa.text(f"truncate {tables} restart identity"))
        ours = [
            {"id": id_, "kind": kind, "posted": 0, "held": 0}
            for kind, id_ in schema_tables.OPERATOR_ACCOUNT_IDS.items()
        ]
        tx.execute(sa.insert(schema_tables.account), ours)


class Cluster:
    """Started at once; `database` makes a fresh one. ``standby_of`` another it streams from it and takes no writes.

    One that is not ``durable`` needs no disk, where there is memory enough: for tests that do not end it.
    """

    def __init__(self, *, standby_of: "Cluster | None" = None, durable: bool = True) -> None:
        self._settings = ["listen_addresses=127.0.0.1"]
        if not durable:
            self._settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        self._programs = postgresql_programs()
        in_memory = not durable and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_LEAST
        self.folder = Path(tempfile.mkdtemp(prefix="celcombiller-postgres-", dir=MEMORY if in_memory else None))
        self.port = free_ports(1)
        self._made = 0
        self._upgraded = ""
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        data = self.folder / "data"
        if standby_of is None:
            self._as_postgres(
                "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-instructions", "-N"
            )
        else:
            source = ("-h", "127.0.0.1", "-p", standby_of.port, "-U", "postgres")
            self._as_postgres("pg_basebackup", "-D", data, *source, "-R", "-X", "stream", "-c", "fast")
        self.start()

    def start(self) -> None:
        command = self._command("postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder)
        with (self.folder / "log").open("ab") as log:
            settings = [word for each in self._settings for word in ("-c", each)]
            self._process = subprocess.Popen([*command, *settings], stdout=log, stderr=log)
        until(lambda: self.sql("select 1") == "1", "PostgreSQL answers")

    def database(self) -> str:
        """Make an empty database and give its URL."""
        return self._new_database("template1")

    def upgraded(self) -> str:
        """Make a database with the tables of now in it, and give its URL."""
        if not self._upgraded:
            url = self.database()
            engine = sa.create_engine(url)
            with engine.begin() as tx:
                migrations.upgrade(tx)
            engine.dispose()
            self._upgraded = sa.make_url(url).database
        return self._new_database(self._upgraded)

    def _new_database(self, template: str) -> str:
        self._made += 1
        name = f"test{self._made}"
        self.sql(f"create database {name} template {template}")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def end(self) -> None:
        """Stop it as its service does on a restart: sessions are cut, what is committed is there at the next `start`."""
        end(self._process, first=signal.SIGINT)

    def kill9(self) -> None:
        """End all of its processes as a power cut does."""
        parts = [each for each in Path("/proc").glob("[0-9]*/stat") if _parent(each) == self._process.pid]
        for process_id in (self._process.pid, *(int(each.parent.name) for each in parts)):
            os.kill(process_id, signal.SIGKILL)
        self._process.wait(10)

    def replicate(self) -> "Cluster":
        """Make a standby of it, and from then on acknowledge no commit before the standby has it on its disk."""
        standby = Cluster(standby_of=self)
        self.sql("alter system set synchronous_standby_names = '*'")
        self.sql("select pg_reload_conf()")
        watched = "select count(*) from pg_stat_replication where sync_state = 'sync'"
        until(lambda: self.sql(watched) == "1", "the standby is synchronous")
        return standby

    def promote(self) -> None:
        self._as_postgres("pg_ctl", "promote", "-w", "-D", self.folder / "data")

    def stop(self) -> None:
        end(self._process, first=signal.SIGQUIT)  # its folder goes too
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, statement: str) -> str:
        """Run one statement as psql does; empty while there is nobody to ask."""
        command = ["psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        done = subprocess.run([*command, "-c", statement], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def _command(self, program: str, *words: object) -> list[str]:
        command = [str(self._programs / program), *map(str, words)]
        return (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
            if os.geteuid() == 0
            else command
        )

    def _as_postgres(self, program: str, *words: object) -> None:
        subprocess.run(self._command(program, *words), check=True, capture_output=True, cwd="/")


def _parent(stat: Path) -> int:
    """Give the parent of a process from its line in /proc; 0 when it has ended meanwhile."""
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
