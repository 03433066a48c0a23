"""What the tests of the import from the original share: a file that is imported and proved, and questions to the ledger."""

import sqlite3
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from celcombiller.core.access.actor import Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy as CallTerms
from celcombiller.core.charging.requests import Credit
from celcombiller.core.ledger import accounts
from celcombiller.core.ledger import statement as ledger_statement
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.subscribers import Level
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables as schema_tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.legacy_import.conversion import ImportTerms, convert_original
from celcombiller.legacy_import.importer import import_original
from celcombiller.legacy_import.source_database import open_original
from tests.support.legacy_import.original_databases import ADMIN, GUEST, original

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BELEM = ZoneInfo("America/Belem")
TERMS = ImportTerms(BELEM, date(2026, 11, 2))


def quietly(items, what, total):
    return items


def imported(engine, path, terms=TERMS, now=NOW):
    """Import a file, prove the ledger, and give the report."""
    with open_original(path) as old, engine.begin() as tx:
        converted = convert_original(old, terms, now, quietly)
        report = import_original(tx, converted, {}, Actor("command", "tester"), quietly)
        proof = audit(tx)
        assert proof.ok, proof.differences
    return report


def everything(engine):
    """Give all rows of all tables."""
    with engine.connect() as tx:
        return {
            table.name: sorted(tx.execute(sa.select(table)).all(), key=repr)
            for table in schema_tables.metadata.sorted_tables
        }


def user(engine, username):
    with engine.connect() as tx:
        return subscriber_records.find(tx, username)


def balances(engine, username):
    with engine.connect() as tx:
        found = accounts.balances(tx, subscriber_records.find(tx, username).id)
        return found[Kind.VOICE].posted, found[Kind.DATA].posted


def statement(engine, username, kind=Kind.VOICE):
    """Give a statement, oldest line first."""
    with engine.connect() as tx:
        account = accounts.balances(tx, subscriber_records.find(tx, username).id)[kind]
        return ledger_statement.statement(tx, account, limit=100)[::-1]


def values(lines):
    return [(line.value, line.posted, line.origin) for line in lines]


def found(report, oddity):
    return report.findings.found.get(oddity, [])


def ana(**facts):
    """Make a user's row of the last generation."""
    names = ("id", "level", "name", "address", "cpf", "username", "password", "clid", "imsi", "voice", "data")
    usual = (3, 1, "Ana", "Rua 1", 12345678909, "ana", "a long password", "991110003", "724000000000003", 0, 0)
    return tuple((dict(zip(names, usual, strict=True)) | facts).values())


def subscribers_of(engine):
    with engine.connect() as tx:
        return list(subscriber_records.list_all(tx))


def add(engine, **facts):
    usual = {"username": "ana", "name": "Here", "clid": "991110003", "imsi": "724000000000003", "cpf": None}
    with engine.begin() as tx:
        subscriber_records.add(
            tx, **(usual | {"address": "", "level": Level.SUBSCRIBER, "password_hash": "kept", "now": NOW} | facts)
        )


def credit(engine, value, username="ana", reference="id:1"):
    with engine.begin() as tx:
        request = Credit(username, Kind.VOICE, value, "web", reference)
        process_batch(tx, CallTerms(Tariff([Rate()])), [request], NOW)


def village(path, generation="last", **more):
    rows = {
        "users": [ADMIN, GUEST, ana(voice=50, data=-9)],
        "voice_balance": [
            (1, 3, None, 100, "2016-08-01 10:00:00", "web"),
            (2, 3, 2, -61, "2016-08-02 10:00:00", "call"),
        ],
        "data_balance": [(1, 3, "2016-08-01 12:00:00", 100, None, None, "web")],
        "schedule": [(1, "Gold", 5, 50, 1)],
        "schedule_user": [(1, 3, 1, 4)],
        "schedule_contract": [(1, 1, "2016-08-01 10:00:00", 12)],
        "schedule_input": [(1, 1, 1, 1)],
    }
    return original(path, generation, **(rows | more))


def run_script(path, sql):
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()
