"""A ledger behind a real PgBouncer: sessions work as without it, pooled transactions are refused at the start."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa

from celcombiller.bench.environment import listens
from celcombiller.core.errors import StoreUnavailable
from celcombiller.database.engine import open_engine
from celcombiller.database.health import check_database
from celcombiller.database.transaction import transact
from tests.support import databases
from tests.system.lab.requirements import PROGRAMS
from tests.system.lab.waiting import end, free_ports, until


@pytest.fixture(params=["session", "transaction", "statement"])
def pooled(request, cluster):
    """Give a pool mode and the URL of a ledger behind a PgBouncer in this mode."""
    url = sa.make_url(databases.postgresql(cluster, databases.three_subscribers))
    folder, port = Path(tempfile.mkdtemp(prefix="celcombiller-pgbouncer-")), free_ports(1)
    settings = f"""[databases]
{url.database} = host=127.0.0.1 port={cluster.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {request.param}
"""
    command = [shutil.which("pgbouncer", path=PROGRAMS), "-q", str(folder / "pgbouncer.ini")]
    (folder / "pgbouncer.ini").write_text(settings)
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        shutil.chown(folder, "postgres")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    until(lambda: listens(port), "PgBouncer listens")
    yield request.param, url.set(port=port).render_as_string(hide_password=False)
    end(process)
    shutil.rmtree(folder)


def shown(tx):
    names = ("lock_timeout", "statement_timeout", "default_transaction_read_only")
    return [tx.execute(sa.text(f"show {name}")).scalar() for name in names]


def test_sessions_work_and_pooled_transactions_are_refused(pooled):
    mode, url = pooled
    engine = open_engine(url, lock_seconds=0.5)
    reader = open_engine(url, lock_seconds=0.5, read_seconds=7)
    try:
        if mode == "session":
            check_database(engine)
            assert transact(engine, shown) == ["500ms", "0", "off"]
            assert transact(reader, shown) == ["500ms", "7s", "on"]
        else:
            with pytest.raises(StoreUnavailable, match="pool"):
                check_database(engine)
    finally:
        engine.dispose()
        reader.dispose()
