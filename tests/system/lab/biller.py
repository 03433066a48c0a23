"""The product as an operator runs it: a settings file, the command, and twistd in a process of its own."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from celcombiller.bench.environment import listens
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.model.accounts import Kind
from celcombiller.core.rating.tariff import Tariff
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from tests.system.lab import command
from tests.system.lab.asterisk import SECRET, Asterisk
from tests.system.lab.forking import Forked, start_twistd
from tests.system.lab.waiting import end, free_ports, until

PROGRAMS = Path(sys.executable).parent
OF_A_REACTOR = ("call", "provisioning")
"""Commands that run a reactor to its end: a process can do that once."""
AMI_IS_READY = "AMI of pbx1 is ready"
_prepared: dict[tuple, bytes] = {}
"""SQLite databases as the command made them, by who is in them: made once, then copied."""
_templates: dict[tuple, str] = {}
"""The same on PostgreSQL, by server and who is in them: databases to copy."""


class Biller:
    """One biller in a folder of its own; what it did is read through its own command only."""

    def __init__(
        self, folder: Path, *, agi_port: int | None = None, url: str = "", pbx: Asterisk | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.agi_port = agi_port or free_ports(1)
        self.rest_port = free_ports(1)
        self.rest_listen = f"tcp:{self.rest_port}:interface=127.0.0.1"
        self.url = url or "sqlite:///celcombiller.sqlite"
        self.pbx = pbx
        self.ami_port = pbx.ami_port if pbx else None
        self.ami_user, self.secret = "celcombiller", SECRET
        self.calls = {"internal_dial": "PJSIP/{clid}", "external_dial": "PJSIP/{number}@trunk", "ring_seconds": 5}
        self.rest: dict[str, object] = {}
        self.agi: dict[str, object] = {}
        self.sms: dict[str, object] = {}
        self.smpp: dict[str, object] = {}
        self.workers = 1
        self.more: list[str] = []
        self.environment: dict[str, str] = {}
        self.open_files = 0
        """How many files the program may open; 0: as many as this one may."""
        self.as_program = False
        """Start `twistd` as an operator does, with all that it does by itself, and not a fork of it."""
        self._process: subprocess.Popen | Forked | None = None

    def write(self) -> None:
        lines = ["[database]", f"url = {json.dumps(self.url)}", "lock_seconds = 2"]
        # On one core, as they are by themselves, the billers of all tests would be on the same.
        lines += ["[service]", f"workers = {self.workers}", f"one_core = {json.dumps(self.as_program)}"]
        lines += ["[rest]", f"listen = {json.dumps(self.rest_listen)}"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.rest.items()]
        lines += ["[agi]", f'listen = "tcp:{self.agi_port}:interface=127.0.0.1"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.agi.items()]
        lines += ["[calls]", *(f"{key} = {json.dumps(value)}" for key, value in self.calls.items())]
        for section, keys in (("sms", self.sms), ("smpp", self.smpp)):
            if keys:
                lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        if self.ami_port:
            lines += ["[[asterisk]]", 'name = "pbx1"', 'host = "127.0.0.1"', f"port = {self.ami_port}"]
            lines += [f"username = {json.dumps(self.ami_user)}", f'secret = "{self.secret}"']
        lines += self.more
        (self.folder / "celcombiller.toml").write_text("\n".join(lines) + "\n")

    def run(self, *words: object, status: int = 0) -> str:
        """Run the operator's command; its status is part of what is expected."""
        words = tuple(map(str, words))
        if words[0] in OF_A_REACTOR:
            return self.run_program(*words, status=status)
        ended, said = command.run(self.folder, words)
        assert ended == status, f"{words}: {ended}\n{said}\n{self.log}"
        return said

    def run_program(self, *words: object, status: int = 0) -> str:
        """Run the operator's command as the program that is installed."""
        done = self._finished("celcombiller", *map(str, words))
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def json(self, *words: object) -> object:
        return json.loads(self.run(*words, "--json"))

    def init(self) -> "Biller":
        self.write()
        self.run("init", "--admin", "admin")
        return self

    def prepare(self, credits_of: dict[int, int]) -> "Biller":
        """Have a database with an administrator and these subscribers, as `init`, `user add` and `credit` make it."""
        who = tuple(credits_of.items())
        kept = _KeptDatabases(sa.make_url(self.url)) if self.url.startswith("postgresql") else _KeptFiles(self.folder)
        if kept.give(who):
            self.write()
            return self
        self.init()
        for number, credit in credits_of.items():
            self.subscriber(number, credit)
        kept.keep(who)
        return self

    def prepare_at_once(self, credits_of: dict[int, int]) -> "Biller":
        """Have very many subscribers, as `import users` adds them, credited in one batch."""
        who = tuple(credits_of.items())
        if _KeptFiles(self.folder).give(who):
            self.write()
            return self
        self.init()
        rows = [f"user{number},user{number},{number},72400000000{number}" for number in credits_of]
        (self.folder / "users.csv").write_text("\n".join(("username,name,clid,imsi", *rows)) + "\n")
        self.run("import", "users", "--yes", self.folder / "users.csv")
        credited = [Credit(f"user{number}", Kind.VOICE, value, "test", f"test:{number}") for number, value in who]
        engine = open_engine(f"sqlite:///{self.folder / 'celcombiller.sqlite'}", lock_seconds=5)
        transact(engine, lambda tx: process_batch(tx, ChargingPolicy(Tariff(())), credited, datetime.now(UTC)))
        engine.dispose()
        _KeptFiles(self.folder).keep(who)
        return self

    def subscriber(self, number: int, credit: int = 0) -> None:
        username = f"user{number}"
        self.run("user", "add", username, "--clid", number, "--imsi", f"72400000000{number}", "--name", username)
        if credit:
            self.run("credit", username, credit)

    def start(self) -> "Biller":
        """Start it, and wait until it knows what its AMI user may do: calls before then get no slices."""
        ready = self.log.count(AMI_IS_READY)
        self._process = self._twistd() if self.as_program else start_twistd(self.folder)
        until(lambda: listens(self.agi_port) or self._process.poll() is not None, "the biller listens")
        assert self._process.poll() is None, self.log
        if self.pbx is not None and self.pbx.runs() and self.secret == SECRET:
            until(lambda: self.log.count(AMI_IS_READY) > ready, "AMI is ready")
        return self

    def _twistd(self) -> subprocess.Popen:
        limits = ["prlimit", f"--nofile={self.open_files}:{self.open_files}"] if self.open_files else []
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*limits, PROGRAMS / "twistd", "--nodaemon", "--pidfile=", "celcombiller"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=command.environment() | self.environment,
            )

    def start_in_vain(self) -> str:
        """Start a biller that refuses to; give what it says."""
        done = self._finished("twistd", "--nodaemon", "--pidfile=", "celcombiller")
        assert done.returncode == 1, done
        return done.stdout + done.stderr

    def _finished(self, program: str, *words: str) -> subprocess.CompletedProcess:
        """Run one of the product's programs to its end, as an operator in this folder would."""
        return subprocess.run(
            [PROGRAMS / program, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=command.environment(),
        )

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)

    def ask_to_stop(self) -> bool:
        """Send SIGTERM, and return whether it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.poll() is not None

    def kill9(self) -> None:
        end(self._process, first=signal.SIGKILL)

    @property
    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    # -- what an operator sees --------------------------------------------------------------------------------------

    def user(self, number: int) -> dict:
        return self.json("user", "show", f"user{number}")

    def calls_of(self, number: int) -> list[dict]:
        return [row for row in self.json("calls") if row["user"] == f"user{number}"]

    def closed_call(self, number: int, seconds: float = 60) -> dict:
        """Give the one call of a caller once it is closed."""

        def closed() -> dict | None:
            rows = self.calls_of(number)
            assert len(rows) <= 1, rows
            return rows[0] if rows and rows[0]["state"] != "open" else None

        return until(closed, f"the call of {number} is closed\n{self.log[-3000:]}", seconds=seconds, every=0.1)

    def check_books(self, number: int, *, credit: int, cost: int) -> None:
        """The money is where the call says it is: one charge or none, nothing held soon, and all of it proved."""

        def without_holds() -> dict | None:
            found = self.user(number)
            return None if found["voice_held"] else found

        user = until(without_holds, f"nothing is held of {number}\n{self.log[-3000:]}")
        statement, report = self.json("statement", f"user{number}"), self.json("audit")
        assert user["voice_balance"] == credit - cost
        charges = [line["value"] for line in statement if line["origin"] == "call"]
        assert charges == ([-cost] if cost else [])
        assert report["ok"], report["differences"]
        assert "Unhandled Error" not in self.log
        assert "Traceback" not in self.log


class _KeptFiles:
    """Prepared databases of SQLite."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "celcombiller.sqlite"

    def give(self, who: tuple) -> bool:
        if who in _prepared:
            self._file.write_bytes(_prepared[who])
        return who in _prepared

    def keep(self, who: tuple) -> None:
        _prepared[who] = self._file.read_bytes()


class _KeptDatabases:
    """Prepared databases of a PostgreSQL server, which copies them by itself."""

    def __init__(self, url: sa.URL) -> None:
        self._name = url.database
        self._server = url.set(database="postgres")

    def give(self, who: tuple) -> bool:
        template = _templates.get((str(self._server), who))
        if template is not None:
            self._sql(f"drop database {self._name}")
            self._sql(f"create database {self._name} template {template}")
        return template is not None

    def keep(self, who: tuple) -> None:
        template = _templates[str(self._server), who] = f"{self._name}_prepared"
        self._sql(f"create database {template} template {self._name}")

    def _sql(self, statement: str) -> None:
        engine = sa.create_engine(self._server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()
