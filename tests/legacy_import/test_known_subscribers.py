"""Subscribers of the original who are in the ledger already."""

import pytest
import sqlalchemy as sa

from celcombiller.core.model.subscribers import Level
from celcombiller.core.schema import tables as schema_tables
from celcombiller.legacy_import.conversion import convert_original
from celcombiller.legacy_import.findings import Oddity
from celcombiller.legacy_import.importer import list_new_users
from celcombiller.legacy_import.source_database import open_original
from tests.support.legacy_import.legacy_imports import (
    NOW,
    TERMS,
    add,
    ana,
    balances,
    credit,
    everything,
    found,
    imported,
    quietly,
    statement,
    subscribers_of,
    user,
    values,
    village,
)
from tests.support.legacy_import.original_databases import ADMIN, GUEST, original


def test_a_known_user_gets_the_old_balance_added(engine, file):
    add(engine)
    credit(engine, 7)
    path = original(file, users=[ana(voice=100)], voice_balance=[(1, 3, None, 60, "2016-08-01 10:00:00", "web")])
    report = imported(engine, path)
    assert found(report, Oddity.MATCHED) == ["ana (users:3)"]
    assert values(statement(engine, "ana")) == [(7, 7, "web"), (40, 47, "opening"), (60, 107, "web")]
    assert user(engine, "ana").name == "Here"
    before = everything(engine)
    imported(engine, path)
    assert everything(engine) == before


@pytest.mark.parametrize(
    "facts",
    [
        {"username": "other"},
        {"clid": "5"},
        {"imsi": "724000000000099"},
        {"clid": "0", "imsi": "000000000000000"},
    ],
)
def test_a_partly_known_user_is_left_out(engine, file, facts):
    add(engine, **facts)
    report = imported(engine, original(file, users=[GUEST, ana(voice=100)]))
    (told,) = found(report, Oddity.CONFLICT)
    assert told.startswith("ana (users:3): ")
    assert report.findings.serious
    assert len(subscribers_of(engine)) == 2
    assert user(engine, "guest").clid == "999999998"


def test_the_administrator_keeps_the_new_password(engine, file):
    facts = {"username": "admin", "clid": "0", "imsi": "000000000000000", "level": Level.ADMINISTRATOR}
    add(engine, **facts)
    report = imported(engine, original(file, users=[(*ADMIN[:9], 12, 0)]))
    admin = user(engine, "admin")
    assert (admin.name, admin.clid, admin.imsi, admin.cpf) == ("administrator", "999999999", "999999999999999", "0")
    assert balances(engine, "admin") == (12, 0)
    assert len(found(report, Oddity.ADOPTED)) == 1
    assert Oddity.WEAK_PASSWORD not in report.findings.found
    with engine.connect() as tx:
        assert tx.execute(sa.select(schema_tables.subscriber.c.password_hash)).scalars().all() == ["kept"]


def test_a_cpf_taken_here_is_not_taken_over(engine, file):
    add(engine, username="other", clid="5", imsi="724000000000099", cpf="12345678909")
    report = imported(engine, original(file, users=[ana()]))
    assert user(engine, "ana").cpf is None
    assert found(report, Oddity.CPF_DROPPED) == ["ana (users:3): 12345678909 is other's"]


def test_only_created_users_need_a_hash(engine, file):
    add(engine)
    village(file)
    with open_original(file) as old, engine.begin() as tx:
        assert [each.username for each in list_new_users(tx, convert_original(old, TERMS, NOW, quietly))] == [
            "admin",
            "guest",
        ]
