"""A database of an older version, with calls and credit in it, becomes one of today and loses nothing."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from celcombiller.core.audit.report import audit
from celcombiller.core.charging import batch, messages
from celcombiller.core.charging.requests import ChargingPolicy, Credit
from celcombiller.core.errors import SchemaMismatch
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.messages import MessageState, Route
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schedules import memberships, runs, schedule_records
from celcombiller.core.schedules.runs import ScheduleRules
from celcombiller.core.schema import migrations
from celcombiller.core.schema import tables as schema_tables
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine

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


NOW = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = ChargingPolicy(
    Tariff([Rate()]), messages=MessagePolicy(account=Kind.SMS, on_net_route=Route.ASTERISK, on_net_price=1)
)
BEFORE_SMS = (
    f"insert into subscriber (id, username, name, clid, imsi, level, enabled, created_at)"
    f" values (8, 'bia', 'Bia', '2002', '724000000002002', 1, true, {AT})",
    "insert into account (id, subscriber_id, kind, posted, held)"
    " values (102, 7, 'data', 0, 0), (3, 8, 'voice', 10, 0), (4, 8, 'data', 0, 0)",
    f"insert into transfer (id, reference, debit_account_id, credit_account_id, amount, origin, at, credit_posted)"
    f" values (2, 'schedule:1:8:2026-01-01:voice', 1, 3, 10, 'schedule', {AT}, 10)",
    f"insert into schedule (id, name, kind, value, recurrence, interval_days, first_on, count, time_zone, catch_up,"
    f" enabled, done_until, created_at)"
    f" values (1, 'gold', 1, 10, 'days', 1, '2026-01-01', 9, 'UTC', 'all', true, '2026-01-01', {AT})",
    "insert into membership (id, schedule_id, subscriber_id, count, joined_on) values (1, 1, 8, 8, '2026-01-01')",
    f"insert into schedule_run (id, schedule_id, due_on, kind, value, state, opened_at, last_membership_id, credited)"
    f" values (1, 1, '2026-01-01', 1, 10, 'open', {AT}, 1, 1)",
    f"insert into schedule_credit (id, schedule_id, subscriber_id, due_on, membership_id, outcome, voice_reference, at)"
    f" values (1, 1, 8, '2026-01-01', 1, 'credited', 'schedule:1:8:2026-01-01:voice', {AT})",
    f"insert into message (id, reference, origin, subscriber_id, account_id, from_number, to_number, callee_id, route,"
    f" text, digest, encoding, parts, price, state, queued_at, expires_at)"
    f" values (1, 'sms:x', 'api', 8, 3, '2002', '2001', 7, 'asterisk', 'hello', '', 'gsm7', 1, 3, 'queued', {AT},"
    f" '2026-01-02 00:00:00+00')",
    f"insert into hold (reference, account_id, amount, state, opened_at, expires_at)"
    f" values ('sms:x', 3, 3, 'open', {AT}, {AT})",
    "update account set held = 3 where id = 3",
)


def fresh(request, folder):
    """Give an engine on an empty database of the kind that the test is for."""
    on_postgresql = request.param == "postgresql"
    (folder / "old.sqlite").touch()
    url = request.getfixturevalue("cluster").database() if on_postgresql else f"sqlite:///{folder / 'old.sqlite'}"
    return open_engine(url, lock_seconds=1, foreign_keys=False)


def upgraded_to(tx, revision):
    config = migrations.alembic_config()
    config.attributes["connection"] = tx
    command.upgrade(config, revision)


def told(tx, statements):
    for statement in statements:
        tx.exec_driver_sql(statement if tx.dialect.name == "postgresql" else statement.replace("+00'", "'"))


@pytest.fixture(params=["sqlite", "postgresql"])
def old_database(request, tmp_path, parts):
    engine = fresh(request, tmp_path)
    with engine.begin() as tx:
        upgraded_to(tx, "0001")
        told(tx, OLD_ROWS)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_before_sms(request, tmp_path, parts):
    """Of the version before sms credit: a call and a message are held, a schedule is being credited."""
    engine = fresh(request, tmp_path)
    with engine.begin() as tx:
        upgraded_to(tx, "0006")
        told(tx, OLD_ROWS)
        told(tx, BEFORE_SMS)
        if tx.dialect.name == "postgresql":  # as if they had been given out
            for table in (
                "transfer",
                "schedule",
                "membership",
                "schedule_run",
                "schedule_credit",
                "message",
                "account",
            ):
                tx.exec_driver_sql(f"select setval(pg_get_serial_sequence('{table}', 'id'), 200)")
    yield engine
    engine.dispose()


def test_an_older_database_is_upgraded_with_its_rows(old_database):
    with old_database.begin() as tx, pytest.raises(SchemaMismatch, match="celcombiller init"):
        migrations.check(tx)
    with old_database.begin() as tx:
        migrations.upgrade(tx)
    with old_database.begin() as tx:
        migrations.check(tx)
        assert compare_metadata(MigrationContext.configure(tx), schema_tables.metadata) == []
        report = audit(tx)
        assert (report.ok, report.calls, report.transfers, report.holds) == (True, 1, 1, 1)
        row = tx.execute(sa.select(schema_tables.subscriber)).one()
        assert (row.username, row.cpf, row.deleted_at) == ("ana", "001", None)
        assert [each.username for each in subscriber_records.search(tx, "ANA", limit=9)] == ["ana"]
    with old_database.begin() as tx, pytest.raises(sa.exc.IntegrityError):
        tx.execute(sa.insert(schema_tables.subscriber).values(_row(row) | {"id": 8}))


def test_a_deleted_subscribers_identity_is_free(old_database):
    with old_database.begin() as tx:
        migrations.upgrade(tx)
        row = tx.execute(sa.select(schema_tables.subscriber)).one()
        tx.execute(sa.update(schema_tables.subscriber).values(deleted_at=row.created_at))
        tx.execute(sa.insert(schema_tables.subscriber).values(_row(row) | {"id": 8}))
    with old_database.begin() as tx, pytest.raises(sa.exc.IntegrityError):
        tx.execute(sa.insert(schema_tables.subscriber).values(_row(row) | {"id": 9, "level": 3, "username": "b"}))


def test_the_upgrade_adds_each_subscribers_sms_account(database_before_sms):
    engine = database_before_sms
    with engine.connect() as tx:
        inspector = sa.inspect(tx)
        names = set(inspector.get_table_names()) - {"account", "alembic_version"}
        lists = {name: [column["name"] for column in inspector.get_columns(name)] for name in names}

    def everything(tx):
        rows = {
            name: tx.exec_driver_sql(f"select {_quoted(columns)} from {name} order by 1").all()
            for name, columns in lists.items()
        }
        accounts = "select id, subscriber_id, kind, posted, held, floor from account where kind in ('voice', 'data') order by id"
        return rows | {"account": tx.exec_driver_sql(accounts).all()}

    with engine.begin() as tx:
        before = everything(tx)
    with engine.begin() as tx:
        migrations.upgrade(tx)
    with engine.begin() as tx:
        migrations.check(tx)
        assert everything(tx) == before
        assert len(before["account"]) == 6
        assert compare_metadata(MigrationContext.configure(tx), schema_tables.metadata) == []
        rows = tx.execute(sa.select(schema_tables.account).where(schema_tables.account.c.kind == "sms")).all()
        assert sorted((row.subscriber_id or 0, row.posted, row.held, row.floor) for row in rows) == [
            (0, 0, 0, 0),
            (7, 0, 0, 0),
            (8, 0, 0, 0),
        ]
        assert [row.id for row in rows if row.subscriber_id is None] == [schema_tables.OPERATOR_ACCOUNT_IDS[Kind.SMS]]
        report = audit(tx)
        assert (report.ok, report.accounts, report.holds) == (True, 13, 2)


def test_open_items_survive_the_upgrade(database_before_sms):
    engine = database_before_sms
    with engine.begin() as tx:
        migrations.upgrade(tx)
    with engine.begin() as tx:
        given = [Credit("bia", Kind.SMS, 5, "web", "id:sms"), MessageOutcome("sms:x", MessageState.ACCEPTED)]
        results = batch.process_batch(tx, TERMS, given, NOW)
        assert not [each for each in results if isinstance(each, Exception)], results
        messages.submit(tx, TERMS.messages, reference="y", to_number="2001", text="x", now=NOW, payer="bia")
        texts = schedule_records.add(
            tx,
            name="texts",
            kind=4,
            value=2,
            recurrence="days",
            day=None,
            interval_days=1,
            first_on=NOW.date(),
            count=1,
            time_zone="UTC",
            now=NOW,
        )
        memberships.join(tx, texts, subscriber_records.find(tx, "bia").id, now=NOW)
        tomorrow = NOW + timedelta(days=1)
        for number in (1, texts.id):
            runs.decide(tx, number, ScheduleRules(), tomorrow.date(), tomorrow)
        for run in runs.open_runs(tx):
            while runs.advance(tx, run.id, ScheduleRules(), tomorrow, size=9).more:
                pass
    with engine.begin() as tx:
        accounts = balances(tx, subscriber_records.find(tx, "bia").id)
        assert {kind: (each.posted, each.held) for kind, each in accounts.items()} == {
            Kind.VOICE: (17, 0),
            Kind.DATA: (0, 0),
            Kind.SMS: (7, 1),
        }
        report = audit(tx)
        assert report.ok, report.differences


def test_upgraded_constraints_equal_the_schemas(database_before_sms, request, tmp_path):
    """What alembic's comparison does not look at."""
    engine = database_before_sms
    with engine.begin() as tx:
        migrations.upgrade(tx)
    if engine.dialect.name == "postgresql":
        url = request.getfixturevalue("cluster").database()
    else:
        url = f"sqlite:///{tmp_path / 'made.sqlite'}"
    made = sa.create_engine(url)
    schema_tables.metadata.create_all(made)
    assert _constraints(engine) == _constraints(made)
    made.dispose()


def _constraints(engine):
    seen = sa.inspect(engine)
    return {
        (table.name, each["name"], "".join(each["sqltext"].split()))
        for table in schema_tables.metadata.sorted_tables
        for each in seen.get_check_constraints(table.name)
    }


def _quoted(names):
    return ", ".join(f'"{name}"' for name in names)


def _row(row):
    return row._asdict() | {"deleted_at": None}
