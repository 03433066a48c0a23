"""The operator's commands that say what a call costs, and charge recorded calls again."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.cli.exit_status import REFUSED
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import ChargingPolicy
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from tests.core.ledger.test_book import ended, initiate

NOW = datetime.now(UTC)


@pytest.fixture
def ana(ready):
    """Return the command; ana has 100 credits."""
    assert ready("credit", "ana", 100)[0] == 0
    return ready


@pytest.fixture
def called(ana, here):
    """Return the command; ana has called herself for 10 s, and paid 10 credits. A tariff asks for 3 a second."""
    engine = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=5)
    policy = ChargingPolicy(Tariff([Rate()]))
    with engine.begin() as tx:
        process_batch(tx, policy, [initiate(caller="2001", called="2001")], NOW)
        process_batch(tx, policy, [ended(talk_ms=10_000)], NOW)
        values = {"name": "retail", "time_zone": "UTC", "is_default": False, "created_at": NOW}
        tariff_id = tx.execute(sa.insert(tables.tariff).values(values).returning(tables.tariff.c.id)).scalar_one()
        version = {"tariff_id": tariff_id, "number": 1, "effective_at": NOW - timedelta(days=1)}
        tx.execute(sa.insert(tables.tariff_version).values(**version, created_at=NOW, created_by="x"))
        rate = {"tariff_id": tariff_id, "since_version": 1, "service": "voice", "prefix": "", "on_net": False}
        amounts = {"name": "", "connect_fee": 0, "minimum_charge": 0, "grace": 0, "steps": "[[0,1,3,1]]"}
        tx.execute(sa.insert(tables.rate).values(**rate, **amounts))
    engine.dispose()
    return ana


def test_a_call_is_priced_in_words(ana):
    status, out, _ = ana("rate", "ana", "2001", "--seconds", 90)
    assert status == 0
    assert out.splitlines() == [
        "Call of ana to 2001, to a subscriber (on-net), 90 s of talk.",
        "Tariff settings: prefix of all numbers.",
        "  second 0 to 90: 90 s in increments of 1 s, 1 credit for each 1 s: 90, 90 credits",
        "The balance pays 90 credits, rounded up once.",
        "It has 100 credits for it: 100 s would be granted.",
    ]


def test_a_call_is_priced_as_json_by_number(ana):
    status, out, _ = ana("rate", "2001", "2001", "--seconds", 200, "--json")
    shown = json.loads(out)
    assert (status, shown["username"], shown["cost"], shown["affordable_seconds"]) == (0, "ana", 200, 100)
    assert [(each["kind"], each["credits"]) for each in shown["pieces"]] == [("use", 200)]


def test_octets_are_priced_as_sessions_are_charged(ana):
    ana("credit", "ana", 40, "--kind", "data")
    status, out, _ = ana("rate", "ana", "--octets", 25)
    assert (status, out.splitlines()) == (
        0,
        [
            "25 octets of ana, by the tariff settings.",
            "  octet 0 to 25, 1 credit for each 1: 25, 25 credits",
            "The balance pays 25 credits, rounded up once.",
            "It has 40 credits for it: with bundles 40 octets could be used.",
        ],
    )
    shown = json.loads(ana("rate", "ana", "--octets", 25, "--json")[1])
    assert (shown["cost"], sum(each["credits"] for each in shown["pieces"])) == (25, 25)


@pytest.mark.parametrize("words", [("ana",), ("ana", "2001", "--octets", 5)])
def test_a_rate_is_of_a_call_or_octets(ana, words):
    status, _, err = ana("rate", *words)
    assert (status, "say one of two" in err) == (REFUSED, True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nobody", "2001"), "no subscriber has the username or the number nobody"),
        (("ana", "5511"), "there is no way to others"),
        (("ana", "20&01"), "a number is made of digits"),
    ],
)
def test_what_cannot_be_priced_is_refused(ana, words, reason):
    status, _, err = ana("rate", *words)
    assert (status, reason in err) == (REFUSED, True)


def test_a_rerate_is_shown_before_it_is_posted(called):
    since = (NOW - timedelta(hours=1)).isoformat()
    words = ("rerate", "--tariff", "retail", "--since", since)
    status, out, _ = called(*words)
    assert (status, "20 credits more" in out, "--yes" in out) == (0, True, True)
    assert json.loads(called("user", "show", "ana", "--json")[1])["voice_balance"] == 90
    status, out, _ = called(*words, "--yes", "--json")
    shown = json.loads(out)
    assert (status, shown["posted"], shown["more"], shown["written"]) == (0, 1, 20, True)
    assert [(each["charged"], each["price"], each["difference"]) for each in shown["items"]] == [(10, 30, 20)]
    assert json.loads(called("user", "show", "ana", "--json")[1])["voice_balance"] == 70
    status, out, _ = called(*words, "--yes")
    assert (status, "were charged again by this version before" in out, "Posted 0" in out) == (0, True, True)
    assert called("audit")[0] == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--tariff", "none", "--since", "2026-01-01"), "none"),
        (("--tariff", "retail", "--since", "2999-01-01"), "before --until"),
        (("--tariff", "retail", "--version", "9", "--since", "2026-01-01"), "9"),
        (("--tariff", "retail", "--since", "2026-01-01", "--user", "nobody"), "nobody"),
    ],
)
def test_a_wrong_rerate_is_refused(called, words, reason):
    status, _, err = called("rerate", *words)
    assert (status, reason in err) == (REFUSED, True)
