"""Which errors of a database mean "not now", each made for real where that can be done: the others are of the request."""

import os
import resource
import shutil
import sqlite3
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from celcombiller.core.errors import StoreUnavailable
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import ATTEMPTS, transact
from tests.support import databases


def insert(tx, rows=1):
    tx.execute(sa.text("create table if not exists filling (content text)"))
    tx.execute(sa.text("insert into filling values (:content)"), [{"content": "x" * 4000}] * rows)


def said_by(code):
    """Check the code of an error that is the database's own, in the chain of what was raised."""

    def check(error):
        original = (error.__cause__ if isinstance(error, StoreUnavailable) else error).orig
        found = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
        return found is not None and found.startswith(code)

    return check


# -- SQLite ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    made = databases.sqlite(tmp_path / "ledger.sqlite", databases.three_subscribers, lock_seconds=0.01)
    yield made
    made.dispose()


def test_a_locked_file_is_not_now(ledger):
    other = sqlite3.connect(ledger.url.database, isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(StoreUnavailable, check=said_by("SQLITE_BUSY")):
        transact(ledger, insert)
    other.close()
    transact(ledger, insert)


def test_a_locked_table_is_not_now(ledger):
    def drop_what_is_read(tx):
        insert(tx, 3)
        rows = tx.connection.driver_connection.execute("select * from filling")
        rows.fetchone()
        tx.execute(sa.text("drop table filling"))

    with pytest.raises(StoreUnavailable, check=said_by("SQLITE_LOCKED")):
        transact(ledger, drop_what_is_read)


def test_a_full_file_is_not_now(ledger):
    with ledger.connect() as connection:
        pages = connection.connection.driver_connection.execute("pragma page_count").fetchone()[0]
        connection.connection.driver_connection.execute(f"pragma max_page_count={pages + 3}")
    with pytest.raises(StoreUnavailable, check=said_by("SQLITE_FULL")):
        transact(ledger, lambda tx: insert(tx, 100))


def test_an_error_of_the_disk_is_not_now(ledger):
    transact(ledger, insert)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(StoreUnavailable, check=said_by("SQLITE_IOERR")):
            transact(ledger, lambda tx: insert(tx, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    transact(ledger, insert)


def test_a_file_without_writes_is_not_now(ledger):
    with ledger.connect() as connection:
        connection.connection.driver_connection.execute("pragma query_only=on")
    with pytest.raises(StoreUnavailable, check=said_by("SQLITE_READONLY")):
        transact(ledger, insert)


def test_a_file_that_is_away_is_not_now(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.sqlite'}", lock_seconds=0.01)
    with pytest.raises(StoreUnavailable, check=said_by("SQLITE_CANTOPEN")):
        transact(engine, insert)


def test_a_broken_file_is_no_not_now(ledger, tmp_path):
    transact(ledger, lambda tx: insert(tx, 200))
    ledger.dispose()
    path = tmp_path / "ledger.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
    with pytest.raises(exc.DatabaseError, check=said_by("SQLITE_CORRUPT")):
        transact(ledger, insert)


def test_a_file_of_other_content_is_final(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"garbage " * 1000)
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}", lock_seconds=0.01)
    with pytest.raises(exc.DatabaseError, check=said_by("SQLITE_NOTADB")):
        transact(engine, insert)


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.fixture
def postgresql(cluster):
    with databases.on_postgresql(cluster, databases.three_subscribers, lock_seconds=0.1) as engine:
        yield engine


@contextmanager
def beside(engine):
    """Lend a connection of another client."""
    other = sa.create_engine(engine.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with other.connect() as connection:
        yield connection


def own_pid(tx):
    return tx.execute(sa.text("select pg_backend_pid()")).scalar_one()


@pytest.mark.real
def test_a_standby_or_switchover_is_not_now(postgresql):
    with beside(postgresql) as other:
        other.execute(sa.text(f"alter database {postgresql.url.database} set default_transaction_read_only = on"))
    with pytest.raises(StoreUnavailable, check=said_by("25006")):
        transact(postgresql, insert)


@pytest.mark.real
def test_a_shutdown_is_tried_again_then_not_now(postgresql):
    attempts = []

    def work(tx):
        attempts.append(1)
        with beside(postgresql) as other:
            other.execute(sa.text("select pg_terminate_backend(:pid)"), {"pid": own_pid(tx)})
        insert(tx)

    with pytest.raises(StoreUnavailable, check=said_by("57P01")):
        transact(postgresql, work)
    assert len(attempts) == ATTEMPTS


@pytest.mark.real
def test_a_cancelled_statement_is_not_now(postgresql):
    def work(tx):
        pid = own_pid(tx)
        with beside(postgresql) as other:
            timer = threading.Timer(0.05, other.execute, [sa.text(f"select pg_cancel_backend({pid})")])
            timer.start()
            try:
                tx.execute(sa.text("select pg_sleep(30)"))
            finally:
                timer.join()

    with pytest.raises(StoreUnavailable, check=said_by("57014")):
        transact(postgresql, work)


@pytest.mark.real
def test_too_many_connections_are_not_now(postgresql):
    with beside(postgresql) as other:
        other.execute(sa.text("create role guest login connection limit 1"))
    few = open_engine(postgresql.url.set(username="guest").render_as_string(hide_password=False), lock_seconds=0.1)
    try:
        with few.connect(), pytest.raises(StoreUnavailable, match="too many connections"):
            transact(open_engine(few.url.render_as_string(hide_password=False), lock_seconds=0.1), insert)
    finally:
        few.dispose()
        with beside(postgresql) as other:
            other.execute(sa.text("drop role guest"))


@pytest.mark.real
def test_a_lock_that_never_comes_is_not_now(postgresql):
    with postgresql.begin() as tx:
        insert(tx)
    with postgresql.begin() as holder:
        holder.execute(sa.text("lock table filling"))
        with pytest.raises(StoreUnavailable, check=said_by("55P03")):
            transact(postgresql, insert)


@pytest.mark.real
def test_a_lost_race_is_retried_then_not_now(postgresql):
    attempts = []

    def work(tx):
        attempts.append(1)
        tx.execute(sa.text("set transaction isolation level repeatable read"))
        tx.execute(sa.text("select * from subscriber")).all()
        with beside(postgresql) as other:
            other.execute(sa.text("update subscriber set name = 'M'"))
        tx.execute(sa.text("update subscriber set name = 'N'"))

    with pytest.raises(StoreUnavailable, check=said_by("40001")):
        transact(postgresql, work)
    assert len(attempts) == ATTEMPTS


@pytest.mark.real
def test_who_loses_a_deadlock_tries_again(cluster):
    with databases.on_postgresql(cluster, databases.three_subscribers, lock_seconds=30) as engine:
        rows = [sa.text(f"update subscriber set name = 'M' where clid = '{each}'") for each in ("1001", "1002")]
        attempts = []

        def work(tx):
            attempts.append(1)
            if crossing:
                crossing[0].join()  # or who has just lost may be first again, and lose again
            tx.execute(sa.text("set local deadlock_timeout = '100ms'"))
            tx.execute(rows[0])
            if not crossing:
                other = engine.connect()
                other.execute(sa.text("set local deadlock_timeout = '100s'"))
                other.execute(rows[1])

                def cross():
                    other.execute(rows[0])
                    other.commit()
                    other.close()

                crossing.append(threading.Thread(target=cross))
                crossing[0].start()
            tx.execute(rows[1])
            return "done"

        crossing = []
        assert transact(engine, work) == "done"
        assert len(attempts) == 2


@pytest.mark.real
def test_room_for_files_that_ends_is_not_now(postgresql):
    def work(tx):
        tx.execute(sa.text("set local temp_file_limit = '64kB'"))
        tx.execute(sa.text("set local work_mem = '64kB'"))
        tx.execute(
            sa.text("select count(*) from (select repeat('x', 100), n from generate_series(1, 20000) n order by 1) s")
        )

    with pytest.raises(StoreUnavailable, check=said_by("53400")):
        transact(postgresql, work)


@pytest.mark.real
@pytest.mark.parametrize("code", ["53100", "53200", "58030", "57P03", "08006", "25P03"])
def test_what_cannot_be_made_here_is_not_now(postgresql, code):
    with pytest.raises(StoreUnavailable, check=said_by(code)):
        transact(postgresql, lambda tx: tx.execute(sa.text(f"do $$begin raise sqlstate '{code}'; end$$")))


@pytest.mark.real
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        (r"select convert_from('\xff'::bytea, 'UTF8')", "22021"),
        ("select 1/0", "22012"),
        ("select * from nothing_here", "42P01"),
        ("select repeat('x', 2000000000)", "54000"),
        ("do $$begin raise sqlstate 'XX001'; end$$", "XX001"),
    ],
)
def test_a_fault_of_the_request_is_final(postgresql, statement, code):
    with pytest.raises(exc.DBAPIError, check=said_by(code)):
        transact(postgresql, lambda tx: tx.execute(sa.text(statement)))


@pytest.fixture
def small_disk(cluster, postgresql):
    """Give a disk of 2 MB to the table that is filled, and a file on it that can be removed."""
    place = cluster.folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=False).returncode:
        pytest.skip("a disk cannot be mounted here")
    try:
        shutil.chown(place, "postgres")
        with beside(postgresql) as other:
            other.execute(sa.text(f"create tablespace small location '{place}'"))
            other.execute(sa.text("create table filling (content text) tablespace small"))
            other.execute(sa.text("alter table filling alter content set storage plain"))  # or it is compressed
            (place / "ballast").write_bytes(bytes(500_000))
            yield place / "ballast"
            other.execute(sa.text("drop table filling"))
            other.execute(sa.text("checkpoint"))  # frees the files of the table
            other.execute(sa.text("drop tablespace small"))
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


@pytest.mark.real
def test_a_full_disk_is_not_now(postgresql, small_disk):
    transact(postgresql, insert)
    with pytest.raises(StoreUnavailable, check=said_by("53100")):
        transact(postgresql, lambda tx: insert(tx, 5000))
    with beside(postgresql) as other:
        assert other.execute(sa.text("select count(*) from filling")).scalar_one() == 1
    small_disk.unlink()
    transact(postgresql, lambda tx: insert(tx, 50))


@pytest.mark.real
def test_no_memory_for_locks_is_not_now(postgresql):
    locks = sa.text("select count(pg_advisory_xact_lock(each)) from generate_series(1, 1000000) as each")
    with pytest.raises(StoreUnavailable, check=said_by("53200")):
        transact(postgresql, lambda tx: tx.execute(locks))
    transact(postgresql, insert)


@pytest.mark.real
def test_no_memory_for_a_query_is_not_now(postgresql):
    """The backend may have 64 MB more than it has."""
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []

    def work(tx):
        pid = own_pid(tx)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        least = pages * resource.getpagesize() + (64 << 20)
        subprocess.run([*as_postgres, "prlimit", f"--pid={pid}", f"--as={least}:"], check=True)
        tx.execute(sa.text("select length(string_agg(repeat('x', 1000), '')) from generate_series(1, 200000)"))

    with pytest.raises(StoreUnavailable, check=said_by("53200")):
        transact(postgresql, work)
