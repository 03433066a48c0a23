"""A part of a name or a number finds subscribers, as people type it: in any case, with or without accents."""

import ast
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

import celcombiller
from celcombiller.core.model.subscribers import Level, make_search_text
from celcombiller.core.model.text import fold_text
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.support.databases import NOW

FACTS = {"username": "joao", "name": "João da Conceição", "clid": "2001", "imsi": "724000000002001", "cpf": "12345"}


def add(tx, **facts):
    how = {"address": "", "level": Level.SUBSCRIBER, "password_hash": None, "now": NOW}
    subscriber_records.add(tx, **FACTS | how | facts)


def found(tx, text):
    return [each.username for each in subscriber_records.search(tx, text, limit=9)]


@pytest.mark.parametrize(
    "text",
    ["JOAO", "conceicao", "CONCEIÇÃO", "o da C", "2001", "4000000002", "234", "joão"],
)
def test_any_part_finds_in_any_spelling(engine, text):
    with engine.begin() as tx:
        add(tx)
        add(tx, username="bia", name="Bia", clid="3333", imsi="999999", cpf=None)
        assert found(tx, text) == ["joao"]


@pytest.mark.parametrize("text", ["%", "_", "jo%o", "joao\\", "Joana", "12345x"])
def test_a_missing_part_finds_no_subscriber(engine, text):
    with engine.begin() as tx:
        add(tx)
        assert found(tx, text) == []


def test_a_changed_subscriber_is_found_by_changes(engine):
    with engine.begin() as tx:
        add(tx)
        subscriber_records.change(tx, "joao", {"name": "Zé", "cpf": None}, NOW)
        assert [found(tx, each) for each in ("ze", "da c", "12345", "2001")] == [["joao"], [], [], ["joao"]]


@given(st.text(), st.text(), st.text())
def test_each_part_of_a_text_is_in_it(before, part, after):
    assert fold_text(part) in fold_text(before + part + after)


@given(st.text())
def test_to_fold_again_changes_nothing(text):
    assert fold_text(fold_text(text)) == fold_text(text)


def test_each_writer_of_names_writes_search_text(engine):
    """The functions that update subscribers are those of `test_live_changes`; of names, only these two."""
    with engine.begin() as tx:
        tx.execute(sa.insert(tables.subscriber), [FACTS | {"level": 1, "enabled": True, "created_at": NOW}])
        assert found(tx, make_search_text(FACTS)) == ["joao"]
    writers = {
        path.stem
        for path in sorted(Path(celcombiller.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == "search_text"
    }
    assert writers == {"tables", "subscriber_records", "write_subscribers", "0029_search_text"}
