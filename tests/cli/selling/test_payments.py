"""The operator's commands for payments."""

import json

import pytest

from celcombiller.core.payments.payment_records import find_by_provider
from celcombiller.database.engine import open_engine
from tests.core.payments.test_payment_properties import receive, set_currency


@pytest.fixture
def paid(ready, here):
    """Return the command, beside a payment of ana's and one that nobody has the number of."""
    engine = open_engine(f"sqlite:///{here / 'celcombiller.sqlite'}", lock_seconds=5)
    with engine.begin() as tx:
        set_currency(tx)
        receive(tx, 1, "2001")
        receive(tx, 2, "4711")
        assert find_by_provider(tx, "mpesa", "T1").state == "credited"
    engine.dispose()
    return ready


def found(command, *words):
    status, out, err = command("payment", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_payments_are_listed_and_shown(paid):
    assert [each["provider_id"] for each in found(paid, "list")] == ["T2", "T1"]
    assert [each["provider_id"] for each in found(paid, "list", "ana")] == ["T1"]
    assert [each["provider_id"] for each in found(paid, "list", "--state", "unassigned")] == ["T2"]
    assert found(paid, "list", "--debt") == found(paid, "list", "--provider", "x") == []
    one = found(paid, "show", 1)
    assert (one["username"], one["credits"], one["reference"]) == ("ana", 150, "payment:mpesa:T1")
    assert "provider_id    T1" in paid("payment", "show", 1)[1]
    assert paid("payment", "show", 3)[0] == 3
    assert paid("payment", "list")[1].splitlines()[0].startswith("id  received_at")


def test_a_payment_is_assigned_and_reversed(paid):
    assert paid("payment", "assign", 2, "ana")[:2] == (0, "Payment 2: 150 credits for ana.\n")
    assert paid("payment", "assign", 2, "2001")[0] == 0
    assert paid("payment", "assign", 2, "admin")[0] == 3
    assert paid("payment", "reverse", 2, "--note", "twice")[:2] == (
        0,
        "Payment 2 is reversed: 150 credits taken back.\n",
    )
    assert paid("credit", "ana", -100)[0] == 0
    assert paid("payment", "reverse", 1, "--note", "no")[0] == 3
    assert (
        "50 credits taken back; 100 were spent, and are owed."
        in paid("payment", "reverse", 1, "--note", "no", "--debt")[1]
    )
    assert [each["debt"] for each in found(paid, "list", "--debt")] == [100]
    assert paid("credit", "ana", 500)[0] == 0
    again = found(paid, "reverse", 1, "--note", "again", "--debt")
    assert (again["taken"], again["debt"], again["reversal_note"]) == (150, 0, "no")
    assert paid("audit")[0] == 0
