"""What the tests of the scripts share."""

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.support.script_biller import House


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "db.sqlite")
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest.fixture
def houses(tmp_path):
    made = []

    def build(**calls):
        made.append(House(tmp_path / "db.sqlite", **calls))
        return made[-1]

    yield build
    for each in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(each.close()))
