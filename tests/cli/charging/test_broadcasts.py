"""Broadcasts at the terminal: nothing is sent without ``--yes``, and nothing twice with a key."""

import json

import pytest


@pytest.fixture
def village(ready, here):
    (here / "celcombiller.toml").write_text('[sms]\non_net_route = "smpp"\n[smpp]\nhost = "127.0.0.1"\n')
    for words in (("group", "add", "village"), ("user", "change", "ana", "--group", "village")):
        assert ready(*words)[0] == 0

    def run(*words):
        status, out, err = ready("broadcast", *words)
        assert status == 0, err
        return out

    return run


def test_nothing_is_sent_without_yes(village):
    said = village("send", "village", "ж" * 71)
    assert "To 1 recipient of village; 0 more are disabled" in said
    assert "2 parts (ucs2): 2 in all" in said
    assert "--yes" in said
    assert json.loads(village("list", "--json")) == []


def test_a_key_sends_it_once(village):
    words = ("send", "village", "hello", "--yes", "--id", "k", "--json")
    first, again = (json.loads(village(*words)) for _ in range(2))
    assert first == again
    assert (first["id"], first["recipients"], first["parts_total"]) == (1, 1, 1)
    assert [each["text"] for each in json.loads(village("list", "--json"))] == ["hello"]


def test_a_broadcast_is_shown_and_cancelled(village, ready):
    village("send", "village", "hello", "--yes")
    assert json.loads(village("show", 1, "--json"))["messages"]["queued"] == 0
    assert json.loads(village("cancel", 1, "--json"))["cancelled_at"]
    assert "group                village" in village("show", 1)
    status, _, err = ready("broadcast", "show", 9)
    assert (status, err) == (3, "celcombiller: there is no broadcast 9\n")


def test_a_missing_way_is_said(ready):
    assert ready("group", "add", "village")[0] == 0
    status, _, err = ready("broadcast", "send", "village", "hello")
    assert status == 3
    assert "on_net_route" in err
