"""The operator's command for credit that subscribers hand to each other."""

import json

BEA = ("user", "add", "bea", "--clid", "2002", "--imsi", "724000000002002", "--name", "Bea")


def test_staff_hand_credit_on_once(ready, here):
    (here / "celcombiller.toml").write_text("[credit_transfers]\nfee = 7\n")
    assert ready(*BEA)[0] == 0
    status, _, err = ready("transfer", "make", "ana", "2002", 60)
    assert (status, err) == (3, "celcombiller: it takes 1 min and 7 s for the transfer, and 0 s is there\n")
    assert ready("credit", "ana", 100)[0] == 0
    for _ in range(2):
        status, out, _ = ready("transfer", "make", "2001", "+2002", 60, "--id", "t", "--note", "asked")
        assert (status, out) == (0, "ana has given 60 credits to bea, for a fee of 7 (transfer 1).\n")
    free = json.loads(ready("transfer", "make", "ana", "2002", 3, "--free", "--json")[1])
    assert (free["payer"], free["recipient"], free["fee"], free["state"]) == ("ana", "bea", 0, "made")
    assert [row["id"] for row in json.loads(ready("transfer", "list", "bea", "--json")[1])] == [2, 1]
    assert ready("transfer", "list", "admin", "--json")[1].strip() == "[]"
    assert ready("transfer", "make", "ana", "4711", 1)[0] == 3
    assert json.loads(ready("user", "show", "ana", "--json")[1])["voice_balance"] == 30
    assert ready("audit")[0] == 0
