"""No control character and no control of direction is shown: not by a log, a table, a line of the command, or CSV."""

import ast
import csv
import io
import json
import unicodedata
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

import celcombiller
from celcombiller.cli.common import print_json, print_rows
from celcombiller.cli.terminal import echo, print_error
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import check_line
from celcombiller.core.model.text import escape_json, escape_lines, escape_unprintable
from celcombiller.core.subscribers.fields import check
from celcombiller.http.transport.streaming import format_csv

HOSTILE = [
    "\x1b[2J",
    "a\rb",
    "a\nb",
    "\x9b2J",
    "\x85",
    "a\u202eb",
    "\u2066",
    "\u200f",
    "\u061c",
    "\u2028",
    "\x7f",
    "\x00",
]
texts = (
    st.text() | st.text(st.sampled_from("a\n\t" + "".join(HOSTILE))) | st.text(st.characters(categories=["Cc", "Cs"]))
)


def is_shown_safely(text):
    controls = {"Cc", "Zl", "Zp", "Cs"}
    return all(
        unicodedata.category(each) not in controls and unicodedata.bidirectional(each) not in DIRECTIONS
        for each in text
    )


DIRECTIONS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


@given(texts)
@example("".join(HOSTILE))
def test_an_escaped_text_is_one_printable_line(text):
    assert is_shown_safely(escape_unprintable(text))
    assert escape_unprintable(escape_unprintable(text)) == escape_unprintable(text)
    assert all(is_shown_safely(line.removeprefix("\t")) for line in escape_lines(text).split("\n"))


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_a_printable_text_stays_as_it_is(text):
    assert escape_unprintable(text) == escape_lines(text) == text


@given(
    st.dictionaries(
        texts.filter(lambda text: text.isprintable() or text.encode("utf-8", "ignore").decode() == text), texts
    )
)
def test_json_stays_the_same_document(value):
    if any(0xD800 <= ord(each) < 0xE000 for text in value.values() for each in text):
        return
    written = escape_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(written) == value
    assert is_shown_safely(written)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_exits_of_the_command_show_no_control(hostile, capsys):
    echo(f"Added {hostile}.")
    print_rows([{"name": hostile}], ("name",), as_json=False)
    print_rows([{"name": hostile}], ("name",), as_json=True)
    print_json({"name": hostile})
    print_error(f"celcombiller: {hostile}")
    for written in capsys.readouterr():
        assert all(map(is_shown_safely, written.split("\n")))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_cell_of_csv_shows_no_control(hostile):
    written = format_csv([["name"], [hostile]]).decode()
    assert written.count("\r\n") == 2
    assert all(map(is_shown_safely, written.split("\r\n")))
    assert len(list(csv.reader(io.StringIO(written)))) == 2


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_origins_and_notes_are_printable(hostile):
    for field in ("origin", "note"):
        with pytest.raises(InvalidValue, match="printable"):
            check_line(field, f"x{hostile}", 500)
    with pytest.raises(InvalidValue):
        check("name", f"Ana {hostile}")


def test_an_address_has_lines_and_no_other_controls():
    assert check("address", "Rua 1\nBelém\tPA") == "Rua 1\nBelém\tPA"
    for hostile in set(HOSTILE) - {"a\nb"}:
        with pytest.raises(InvalidValue):
            check("address", hostile)


def test_the_command_prints_by_its_exits_only():
    folder = Path(celcombiller.__file__).parent / "cli"
    allowed = {("common.py", "escape_json"), ("terminal.py", "escape_unprintable"), ("terminal.py", "text")}
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                if path.name == "parser.py":
                    continue  # the program's own texts
                (shown,) = node.args
                assert (path.name, ast.unparse(getattr(shown, "func", shown))) in allowed
