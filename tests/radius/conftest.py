"""A biller with RADIUS for each test that asks for one, and the log as lines."""

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from tests.support.radius_biller import radius_fixture

radius = radius_fixture()


@pytest.fixture
def lines():
    """Collect the log's events as lines."""
    collected = []

    def observe(event):
        collected.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield collected
    globalLogPublisher.removeObserver(observe)
