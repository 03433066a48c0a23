"""The search language of the original's lists on PostgreSQL, held against the same plain Python as on SQLite."""

import json

import hypothesis.strategies as st
import pytest
import restless_model as model
from hypothesis import given, settings
from restless_model import SHAPES, SYNONYMS, ask, expected

from celcombiller import migrations
from celcombiller.store import open_engine


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


@pytest.mark.parametrize("name", SHAPES)
def test_any_search_finds_what_plain_python_finds(engine, rows, name):
    @settings(max_examples=150, deadline=None)
    @given(model.searches(SHAPES[name], rows[name]), st.integers(-1, 4), st.sampled_from([None, 1, 3, 100]))
    def check(q, page, per_page):
        query = {"q": json.dumps(q), "page": str(page)} | ({"results_per_page": str(per_page)} if per_page else {})
        with engine.begin() as tx:
            answer = ask(tx, name, query)
        assert answer.body == expected(rows[name], SHAPES[name], q, page, per_page or (10 if name == "users" else 100))

    check()


@pytest.mark.parametrize("name", ["users", "voice_balance"])
def test_every_operator_has_all_its_names(engine, rows, name):
    @settings(max_examples=10, deadline=None)
    @given(st.data())
    def check(operator, words, data):
        said = data.draw(model.comparisons(SHAPES[name], rows[name], operators=(operator,)))
        for word in words:
            q = {"filters": [said | {"op": word}]}
            with engine.begin() as tx:
                answer = ask(tx, name, {"q": json.dumps(q), "results_per_page": "100"})
            assert answer.body == expected(rows[name], SHAPES[name], q)

    for operator, words in SYNONYMS.items():
        check(operator, words)


def test_no_plan_is_made_for_any_value(engine):
    """One made for a common account reads half the table for a rare one, and the other way round."""
    with engine.begin() as tx:
        assert tx.exec_driver_sql("show plan_cache_mode").scalar() == "force_custom_plan"
        assert tx.exec_driver_sql("select 'a' < 'B' and 'b' > 'A' and 'Z' > 'a'").scalar()
