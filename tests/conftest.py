"""What every test stands on: no failure of a Deferred and no logged failure passes unseen."""

import contextlib
import functools
import gc
import importlib.metadata
import os
import shutil
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from argon2 import PasswordHasher
from hypothesis import settings
from twisted.internet import reactor
from twisted.logger import LogLevel, globalLogPublisher

from celcombiller import cli
from celcombiller.bench.postgresql import PostgreSQL, find_programs
from celcombiller.runtime.credentials import password_hash, password_hasher
from tests.support import databases
from tests.support.http import api_service
from tests.system.lab.waiting import free_ports

password_hash.HASHER = password_hasher.HASHER = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""The product's takes 0.16 s of CPU time for each password. What runs as a program of its own has that one."""

cli.make_parser = functools.cache(cli.make_parser)
"""A process of the product makes it once, which takes 9 ms; in a process of tests it is one for all commands."""

importlib.metadata.version = functools.cache(importlib.metadata.version)
"""pytest asks for Twisted's at each test, and reads 4 ms of its metadata."""

databases.share_audits()
databases.share_statements()
databases.refuse_rows_of_inserts()

# A change is tried with the same examples as the one before it; while one works, and by night, with new ones.
settings.register_profile("dev", max_examples=10, stateful_step_count=10, deadline=None)
settings.register_profile("ci", max_examples=20, stateful_step_count=20, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=300, stateful_step_count=50, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev"))


MEMORY = Path("/dev/shm")
MEMORY_BYTES_LEAST = 4 << 30
"""A database has 8 MB and 300 files, and each test has its own."""
USUAL_NICENESS = os.getpriority(os.PRIO_PROCESS, 0)
PATIENT_NICENESS = min(19, USUAL_NICENESS + 10) if os.geteuid() == 0 else USUAL_NICENESS
COLLECTED = pytest.StashKey[set[str]]()
NAME_WORDS_MAX = 8
"""The words of a test's name: a longer one states more than one behaviour, or tells a story."""


def pytest_addoption(parser):
    parser.addoption("--moment", type=datetime.fromisoformat, help="begin the tests at this time, with its zone")


def pytest_configure(config):
    """Set the clock of the wall of this process: `make test-moments` finds tests that hang on the day or the hour."""
    moment = config.getoption("moment")
    if moment is not None:
        time_machine.travel(moment).start()


def pytest_itemcollected(item):
    """Mark tests with PostgreSQL as real, and those that start an API as slow: they take more time than all others.

    Leave to the night all rows but the first of a table that a test goes through on SQLite and on PostgreSQL. The rows
    differ in their values; what the databases do differently is in the statements, which the first has.
    """
    if "cluster" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.real)
    if _starts_api(item):
        item.add_marker(pytest.mark.slow)
    seen = item.config.stash.setdefault(COLLECTED, set())
    test, _, row = item.nodeid.partition("[")
    seen.add(item.nodeid)
    if "postgresql" in row and f"{test}[{row.replace('postgresql', 'sqlite')}" in seen:
        if test in seen:
            item.add_marker(pytest.mark.nightly)
        seen.add(test)


def _starts_api(item):
    fixtures = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    return any(_uses_api_service(each.func.__module__) for named in fixtures for each in named)


@functools.cache
def _uses_api_service(module):
    """Return whether a module of fixtures is that of the API's service, or takes something from there."""
    used = {getattr(each, "__module__", "") for each in vars(sys.modules[module]).values()}
    return api_service.__name__ in used | {module}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Have those that take long run first where there are several processes, so that none waits at the end.

    Refuse to run while the name of a test has too many words, or where pytest-xdist forgets which belong together.
    """
    if getattr(config.option, "loadgroup", False):
        apart = [each.nodeid for each in items if each.get_closest_marker("xdist_group") and "@" not in each.nodeid]
        if apart:
            raise pytest.UsageError(
                f"pytest-xdist ignores the group of {apart[0]}: install the pytest of constraints.txt"
            )
        items.sort(key=lambda item: item.get_closest_marker("real") is None and item.get_closest_marker("slow") is None)
    names = {getattr(item, "originalname", item.name) for item in items}
    long = sorted(name for name in names if len(name.removeprefix("test_").split("_")) > NAME_WORDS_MAX)
    if long:
        raise pytest.UsageError(f"more than {NAME_WORDS_MAX} words in the names of tests: {', '.join(long)}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Let a property run once for each engine: pytest-twisted wraps it at each run, and never unwraps it."""
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    property_ = hypothesis and hypothesis.inner_test
    try:
        return (yield)
    finally:
        if hypothesis:
            hypothesis.inner_test = property_


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Run tests without real parts at a lower priority: a phone waits a few seconds only for an answer."""
    with contextlib.suppress(PermissionError):  # only root may take back what it gave away
        os.setpriority(os.PRIO_PROCESS, 0, USUAL_NICENESS if item.get_closest_marker("real") else PATIENT_NICENESS)
    return (yield)


@contextmanager
def failures_logged():
    """Collect the failures that are logged; an unhandled Deferred logs its own when it is collected as garbage."""
    failures = []

    def hear(event):
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            failures.append(event.get("log_failure") or event)

    globalLogPublisher.addObserver(hear)
    try:
        yield failures
    finally:
        globalLogPublisher.removeObserver(hear)


@pytest.fixture(scope="session", autouse=True)
def nothing_older_is_searched_for_garbage():
    """Freeze what was there before a test: the full collection after it then costs only what is new (11 ms else)."""
    gc.collect()
    gc.freeze()
    yield
    with failures_logged() as failures:
        gc.unfreeze()
        gc.collect()
        gc.freeze()  # pytest collects up to five times more before it ends
    assert not failures, failures


@pytest.fixture(autouse=True)
def nothing_goes_wrong_unseen(nothing_older_is_searched_for_garbage):
    """Fail a test for what pytest-twisted lets pass: logged failures, unhandled Deferreds, timers left behind."""
    before = {id(call) for call in reactor.getDelayedCalls()}
    with failures_logged() as failures:
        yield failures
        gc.collect()
        gc.freeze()
    left = [call for call in reactor.getDelayedCalls() if id(call) not in before]
    for call in left:
        call.cancel()
    assert not failures, failures
    assert not left, left


@pytest.fixture
def expected_failures(nothing_goes_wrong_unseen):
    """Give the logged failures to a test that expects some; it clears the list when it has looked at them."""
    return nothing_goes_wrong_unseen


@pytest.fixture(scope="session")
def cluster():
    """Give a PostgreSQL of the worker's own that needs no disk."""
    if find_programs() is None and os.environ.get("CI") != "true":
        pytest.skip("no PostgreSQL: run `make test` (or `bash tests/system/prepare.sh`)")
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_LEAST
    settings = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
    made = PostgreSQL(MEMORY if in_memory else None, port=free_ports(1, for_good=True), settings=settings)
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def engine(request, tmp_path):
    """Give each kind of database in turn, with three subscribers."""
    if request.param == "sqlite":
        made = databases.sqlite(tmp_path / "ledger.sqlite", databases.three_subscribers)
        yield made
        made.dispose()
    else:
        with databases.on_postgresql(request.getfixturevalue("cluster"), databases.three_subscribers) as made:
            yield made


@pytest.fixture
def today():
    """Give the date by UTC that the whole test will see; shortly before midnight, that of the day to come."""
    now = datetime.now(UTC)
    soon = now + timedelta(seconds=20)
    if soon.date() > now.date():
        time.sleep(20)
    return soon.date()
