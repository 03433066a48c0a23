"""Pages are made in a process of their own, and by the biller whenever that one cannot."""

import os
import re
import signal
from http.client import OK, UNPROCESSABLE_ENTITY
from unittest.mock import AsyncMock, Mock

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater

from celcombiller.config.tables import Console
from celcombiller.console.page_process import PAGE_SECONDS_MAX, PAUSE_SECONDS, PageProcess
from tests.console.test_roles import PAGES, address_of
from tests.support.http.api_service import biller_fixture
from tests.system.lab.waiting import is_running

biller = biller_fixture(sections={"console": Console()})
NEVER_THE_SAME = {"GET /ui/second-factor/new"}
"""It shows a new secret."""
NEED_PRICES = {"/ui/prices?to_number=1002&seconds=60"}
"""Pages that look at the price lists in memory."""
CHANGES = rb"[0-9a-f]{32}|[0-9]+ (seconds?|ms)"
"""Idempotency keys, and what a page says of the moment."""


def process_of(biller):
    return next(each for each in biller.service if isinstance(each, PageProcess))


async def until_it_makes_pages(biller, client):
    """Look at a page, as that starts the process, until the process makes it."""
    for _ in range(600):
        assert (await client.get("/ui/subscribers")).code == 200
        if process_of(biller).pid is not None:
            return process_of(biller).pid
        await deferLater(reactor, 0.05, int)
    raise AssertionError("it does not start")


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_it_makes_the_pages_of_the_biller(biller, monkeypatch):
    """Each page is what the biller makes itself, and few need a second attempt there (about 7 s)."""
    addresses = [address_of(each) for each in PAGES if each.reads and each.do and each.name not in NEVER_THE_SAME]
    addresses += NEED_PRICES
    client, process, made = await biller.logged_in("admin"), process_of(biller), []
    with monkeypatch.context() as patch:
        patch.setattr(process, "make", AsyncMock(return_value=None))
        made_here = [await client.get(each) for each in addresses]
    await until_it_makes_pages(biller, client)
    make = process.make

    async def note(*asked):
        made.append(await make(*asked))
        return made[-1]

    monkeypatch.setattr(process, "make", note)
    made_again = set()
    for address, here in zip(addresses, made_here, strict=True):
        there = await client.get(address)
        assert there.code == here.code, address
        assert re.sub(CHANGES, b"", there.bytes) == re.sub(CHANGES, b"", here.bytes), address
        if here.code == OK and made[-1] is None:
            made_again.add(address)
    assert made_again == NEED_PRICES
    assert b'celcombiller_pages_total{made_by="process"}' in (await client.get("/metrics")).bytes


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_biller_makes_pages_after_its_death(biller):
    client = await biller.logged_in("admin")
    pid = await until_it_makes_pages(biller, client)
    os.kill(pid, signal.SIGSTOP)
    page = Deferred.fromCoroutine(client.get("/ui/subscribers"))
    await deferLater(reactor, 0.05, int)
    os.kill(pid, signal.SIGKILL)
    assert (await page).code == 200
    assert (await client.get("/ui/subscribers")).code == 200
    assert process_of(biller).pid is None


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_a_silent_process_is_replaced(biller, monkeypatch):
    clock, client = Clock(), await biller.logged_in("admin")
    pid = await until_it_makes_pages(biller, client)
    monkeypatch.setattr(clock, "spawnProcess", reactor.spawnProcess, raising=False)
    monkeypatch.setattr(process_of(biller), "_reactor", clock)
    clock.advance(reactor.seconds())
    os.kill(pid, signal.SIGSTOP)
    page = Deferred.fromCoroutine(client.get("/ui/subscribers"))
    while not clock.getDelayedCalls():  # it is not asked yet
        await deferLater(reactor, 0.05, int)
    clock.advance(PAGE_SECONDS_MAX)
    assert (await page).code == 200
    assert process_of(biller).pid is None
    clock.advance(PAUSE_SECONDS)
    assert await until_it_makes_pages(biller, client) != pid


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_biller_makes_no_page_that_is_too_slow(biller, monkeypatch):
    pages = Mock(is_ready=True, ask=Mock(return_value=succeed("this takes more than 5.0 s: ask for less")))
    monkeypatch.setattr(process_of(biller), "_pages", pages)
    page = await (await biller.logged_in("admin")).get("/ui/subscribers")
    assert page.code == UNPROCESSABLE_ENTITY
    assert b"ask for less" in page.bytes


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_pages_are_made_without_another_process(biller, monkeypatch):
    no_room = Mock(seconds=reactor.seconds, spawnProcess=Mock(side_effect=OSError("no memory")))
    monkeypatch.setattr(process_of(biller), "_reactor", no_room)
    assert (await (await biller.logged_in("admin")).get("/ui/subscribers")).code == OK
    assert no_room.spawnProcess.called


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_it_ends_with_the_service(biller):
    pid = await until_it_makes_pages(biller, await biller.logged_in("admin"))
    process_of(biller).disownServiceParent()
    for _ in range(600):
        if is_running(pid):
            await deferLater(reactor, 0.05, int)
    assert not is_running(pid)
