"""What is guessed from the past saves a statement, and decides nothing."""

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa
from msgspec import structs

from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.payer_memory import PAYERS_MAX, Guess, PayerMemory
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import bulk
from tests.core.charging.test_slices import begin, update
from tests.core.ledger.test_book import NOW, TERMS, ask, credit, database, ended, initiate, proved, voice
from tests.support import databases
from tests.system.lab.waiting import until


@pytest.fixture
def terms():
    return replace(TERMS, payers=PayerMemory(), max_call_seconds=60)


@pytest.fixture
def reads(monkeypatch):
    """Count the statements that read, and the queries in each."""
    seen, read = [], bulk.read

    def count(tx, *queries):
        seen.append(sum(bool(values) for _, values in queries))
        return read(tx, *queries)

    monkeypatch.setattr(bulk, "read", count)
    return seen


@pytest.fixture
def engine(tmp_path):
    made = database(tmp_path / "memory.sqlite")
    ask(made, credit(1000))
    yield made
    made.dispose()


def test_a_known_callers_call_is_read_once(engine, terms, reads):
    ask(engine, initiate("1.0"), terms=terms)
    assert len(reads) == 2
    (grant,) = ask(engine, initiate("2.0"), terms=terms)
    (settled,) = ask(engine, replace(ended("2.0"), known=grant.call), terms=terms)
    assert len(reads) == 4
    assert settled.first
    proved(engine)


def test_a_wrong_guess_changes_nothing(engine, terms):
    ask(engine, credit(1000, "s", "u1002"))
    first, other = (ask(engine, initiate(each, caller=each[:4]), terms=terms)[0] for each in ("1001.1", "1002.1"))
    key = ("", "1001", Kind.VOICE)
    terms.payers.remember(key, (other.call.account_id, 10**6), 10**6)
    (grant,) = ask(engine, initiate("3.0"), terms=terms)
    assert grant.call.account_id == first.call.account_id
    wrong = structs.replace(other.call, bundles=(10**6,))
    assert ask(engine, replace(ended("3.0"), known=wrong), terms=terms)[0].call.account_id == first.call.account_id
    proved(engine)
    ask(engine, initiate("4.0"), terms=terms)
    assert terms.payers.recall([key], guess := Guess())
    assert guess.accounts == {first.call.account_id}


def test_only_the_latest_callers_are_remembered():
    memory = PayerMemory()
    keys = [("", str(number), Kind.VOICE) for number in range(PAYERS_MAX + 2)]
    for number, key in enumerate(keys):
        memory.remember(key, (number,), None)
    assert [memory.recall([key], Guess()) for key in (keys[0], keys[1], keys[2], keys[-1])] == [
        False,
        False,
        True,
        True,
    ]


@pytest.mark.real
def test_an_end_sees_the_renewal_it_awaited(cluster, terms):
    engine = database(url=databases.postgresql(cluster), lock_seconds=10)
    ask(engine, credit(1000))
    (grant,) = ask(engine, begin(), terms=terms)
    end, results = replace(ended(), known=grant.call), []

    def settle():
        results.extend(ask(engine, end, terms=terms))

    waiting = threading.Thread(target=settle)
    with engine.begin() as tx:
        (renewed,) = process_batch(tx, terms, [update(granted=grant.seconds, used=grant.seconds)], NOW)
        waiting.start()
        with engine.connect() as other:
            blocked = sa.text("select count(*) from pg_locks where not granted")
            until(lambda: other.execute(blocked).scalar_one(), "the end waits for the call")
    waiting.join(10)
    assert renewed.call.granted_seconds > grant.seconds
    assert results[0].first
    assert voice(engine).held == 0
    proved(engine)
    engine.dispose()
