"""The file of the journal: durable, shared, and never believed where it is torn."""

import fcntl
import os
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celcombiller.asterisk.outage import journal_file
from celcombiller.asterisk.outage.journal_entries import Done, Lost, Seen, Talks, Went, ended_line, text_of_line
from celcombiller.asterisk.outage.journal_file import JournalFault, JournalFile
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.model.calls import CallReport, Witness

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def went(name, *, cost=10, caller="subscriber 1", owner="me"):
    return Went(
        id=name,
        at=NOW,
        owner=owner,
        caller=caller,
        seconds=60,
        credits=cost,
        ring_seconds=40,
        server="pbx1",
        uniqueid=f"{name}.0",
        channel="PJSIP/1",
        account_code="",
        caller_number="1001",
        called_number="1002",
    )


def ended(name, *, cost=5):
    return ended_line(name, Witness.AGI, CallReport(answered=True, at=NOW, talk_ms=5000, outcome="ANSWER 16"), cost)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.calls"


@pytest.fixture
def files(path):
    made = []

    def build(ledger="sqlite ledger"):
        made.append(JournalFile(path, ledger))
        return made[-1]

    yield build
    for each in made:
        each.close()


def write(file, *lines):
    file.change([lambda _entries: (lines, None)])


def read(file):
    (found,) = file.change([lambda entries: ((), {each.went.id: each for each in entries})])
    return found


def exposed(file):
    (found,) = file.change([lambda entries: ((), [each.credits for each in entries.exposures])])
    return found


# -- what it says


def test_a_call_waits_until_it_is_done(files):
    first = files()
    write(first, went("a"), went("b"))
    write(first, ended("a"), Talks("b", NOW), Seen(NOW + timedelta(seconds=9), owner="me", answers=True))
    again = read(files())
    assert again["a"].ended.report == CallReport(answered=True, at=NOW, talk_ms=5000, outcome="ANSWER 16")
    assert (again["a"].seen_at, again["a"].ended.witness) == (NOW, Witness.AGI)
    assert (again["b"].talks_since, again["b"].seen_at) == (NOW, NOW + timedelta(seconds=9))
    assert exposed(files()) == [5, 10]
    write(first, Done("a"))
    assert [*read(files())] == ["b"]


def test_a_lost_call_is_seen_no_more(files):
    write(files(), went("a"), Lost("a"), Seen(NOW + timedelta(seconds=9), owner="me"))
    assert (read(files())["a"].seen_at, read(files())["a"].is_lost) == (NOW, True)


def test_the_first_end_of_a_call_stays(files):
    write(files(), went("a"), ended("a", cost=5), ended("a", cost=9), Seen(NOW + timedelta(seconds=9), id="a"))
    assert (read(files())["a"].ended.credits, read(files())["a"].seen_at) == (5, NOW)


def test_an_empty_journal_takes_no_space(files, path):
    first, second = files(), files()
    write(first, went("a"))
    before = path.stat().st_size
    assert [*read(second)] == ["a"]
    write(second, Done("a"))
    assert path.stat().st_size < before
    assert read(first) == {}
    write(first, went("b"))
    assert [*read(second)] == ["b"]


def test_only_its_owner_can_read_it(files, path):
    write(files(), went("a"))
    assert path.stat().st_mode & 0o777 == 0o600


# -- decided in one go


def test_each_of_several_works_sees_those_before(files):
    def admit(name, most):
        def work(entries):
            if sum(each.credits for each in entries.exposures) + 10 > most:
                raise StoreUnavailable("too much")
            return [went(name)], name

        return work

    results = files().change([admit("a", 20), admit("b", 20), admit("c", 20)])
    assert results[:2] == ["a", "b"]
    assert isinstance(results[2], StoreUnavailable)
    assert [*read(files())] == ["a", "b"]


# -- torn, foreign, full


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, 2000))
def test_whatever_a_crash_leaves_is_read(tmp_path, cut):
    """Cut anywhere, it still holds each call whose line is whole, and takes new ones."""
    path = tmp_path / "cut.calls"
    path.unlink(missing_ok=True)
    first = JournalFile(path, "l")
    for each in (went("a"), went("b"), ended("a")):
        write(first, each)
    first.close()
    text = path.read_bytes()
    os.truncate(path, min(cut, len(text)))
    left = path.read_bytes()
    second = JournalFile(path, "l")
    whole = [each for each in ("a", "b") if text_of_line(went(each)) in left]
    assert [*read(second)] == whole
    write(second, went("c"))
    third = JournalFile(path, "l")
    assert [*read(third)] == [*whole, "c"]
    for each in (second, third):
        each.close()


def test_a_torn_line_is_counted_and_cut_off(files, path):
    write(files(), went("a"))
    with path.open("ab") as file:
        file.write(b'{"kind":"went","id":"b"')
    second = files()
    assert [*read(second)] == ["a"]
    assert second.entries.torn == 1
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"root:x:0:0:root:/root:/bin/bash\n", "is no journal"),
        (b"root:x:0:0:root:/root:/bin/bash\n" * 30, "is no journal"),
        (
            b'{"journal":"celcombiller","version":2,"ledger":"sqlite ledger","number":1}'.ljust(255) + b"\n",
            "of version 2",
        ),
        (
            b'{"journal":"celcombiller","version":1,"ledger":"another","number":1}'.ljust(255) + b"\n",
            "of the database another",
        ),
    ],
)
def test_a_foreign_file_is_left_as_it_is(files, path, text, said):
    path.write_bytes(text)
    with pytest.raises(JournalFault, match=said):
        write(files(), went("a"))
    assert path.read_bytes() == text


def test_a_full_disk_changes_nothing(files, monkeypatch, path):
    file = files()
    write(file, went("a"))
    before = path.read_bytes()
    pwrite = os.pwrite
    parts = []

    def full(handle, text, place):
        if parts:
            raise OSError(28, "No space left on device")
        parts.append(text)
        return pwrite(handle, text[:20], place)

    monkeypatch.setattr(journal_file.os, "pwrite", full)
    with pytest.raises(JournalFault, match="No space left"):
        write(file, went("b"))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [*read(file)] == ["a"]


def test_a_disk_that_fails_to_sync_changes_nothing(files, monkeypatch):
    file = files()
    write(file, went("a"))

    def broken(_handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal_file.os, "fsync", broken)
    with pytest.raises(JournalFault, match="Input/output error"):
        write(file, went("b"))
    monkeypatch.undo()
    assert [*read(file)] == ["a"]


def test_a_file_moved_away_is_made_again(files, path):
    file = files()
    write(file, went("a"))
    path.rename(path.with_suffix(".old"))
    write(file, went("b"))
    assert [*read(files())] == ["b"]


def test_a_link_is_not_followed(files, path, tmp_path):
    (tmp_path / "other").write_text("")
    path.symlink_to(tmp_path / "other")
    with pytest.raises(JournalFault):
        write(files(), went("a"))


# -- several processes


def test_a_lock_that_stays_is_a_fault(files, path, monkeypatch):
    monkeypatch.setattr(journal_file, "LOCK_SECONDS", 0.05)
    file = files()
    write(file, went("a"))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(JournalFault, match="another process"):
            write(file, went("b"))
    assert [*read(file)] == ["a"]


def _let_go(path, name, count):
    file = JournalFile(path, "l")

    def admit(number):
        def work(entries):
            if sum(each.credits for each in entries.exposures) + 10 > 300:
                raise StoreUnavailable("too much")
            return [went(f"{name}{number}")], None

        return work

    for number in range(count):
        file.change([admit(number)])
    file.close()


def test_processes_share_one_limit(path):
    """Three processes of their own; it takes a second."""
    context = get_context("fork")
    processes = [context.Process(target=_let_go, args=(path, name, 20)) for name in "abc"]
    for each in processes:
        each.start()
    for each in processes:
        each.join(30)
    assert [each.exitcode for each in processes] == [0, 0, 0]
    file = JournalFile(path, "l")
    assert exposed(file) == [10] * 30
    assert file.entries.torn == 0
    file.close()
