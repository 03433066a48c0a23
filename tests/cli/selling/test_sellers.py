"""The operator's command for sellers and PINs."""

import json

BEA = ("user", "add", "bea", "--clid", "2002", "--imsi", "724000000002002", "--name", "Bea")
TO_2001 = ("seller", "sell", "bea", "2001")


def made(ready, *arguments):
    status, out, err = ready(*arguments)
    assert (status, err) == (0, ""), (arguments, err)
    return out


def test_a_seller_is_refilled_sells_and_settles(ready, here):
    (here / "celcombiller.toml").write_text('[sellers]\noffice = "belem"\ntax_percent = "17.5"\ntax_name = "ICMS"\n')
    made(ready, *BEA)
    out = made(ready, "seller", "add", "bea", "--class", "shop", "--discount", "7.5", "--sale-max", 500)
    assert out == "bea sells credit now: 0 to sell, commission discount 7.5 %.\n"
    for left in (1000, 700):
        out = made(ready, "seller", "refill", "2002", 1000, "--id", "r")
        assert out == f"bea got 1000 credits for 925: {left} to sell now (receipt belem-000001).\n"
        sold = made(ready, *TO_2001, 300, "--id", "s")
        assert sold == "bea has sold 300 credits to 2001: 700 left to sell (receipt S3-000001).\n"
    assert ready(*TO_2001, 501)[0] == 3
    made(ready, *TO_2001, 40)
    assert made(ready, "seller", "undo", "S3-000002") == "Receipt S3-000002 over 40 is undone.\n"
    assert made(ready, "seller", "undo", "S3-000002") == "Receipt S3-000002 over 40 was undone before.\n"
    receipt = made(ready, "seller", "receipt", "S3-000001").splitlines()
    assert receipt[0] == "Receipt S3-000001"
    assert receipt[2:] == ["Sale of credit", "Number: 2001", "Credit: 5 min", "Of which 17.5 % ICMS: 45 s"]
    listed = json.loads(made(ready, "seller", "sales", "bea", "--json"))
    assert [each["receipt"] for each in listed] == ["S3-000002", "S3-000001", "belem-000001"]
    period = ("--since", "2020-01-01", "--until", "2100-01-01")
    (row,) = json.loads(made(ready, "seller", "settlement", *period, "--json"))
    assert (row["refilled"], row["paid"], row["sales"], row["sold"], row["undone"]) == (1000, 925, 2, 340, 40)
    assert row["closing"] == 700
    head, line = made(ready, "seller", "settlement", "bea", *period, "--csv").splitlines()
    assert dict(zip(head.split(","), line.split(","), strict=True)) == {name: str(each) for name, each in row.items()}
    assert json.loads(made(ready, "user", "show", "ana", "--json"))["voice_balance"] == 300
    made(ready, "audit")


def test_a_seller_is_changed_disabled_and_shown(ready):
    made(ready, *BEA)
    made(ready, "seller", "add", "ana", "--bonus", "5")
    made(ready, "seller", "add", "bea", "--parent", "ana", "--credit-line", 50, "--day-limit", 90)
    row = json.loads(made(ready, "seller", "show", "bea", "--json"))
    assert (row["parent"], row["credit_line"], row["day_limit"], row["available"]) == ("ana", 50, 90, 50)
    made(ready, "seller", "change", "bea", "--parent", "none", "--day-limit", "none", "--discount", "2.25")
    row = json.loads(made(ready, "seller", "show", "bea", "--json"))
    assert (row["parent"], row["day_limit"], row["commission"], row["percent"]) == (None, None, "discount", 2.25)
    assert made(ready, "seller", "disable", "bea").startswith("bea may not sell any more")
    assert ready(*TO_2001, 5)[0] == 3
    made(ready, "seller", "change", "bea", "--state", "enabled", "--discount", "0")
    assert [each["username"] for each in json.loads(made(ready, "seller", "list", "--json"))] == ["ana", "bea"]
    assert made(ready, "seller", "list", "--parent", "ana", "--json").strip() == "[]"


def test_a_parent_refills_and_stock_comes_back(ready):
    made(ready, *BEA)
    made(ready, "seller", "add", "ana")
    made(ready, "seller", "add", "bea", "--parent", "ana")
    made(ready, "seller", "refill", "ana", 100)
    made(ready, "seller", "refill", "bea", 30, "--from-parent")
    assert made(ready, "seller", "refill", "bea", "-10").startswith("bea has given back 10 credits for 10: 20 to sell")
    assert [each["posted"] for each in json.loads(made(ready, "seller", "list", "--json"))] == [70, 20]
    for wrong in ("0", "x", "1.5"):
        assert ready("seller", "refill", "bea", wrong)[0] == 2
    made(ready, "audit")


def test_wrong_terms_and_names_are_refused(ready):
    for wrong in (["--bonus", "100.01"], ["--bonus", "1.234"], ["--bonus", "-1"], ["--discount", "1", "--bonus", "1"]):
        assert ready("seller", "add", "ana", *wrong)[0] == 2, wrong
    assert ready("seller", "add", "nobody")[0] == 3
    assert ready("seller", "show", "ana")[2].startswith("celcombiller: ana is no seller")
    assert ready("seller", "undo", "S3-000001")[0] == 3
    assert ready("seller", "receipt", "x")[0] == 3
    made(ready, "seller", "add", "ana")
    assert ready("seller", "add", "ana")[0] == 3
    assert ready("seller", "change", "ana")[0] == 3


def test_a_credit_has_a_receipt_where_asked(ready):
    for _ in range(2):
        out = made(ready, "credit", "ana", 100, "--id", "c", "--receipt")
        assert out == "+100 voice for ana: 100 now (id c).\nReceipt office-000001.\n"
    made(ready, "credit", "ana", 5)
    assert ready("credit", "ana", "-5", "--receipt")[0] == 3
    assert json.loads(made(ready, "credit", "ana", 5, "--receipt", "--json"))["receipt"] == "office-000002"
    made(ready, "seller", "undo", "office-000001")
    made(ready, "audit")


def test_a_pin_is_set_and_removed(ready, here):
    file = here / "pin"
    file.write_text("4071\n")
    assert made(ready, "pin", "set", "ana", "--pin-file", file) == "ana has a new PIN.\n"
    assert made(ready, "pin", "set", "2001", "--pin-file", file) == "ana has a new PIN.\n"
    assert made(ready, "pin", "remove", "ana") == "ana has no PIN any more.\n"
    assert made(ready, "pin", "remove", "ana") == "ana has no PIN to remove.\n"
    for wrong in ("1234", "12", "abcd", "2001"):
        file.write_text(wrong)
        status, out, err = ready("pin", "set", "ana", "--pin-file", file)
        assert (status, out) == (3, "")
        assert "PIN must" in err
    assert ready("pin", "set", "ana")[0] == 3
    assert ready("pin", "set", "ana", "--pin-file", here / "missing")[0] == 3
