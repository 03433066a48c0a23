"""What the documents name is there: files, and the names in the code that the page on the architecture follows."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_links_of_root_documents_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert [each for each in links if not (ROOT / each).exists()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 80


def test_files_that_documents_name_exist():
    pages = [*(ROOT / name for name in NAMES), *(ROOT / "docs").rglob("*.md")]
    found = {
        (page.name, path)
        for page in pages
        for path in re.findall(r"`((?:celcombiller|docs|etc|tests)/[\w./-]*)", page.read_text(encoding="utf-8"))
    }
    assert {each for each in found if not (ROOT / each[1]).exists()} == set()


def test_the_architecture_page_names_what_is_there():
    named = re.findall(r"`(celcombiller/[\w/]+)\.py`,\s+`([\w.]+)`", ARCHITECTURE)
    assert len(named) > 30
    for module, name in named:
        reduce(getattr, name.split("."), importlib.import_module(module.replace("/", ".")))
