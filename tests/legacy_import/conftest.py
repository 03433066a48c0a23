"""An empty ledger, and the place of an original's file."""

import pytest

from tests.support import databases


@pytest.fixture
def engine():
    made = databases.sqlite()
    yield made
    made.dispose()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "alph.db"
