"""What the documents say holds: the files and names are there, the settings are valid, the commands can be typed."""

import importlib.util
import re
import shlex
import sys
import tomllib
from functools import cache, reduce
from pathlib import Path

import pytest

from celcombiller.config.loader import load

ROOT = Path(__file__).parents[1]
ROOT_DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*ROOT_DOCUMENTS, *sorted((ROOT / "docs").rglob("*.md")))
}
SETTINGS = [
    pytest.param(text, id=f"{name}-{number}")
    for name, page in PAGES.items()
    for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL), 1)
]
COMMANDS = sorted(
    {
        line.partition(" #")[0].partition(" > ")[0].rstrip()
        for page in PAGES.values()
        for block in re.findall(r"^ *```console\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
        for line in re.findall(r"^ *\$ celcombiller (.*)", block, re.MULTILINE)
    }
)
PICTURE_BYTES_MAX = 60_000
SERVER = '\n[[asterisk]]\nname = "pbx1"\nhost = "127.0.0.1"\nusername = "celcombiller"\nsecret_file = "pbx1.secret"\n'


def test_the_change_log_takes_every_fragment():
    """towncrier says nothing of a fragment whose kind it does not know."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    kinds = {each["directory"] for each in settings["type"]}
    fragments = [each.name for each in (ROOT / settings["directory"]).iterdir() if each.suffix == ".md"]
    assert fragments
    assert [each for each in fragments if each.split(".")[-2] not in kinds] == []


@pytest.mark.parametrize("document", ROOT_DOCUMENTS, ids=lambda each: each.name)
def test_links_of_root_documents_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [each for each in links if not (ROOT / each).exists()] == []


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 80


def test_files_that_documents_name_exist():
    named = {
        (name, path)
        for name, page in PAGES.items()
        for path in re.findall(r"`((?:celcombiller|docs|etc|tests)/[\w./-]*)", page)
    }
    assert {each for each in named if not (ROOT / each[1]).exists()} == set()


def test_each_picture_is_shown_and_small():
    shown = {}
    for name, page in PAGES.items():
        for text, path in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", page):
            shown[(ROOT / name).parent.joinpath(path).resolve()] = text
    assert all(shown.values()), "a picture without a text for those who do not see it"
    there = {each: each.stat().st_size for each in (ROOT / "docs/images").iterdir()}
    assert shown.keys() == there.keys()
    assert {each.name for each, size in there.items() if size > PICTURE_BYTES_MAX} == set()


def test_the_architecture_page_names_what_is_there():
    named = re.findall(r"`(celcombiller/[\w/]+)\.py`,\s+`([\w.]+)`", PAGES["docs/explanation/architecture.md"])
    assert len(named) > 30
    for module, name in named:
        reduce(getattr, name.split("."), importlib.import_module(module.replace("/", ".")))


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_that_documents_show_are_valid(tmp_path, text):
    for name in ("pbx1.secret", "smpp.secret", "hotspot.secret", "gateway.secret"):
        (tmp_path / name).write_text("0123456789abcdef" if name == "gateway.secret" else "secret")
    file = tmp_path / "celcombiller.toml"
    whole = text if "[[asterisk]]" in text else text + SERVER
    file.write_text(re.sub(r'(_file = ")/etc/celcombiller/', r"\1", whole), encoding="utf-8")
    load(file, {})


@pytest.fixture(scope="module")
def parser_of():
    """Give the function of `docs/generate.py` that asks a command for its parser."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(generate)
    sys.path[:] = before
    return cache(generate._parser)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_that_documents_show_can_be_typed(parser_of, line):
    words, below = shlex.split(line), ()
    while words and (action := next((each for each in parser_of(below)._actions if each.nargs == "A..."), None)):
        assert words[0] in action.choices
        below = (*below, words.pop(0))
    parser_of(below).parse_args(words)
