"""The operator's command: what it does, what it refuses, and that it never shows a traceback."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from celcombiller.cli import main


def test_init_makes_one_password_and_changes_nothing_again(command):
    status, out, _ = command("init", "--admin", "root")
    assert "Administrator: root. The password is in " in out
    status, out, _ = command("init", "--admin", "other")
    assert (status, "password is" in out, "root, as before" in out) == (0, False, True)


def test_a_password_from_a_file_is_not_shown(command, here):
    (here / "secret").write_text("correct horse\n")
    _, out, _ = command("init", "--password-file", "secret")
    assert "horse" not in out
    (here / "secret").write_text("short")
    status, _, err = command(
        "user", "add", "b", "--clid", 1, "--imsi", 123456, "--name", "B", "--password-file", "secret"
    )
    assert (status, "at least 8" in err) == (3, True)
    (here / "secret").write_text("senha123")
    status, _, err = command("init", "--password-file", "secret")
    assert (status, "must not be among the most common ones" in err) == (3, True)


def test_credit_never_goes_below_what_is_available(ready):
    assert ready("credit", "ana", 60)[0] == 0
    assert ready("credit", "ana", -20, "--id", "x")[0] == 0
    assert ready("credit", "ana", -20, "--id", "x")[0] == 0
    status, _, err = ready("credit", "ana", -41)
    assert (status, "40 available" in err) == (3, True)
    user = json.loads(ready("user", "show", "ana", "--json")[1])
    assert {name: user[name] for name in ("voice_balance", "data_balance", "voice_held", "data_held")} == {
        "voice_balance": 40,
        "data_balance": 0,
        "voice_held": 0,
        "data_held": 0,
    }
    values = [line["value"] for line in json.loads(ready("statement", "ana", "--json")[1])]
    assert values == [-20, 60]


@pytest.mark.parametrize("kind", ["data", "sms"])
def test_credit_of_another_kind_is_another_pot(ready, kind):
    status, out, _ = ready("credit", "ana", 1000, "--kind", kind)
    assert (status, f"+1000 {kind} for ana: 1000 now" in out) == (0, True)
    balances = {"voice": 0, "data": 0, "sms": 0} | {kind: 1000}
    user = json.loads(ready("user", "show", "ana", "--json")[1])
    assert {each: user[f"{each}_balance"] for each in balances} == balances
    (ana,) = [each for each in json.loads(ready("user", "list", "--json")[1]) if each["username"] == "ana"]
    assert user == ana | {"bundles": [], "fees_owed": []}
    assert f"{kind}_balance" in ready("user", "list")[1]
    (line,) = json.loads(ready("statement", "ana", "--json")[1])
    assert (line["kind"], line["value"]) == (kind, 1000)
    assert ready("audit")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("user", "add", "ana", "--clid", 9, "--imsi", 999999, "--name", "x"), "has the username ana"),
        (("user", "add", "b", "--clid", 2001, "--imsi", 999999, "--name", "x"), "has the clid 2001"),
        (("user", "add", "b", "--clid", "12a", "--imsi", 999999, "--name", "x"), "clid must be"),
        (("user", "add", "b", "--clid", 9, "--imsi", 99, "--name", "x"), "imsi must be"),
        (("user", "add", "a b", "--clid", 9, "--imsi", 999999, "--name", "x"), "username must be"),
        (("user", "show", "nobody"), "nobody"),
        (("credit", "nobody", 5), "nobody"),
        (("credit", "ana", 0), "whole number"),
        (("credit", "ana", 2**60), "whole number"),
        (("statement", "nobody"), "nobody"),
    ],
)
def test_a_refusal_is_one_line_and_status_3(ready, words, says):
    status, _, err = ready(*words)
    assert status == 3
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [(), ("nonsense",), ("credit", "ana", "1.5"), ("credit", "ana"), ("calls", "--limit", 0)]
)
def test_wrong_usage_is_status_2(command, words):
    assert command(*words)[0] == 2


def test_audit_exits_1_and_names_the_first_difference(ready, here):
    ready("credit", "ana", 60)
    status, out, _ = ready("audit", "--json")
    report = json.loads(out)
    assert (status, report["ok"], report["transfers"], report["differences"]) == (0, True, 1, [])
    with sqlite3.connect(here / "celcombiller.sqlite") as database:
        database.execute("update account set posted = 61 where posted = 60")
    status, out, _ = ready("audit")
    assert (status, "ana's voice account" in out) == (1, True)


def test_audit_lists_holds_older_than_their_validity(ready, here):
    ready("credit", "ana", 60)
    with sqlite3.connect(here / "celcombiller.sqlite") as database:
        database.execute("update account set held = 7 where posted = 60")
        database.execute(
            "insert into hold select 'share:x', id, 7, 'open', '2026-01-01 10:00:00', '2026-01-01 11:00:00', null"
            " from account where posted = 60"
        )
    report = json.loads(ready("audit", "--json")[1])
    assert [(each["reference"], each["amount"]) for each in report["overdue_holds"]] == [("share:x", 7)]
    assert "A hold is older than its validity: 7 of ana's voice account for share:x" in ready("audit")[1]


def test_a_typo_in_settings_names_file_and_key(command, here):
    (here / "celcombiller.toml").write_text("[calls]\nring_second = 3\n")
    status, _, err = command("check-config")
    assert status == 3
    assert err.count("\n") == 1
    assert "celcombiller.toml" in err
    assert "ring_second" in err


def test_a_database_without_tables_says_what_to_do(command):
    status, _, err = command("calls")
    assert (status, "celcombiller init" in err) == (3, True)


def test_a_database_locked_by_another_is_one_line(ready, here, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_DATABASE_LOCK_SECONDS", "1")
    with sqlite3.connect(here / "celcombiller.sqlite", isolation_level=None) as other:
        other.execute("begin immediate")
        status, _, err = ready("credit", "ana", 5)
    assert (status, "locked" in err) == (3, True)


def test_a_missing_folder_is_one_line(command, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_DATABASE_URL", "sqlite:///no/where/x.sqlite")
    status, _, err = command("init")
    assert (status, "no/where" in err) == (3, True)


def test_a_postgresql_that_is_away_is_one_line(command, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_DATABASE_URL", "postgresql+psycopg://x@127.0.0.1:1/x")
    status, _, err = command("calls")
    assert (status, "does not answer" in err) == (3, True)


@pytest.mark.slow
def test_a_call_without_biller_is_one_line(ready, here, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_AGI_LISTEN", "tcp:1:interface=127.0.0.1")
    program = Path(sys.executable).parent / "celcombiller"
    done = subprocess.run([program, "call", "ana", "2001"], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "no biller answers on 127.0.0.1:1" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CELCOMBILLER_AGI_LISTEN", "tcp:70000", "CELCOMBILLER_AGI_LISTEN"),
        ("CELCOMBILLER_CALLS_RING_SECONDS", "soon", "CELCOMBILLER_CALLS_RING_SECONDS"),
        ("CELCOMBILLER_DATABASE_URL", "sqlite:///empty.sqlite", "celcombiller init"),
    ],
)
def test_a_failed_service_start_is_one_line(here, monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    program = Path(sys.executable).parent / "twistd"
    command = [program, "--nodaemon", "--pidfile=", "celcombiller"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert (done.stderr.count("\n"), says in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    "words", [("--json", "user", "show", "ana"), ("user", "--json", "show", "ana"), ("user", "show", "ana", "--json")]
)
def test_json_may_stand_anywhere(ready, words):
    status, out, _ = ready(*words)
    assert (status, json.loads(out)["username"]) == (0, "ana")


def test_the_settings_may_be_named_last(ready, here):
    (here / "other.toml").write_text(f'[database]\nurl = "sqlite:///{here}/celcombiller.sqlite"\n')
    assert ready("user", "show", "ana", "--config", "other.toml")[0] == 0


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("statment", "ana"), "did you mean statement?"),
        (("user", "shwo", "ana"), "did you mean show?"),
        (("user", "show", "ana", "--jsn"), "did you mean --json?"),
        (("user", "add", "ana", "--cild", "1"), "did you mean --clid?"),
        (("--cofnig", "x", "user", "list"), "did you mean --config?"),
        (("--versoin",), "did you mean --version?"),
        (("credit", "ana", "5", "--kind", "voise"), "did you mean voice?"),
    ],
)
def test_a_misspelt_word_names_the_nearest(capsys, words, nearest):
    with pytest.raises(SystemExit) as wrong:
        main(words)
    assert (wrong.value.code, nearest in capsys.readouterr().err) == (2, True)


def test_help_loads_no_command():
    loaded = "import sys; from celcombiller.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    check = loaded + "assert not {'sqlalchemy', 'twisted', 'msgspec'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)


@pytest.mark.parametrize(("words", "answer"), [("us", "user"), ("user sh", "show"), ("credit ana 5 --kind v", "voice")])
def test_bash_completes_commands_and_choices(command, here, words, answer):
    (here / "completion").write_text(command("--print-completion", "bash")[1])
    typed = ["celcombiller", *words.split()]
    script = (
        f"source completion; COMP_WORDS=({' '.join(typed)}); COMP_CWORD={len(typed) - 1};"
        " _shtab_celcombiller; echo ${COMPREPLY[*]}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == answer


def test_zsh_completion_is_printed(command):
    assert command("--print-completion", "zsh")[1].startswith("#compdef celcombiller")


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--print-completion bash", "user list"])
def test_a_reader_that_goes_away_gets_no_traceback(ready, here, words):
    run = f"import sys; from celcombiller.cli import main; sys.exit(main({words.split()!r}))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=here, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (3, "")
