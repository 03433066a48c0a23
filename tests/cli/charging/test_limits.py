"""The operator's command for credit limits and limits of spending."""

import json


def limits(command, *words):
    status, out, err = command("limit", "ana", *words, "--json")
    assert status == 0, err
    return {each.pop("kind"): each for each in json.loads(out)}


def test_limits_are_set_shown_and_taken_away(ready):
    found = limits(ready, "--credit", 100, "--day", 50, "--month", 500)["voice"]
    assert (found["credit_limit"], found["day_limit"], found["month_limit"]) == (100, 50, 500)
    assert limits(ready, "--day", "none")["voice"] == found | {"day_limit": None}
    assert limits(ready, "--kind", "data", "--month", 9)["data"]["month_limit"] == 9
    assert limits(ready)["voice"]["available"] == 100
    assert ready("limit", "ana", "--day", "-2")[0] == 2
    assert ready("audit")[0] == 0


def test_a_schedule_gives_bundles_by_command(ready, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_RUN_AT", "00:00")
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_TIME_ZONE", "UTC")
    assert ready("offer", "add", "hour", "--price", 300, "--seconds", 3600, "--for", "1d")[0] == 0
    assert ready("schedules", "add", "gifts", "--offer", "hour", "--every", 1)[0] == 0
    assert ready("schedules", "add", "none", "--every", 1)[0] == 2
    assert ready("schedules", "join", "gifts", "ana", "--count", 2)[0] == 0
    (run,) = json.loads(ready("schedules", "run", "--json")[1])
    assert (run["kind"], run["value"], run["credited"]) == ("bundle", 3600, 1)
    (bundle,) = json.loads(ready("bundle", "list", "ana", "--json")[1])
    assert (bundle["name"], bundle["left"], bundle["offer_id"]) == ("hour", 3600, 1)
    assert ready("audit")[0] == 0
