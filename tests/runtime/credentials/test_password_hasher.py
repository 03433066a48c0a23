"""Who waits for a hash: logins before changes, one change at a time of each principal, no one before their turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from celcombiller.core.errors import TooManyAttempts
from celcombiller.runtime.credentials import password_hasher
from celcombiller.runtime.credentials.password_hasher import SHARE, THREADS, FairQueue, Passwords
from tests.support.deferreds import failure_of, result_of


class Hasher:
    """Makes hashes that say what they are of."""

    def hash(self, password):
        return f"hash of {password}"

    def verify(self, hashed, password):
        return hashed == self.hash(password)


class Threads:
    """The threads, which do nothing until `finish`."""

    def __init__(self):
        self.working = []

    def __call__(self, _reactor, _pool, _run, work):
        done = Deferred()
        self.working.append((done, work))
        return done

    def finish(self, position=0):
        """End a piece of work, and return what it came to."""
        done, work = self.working.pop(position)
        result = work()
        done.callback(result)
        return result

    def finish_all(self):
        results = []
        while self.working:
            results.append(self.finish())
        return results


@pytest.fixture
def threads(monkeypatch):
    made = Threads()
    monkeypatch.setattr(password_hasher, "deferToThreadPool", made)
    monkeypatch.setattr(password_hasher, "HASHER", Hasher())
    return made


@pytest.fixture
def passwords(threads):
    return Passwords(None, waiting_max=100)


def asked(coroutine):
    return Deferred.fromCoroutine(coroutine)


def test_a_login_comes_before_all_changes_that_wait(passwords, threads):
    changes = [asked(passwords.hash(f"word {each}", "ana")) for each in range(5)]
    login = asked(passwords.verify("hash of x", "x"))
    assert len(threads.working) == THREADS
    assert threads.finish(1) is True
    assert result_of(login) is True
    assert not any(each.called for each in changes)
    threads.finish_all()
    assert [result_of(each) for each in changes] == [f"hash of word {each}" for each in range(5)]


def test_a_principal_has_one_hash_at_a_time(passwords, threads):
    for each in range(5):
        asked(passwords.hash(f"ana {each}", "ana"))
    assert len(threads.working) == 1
    asked(passwords.hash("bia", "bia"))
    assert len(threads.working) == 2
    assert threads.finish(1) == "hash of bia"
    assert len(threads.working) == 1
    assert len(threads.finish_all()) == 5


def test_principals_take_turns(passwords, threads):
    for each in range(3):
        asked(passwords.hash(f"ana {each}", "ana"))
    asked(passwords.hash("bia 0", "bia"))
    asked(passwords.hash("cai 0", "cai"))
    done = threads.finish_all()
    assert done.index("hash of cai 0") < done.index("hash of ana 2")


def test_the_sources_of_logins_take_turns(passwords, threads):
    for each in range(10):
        asked(passwords.verify(None, f"flood {each}", "elsewhere"))
    login = asked(passwords.verify("hash of x", "x", "known"))
    for _ in range(4):
        threads.finish()
    assert result_of(login) is True


def test_450_password_changes_hold_no_login_back(passwords, threads):
    refused = 0
    for _ in range(450):
        change = asked(passwords.verify_own("hash of word", "word", "ana"))
        change.addErrback(lambda failure: failure.trap(TooManyAttempts))
        refused += change.called
    assert refused == 450 - 1 - 100 // SHARE
    login = asked(passwords.verify("hash of x", "x"))
    threads.finish(1)
    assert result_of(login) is True
    threads.finish_all()
    assert passwords.count_waiting() == 0


def test_logins_too_many_are_asked_to_come_again(threads):
    full = []
    passwords = Passwords(None, waiting_max=3, on_full=lambda: full.append(1))
    logins = [asked(passwords.verify(None, "x")) for _ in range(3 + THREADS)]
    assert failure_of(asked(passwords.verify(None, "x"))).retry_seconds > 0
    assert (len(full), passwords.count_waiting()) == (1, 3)
    asked(passwords.verify(None, "x", "RADIUS"))
    threads.finish_all()
    assert [result_of(each) for each in logins] == [False] * 5


def test_who_disconnects_leaves_the_line(passwords, threads):
    waiting = [asked(passwords.verify(None, f"x{each}")) for each in range(4)]
    for each in waiting[1:3]:
        each.cancel()
        assert isinstance(failure_of(each), CancelledError)
    assert passwords.count_waiting() == 1
    threads.finish_all()
    assert (result_of(waiting[0]), result_of(waiting[3]), passwords.count_waiting()) == (False, False, 0)


@given(st.lists(st.one_of(st.sampled_from("abc"), st.none()), max_size=30))
def test_a_fair_queue_keeps_each_keys_order(steps):
    queue, added, taken = FairQueue(), [], []
    for number, key in enumerate(steps):
        if key is None:
            taken.append(queue.take())
        else:
            queue.add(key, number)
            added.append((key, number))
    while queue:
        taken.append(queue.take())
    found = [each for each in taken if each is not None]
    assert sorted(found, key=lambda each: each[1]) == added
    for key in "abc":
        assert [each for each in found if each[0] == key] == [each for each in added if each[0] == key]
