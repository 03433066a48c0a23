"""Subscribers by the command: found, changed and deleted as by the API, with rows of the audit trail."""

import json
import sqlite3

import pytest

HEAD = "username,clid,imsi,name\n"


@pytest.fixture
def trail(here):
    def actions():
        with sqlite3.connect(here / "celcombiller.sqlite") as database:
            return database.execute("select action, subject from trail order by id").fetchall()

    return actions


def test_a_field_is_changed_and_recorded(ready, trail):
    status, out, _ = ready("user", "change", "ana", "--clid", "2009", "--username", "anna", "--json")
    assert (status, json.loads(out)["clid"], json.loads(out)["username"]) == (0, "2009", "anna")
    assert trail()[-1] == ("change", "subscriber:ana")
    assert ready("user", "show", "ana")[0] == 3
    assert ready("user", "change", "anna")[0] == 3, "nothing to change"
    assert ready("user", "change", "anna", "--imsi", "7")[0] == 3


def test_a_password_is_set_and_ends_sessions(ready, here, trail):
    with sqlite3.connect(here / "celcombiller.sqlite") as database:
        (ana,) = database.execute("select id from subscriber where username = 'ana'").fetchone()
        columns = [row[1] for row in database.execute("pragma table_info(session)")]
    assert "subscriber_id" in columns
    (here / "new").write_text("a long new password 91\n")
    status, out, _ = ready("user", "password", "ana", "--password-file", "new")
    assert (status, "long new" in out, trail()[-1]) == (0, False, ("change, with password", "subscriber:ana"))
    with sqlite3.connect(here / "celcombiller.sqlite") as database:
        (hashed,) = database.execute("select password_hash from subscriber where id = ?", (ana,)).fetchone()
    assert hashed.startswith("$argon2id$")
    assert ready("user", "password", "ana")[0] == 3, "there is no terminal to ask at"


def test_a_deleted_subscriber_frees_the_number(ready, trail):
    assert ready("user", "delete", "ana", "--json")[0] == 0
    assert trail()[-1] == ("delete", "subscriber:ana")
    assert ready("user", "add", "ana", "--clid", 2001, "--imsi", "724000000002001", "--name", "Heir")[0] == 0
    status, _, err = ready("user", "delete", "admin")
    assert (status, "last administrator" in err) == (3, True)


@pytest.mark.parametrize(
    ("text", "found"),
    [("an", ["ana"]), ("ANA", ["ana"]), ("2001", ["ana"]), ("72400", ["ana"]), ("%", []), ("_", []), ("nobody", [])],
)
def test_a_part_of_a_name_or_number_finds(ready, text, found):
    status, out, _ = ready("user", "find", text, "--json")
    assert (status, [each["username"] for each in json.loads(out)]) == (0, found)


def test_credit_goes_to_a_number_with_a_note(ready):
    status, out, _ = ready("credit", "2001", 60, "--note", "paid at the shop", "--id", "r1", "--json")
    made = json.loads(out)
    assert (status, made["username"], made["posted"], made["note"]) == (0, "ana", 60, "paid at the shop")
    assert ready("credit", "ana", 60, "--note", "paid at the shop", "--id", "r1")[0] == 0
    assert ready("credit", "ana", 60, "--note", "another", "--id", "r1")[0] == 3
    (line,) = json.loads(ready("statement", "ana", "--json")[1])
    assert (line["value"], line["note"]) == (60, "paid at the shop")


def test_list_has_only_those_wanted(ready):
    def listed(*wanted):
        return {each["username"] for each in json.loads(ready("user", "list", *wanted, "--json")[1])}

    ready("credit", "ana", 5)
    everyone = listed()
    assert listed("--at-zero") == everyone - {"ana"}
    ready("user", "disable", "ana")
    assert listed("--disabled") == {"ana"}
    assert listed("--suspended") == listed("--inactive", "1") == set()


# -- import users


def usernames(ready):
    return [each["username"] for each in json.loads(ready("user", "list", "--json")[1])]


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_file_is_shown_and_then_imported(ready, here, trail, separator):
    text = f'{HEAD}bia,2002,724000000002002,"Bia, Júlia"\ncaio,2003,724000000002003,Caio\n'
    if separator == ";":
        text = text.replace('"Bia, Júlia"', "Bia J").replace(",", ";")
    (here / "new.csv").write_text(text, encoding="utf-8-sig", newline="\r\n")
    status, out, _ = ready("import", "users", "new.csv")
    assert (status, "2 rows can be imported. Nothing was written" in out) == (0, True)
    assert usernames(ready) == ["admin", "ana"]
    assert ready("import", "users", "new.csv", "--yes")[0] == 0
    assert usernames(ready) == ["admin", "ana", "bia", "caio"]
    assert trail()[-2:] == [("add", "subscriber:bia"), ("add", "subscriber:caio")]
    assert ready("import", "users", "new.csv", "--yes")[0] == 3, "all are there now"


def test_one_wrong_row_and_nothing_is_written(ready, here):
    rows = (
        "bia,2002,724000000002002,Bia",
        "ana,2003,724000000002003,Taken",
        "caio,20x,724000000002004,Bad",
        "davi,2002,724000000002005,Twice",
        "eva,2006",
    )
    (here / "new.csv").write_text(HEAD + "\n".join(rows))
    status, out, _ = ready("import", "users", "new.csv", "--yes", "--json")
    said = json.loads(out)
    assert (status, said["written"], said["wrong"]) == (3, False, 4)
    errors = {each["line"]: "; ".join(each["errors"]) for each in said["items"]}
    assert errors[2] == ""
    assert "another subscriber has the username ana" in errors[3]
    assert "clid must be" in errors[4]
    assert "line 2 has the clid 2002 too" in errors[5]
    assert "has not 4 values" in errors[6]
    assert usernames(ready) == ["admin", "ana"]
    assert "4 of 5 rows cannot be imported" in ready("import", "users", "new.csv")[1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"username,clid\n",
        b"username,clid,imsi,name,phone\n",
        b"username,clid,imsi,name,name\n",
        b'username,clid,imsi,name\na,"1\n',
        b"username,clid,imsi,name\n" + b"x" * 200_000 + b",1,1,1\n",
        None,
    ],
)
def test_a_file_not_csv_is_one_line(ready, here, content):
    if content is not None:
        (here / "new.csv").write_bytes(content)
    status, _, err = ready("import", "users", "new.csv")
    assert (status, err.count("\n")) == (3, 1), err


def test_list_is_of_a_group(ready):
    assert ready("group", "add", "pupils")[0] == 0
    assert ready("user", "list", "--group", "pupils", "--json")[1].strip() == "[]"
    assert ready("user", "change", "ana", "--group", "pupils")[0] == 0
    assert [each["username"] for each in json.loads(ready("user", "list", "--group", "pupils", "--json")[1])] == ["ana"]
