"""`init` on PostgreSQL: what cannot hold names is refused, and no tables change under a running biller."""

import os
import stat
import subprocess

import pytest
import sqlalchemy as sa
from alembic import command as alembic

from celcombiller.bench.postgresql import find_programs
from celcombiller.core.schema import migrations
from celcombiller.database.engine import open_engine
from celcombiller.database.health import SERVICE_NAME
from tests.support.databases import _administer
from tests.system.lab import command

pytestmark = pytest.mark.real
OLDER = migrations.REVISIONS[-2]


@pytest.fixture
def run(tmp_path):
    """Give the command on the database of a URL."""

    def on(url, *words):
        (tmp_path / "celcombiller.toml").write_text(f'[database]\nurl = "{url}"\nlock_seconds = 1\n')
        return command.run(tmp_path, words)

    return on


@pytest.mark.parametrize(("encoding", "kind"), [("SQL_ASCII", "ascii"), ("LATIN1", "latin"), ("EUC_JP", "euc")])
def test_an_encoding_without_all_names_is_refused(cluster, run, encoding, kind):
    _administer(cluster, f"create database {kind} template template0 encoding '{encoding}' locale 'C'")
    url = f"postgresql+psycopg://postgres@127.0.0.1:{cluster.port}/{kind}"
    for words in (("init",), ("user", "list")):
        status, said = run(url, *words)
        assert (status, said.count("\n"), encoding in said, "UTF8" in said) == (3, 1, True, True), said


def test_an_upgrade_under_a_biller_is_refused(cluster, run):
    url = cluster.database()
    engine = open_engine(url, lock_seconds=1)
    with engine.begin() as tx:
        config = migrations.alembic_config()
        config.attributes["connection"] = tx
        alembic.upgrade(config, OLDER)
    biller = open_engine(url, lock_seconds=1, application_name=SERVICE_NAME)
    with biller.connect():
        status, said = run(url, "init")
        assert (status, said.count("\n"), "stop them all" in said) == (3, 1, True), said
        with engine.connect() as tx:
            assert tx.execute(sa.text("select version_num from alembic_version")).scalar() == OLDER
    biller.dispose()
    status, said = run(url, "init")
    assert (status, f"from version {OLDER} to {migrations.REVISIONS[-1]}" in said) == (0, True), said
    with biller.connect():
        assert run(url, "init")[0] == 0, "nothing to upgrade"
    for each in (engine, biller):
        each.dispose()


def test_tables_of_another_program_are_refused(cluster, run):
    url = cluster.database()
    engine = open_engine(url, lock_seconds=1)
    with engine.begin() as tx:
        tx.exec_driver_sql("create table account (id int)")
    engine.dispose()
    status, said = run(url, "init")
    assert (status, said.count("\n"), "another program" in said) == (3, 1, True), said


def test_a_dump_is_proved_and_can_be_restored(cluster, run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{find_programs()}:{os.environ['PATH']}")
    url = cluster.database()
    assert run(url, "init")[0] == 0
    assert run(url, "credit", "admin", "60")[0] == 0
    status, said = run(url, "backup", "ledger.dump")
    assert (status, "1 transfer." in said, stat.S_IMODE((tmp_path / "ledger.dump").stat().st_mode)) == (0, True, 0o600)
    other = cluster.database()
    restored = sa.make_url(other).set(drivername="postgresql").render_as_string()
    subprocess.run(["pg_restore", "--no-owner", f"--dbname={restored}", tmp_path / "ledger.dump"], check=True)
    status, said = run(other, "audit")
    assert (status, "1 transfer," in said) == (0, True)
    assert run(url, "backup", "ledger.dump")[0] == 3
