"""Coming from the original into a real PostgreSQL: the same as into SQLite, all or nothing, once."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from celcombiller.core.access.actor import Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.ledger import accounts
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schedules import memberships, schedule_records
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.legacy_import.conversion import ImportTerms, convert_original
from celcombiller.legacy_import.importer import import_original
from celcombiller.legacy_import.source_database import open_original
from tests.support import databases
from tests.support.legacy_import.original_databases import ADMIN, GUEST, original

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def engine(cluster):
    with databases.on_postgresql(cluster, lock_seconds=2) as made:
        yield made


@pytest.fixture
def file(tmp_path):
    people = [
        (n, 1, f"U\x00{n}", None, n, f"u{n}", "secret words", f"9{n}", f"7240000000{n:05}", n, -n)
        for n in range(3, 3000)
    ]
    return original(
        tmp_path / "alph.db",
        users=[ADMIN, GUEST, *people],
        voice_balance=[
            (n, n % 2999 + 1, 5, n % 7 - 3, f"2016-08-{n % 28 + 1:02} 10:00:00", "web") for n in range(1, 6000)
        ],
        data_balance=[(1, 5, "2016-08-01 10:00:00", 9, "10.0.0.1", None, "web\x00")],
        schedule=[(1, "Gold", 31, 50, 3)],
        schedule_user=[(n, n, 1, n % 3) for n in range(1, 3000)],
        schedule_contract=[(1, 1, "2016-08-01 10:00:00", 12)],
        schedule_input=[(1, 1, 7, 1)],
    )


def quietly(items, what, total):
    return items


def imported(engine, file, wrap=quietly):
    with open_original(file) as old, engine.begin() as tx:
        converted = convert_original(old, ImportTerms(ZoneInfo("America/Belem"), date(2026, 11, 2)), NOW, quietly)
        report = import_original(tx, converted, {}, Actor("command", "tester"), wrap)
        proof = audit(tx)
        assert proof.ok, proof.differences
    return report


def everything(engine):
    with engine.connect() as tx:
        return {
            table.name: sorted(tx.execute(sa.select(table)).all(), key=repr) for table in tables.metadata.sorted_tables
        }


def test_an_original_comes_into_postgresql_once_and_whole(engine, file):
    before = everything(engine)

    def dying(items, what, total):
        for number, item in enumerate(items):
            if what == "Movements" and number == 5000:
                raise ConnectionError
            yield item

    with pytest.raises(ConnectionError):
        imported(engine, file, dying)
    assert everything(engine) == before
    imported(engine, file)
    with engine.connect() as tx:
        who = subscriber_records.find(tx, "u5")
        assert {kind: account.posted for kind, account in accounts.balances(tx, who.id).items()} == {
            Kind.VOICE: 5,
            Kind.DATA: -5,
            Kind.SMS: 0,
        }
        (gold,) = schedule_records.list_all(tx)
        assert len(memberships.memberships(tx, schedule_id=gold.id, limit=9999)) == 2000
        assert (who.name, gold.done_until) == ("U 5", date(2026, 11, 1))
    after = everything(engine)
    assert not imported(engine, file).made.total()
    assert everything(engine) == after
