"""A biller in this process with its API on a port, and a client that keeps its cookie as a browser does."""

import json
import secrets
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest_twisted
import sqlalchemy as sa
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool

from celcombiller.config.tables import Agi, Config, Console, Database, Metrics, Rest, Service
from celcombiller.core.access import audit_trail, sessions
from celcombiller.core.access.actor import Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact
from celcombiller.jobs.schedule_credits import ScheduleCreditService
from celcombiller.runtime.credentials.password_hash import hash_password
from celcombiller.service.wiring import build
from tests.support import databases
from tests.system.lab.waiting import free_ports

PASSWORD = "correct horse"
NOBODY_NEAR = Metrics(allow=())
HASHED = hash_password(PASSWORD)
PEOPLE = {"admin": Level.ADMINISTRATOR, "ana": Level.SUBSCRIBER, "bia": Level.SUBSCRIBER, "clara": Level.COLLABORATOR}
NOT_BY_API = {tables.login_attempt, tables.server, tables.day_sum, tables.bookmark, tables.schedule.c.done_until}


def select_all(table):
    """Return the SQL that reads what API calls could have written to a table; the driver runs it, for speed."""
    columns = ", ".join(f'"{each.name}"' for each in table.columns if each not in NOT_BY_API)
    order = ", ".join(str(place) for place in range(1, len(table.primary_key.columns) + 1))
    return f'select {columns} from "{table.name}" order by {order}'


SELECTIONS = {table.name: select_all(table) for table in tables.metadata.sorted_tables if table not in NOT_BY_API}


class Client:
    """One client: `anonymous` as it is made, then logged in or with a token."""

    def __init__(self, base):
        self.base = base
        self.cookie = None
        self.bearer = None
        self._http = HTTPClient(Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False)))

    async def ask(self, method, path, body=None, *, headers=(), raw=None):
        """Ask, and give the answer with its body in ``answer.bytes`` and, if it is JSON, ``answer.body``."""
        sent = dict(headers)
        if body is not None:
            raw = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        if self.cookie:
            sent.setdefault("Cookie", f"session={self.cookie}")
        if self.bearer:
            sent.setdefault("Authorization", f"Bearer {self.bearer}")
        answer = await self._http.request(
            method, self.base + path, headers=sent, data=raw, cookies={}, allow_redirects=False
        )
        answer.bytes = await answer.content()
        answer.body = None
        if "json" in header(answer, "content-type"):
            answer.body = json.loads(answer.bytes) if answer.bytes else None
        return answer

    async def get(self, path, **more):
        return await self.ask("GET", path, **more)

    async def post(self, path, body=None, **more):
        return await self.ask("POST", path, body, **more)

    async def patch(self, path, body=None, **more):
        return await self.ask("PATCH", path, body, **more)

    async def delete(self, path, **more):
        return await self.ask("DELETE", path, **more)

    async def log_in(self, username, password=PASSWORD):
        answer = await self.post("/login", {"username": username, "password": password})
        if answer.code == 200:
            self.cookie = header(answer, "set-cookie").partition("=")[2].partition(";")[0]
        return answer


def people(tx):
    for number, (username, level) in enumerate(PEOPLE.items(), 1001):
        subscriber_records.add(
            tx,
            username=username,
            name=username.capitalize(),
            clid=str(number),
            imsi=f"72400000000{number}",
            cpf=f"00{number}",
            address="",
            level=level,
            password_hash=HASHED,
            now=datetime.now(UTC),
        )


class Biller:
    """The service, the database beside it (by a URL: one with `people`), and clients of every kind."""

    def __init__(self, folder, rest, url, metrics=NOBODY_NEAR, **sections):
        if url:
            self.engine = open_engine(url, lock_seconds=5)
        else:
            self.engine = databases.sqlite(folder / "rest.sqlite", people, lock_seconds=5)
        rest = {"unknown_credentials_max": 100_000, **rest}  # tests forge many
        sections.setdefault("console", Console(own_process=False))  # it takes 2 s to start
        port = free_ports(1)
        self.base = f"http://127.0.0.1:{port}"
        self.config = Config(
            database=Database(url=self.engine.url.render_as_string(hide_password=False)),
            rest=Rest(listen=f"tcp:{port}:interface=127.0.0.1", **rest),
            metrics=metrics,
            agi=Agi(listen=f"tcp:{free_ports(1)}:interface=127.0.0.1"),
            **sections,
        )
        self.service = build(reactor, self.config)
        self.service.privilegedStartService()
        self.service.startService()

    def client(self):
        return Client(self.base)

    async def logged_in(self, username):
        """Return a client with a session as a login begins it, without a check of the password: 0.15 s of CPU."""
        client, now = self.client(), datetime.now(UTC)
        client.cookie = secrets.token_urlsafe(32)
        lifetime = timedelta(hours=self.config.rest.session_hours)

        def work(tx):
            person = subscriber_records.find(tx, username)
            sessions.open_session(tx, client.cookie, person.id, address="127.0.0.1", now=now, lifetime=lifetime)
            audit_trail.record(tx, Actor(username, "127.0.0.1"), "log in", f"subscriber:{username}", now=now)

        transact(self.engine, work)
        return client

    def rows(self, table):
        with self.engine.connect() as tx:
            return [row._asdict() for row in tx.execute(sa.select(table).order_by(*table.primary_key.columns))]

    def empty(self, table):
        with self.engine.begin() as tx:
            tx.execute(sa.delete(table))

    def audit(self):
        with self.engine.execution_options(reading=True).begin() as tx:
            return audit(tx)

    def everything(self):
        """Return what API calls could have written: not the failed logins, nor how far the schedules' pass has come.

        Nor the sums by day, which a job adds up.
        """
        with self.engine.connect() as tx:
            cursor = tx.connection.cursor()
            found = {}
            for name, statement in SELECTIONS.items():
                cursor.execute(statement)
                found[name] = cursor.fetchall()
        return found

    async def credit_nothing_itself(self):
        """End its own rounds over the schedules: one goes at the start and each minute, wherever the test is then."""
        for each in list(self.service):
            if isinstance(each, ScheduleCreditService):
                await each.disownServiceParent()

    async def stop(self):
        await self.service.stopService()
        self.engine.dispose()
        settled = Deferred()  # the client's half of each connection closes in the reactor's next turns
        reactor.callLater(0.01, settled.callback, None)
        await settled


def header(answer, name):
    return (answer.headers.getRawHeaders(name) or [""])[0]


def biller_fixture(metrics=NOBODY_NEAR, service=Service(), sections=MappingProxyType({}), **rest):  # noqa: B008
    """Make a fixture of a running biller with these settings of ``[rest]``, and whole ``sections`` beside it."""

    @pytest_twisted.async_yield_fixture
    async def biller(tmp_path_factory):
        made = Biller(tmp_path_factory.mktemp("biller"), rest, "", metrics, service=service, **sections)
        yield made
        report = made.audit()
        await made.stop()  # first: threads that are left would keep a failed run from ending
        assert report.ok, report.differences

    return biller
