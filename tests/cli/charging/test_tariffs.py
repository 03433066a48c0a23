"""The operator's commands for tariffs and groups: prices change by versions, and are shown as they are."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from celcombiller.cli.exit_status import REFUSED


@pytest.fixture
def found(ready):
    """Run a command, and return the JSON that it prints."""

    def run(*words):
        status, out, err = ready(*words, "--json")
        assert status == 0, err
        return json.loads(out)

    return run


def soon(minutes=10):
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def test_rates_are_set_shown_and_removed(ready, found):
    assert ready("tariff", "add", "retail", "--currency", "R$", "--credits-per-unit", 100)[0] == 0
    status, out, _ = ready("tariff", "rate", "retail", "+5591", "--price", "0.12", "--money", "--increments", "30/6",
                           "--name", "Belem", "--connect-fee", "0.02")  # fmt: skip
    assert (status, "Version 1 of retail takes effect at" in out, "1 added" in out) == (0, True, True)
    found("tariff", "rate", "retail", "all", "--price", "1", "--per", 1, "--at", soon())
    shown = found("tariff", "show", "retail", "--version", 2)
    assert [(each["prefix"], each["text"]) for each in shown["rates"]] == [
        ("", "R$ 0.60 per min, 1/1"),
        ("5591", "R$ 0.02 + R$ 0.12 per min, 30/6"),
    ]
    assert shown["version"]["state"] == "waiting"
    changed = found("tariff", "rate", "retail", "5591", "--connect-fee", 3, "--at", soon(20))
    assert (changed["version"]["number"], changed["changed"]) == (3, 1)
    (rate,) = found("tariff", "show", "retail", "--version", 3, "--prefix", "55")["rates"]
    assert (rate["connect_fee"], rate["name"], rate["steps"][0]["increment"]) == (3, "Belem", 30)
    assert found("tariff", "rate", "retail", "5591", "--remove", "--at", soon(30))["removed"] == 1
    status, out, _ = ready("tariff", "show", "retail", "--at", soon(25))
    assert (status, "5591" in out, "R$ 0.12 per min, 30/6" in out) == (0, True, True)
    assert "5591" not in ready("tariff", "show", "retail", "--at", soon(35))[1]


def test_versions_are_listed_and_withdrawn(ready, found):
    ready("tariff", "add", "retail")
    ready("tariff", "rate", "retail", "55", "--price", 5, "--at", soon(), "--note", "December")
    (version,) = found("tariff", "versions", "retail")
    assert (version["number"], version["state"], version["note"]) == (1, "waiting", "December")
    status, _, err = ready("tariff", "rate", "retail", "55", "--price", 6)
    assert (status, "withdraw it or choose a later time" in err) == (REFUSED, True)
    assert ready("tariff", "withdraw", "retail", 1)[0] == 0
    assert found("tariff", "versions", "retail")[0]["state"] == "withdrawn"
    assert found("tariff", "show", "retail")["rates"] == []


def test_settings_are_a_tariff_until_adopted(ready, found):
    (settings,) = found("tariff", "list")
    assert (settings["name"], settings["is_default"]) == ("settings", True)
    before = found("tariff", "show", "settings")["rates"]
    status, out, _ = ready("tariff", "adopt", "retail")
    assert (status, "retail is the default tariff now" in out) == (0, True)
    assert found("tariff", "show", "retail", "--at", soon())["rates"] == before
    assert found("tariff", "show", "settings")["rates"] == before
    retail, settings = found("tariff", "list")
    assert (retail["is_default"], settings["is_default"]) == (True, False)
    status, _, err = ready("tariff", "delete", "retail")
    assert (status, "default" in err) == (REFUSED, True)
    assert found("tariff", "default", "--none") == {"default": "settings"}
    assert ready("tariff", "delete", "retail")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rate", "retail", "55"], "name the price"),
        (["rate", "retail", "55", "--price", "x"], "no amount"),
        (["rate", "retail", "55", "--price", "1", "--increments", "0/6"], "such as 30/6"),
        (["rate", "retail", "55", "--price", "1", "--step", "0:1:1:1"], "in place of"),
        (["rate", "retail", "55", "--step", "0:1:1"], "START:INCREMENT:PRICE:PER"),
        (["rate", "retail", "55", "--price", "1", "--connect-fee", "0.5"], "whole credits"),
        (["rate", "retail", "55", "--remove"], "there is no such rate"),
        (["rate", "retail", "5x", "--price", "1"], "prefix"),
        (["rate", "gone", "55", "--price", "1"], "no tariff is called gone"),
        (["rate", "retail", "55", "--price", "1", "--at", "2020-01-01"], "must not be past"),
        (["add", "settings"], "not settings"),
        (["add", "retail"], "another tariff is called retail"),
        (["default"], "name a tariff"),
        (["change", "retail"], "nothing to change"),
    ],
)
def test_mistakes_are_one_clear_line(ready, words, message):
    ready("tariff", "add", "retail")
    status, _, err = ready("tariff", *words)
    assert (status, message in err, len(err.splitlines())) == (REFUSED, True, 1), err


def test_holidays_and_steps_by_words(ready, found):
    ready("tariff", "add", "retail", "--zone", "America/Belem")
    words = ("--step", "0:60:0:60", "--step", "60:60:12:60", "--grace", 3, "--minimum", 5)
    assert ready("tariff", "rate", "retail", "on-net", *words)[0] == 0
    found("tariff", "change", "retail", "--holidays", "2026-12-25", "2027-01-01", "--at", soon())
    shown = found("tariff", "show", "retail", "--at", soon(20))
    assert shown["version"]["holidays"] == ["2026-12-25", "2027-01-01"]
    (rate,) = shown["rates"]
    assert (rate["on_net"], rate["grace"], rate["minimum_charge"], len(rate["steps"])) == (True, 3, 5, 2)


def test_group_gives_its_members_a_tariff(ready, found):
    ready("tariff", "add", "retail")
    words = ("--tariff", "retail", "--subscriber-calls-max", 2, "--barred", "900", "+800")
    made = found("group", "add", "students", *words)
    assert (made["tariff"], made["subscriber_calls_max"], made["barred"]) == ("retail", 2, ["900", "800"])
    assert ready("user", "change", "ana", "--group", "students", "--calls-max", 1, "--allowed", "55")[0] == 0
    user = found("user", "show", "ana")
    assert (user["group"], user["tariff"], user["calls_max"], user["allowed"]) == ("students", None, 1, ["55"])
    assert found("group", "show", "students")["members"] == 1
    changed = found("group", "change", "students", "--name", "pupils", "--tariff", "none", "--barred")
    assert (changed["name"], changed["tariff"], changed["barred"]) == ("pupils", None, [])
    status, _, err = ready("group", "delete", "pupils")
    assert (status, "has 1 member:" in err) == (REFUSED, True)
    ready("user", "change", "ana", "--group", "none", "--calls-max", "none", "--allowed", "none", "--tariff", "retail")
    user = found("user", "show", "ana")
    assert (user["group"], user["tariff"], user["calls_max"], user["allowed"]) == (None, "retail", None, None)
    assert ready("group", "delete", "pupils")[0] == 0
    assert found("group", "list") == []
