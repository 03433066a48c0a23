"""Databases with the tables of now, copied from one that was migrated once: an upgrade takes 0.09 s, a copy 0.001 s."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, wraps
from itertools import count
from pathlib import Path

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine.default import DefaultExecutionContext

from celcombiller.core.audit import report
from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import migrations, tables
from celcombiller.core.schema.driver import execute_raw
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


STATEMENTS_MAX = 5000
_make_engine = sa.create_engine


_kept = {}
"""The first engine of each dialect that has connected: then the dialect knows what its database can do."""


@wraps(_make_engine)
def _create_engine(url, **more):
    if "isolation_level" in more:  # a dialect keeps it
        return _make_engine(url, **more)
    engine = _make_engine(url, query_cache_size=STATEMENTS_MAX, **more)
    kept = _kept.get(engine.dialect.name)
    if kept is None:
        sa.event.listen(engine, "engine_connect", lambda _connection: _kept.setdefault(engine.dialect.name, engine))
    else:
        engine.dialect, engine._compiled_cache = kept.dialect, kept._compiled_cache
    return engine


def share_statements():
    """Have all engines of a kind of database share their dialect, and what they compile for it.

    Each test has a database of its own, and so an engine, which compiles each statement again: 30 ms for an audit's, and
    300 on PostgreSQL.
    """
    sa.create_engine = _create_engine


def refuse_rows_of_inserts():
    """Have each database refuse to say how many rows an insert wrote, unless it was asked before: PostgreSQL says -1.

    SQLAlchemy closes the cursor of an insert first, which SQLite forgives
    (https://docs.sqlalchemy.org/en/21/core/connections.html#sqlalchemy.engine.CursorResult.rowcount).
    """
    tell = DefaultExecutionContext.rowcount.fget

    def rowcount(context):
        is_asked = context.execution_options.get("preserve_rowcount", False)
        assert is_asked or not context.isinsert, "ask for the rows of an insert with `preserve_rowcount` or `returning`"
        return tell(context)

    DefaultExecutionContext.rowcount = property(rowcount)


CHECKS = report.CHECKS
"""The checks of an audit as the product has them, for tests that count its statements."""


class _Recorder:
    """A connection that keeps what its driver was asked, as long as no answer had a row."""

    def __init__(self, tx):
        self._tx = tx
        self.asked = []

    @property
    def dialect(self):
        return self._tx.dialect

    def execute(self, statement):
        answer = self._tx.execute(statement).freeze()
        if answer.data:
            self.asked = None
        return answer()

    def __getattr__(self, name):
        self.asked = None  # the answer is not looked at, so it may have had rows
        return getattr(self._tx, name)

    def hear(self, _tx, _cursor, statement, parameters, _context, _many):
        if self.asked is not None:
            self.asked.append((statement, parameters))


class _Check:
    """A check that asks what it asked when nothing differed; where no answer has a row, nothing differs now."""

    def __init__(self, check):
        self._check = check
        self.__name__ = check.__name__
        self._asked = {}
        """Statements with their parameters, by the name of the driver."""

    def __eq__(self, other):
        return self._check == other

    def __hash__(self):
        return hash(self._check)

    def __call__(self, tx):
        driver = tx.dialect.driver
        kept = self._asked.get(driver)
        if kept is not None and not any(execute_raw(tx, *each).fetchone() for each in kept):
            return []
        recorder = _Recorder(tx)
        sa.event.listen(tx, "before_cursor_execute", recorder.hear)
        try:
            found = list(self._check(recorder))
        finally:
            sa.event.remove(tx, "before_cursor_execute", recorder.hear)
        if not found and recorder.asked is not None:
            self._asked[driver] = recorder.asked
        return found


def share_audits():
    """Have all audits of this process build the statements of a check once, which takes twenty times as long as asking."""
    report.CHECKS = tuple(map(_Check, CHECKS))


def nothing(tx):
    """Leave it as `celcombiller init` makes it, without an administrator."""


def three_subscribers(tx):
    for number in ("1001", "1002", "1003"):
        subscriber_records.add(
            tx,
            username=f"u{number}",
            name="N",
            clid=number,
            imsi=f"72400000000{number}",
            cpf=None,
            address="",
            level=Level.SUBSCRIBER,
            password_hash=None,
            now=NOW,
        )


def speak(engine, number, language):
    """Give the subscriber of a number a language."""
    subscriber = tables.subscriber
    with engine.begin() as tx:
        tx.execute(sa.update(subscriber).where(subscriber.c.clid == number).values(language=language))


def sqlite(path="", fill=nothing, *, lock_seconds=1):
    """Return an engine on a database of its own: a file at the path, or one in memory for one thread."""
    if path:
        content = _sqlite_template(fill)
        # That it has a WAL stands in these octets (https://www.sqlite.org/fileformat.html); to change that takes 7 ms.
        Path(path).write_bytes(content[:18] + b"\x02\x02" + content[20:])
        engine = open_engine(f"sqlite:///{path}", lock_seconds=lock_seconds)
        sa.event.listen(engine, "connect", _wait_for_no_disk)
        return engine
    engine = open_engine("sqlite://", lock_seconds=lock_seconds)
    with engine.connect() as connection:
        connection.connection.driver_connection.deserialize(_sqlite_template(fill))
    return engine


def _wait_for_no_disk(connection, _record):
    """Commit without a sync: in the tests processes die, machines do not."""
    connection.execute("pragma synchronous=off")


@cache
def _sqlite_template(fill):
    engine = open_engine("sqlite://", lock_seconds=1) if fill is nothing else sqlite()
    with engine.begin() as tx:
        if fill is nothing:
            migrations.upgrade(tx)
        fill(tx)
    with engine.connect() as connection:
        content = connection.connection.driver_connection.serialize()
    engine.dispose()
    return content


_numbers = count(1)


def postgresql(cluster, fill=nothing):
    """Return the URL of a database of its own in the cluster."""
    return _created(cluster, _postgresql_template(cluster, fill))


@cache
def _postgresql_template(cluster, fill):
    url = _created(cluster, "template0") if fill is nothing else postgresql(cluster)
    engine = sa.create_engine(url)
    with engine.begin() as tx:
        if fill is nothing:
            migrations.upgrade(tx)
        fill(tx)
    engine.dispose()
    return sa.make_url(url).database


_GROWTH_BYTES_MAX = 4 << 20
_OTHERS = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
_PUBLIC = "'public'::regnamespace"
_MARK = f"""
    with ours as (select oid, xmin from pg_class where relnamespace = {_PUBLIC})
    select (select sum(hashtext(xmin::text || oid)) from ours),
        (select sum(hashtext(a.xmin::text || oid || attnum)) from pg_attribute a join ours on attrelid = oid),
        (select sum(hashtext(xmin::text || oid)) from pg_constraint where connamespace = {_PUBLIC}),
        (select sum(hashtext(xmin::text || oid)) from pg_proc where pronamespace = {_PUBLIC}),
        (select sum(hashtext(xmin::text || oid)) from pg_trigger),
        (select count(*) from pg_statistic join ours on starelid = oid),
        (select count(*) from pg_db_role_setting)
"""
"""What differs once a table, a trigger, a setting or a statistic has changed."""


class _Lent:
    """A database whose rows are put back after each use. To copy another and to drop it takes five times as long."""

    def __init__(self, cluster, fill):
        self._cluster = cluster
        self.url = postgresql(cluster, fill)
        self._connection = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()
        self._mark = self._ask(_MARK)
        self._bytes = self._measure()
        self._restoring = "; ".join(self._list_steps())

    def _list_steps(self):
        yield "set session_replication_role = replica"  # no trigger runs, and no foreign key is looked up
        tables = [
            name for (name,) in self._ask(f"select tablename from pg_tables where schemaname::regnamespace = {_PUBLIC}")
        ]
        yield from (f"delete from {name}" for name in tables)
        for name in tables:
            ((rows,),) = self._ask(f"select json_agg(t)::text from {name} t")
            if rows:
                values = f"json_populate_recordset(null::{name}, {sql.quote(rows)})"
                yield f"insert into {name} overriding system value select * from {values}"
        for (name,) in self._ask("select sequencename from pg_sequences"):
            ((value, is_called),) = self._ask(f"select last_value, is_called from {name}")
            yield f"select setval({sql.quote(name)}, {value}, {is_called})"

    def _ask(self, statement):
        return [tuple(row) for row in self._connection.exec_driver_sql(statement)]

    def _measure(self):
        return self._ask("select pg_database_size(current_database())")[0][0]

    def is_free(self):
        """Return whether there is no other connection to it."""
        return not self._ask(f"select 1 {_OTHERS}")

    def restore(self):
        """Put all rows back, and return whether all else is as it was."""
        try:
            self._end_others()
            if self._ask(_MARK) != self._mark or self._measure() > self._bytes + _GROWTH_BYTES_MAX:
                return False
            self._connection.connection.driver_connection.execute(self._restoring)
        except sa.exc.DBAPIError:
            return False
        return True

    def _end_others(self):
        for _ in range(20):  # a server process ends a millisecond after its connection
            if self.is_free():
                return
            time.sleep(0.001)
        self._ask(f"select pg_terminate_backend(pid, 5000) {_OTHERS}")

    def drop(self):
        self._connection.close()
        _administer(self._cluster, f"drop database {sa.make_url(self.url).database} with (force)")


@cache
def _waiting(_cluster, _fill):
    """Return the databases that wait for their next use."""
    return []


@contextmanager
def on_postgresql(cluster, fill=nothing, *, lock_seconds=5):
    """Lend an engine on a database that nothing else uses meanwhile, and that is as a new one."""
    waiting = _waiting(cluster, fill)
    lent = waiting.pop() if waiting and waiting[-1].is_free() else _Lent(cluster, fill)
    engine = open_engine(lent.url, lock_seconds=lock_seconds)
    try:
        yield engine
    finally:
        engine.dispose()
        if lent.restore():
            waiting.append(lent)
        else:
            lent.drop()


def _created(cluster, template):
    name = f"copy{next(_numbers)}"
    _administer(cluster, f"create database {name} template {template} strategy file_copy")
    return cluster.url + name


def _administer(cluster, statement):
    with _administration(cluster).connect() as connection:
        connection.exec_driver_sql(statement)


@cache
def _administration(cluster):
    return sa.create_engine(f"{cluster.url}postgres", isolation_level="AUTOCOMMIT", pool_pre_ping=True)
