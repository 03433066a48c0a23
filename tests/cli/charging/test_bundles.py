"""The operator's commands for bundles and offers."""

import json
from datetime import datetime, timedelta

import pytest

HOUR = ("--seconds", 3600, "--for", "30d")


def found(command, *words):
    status, out, err = command(*words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_a_bundle_is_given_once_for_an_id(ready):
    words = ("bundle", "give", "ana", *HOUR, "--destinations", "+55,on-net", "--id", "gift", "--note", "a present")
    status, out, _ = ready(*words)
    assert (status, out.startswith("ana has bundle 9 (3600 seconds): 3600 seconds until ")) == (0, True), out
    made = found(ready, *words)
    (row,) = found(ready, "bundle", "list")
    assert row == made == found(ready, "bundle", "show", made["id"])
    assert (row["destinations"], row["services"], row["state"]) == (["55", "on-net"], ["voice"], "valid")
    (line,) = found(ready, "bundle", "statement", made["id"])
    assert (line["value"], line["posted"], line["reference"], line["note"]) == (3600, 3600, "id:gift", "a present")
    assert ready("audit")[0] == 0


def test_a_validity_is_hours_days_or_weeks(ready):
    for text, hours in (("12h", 12), ("1d", 24), ("2w", 336)):
        made = found(ready, "bundle", "give", "2001", "--messages", 5, "--for", text)
        spans = [datetime.fromisoformat(made[name]) for name in ("valid_from", "valid_until")]
        assert spans[1] - spans[0] == timedelta(hours=hours)


@pytest.mark.parametrize("wrong", [("--for", "30"), ("--for", "0d"), ("--for", "4000d"), (), ("--octets", 5)])
def test_wrong_arguments_of_a_gift_exit_2(ready, wrong):
    assert ready("bundle", "give", "ana", "--seconds", 5, *wrong)[0] == 2


def test_an_offer_is_sold_from_the_balance(ready):
    status, out, _ = ready("offer", "add", "hour", "--price", 300, *HOUR, "--renews", "yes")
    assert (status, out) == (0, "Added offer 1 (hour): 3600 seconds for 720 hours, price 300.\n")
    status, _, err = ready("offer", "buy", "ana", "hour")
    assert (status, err) == (3, "celcombiller: it costs 300, 0 available\n")
    assert ready("credit", "ana", 300)[0] == 0
    status, out, _ = ready("offer", "buy", "ana", "hour", "--id", "b1")
    assert (status, "has bought bundle" in out, "then bought again" in out) == (0, True, True)
    made = found(ready, "offer", "buy", "ana", "1", "--id", "b1")
    assert found(ready, "user", "show", "ana")["voice_balance"] == 0
    assert found(ready, "bundle", "change", made["id"], "--renews", "no")["renews"] is False
    assert found(ready, "bundle", "end", made["id"], "--note", "enough")["state"] == "ended"
    assert found(ready, "bundle", "list", "ana") == []
    assert [each["id"] for each in found(ready, "bundle", "list", "ana", "--all")] == [made["id"]]
    assert ready("audit")[0] == 0


def test_an_offer_is_changed_and_deleted(ready):
    assert ready("offer", "add", "hour", "--price", 300, *HOUR)[0] == 0
    changed = found(ready, "offer", "change", "hour", "--price", 5, "--for", "1d", "--destinations", "49")
    assert (changed["price"], changed["valid_hours"], changed["destinations"]) == (5, 24, ["49"])
    assert found(ready, "offer", "show", "hour") == changed
    assert "not for sale" in ready("offer", "change", "hour", "--state", "disabled")[1]
    status, _, err = ready("offer", "buy", "ana", "hour")
    assert (status, "not for sale" in err) == (3, True)
    assert ready("offer", "change", "hour")[0] == 3
    assert [each["name"] for each in found(ready, "offer", "list")] == ["hour"]
    assert ready("offer", "delete", "hour")[0] == 0
    assert found(ready, "offer", "list") == []
    assert ready("offer", "show", "hour")[0] == 3
