"""The operator's commands for trunks and routes."""

import json

import pytest

from celcombiller.cli.exit_status import REFUSED


@pytest.fixture
def trunks(ready):
    """Return the command, with the trunks north and south and a route by both."""
    for name in ("north", "south"):
        status, out, _ = ready("trunk", "add", name, f"PJSIP/{{number}}@{name}", "--calls-max", 3)
        assert (status, f"Added trunk {name}" in out) == (0, True)
    assert ready("route", "add", "55", "north", "south")[:2] == (0, "Added a route for numbers with 55, by 2 trunks.\n")
    return ready


def found(command, *words):
    status, out, err = command(*words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_trunks_are_shown_changed_and_deleted(trunks):
    assert [each["name"] for each in found(trunks, "trunk", "list")] == ["north", "south"]
    words = ("--name", "far", "--strip", "+", "--prepend", "00", "--caller-id", "{number}", "--calls-max", "any")
    assert trunks("trunk", "change", "south", *words, "--state", "disabled")[0] == 0
    shown = found(trunks, "trunk", "show", "far")
    assert shown | {"id": 2} == {
        "id": 2,
        "name": "far",
        "dial": "PJSIP/{number}@south",
        "strip": "+",
        "prepend": "00",
        "caller_id": "{number}",
        "calls_max": None,
        "enabled": False,
        "tariff": None,
        "open_calls": 0,
        "routes": ["55"],
    }
    assert trunks("trunk", "delete", "far")[0] == REFUSED
    assert trunks("route", "change", "55", "north")[0] == 0
    assert trunks("trunk", "delete", "far") == (0, "Deleted trunk far.\n", "")
    assert "north" in trunks("trunk", "list")[1]


def test_routes_are_shown_changed_and_deleted(trunks):
    assert found(trunks, "route", "list") == [{"prefix": "55", "choose": "order", "trunks": ["north", "south"]}]
    assert trunks("route", "change", "55", "south=3", "north=1", "--choose", "weight", "--prefix", "")[0] == 0
    assert found(trunks, "route", "show", "") == {"prefix": "", "choose": "weight", "trunks": ["south=3", "north=1"]}
    assert "(all)" in trunks("route", "list")[1]
    assert trunks("route", "delete", "") == (0, "Deleted the route for all numbers.\n", "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("trunk", "add", "west", "PJSIP/west"), "{number}"),
        (("trunk", "add", "north", "PJSIP/{number}"), "another trunk is called north"),
        (("trunk", "change", "west", "--strip", "0"), "no trunk is called west"),
        (("trunk", "change", "north", "--tariff", "none such"), "no tariff is called none such"),
        (("route", "add", "44", "west"), "no trunk is called west"),
        (("route", "add", "44", "north=x"), "a weight is a number"),
        (("route", "add", "+55", "north"), "another route has the prefix '55'"),
        (("route", "show", "44"), "no route has the prefix '44'"),
    ],
)
def test_what_cannot_be_is_refused_with_reasons(trunks, words, reason):
    status, out, err = trunks(*words)
    assert (status, out, reason in err) == (REFUSED, "", True), err


@pytest.mark.parametrize("words", [("--calls-max", "-1"), ("--calls-max", "x"), ("--state", "on")])
def test_wrong_options_of_a_trunk_are_refused(trunks, words):
    assert trunks("trunk", "change", "north", *words)[0] == 2
