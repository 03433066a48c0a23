"""Real parts: skipped with the reason where they are missing, a failure where CI=true."""

import os

import pytest

from tests.system.lab.asterisk import Asterisk
from tests.system.lab.biller import Biller
from tests.system.lab.requirements import find_chromium, missing

WITH_PHONES = "tests/system/asterisk"
PHONE_GROUPS = 3
"""Tests with phones wait for most of their time. They are in so many processes, and no more, beside tests that compute."""
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)  # before items are chosen by their marks
def pytest_collection_modifyitems(items):
    lacking = missing() if os.environ.get("CI") != "true" else ""
    files = sorted({item.path for item in items if WITH_PHONES in str(item.path)})
    for item in items:
        if item.path in files and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(f"phones {files.index(item.path) % PHONE_GROUPS + 1}"))
        if "tests/system" in str(item.path):
            item.add_marker(pytest.mark.real)
            if lacking:
                item.add_marker(pytest.mark.skip(reason=lacking))


@pytest.fixture(scope="session", autouse=True)
def parts():
    assert not missing(), missing()


@pytest.fixture(scope="session")
def asterisk(parts):
    made = Asterisk()
    yield made
    made.remove()


@pytest.fixture
def pbx(asterisk, request):
    """The one Asterisk, with nothing in it; started again where the test before ended, broke or used it for messages.

    Asterisk repeats a SIP MESSAGE that is not answered for 32 s (RFC 3261, timer F): the next test's phone would get it.
    """
    asterisk.begin()
    yield asterisk
    if request.node.stash.get(FAILED, False) or request.node.get_closest_marker("sip_messages"):
        asterisk.kill9()
    asterisk.tidy()


@pytest.fixture
def biller(pbx, tmp_path):
    made = Biller(tmp_path / "biller", agi_port=pbx.agi_port, pbx=pbx)
    yield made
    made.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.nightly)])
def biller_on_each(request, pbx, tmp_path):
    """Return a biller on SQLite and, in nightly runs, one on PostgreSQL. Tests of two billers always use PostgreSQL."""
    url = request.getfixturevalue("cluster").database() if request.param == "postgresql" else ""
    made = Biller(tmp_path / "biller", agi_port=pbx.agi_port, pbx=pbx, url=url)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def chromium():
    """Give Chromium; Playwright is imported where it is used, which takes a while."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what the real parts had to say when a test failed."""
    report = (yield).get_result()
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    if report.when != "teardown" and report.failed:
        for name, made in item.funcargs.items():
            for part in made if isinstance(made, list) else [made]:
                if isinstance(part, Biller | Asterisk):
                    report.sections.append((f"log of {name}", part.log[-6000:]))
