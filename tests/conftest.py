"""What every test stands on: no failure of a Deferred and no logged failure passes unseen."""

import gc
import time
from datetime import UTC, datetime, timedelta

import pytest
from twisted.internet import reactor
from twisted.logger import LogLevel, globalLogPublisher


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unseen():
    """Fail a test for what pytest-twisted lets pass: logged failures, unhandled Deferreds, timers left behind."""
    failures = []

    def hear(event):
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            failures.append(event.get("log_failure") or event)

    before = {id(call) for call in reactor.getDelayedCalls()}
    globalLogPublisher.addObserver(hear)
    try:
        yield failures
        gc.unfreeze()  # a service that was made as twistd makes it froze all that was there
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(hear)
    left = [call for call in reactor.getDelayedCalls() if id(call) not in before]
    for call in left:
        call.cancel()
    assert not failures, failures
    assert not left, left


@pytest.fixture
def expected_failures(nothing_goes_wrong_unseen):
    """Give the logged failures to a test that expects some; it clears the list when it has looked at them."""
    return nothing_goes_wrong_unseen


@pytest.fixture
def today():
    """Give the date by UTC that the whole test will see; shortly before midnight, that of the day to come."""
    now = datetime.now(UTC)
    soon = now + timedelta(seconds=20)
    if soon.date() > now.date():
        time.sleep(20)
    return soon.date()
