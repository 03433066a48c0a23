"""The operator's command that says why a call cost what it cost, and what took accounts below their floor."""

import json

import pytest
import sqlalchemy as sa

from celcombiller.cli.exit_status import DIFFERS, DONE, REFUSED
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.database.engine import open_engine
from tests.cli.charging.test_prices import NOW, ana  # noqa: F401
from tests.core.ledger.test_book import ended, initiate

REFERENCE = "call:pbx1:1.0:0"


def at_ledger(here, work):
    engine = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=5)
    with engine.begin() as tx:
        made = work(tx)
    engine.dispose()
    return made


@pytest.fixture
def called(ana, here):  # noqa: F811
    """Return the command; ana has called herself for 110.4 s with a limit of 100 s, by 100 credits."""
    policy = ChargingPolicy(Tariff([Rate()]))
    at_ledger(here, lambda tx: process_batch(tx, policy, [initiate(caller="2001", called="2001")], NOW))
    at_ledger(here, lambda tx: process_batch(tx, policy, [ended(talk_ms=110_400)], NOW))
    return ana


@pytest.mark.parametrize("name", ["1", REFERENCE, "1.0", f"reversal:{REFERENCE}"])
def test_a_call_is_explained_however_it_is_named(called, name):
    status, out, _ = called("explain", name)
    assert status == DONE
    assert "The balance paid 111 credits: it was 100 before and -11 after." in out.splitlines()[0]
    assert f"Call 1: {REFERENCE}" in out
    assert "All of it adds up." in out


def test_the_json_sums_to_the_charge(called):
    status, out, _ = called("explain", "1", "--json")
    made = json.loads(out)
    assert (status, made["adds_up"], made["charged"]) == (DONE, True, 111)
    assert sum(each["credits"] for each in made["pieces"]) == made["price"] == made["cost"] == 111


def test_a_wrong_sum_has_its_exit_status(called, here):
    at_ledger(here, lambda tx: tx.execute(sa.text("update call set cost = 7")))
    status, out, _ = called("explain", "1")
    assert (status, "It does not add up" in out) == (DIFFERS, True)


def test_debts_are_explained(called):
    status, out, _ = called("explain", "--negative")
    assert status == DONE
    assert "talk that no limit cut: 110400 ms of talk, 100 s were granted" in out
    assert out.splitlines()[-1] == "1 account is below the floor."
    (debt,) = json.loads(called("explain", "--negative", "--user", "ana", "--json")[1])
    assert (debt["username"], debt["below"], debt["explained"]) == ("ana", 11, True)


def test_no_debt_is_said(ana):  # noqa: F811
    assert ana("explain", "--negative")[:2] == (DONE, "No account is below its floor.\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "a CALL, or --negative"),
        (("1", "--negative"), "a CALL, or --negative"),
        (("1", "--user", "ana"), "--user goes with --negative only"),
        (("2",), "there is no call 2"),
        (("9" * 30,), "there is no call 999"),
        (("call:x:y:0",), "there is no call call:x:y:0"),
        (("3.0",), "name it by its reference"),
        (("--negative", "--user", "nobody"), "nobody"),
    ],
)
def test_a_wrong_question_is_refused(called, words, reason):
    status, _, err = called("explain", *words)
    assert (status, reason in err) == (REFUSED, True)


def test_several_calls_of_a_channel_are_listed(called, here):
    policy = ChargingPolicy(Tariff([Rate()]))
    called("credit", "ana", 500)
    again = initiate(caller="2001", called="2001", authorization="again")
    at_ledger(here, lambda tx: process_batch(tx, policy, [again], NOW))
    status, _, err = called("explain", "1.0")
    assert (status, "call:pbx1:1.0:0, call:pbx1:1.0:1" in err) == (REFUSED, True)
