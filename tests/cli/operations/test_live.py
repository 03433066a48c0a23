"""The operator's command for calls in progress: what it shows, and hanging one up."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from celcombiller.cli.operations import live
from celcombiller.core.access import audit_trail
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import CallAnswered, Credit
from celcombiller.core.model.accounts import Kind
from celcombiller.core.voice import call_orders
from celcombiller.database.engine import open_engine
from tests.cli.test_terminal import shown  # noqa: F401  a fixture
from tests.core.ledger.test_book import TERMS, ended, initiate


@pytest.fixture
def engine(ready, here):
    made = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=5)
    yield made
    made.dispose()


@pytest.fixture
def talking(engine):
    """Let ana talk to herself on two channels, for a minute on the first; return the ledger."""
    now = datetime.now(UTC)
    with engine.begin() as tx:
        requests = [
            Credit("ana", Kind.VOICE, 7300, "web", "r"),
            initiate("1.0", caller="2001", called="2001"),
            initiate("2.0", caller="2001", called="2001"),
            CallAnswered("pbx1", "1.0", now - timedelta(minutes=1)),
        ]
        answers = process_batch(tx, TERMS, requests, now - timedelta(minutes=2))
    assert not [each for each in answers if isinstance(each, Exception)], answers
    return engine


@pytest.fixture
def biller(engine):
    """Stand in for a biller with a link: it does what is ordered, or says why not."""
    over = threading.Event()

    def work(result):
        while not over.wait(0.02):
            with engine.begin() as tx:
                for each in call_orders.list_waiting(tx, limit=10):
                    call_orders.finish(tx, each.id, result, datetime.now(UTC))

    threads = []

    def start(result=call_orders.DONE):
        threads.append(threading.Thread(target=work, args=(result,)))
        threads[0].start()

    yield start
    over.set()
    for each in threads:
        each.join()


def test_live_lists_the_calls_once_to_a_pipe(ready, talking):
    status, out, _ = ready("live")
    columns, first, second = out.splitlines()
    assert status == 0
    assert columns.split()[:5] == ["id", "username", "name", "number", "to"]
    assert first.split()[:7] == ["1", "ana", "Ana", "2001", "2001", "(ana)", "pbx1"]
    assert "1:0" in first
    assert second.split()[0] == "2"
    assert ready("live", "--server", "pbx2")[1].splitlines()[1:] == []
    assert len(ready("live", "--user", "2001", "--limit", 1)[1].splitlines()) == 3
    assert "2 calls in progress, the oldest 1 are shown" in ready("live", "--limit", 1)[1]
    assert ready("live", "--user", "nobody")[0] == 3


def test_live_gives_json(ready, talking):
    first, second = json.loads(ready("live", "--json")[1])
    assert (first["id"], first["username"], first["callee"], first["granted_seconds"]) == (1, "ana", "ana", 7200)
    assert 60 <= first["used_seconds"] == first["cost"] < 120
    assert (second["used_seconds"], second["granted_until"], second["order"]) == (0, None, None)


def test_live_refreshes_on_a_terminal(ready, talking, shown, monkeypatch, capsys):  # noqa: F811
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 1:
            with talking.begin() as tx:
                process_batch(tx, TERMS, [ended("2.0", answered=False)], datetime.now(UTC))
            return
        raise KeyboardInterrupt

    monkeypatch.setattr(live.time, "sleep", sleep)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((200, 20)))
    text = shown(lambda: ready("live"))
    assert slept == [1.0, 1.0]
    assert "2 calls in progress" in text
    assert "1 call in progress" in text


@pytest.mark.parametrize("name", ["1", "call:pbx1:1.0:0", "1.0"])
def test_hangup_waits_until_it_is_done(ready, talking, biller, name):
    biller()
    status, out, err = ready("hangup", name, "--reason", "fraud")
    assert (status, out, err) == (0, "Hung up call 1 of ana to 2001.\n", "")
    with talking.begin() as tx:
        (order,) = call_orders.find_last(tx, ["call:pbx1:1.0:0"]).values()
    assert (order.kind, order.reason, order.actor, order.result) == ("hangup", "fraud", "command", "done")


def test_hangup_says_why_it_was_not_done(ready, talking, biller):
    biller("the channel is gone")
    status, out, err = ready("hangup", 1, "--reason", "fraud")
    assert (status, out) == (3, "")
    assert "call 1 of ana to 2001 was not hung up: the channel is gone" in err


def test_hangup_says_what_to_do_without_a_biller(ready, talking):
    status, _, err = ready("hangup", 1, "--reason", "fraud", "--wait", 0)
    assert status == 3
    for word in ("pbx1", "[[asterisk]]", "celcombiller doctor", "channel request hangup PJSIP/2001-1.0", "never"):
        assert word in err
    status, out, _ = ready("hangup", 1, "--reason", "again", "--wait", 0, "--json")
    assert (json.loads(out)["reason"], json.loads(out)["done_at"]) == ("fraud", None)
    (trail,) = [each for each in entries(talking) if each.action == "hangup"]
    assert (trail.actor, trail.subject) == ("command", "call:1")
    assert '"reason":"fraud"' in trail.after


def entries(engine):
    with engine.begin() as tx:
        return audit_trail.entries(tx, limit=50)


@pytest.mark.parametrize(
    ("words", "status", "what"),
    [
        (("9", "--reason", "x"), 3, "no call in progress has the number 9"),
        (("9.9", "--reason", "x"), 3, "see `celcombiller live`"),
        (("1",), 2, "--reason"),
        (("1", "--reason", " "), 3, "reason"),
        (("1", "--reason", "a\nb"), 3, "one printable line"),
    ],
)
def test_hangup_refuses(ready, talking, words, status, what):
    found, out, err = ready("hangup", *words)
    assert (found, out) == (status, "")
    assert what in err
    assert [each for each in entries(talking) if each.action == "hangup"] == []


def test_one_uniqueid_of_two_servers_is_refused(ready, talking):
    with talking.begin() as tx:
        again = initiate("1.0", caller="2001", called="2001", server="pbx2")
        process_batch(tx, TERMS, [Credit("ana", Kind.VOICE, 100, "web", "s"), again], datetime.now(UTC))
    status, _, err = ready("hangup", "1.0", "--reason", "x")
    assert status == 3
    assert "name one by its id" in err
