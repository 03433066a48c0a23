"""The operator's commands for fees: preview, take, list, pay, waive and undo."""

import json

import pytest


@pytest.fixture
def village(ready, monkeypatch):
    """A daily fee of 50 that buys unlimited calls, with ana, who has 30."""
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_RUN_AT", "00:00")
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_TIME_ZONE", "UTC")
    offer = (
        "--unlimited",
        "seconds",
        "--call-seconds-max",
        300,
        "--destinations",
        "on-net",
        "--for",
        "30d",
        "--price",
        0,
    )
    status, out, err = ready("offer", "add", "local", *offer)
    assert (status, "unlimited seconds" in out) == (0, True), err
    fee = ("--fee", 50, "--offer", "local", "--every", 1, "--when-short", "retry", "--remind", "3,0")
    status, _, err = ready("schedules", "add", "village", *fee, "--suspend-after", 0)
    assert status == 0, err
    assert ready("schedules", "join", "village", "ana")[0] == 0
    assert ready("credit", "ana", 30)[0] == 0
    return ready


def fees(command, *words):
    status, out, err = command("fee", "list", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_the_preview_names_who_lacks_credit(village):
    status, out, err = village("schedules", "due", "--json")
    assert status == 0, err
    (member,) = json.loads(out)["members"]
    assert (member["username"], member["value"], member["lacking"], member["outcome"]) == ("ana", 0, 20, "failed")


def test_a_fee_is_owed_paid_and_undone(village, today):
    assert village("schedules", "run")[0] == 0
    (owed,) = fees(village, "--owed")
    assert (owed["username"], owed["left"], owed["state"]) == ("ana", 50, "owed")
    assert fees(village, "--overdue") == [owed], "it suspends after 0 days"
    status, _, err = village("fee", "pay", owed["id"])
    assert (status, "50 is owed" in err) == (3, True)
    assert village("credit", "ana", 30)[0] == 0
    assert village("fee", "pay", owed["id"])[0] == 0
    user = json.loads(village("user", "show", "ana", "--json")[1])
    assert (user["voice_balance"], [each["name"] for each in user["bundles"]]) == (10, ["local"])
    assert village("audit")[0] == 0
    status, out, err = village("fee", "undo", "village", today.isoformat(), "--note", "wrong")
    assert (status, "1 fees" in out) == (0, True), err
    user = json.loads(village("user", "show", "ana", "--json")[1])
    assert (user["voice_balance"], user["bundles"]) == (60, [])
    assert village("audit")[0] == 0


def test_waiving_needs_no_credit(village):
    assert village("schedules", "run")[0] == 0
    (owed,) = fees(village)
    status, out, err = village("fee", "waive", owed["id"], "--note", "storm")
    assert (status, "is waived" in out) == (0, True), err
    assert fees(village, "ana")[0]["state"] == "waived"
    assert village("audit")[0] == 0


def test_terms_of_fees_need_a_fee(village):
    status, _, err = village("schedules", "add", "other", "--value", 5, "--suspend-after", 3)
    assert (status, "--fee" in err) == (3, True)
