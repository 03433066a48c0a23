"""Tokens at the terminal, and that the trail has what the operator's command changed."""

import json
import sqlite3

import pytest

from celcombiller.core.access import principal


@pytest.fixture
def rows(here):
    def of(query):
        with sqlite3.connect(here / "celcombiller.sqlite") as database:
            return database.execute(query).fetchall()

    return of


def test_a_token_is_shown_once_and_hashed(ready, rows, here):
    status, out, _ = ready("token", "add", "billing script", "--user", "ana", "--scope", "read", "--scope", "write")
    said, secret = out.splitlines()
    assert (status, said.startswith("Token 1 of ana, for read, write")) == (0, True)
    assert rows("select secret_hash, scopes, expires_at from token") == [
        (principal.hash_secret(secret), "read write", None)
    ]
    assert secret.encode() not in b"".join(path.read_bytes() for path in here.glob("celcombiller.sqlite*"))


def test_tokens_are_listed_and_revoked(ready):
    ready("token", "add", "a", "--user", "ana", "--scope", "agi", "--days", 30)
    ready("token", "add", "b", "--user", "admin", "--scope", "admin")
    assert ready("token", "revoke", 2)[:2] == (0, "Token 2 (b) is revoked.\n")
    listed = json.loads(ready("token", "list", "--json")[1])
    assert [(each["name"], each["username"], each["scopes"]) for each in listed] == [
        ("a", "ana", "agi"),
        ("b", "admin", "admin"),
    ]
    assert [(each["expires_at"] is None, each["revoked_at"] is None) for each in listed] == [
        (False, True),
        (True, False),
    ]
    assert "secret" not in ready("token", "list", "--json")[1]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("add", "t", "--user", "nobody", "--scope", "read"), 3, "nobody"),
        (("add", "", "--user", "ana", "--scope", "read"), 3, "name"),
        (("add", "a\nb", "--user", "ana", "--scope", "read"), 3, "name"),
        (("add", "t", "--user", "ana", "--scope", "all"), 2, "invalid choice"),
        (("add", "t", "--user", "ana"), 2, "--scope"),
        (("add", "t", "--user", "ana", "--scope", "read", "--days", 0), 2, "from 1"),
        (("revoke", 9), 3, "no token 9"),
        (("revoke", "x"), 2, "x"),
    ],
)
def test_an_invalid_token_is_not_made(ready, rows, words, status, says):
    done = ready("token", *words)
    assert (done[0], says in done[2]) == (status, True), done
    assert rows("select * from token") == []


def test_the_audit_trail_names_the_systems_user(ready, rows, monkeypatch):
    monkeypatch.setenv("LOGNAME", "maria")
    ready("user", "disable", "ana")
    ready("credit", "ana", 60, "--id", "x")
    ready("credit", "ana", 60, "--id", "x")
    ready("credit", "ana", -100)
    ready("token", "add", "t", "--user", "ana", "--scope", "read")
    ready("token", "revoke", 1)
    ready("schedules", "add", "s", "--value", 5)
    ready("schedules", "join", "s", "ana")
    ready("schedules", "change", "s", "--value", 6)
    ready("schedules", "renew", "s", "ana", "--count", 3, "--months", 3)
    ready("schedules", "leave", "s", "ana")
    ready("schedules", "delete", "s")
    told = rows("select actor, address, action, subject from trail order by id")
    assert told[0][2:] == ("add", "subscriber:ana")
    assert [each[2:] for each in told[1:]] == [
        ("change", "subscriber:ana"),
        ("credit", "subscriber:ana"),
        ("add", "token:1"),
        ("revoke", "token:1"),
        ("add", "schedule:1"),
        ("join", "schedule:1"),
        ("change", "schedule:1"),
        ("renew for 3 months", "schedule:1"),
        ("leave", "schedule:1"),
        ("delete", "schedule:1"),
    ]
    assert {each[:2] for each in told[1:]} == {("command", "maria")}
    (before, after) = rows("select before, after from trail where action = 'change' order by id")[0]
    assert ('"enabled":true' in before, '"enabled":false' in after) == (True, True)
