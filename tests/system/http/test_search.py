"""The search language of the original's lists on PostgreSQL, held against the same plain Python as on SQLite."""

import pytest
import sqlalchemy as sa

from celcombiller.core.schema import driver, migrations, tables
from celcombiller.database.engine import open_engine
from tests.rest.legacy.test_search import (
    test_any_search_finds_what_plain_python_finds,
    test_every_operator_has_all_its_names,
)
from tests.support.http import restless_reference as model

__all__ = ["test_any_search_finds_what_plain_python_finds", "test_every_operator_has_all_its_names"]

pytestmark = pytest.mark.xdist_group("restless")  # one database for all of it


@pytest.fixture(scope="module")
def engine(cluster):
    """Give a database whose own order of letters is a language's, as most operators have it: a, A, b, B."""
    first = open_engine(cluster.database(), lock_seconds=5)
    with first.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "create database in_english template template0 locale_provider icu icu_locale 'en-US' encoding 'UTF8'"
        )
    url = first.url.set(database="in_english").render_as_string(hide_password=False)
    first.dispose()
    writing = open_engine(url, lock_seconds=5)
    with writing.begin() as tx:
        migrations.upgrade(tx)
        model.fill(tx)
    writing.dispose()
    made = open_engine(url, lock_seconds=5, read_seconds=30)
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def rows(engine):
    with engine.begin() as tx:
        return model.rows_of(tx)


def test_no_plan_is_made_for_any_value(engine):
    """One made for a common account reads half the table for a rare one, and the other way round."""
    with engine.begin() as tx:
        for account in range(20):
            tx.execute(sa.select(tables.transfer).where(tables.transfer.c.debit_account_id == account)).all()
        prepared = sa.text("select count(*) from pg_prepared_statements")
        assert tx.execute(prepared).scalar() == 0
        name = driver.PreparedQuery(
            sa.select(tables.subscriber.c.id).where(tables.subscriber.c.username == sa.bindparam("who"))
        )
        for who in ("a", "b", "c"):
            name.rows(tx, who=who)
        assert tx.execute(prepared).scalar() == 1


def test_letters_are_in_the_order_of_their_language(engine):
    with engine.begin() as tx:
        assert tx.exec_driver_sql("select 'a' < 'B' and 'b' > 'A' and 'Z' > 'a'").scalar()
