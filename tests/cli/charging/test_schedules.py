"""The operator's commands for schedules: what they do, what they refuse, and that a run can be interrupted."""

import contextlib
import json
import sqlite3
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.cli import main
from celcombiller.cli.charging import schedules
from celcombiller.core.schedules import runs

DAY = timedelta(days=1)


@pytest.fixture
def group(ready, today, monkeypatch):
    """A daily schedule with two members, the second without access; what is due is due at once."""
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_RUN_AT", "00:00")
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_TIME_ZONE", "UTC")
    words = ("user", "add", "bia", "--clid", "2002", "--imsi", "724000000002002", "--name", "Bia")
    assert ready(*words)[0] == 0
    status, out, _ = ready("schedules", "add", "gold", "--value", 60, "--kind", "both", "--every", 1)
    assert (status, "Added schedule 1 (gold): daily" in out, "zone UTC" in out) == (0, True, True)
    for username in ("ana", "bia"):
        assert ready("schedules", "join", "gold", username, "--count", 2)[0] == 0
    assert ready("user", "disable", "bia")[0] == 0
    return ready


def found(command, *words):
    status, out, err = command("schedules", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_due_lists_credits_and_run_gives_them(group, today):
    before = found(group, "due")
    assert (before["voice_total"], before["data_total"], before["waiting"]) == (60, 60, [])
    assert [(each["username"], each["outcome"], each["value"]) for each in before["members"]] == [
        ("ana", "credited", 60),
        ("bia", "passed", 0),
    ]
    assert [(each["due_on"], each["state"]) for each in before["due"]] == [(today.isoformat(), "to come")]
    (run,) = found(group, "run")
    assert (run["schedule"], run["credited"], run["passed"], run["failed"]) == (1, 1, 1, 0)
    (again,) = found(group, "run")
    assert again["credited"] == 1
    after = found(group, "due")
    assert (after["voice_total"], after["members"]) == (0, [])
    user = json.loads(group("user", "show", "ana", "--json")[1])
    assert (user["voice_balance"], user["data_balance"]) == (60, 60)
    assert group("audit")[0] == 0


def test_a_schedule_may_give_sms_credit(ready, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_RUN_AT", "00:00")
    assert ready("schedules", "add", "texts", "--value", 30, "--kind", "sms", "--every", 1)[0] == 0
    assert ready("schedules", "join", "texts", "ana")[0] == 0
    due = found(ready, "due")
    assert [due[f"{kind}_total"] for kind in ("voice", "data", "sms")] == [0, 0, 30]
    assert found(ready, "run")[0]["credited"] == 1
    user = json.loads(ready("user", "show", "ana", "--json")[1])
    assert [user[f"{kind}_balance"] for kind in ("voice", "data", "sms")] == [0, 0, 30]
    assert ready("audit")[0] == 0


def test_due_on_a_date_looks_ahead(group, today):
    ahead = found(group, "due", "gold", "--on", today + 2 * DAY)
    assert [each["members"] for each in ahead["due"]] == [1, 1, 0]
    assert (
        "Total: 120 voice credits, 120 data credits, 0 sms credits. Nothing was written."
        in group("schedules", "due", "--on", today + 2 * DAY)[1]
    )


def test_history_says_who_was_not_credited_and_why(group):
    group("schedules", "run")
    (run,) = found(group, "history", "gold", "--uncredited")
    assert [(each["username"], each["note"]) for each in run["uncredited"]] == [("bia", "disabled")]
    assert "disabled" in group("schedules", "history", "--uncredited")[1]
    assert "uncredited" not in found(group, "history")[0]


def test_a_member_is_shown_renewed_and_leaves(group):
    shown = found(group, "show", 1)
    assert [(each["username"], each["count"]) for each in shown["memberships"]] == [("ana", 2), ("bia", 2)]
    assert group("schedules", "renew", "gold", "ana", "--count", 9, "--months", 12)[0] == 0
    assert group("schedules", "leave", "gold", "bia")[0] == 0
    shown = found(group, "show", "gold")
    assert [(each["username"], each["count"]) for each in shown["memberships"]] == [("ana", 9)]
    assert (found(group, "list")[0]["members"], found(group, "list")[0]["when"]) == (1, "daily")


def test_a_schedule_is_changed_and_deleted(group):
    changed = ("--value", 5, "--day", 31, "--kind", "data", "--zone", "America/Sao_Paulo", "--state", "disabled")
    assert (
        group("schedules", "change", "gold", *changed, "--catch-up", "none", "--count", 1, "--name", "silver")[0] == 0
    )
    shown = found(group, "show", "silver")
    facts = ("value", "when", "kind", "time_zone", "enabled", "catch_up", "count")
    assert [shown[name] for name in facts] == [5, "monthly on day 31", "data", "America/Sao_Paulo", False, "none", 1]
    assert group("schedules", "delete", "silver")[0] == 0
    assert found(group, "list") == []
    assert "Nothing is due" in group("schedules", "due")[1]
    assert "Nothing is due" in group("schedules", "run")[1]


@pytest.mark.parametrize(
    ("words", "when", "recurrence"),
    [
        (("--day", 31), "monthly on day 31", "monthly"),
        (("--weekday", 7), "weekly on day 7", "weekly"),
        (("--every", 10), "every 10 days", "days"),
        (("--once", "2999-01-01"), "once", "once"),
        ((), "monthly on day 1", "monthly"),
    ],
)
def test_a_schedule_has_one_of_four_rhythms(ready, words, when, recurrence):
    assert ready("schedules", "add", "x", "--value", 1, *words)[0] == 0
    shown = found(ready, "show", "x")
    assert (shown["when"], shown["recurrence"]) == (when, recurrence)
    assert recurrence != "once" or shown["first_on"] == shown["next_on"] == "2999-01-01"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "nothing"), "no schedule has the id or the name nothing"),
        (("show", 99), "no schedule has the id or the name 99"),
        (("join", "gold", "nobody"), "no subscriber is called nobody"),
        (("join", "gold", "ana"), "is in gold already"),
        (("leave", "gold", "admin"), "admin is not in gold"),
        (("renew", "gold", "admin", "--count", 1, "--months", 1), "admin is not in gold"),
        (("add", "x", "--value", 1, "--zone", "Mars"), "time_zone must be"),
        (("add", "x", "--value", 1, "--once", "2020-01-01"), "is past"),
        (("change", "gold", "--first", "1900-01-01"), "first_on must be"),
        (("due", "--on", "9999-12-31"), "due dates until"),
    ],
)
def test_a_refusal_is_one_line_and_status_3(group, words, says):
    status, _, err = group("schedules", *words)
    assert status == 3
    assert says in err
    assert err.count("\n") == 1


def test_a_name_is_given_to_one_schedule(group):
    status, _, err = group("schedules", "add", "gold", "--value", 1)
    assert (status, err.count("\n")) == (3, 1)
    assert "name gold is taken: schedule 1 has it: 60 credits, days" in err
    assert group("schedules", "add", "silver", "--value", 1)[0] == 0
    assert "schedule 1 has it" in group("schedules", "change", "silver", "--name", "gold")[2]
    assert group("schedules", "change", "silver", "--name", "silver", "--value", 2)[0] == 0
    assert [each["name"] for each in found(group, "list")] == ["gold", "silver"]
    assert group("schedules", "delete", "gold")[0] == 0
    assert group("schedules", "change", "silver", "--name", "gold")[0] == 0


def test_a_number_is_no_name(ready):
    status, _, err = ready("schedules", "add", "12", "--value", 1)
    assert (status, "it would be taken for an id" in err) == (3, True)


def test_an_ambiguous_name_is_refused(group, here):
    assert group("schedules", "add", "silver", "--value", 1)[0] == 0
    with contextlib.closing(sqlite3.connect(here / "celcombiller.sqlite")) as ledger, ledger:
        ledger.execute("update schedule set name = 'gold'")  # as one made before names were unique
    assert group("schedules", "change", 2, "--value", 5)[0] == 0
    status, _, err = group("schedules", "delete", "gold")
    assert (status, "2 schedules have the name gold; say which by its id: 1, 2" in err) == (3, True)
    assert group("schedules", "delete", 2)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("add", "x"),
        ("add", "x", "--value", -1),
        ("add", "x", "--value", 1, "--day", 32),
        ("add", "x", "--value", 1, "--day", 3, "--every", 3),
        ("due", "--on", "tomorrow"),
        ("join", "gold"),
    ],
)
def test_wrong_usage_is_status_2(command, words):
    assert command("schedules", *words)[0] == 2


def test_after_long_absence_the_command_explains_waiting(group, today, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_SCHEDULES_CATCH_UP_MAX_DAYS", "4")
    before = today - 5 * DAY
    engine = sa.create_engine("sqlite:///celcombiller.sqlite")
    with engine.begin() as tx:
        tx.execute(sa.text("update schedule set done_until = :day, first_on = :day"), {"day": before.isoformat()})
        tx.execute(sa.text("update membership set joined_on = :day"), {"day": before.isoformat()})
    assert "--overdue" in found(group, "due")["waiting"][0]
    status, out, err = group("schedules", "run")
    assert (status, "Nothing is due" in out, "waits: nothing was credited for 5 days" in err) == (1, True, True)
    assert len(found(group, "run", "--overdue")) == 5
    assert json.loads(group("user", "show", "ana", "--json")[1])["voice_balance"] == 120


def test_an_interrupted_run_is_resumed(group, monkeypatch):
    advance = runs.advance

    def interrupted(*words, **facts):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "advance", interrupted)
    status, _, err = group("schedules", "run")
    assert (status, "the same command goes on" in err) == (schedules.INTERRUPTED, True)
    monkeypatch.setattr(runs, "advance", advance)
    assert found(group, "run")[0]["credited"] == 1


def test_a_broken_schedule_is_one_line_others_run(group):
    """A zone may go away with an upgrade of the machine."""
    assert group("schedules", "add", "broken", "--value", 1, "--every", 1)[0] == 0
    engine = sa.create_engine("sqlite:///celcombiller.sqlite")
    with engine.begin() as tx:
        tx.execute(sa.text("update schedule set time_zone = 'Gone/Away' where name = 'broken'"))
    status, out, err = group("schedules", "run", "--json")
    assert (status, err.count("\n"), "schedule 2 could not be credited" in err) == (1, 1, True)
    assert json.loads(out)[0]["credited"] == 1
    status, _, err = group("schedules", "due")
    assert (status, err.count("\n"), "Gone/Away" in err) == (3, 1, True)


def test_a_bar_is_drawn_on_a_terminal_only(group, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["schedules", "run"]) == 0
    assert "0/2" in capsys.readouterr().err.replace(" ", "")


def test_the_help_of_every_action_is_there(command):
    status, out, _ = command("schedules", "--help")
    assert status == 0
    for action in ("add", "change", "delete", "list", "show", "join", "leave", "renew", "due", "run", "history"):
        assert f"    {action} " in out
