"""The operator's commands for vouchers."""

import csv
import json
import re
import stat
from pathlib import Path

import pytest

from celcombiller.cli.exit_status import REFUSED
from celcombiller.cli.selling import vouchers


def found(command, *words):
    status, out, err = command(*words, "--json")
    assert status == 0, err
    return json.loads(out)


def made(command, *words, name="fifty", cards=3, gift=("--voice", 50), output="cards.csv"):
    status, out, err = command("voucher", "make", name, "--cards", cards, *gift, "--output", output, *words)
    assert (status, out) == (0, ""), err
    with Path(output).open(newline="") as file:
        return list(csv.DictReader(file))


def test_cards_are_made_activated_and_redeemed(ready):
    rows = made(ready)
    assert [row["serial"] for row in rows] == ["1", "2", "3"]
    assert all(re.fullmatch(r"([0-9]{3} ){6}[0-9]{3}", row["code"]) for row in rows)
    assert stat.S_IMODE(Path("cards.csv").stat().st_mode) == 0o600
    status, _, err = ready("voucher", "redeem", "ana", rows[0]["code"])
    assert (status, err) == (REFUSED, "celcombiller: the voucher is not active yet\n")
    status, out, _ = ready("voucher", "activate", "fifty", "--to", 2, "--note", "shop")
    assert (status, out) == (0, "The cards 1 to 2 of fifty are active.\n")
    status, out, _ = ready("voucher", "redeem", "2001", rows[0]["code"])
    assert (status, out) == (0, "ana has redeemed card 1 of fifty: 50 s.\n")
    assert ready("voucher", "redeem", "ana", rows[0]["code"])[1].startswith("ana had redeemed")
    assert found(ready, "voucher", "revoke", 1, "--from", 2, "--to", 2)["state"] == "revoked"
    batch = found(ready, "voucher", "show", "fifty", "--cards")
    assert [each["state"] for each in batch["vouchers"]] == ["redeemed", "revoked", "made"]
    assert (batch["redeemed"], batch["revoked"], batch["made"], batch["active"]) == (1, 1, 1, 0)
    assert [(each["first_serial"], each["last_serial"]) for each in batch["ranges"]] == [(1, 2), (2, 2)]
    card = found(ready, "voucher", "find", rows[0]["code"].replace("0", "O"))
    assert (card["serial"], card["state"], card["redeemed_by"]) == (1, "redeemed", "ana")
    (line,) = found(ready, "voucher", "list")
    assert (line["name"], line["cards"], line["value"]) == ("fifty", 3, 50)
    assert ready("audit")[0] == 0


def test_vouchers_of_a_seller_are_listed(ready):
    made(ready)
    assert ready("seller", "add", "ana")[0] == 0
    assert ready("voucher", "activate", "fifty", "--to", 2, "--seller", "ana")[0] == 0
    (handed,) = found(ready, "seller", "vouchers", "ana")
    facts = ("batch", "first_serial", "last_serial", "value", "active", "redeemed")
    assert [handed[name] for name in facts] == ["fifty", 1, 2, 50, 2, 0]


def test_cards_of_an_offer_give_its_bundle(ready):
    assert ready("offer", "add", "hour", "--seconds", 3600, "--for", "30d", "--price", 300)[0] == 0
    (row,) = made(ready, gift=("--offer", "hour"), cards=1)
    assert row["gives"] == "hour"
    ready("voucher", "activate", "1")
    assert ready("voucher", "redeem", "ana", row["code"])[1] == "ana has redeemed card 1 of fifty: hour.\n"
    (bundle,) = found(ready, "bundle", "list", "ana")
    assert (bundle["name"], bundle["left"], bundle["renews"]) == ("hour", 3600, False)
    assert ready("audit")[0] == 0


def test_a_file_is_never_overwritten(ready):
    Path("cards.csv").write_text("mine")
    status, _, err = ready("voucher", "make", "x", "--cards", 1, "--voice", 1, "--output", "cards.csv")
    assert (status, "is not overwritten" in err, Path("cards.csv").read_text()) == (REFUSED, True, "mine")
    assert found(ready, "voucher", "list") == []


def test_codes_go_to_standard_output(ready):
    status, out, err = ready("voucher", "make", "x", "--cards", 2, "--sms", 5)
    assert (status, len(out.splitlines()), "celcombiller voucher activate 1" in err) == (0, 3, True)


def test_a_crash_while_making_leaves_nothing(ready, monkeypatch):
    def broken(_cards):
        yield 1, 2
        yield 3, 2
        raise KeyboardInterrupt

    pieces = vouchers.voucher_batches.pieces
    monkeypatch.setattr(vouchers.voucher_batches, "pieces", broken)
    with pytest.raises(KeyboardInterrupt):
        ready("voucher", "make", "x", "--cards", 9, "--voice", 1, "--output", "cards.csv")
    assert not Path("cards.csv").exists()
    assert found(ready, "voucher", "list") == []
    monkeypatch.setattr(vouchers.voucher_batches, "pieces", pieces)
    assert len(made(ready, name="x", cards=9)) == 9


def test_wrong_orders_are_refused_without_a_file(ready):
    for words in (("--voice", 0), ("--offer", "none"), ("--voice", 5, "--valid-until", "2020-01-01")):
        assert ready("voucher", "make", "x", "--cards", 1, *words, "--output", "cards.csv")[0] != 0
        assert not Path("cards.csv").exists()


def test_a_page_is_printed_of_the_file(ready):
    rows = made(ready, "--valid-until", "2099-12-31T12:00:00Z", name="a <b>")
    status, _, err = ready("voucher", "print", "cards.csv", "--output", "cards.html")
    assert status == 0, err
    text = Path("cards.html").read_text()
    assert stat.S_IMODE(Path("cards.html").stat().st_mode) == 0o600
    assert (text.count("<article>"), text.count("<svg"), "<b>" in text) == (3, 3, False)
    assert all(row["code"] in text for row in rows)
    assert "Valid until Dec 31, 2099" in text
    Path("cards.csv").write_text("batch,serial,code\nx,1,123\n")
    status, _, err = ready("voucher", "print", "cards.csv")
    assert (status, "cards.csv, line 2: the code has 21 digits, not 3" in err) == (REFUSED, True)


def test_a_page_is_in_the_set_language(ready, monkeypatch):
    monkeypatch.setenv("CELCOMBILLER_CONSOLE_LANGUAGE", "pt_BR")
    made(ready, "--valid-until", "2099-12-31T12:00:00Z")
    assert ready("voucher", "print", "cards.csv", "--output", "cards.html")[0] == 0
    text = Path("cards.html").read_text()
    assert ('<html lang="pt-BR">' in text, text.count("Válido até 31 de dez. de 2099")) == (True, 3)
