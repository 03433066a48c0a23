"""A database of an older version, with calls and credit in it, becomes one of today and loses nothing."""

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from celcombiller import migrations, schema
from celcombiller.audit import audit
from celcombiller.errors import SchemaMismatch
from celcombiller.store import open_engine

AT = "'2026-01-01 00:00:00+00'"
OLD_ROWS = (
    f"insert into subscriber (id, username, name, clid, imsi, cpf, level, enabled, created_at)"
    f" values (7, 'ana', 'Ana', '2001', '724000000002001', '001', 1, true, {AT})",
    "insert into account (id, subscriber_id, kind, posted, held) values (101, 7, 'voice', 60, 5)",
    f"insert into transfer (id, reference, debit_account_id, credit_account_id, amount, origin, at, credit_posted)"
    f" values (1, 'id:x', 1, 101, 60, 'web', {AT}, 60)",
    f'insert into call (id, reference, server, uniqueid, leg, "authorization", channel, subscriber_id, account_id,'
    f" from_number, to_number, rate_prefix, rate_name, connect_fee, price, increment_seconds, granted_seconds,"
    f" answered_early, started_at, state) values (1, 'call:pbx1:1.0:0', 'pbx1', '1.0', 0, 'a', 'PJSIP/1', 7, 101,"
    f" '2001', '2002', '', '', 0, 1, 1, 5, false, {AT}, 'open')",
    f"insert into hold (reference, account_id, amount, state, opened_at, expires_at)"
    f" values ('call:pbx1:1.0:0', 101, 5, 'open', {AT}, {AT})",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def old_database(request, tmp_path, parts):
    on_postgresql = request.param == "postgresql"
    url = request.getfixturevalue("cluster").database() if on_postgresql else f"sqlite:///{tmp_path / 'old.sqlite'}"
    engine = open_engine(url, lock_seconds=1, foreign_keys=False)
    with engine.begin() as tx:
        config = migrations._config()
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
        for statement in OLD_ROWS:
            tx.exec_driver_sql(statement if on_postgresql else statement.replace("+00'", "'"))
    yield engine
    engine.dispose()


def test_an_older_database_is_told_apart_upgraded_and_keeps_its_rows(old_database):
    with old_database.begin() as tx, pytest.raises(SchemaMismatch, match="celcombiller init"):
        migrations.check(tx)
    with old_database.begin() as tx:
        migrations.upgrade(tx)
    with old_database.begin() as tx:
        migrations.check(tx)
        assert compare_metadata(MigrationContext.configure(tx), schema.metadata) == []
        report = audit(tx)
        assert (report.ok, report.calls, report.transfers, report.holds) == (True, 1, 1, 1)
        row = tx.execute(sa.select(schema.subscriber)).one()
        assert (row.username, row.cpf, row.deleted_at) == ("ana", "001", None)
    with old_database.begin() as tx, pytest.raises(sa.exc.IntegrityError):
        tx.execute(sa.insert(schema.subscriber).values(_row(row) | {"id": 8}))


def test_an_identity_is_free_again_once_its_subscriber_is_deleted(old_database):
    with old_database.begin() as tx:
        migrations.upgrade(tx)
        row = tx.execute(sa.select(schema.subscriber)).one()
        tx.execute(sa.update(schema.subscriber).values(deleted_at=row.created_at))
        tx.execute(sa.insert(schema.subscriber).values(_row(row) | {"id": 8}))
    with old_database.begin() as tx, pytest.raises(sa.exc.IntegrityError):
        tx.execute(sa.insert(schema.subscriber).values(_row(row) | {"id": 9, "level": 3, "username": "b"}))


def _row(row):
    return row._asdict() | {"deleted_at": None}
