"""The texts of the pages: all translated, none broken, and one for each error. What others made is as it came."""

import hashlib
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

import celcombiller
from celcombiller.core import errors
from celcombiller.core.languages import error_texts
from celcombiller.runtime.languages import LANGUAGES, choose_language, load_language

HOME = Path(celcombiller.__file__).parent
TRANSLATED = [each for each in LANGUAGES if each != "en"]


@pytest.fixture(scope="module")
def texts():
    """Give every text of the pages, as it is extracted for translators."""
    with (HOME.parent / "celcombiller/locale/babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    return {text for _, _, text, *_ in extract_from_dir(str(HOME), methods, options)}


def catalogue_of(language):
    with (HOME / "locale" / language / "LC_MESSAGES/celcombiller.po").open("rb") as file:
        return read_po(file, locale=language)


@pytest.mark.slow
@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated(texts, language):
    found = {each.id: each for each in catalogue_of(language) if each.id}
    assert found.keys() == texts, "run `make messages`, and translate what is new"
    for each in found.values():
        assert not each.fuzzy, each.id
        assert all(each.string if isinstance(each.string, tuple) else (each.string,)), each.id
        assert not list(each.check()), each.id


def test_every_error_has_a_sentence():
    codes, waiting = set(), [errors.BillerError]
    while waiting:
        each = waiting.pop()
        if each.__module__ == errors.__name__:
            codes.add(each.code)
        waiting += each.__subclasses__()
    assert codes <= error_texts.ERROR_TEXTS.keys()


def test_errors_are_told_in_the_readers_language():
    error = errors.InsufficientBalance("ana has 5 credits, and 9 are needed")
    spanish = load_language("es")
    assert error_texts.describe_error(error, load_language("en")) == "Ana has 5 credits, and 9 are needed"
    assert error_texts.describe_error(error, spanish) == "No hay crédito suficiente."
    assert error_texts.describe_reason(error, spanish) == "no hay crédito suficiente"


@pytest.mark.parametrize(
    ("own", "accepted", "language"),
    [
        ((), "pt-BR,pt;q=0.9,en;q=0.8", "pt_BR"),
        (("",), "pt", "pt_BR"),
        ((), "es-PY, en;q=0.5", "es"),
        (("es",), "pt-BR", "es"),
        (("xx",), "en", "en"),
        ((), "de, fr;q=0.5", ""),
        ((), "", ""),
        ((), "pt;q=0, es", "es"),
        ((), ";;;,=q", ""),
    ],
)
def test_language_is_ones_own_or_the_browsers(own, accepted, language):
    assert choose_language(own, accepted) == language


def test_what_others_made_is_as_it_came():
    folder = HOME / "console/assets"
    listed = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed} == listed
    assert {each.name for each in folder.glob("*.min.*")} == listed.keys()
