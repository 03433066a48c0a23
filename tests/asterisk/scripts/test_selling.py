"""Selling by keypad: what keys mean, what is heard, that only the last key sells, and that nothing sells twice."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from celcombiller.asterisk.agi.simulator import Channel, play
from celcombiller.asterisk.scripts.selling import KeypadScripts
from celcombiller.core.audit.report import audit
from celcombiller.core.credit_transfers.transfer_terms import Confirmation, CreditTransferTerms
from celcombiller.core.text_commands.command_rules import CommandRules
from celcombiller.core.text_commands.conversation import Conversation
from tests.support import databases
from tests.support.databases import NOW
from tests.support.script_biller import House
from tests.support.selling.phones import PIN, PlainHashes, set_pin
from tests.support.selling.sellers import add_seller, sell, stock_of, voice_of
from tests.support.vouchers import batch

TERMS = CreditTransferTerms(enabled=True, confirmation=Confirmation.NONE)


class Keys(Channel):
    """A caller who presses these keys, one entry for each question, and then nothing or hangs up."""

    def __init__(self, *entries, code="1001", lacks=(), stays=True, arguments=(), **facts):
        super().__init__("1001", "*101", account_code=code, **facts)
        self.entries, self.lacks, self.stays, self.arguments = list(entries), lacks, stays, arguments
        self.heard = []
        self.variables["CHANNEL(endpoint)"] = "1001"

    def environment(self, script, host, *, extension=None):
        sent = super().environment(script, host, extension=extension)[:-1]
        return (
            sent + b"".join(b"agi_arg_%d: %s\n" % (place, each) for place, each in enumerate(self.arguments, 1)) + b"\n"
        )

    def answer(self, line):
        verb, what = " ".join(line.split(" ")[:2]), line.split(" ")[2] if line.count(" ") > 1 else ""
        if verb in ("STREAM FILE", "SAY NUMBER", "SAY DIGITS"):
            if what in self.lacks:
                return "200 result=-1"
            self.heard.append(what)
            return "200 result=0 endpos=8000"
        if verb in ("GET DATA", "WAIT FOR"):
            if not self.entries:
                return "200 result= (timeout)" if self.stays else "200 result=-1"
            entry = self.entries.pop(0)
            return f"200 result={entry if verb == 'GET DATA' else ord(entry)}"
        return super().answer(line)


@pytest.fixture
def house(tmp_path):
    engine = databases.sqlite(tmp_path / "keypad.sqlite", databases.three_subscribers)
    with engine.begin() as tx:
        add_seller(tx, stock=1000)
        set_pin(tx)
    made = House(tmp_path / "keypad.sqlite", engine=engine)
    commands = Conversation(CommandRules(transfers=TERMS), made.store.transact, PlainHashes())
    made.scripts.add_keypad(
        KeypadScripts(made.config, commands, made.scripts.servers, made.scripts.updates, made.metrics)
    )
    yield made
    with engine.begin() as tx:
        assert audit(tx).ok
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


async def dialled(house, channel, script="sell"):
    await play(reactor, "127.0.0.1", house.port.getHost().port, channel, scripts=(script,))
    return channel.variables.get("CELCOMBILLER_RESULT", ""), channel.heard


def state(house):
    with house.engine.begin() as tx:
        return stock_of(tx), voice_of(tx, 2)


@pytest_twisted.ensureDeferred
async def test_the_last_key_sells_what_was_heard(house):
    result, heard = await dialled(house, Keys("1002", "50", PIN, "1"))
    assert (result, state(house)) == ("GRANTED", (950, 50))
    assert heard == [
        *("telephone-number", "number", "vm-password"),
        *("you-entered", "1002", "vm-for", "50", "seconds", "vm-youhave", "15", "minutes", "50", "seconds"),
        *("if-correct-press", "1"),
        *("auth-thankyou", "vm-youhave", "15", "minutes", "50", "seconds"),
    ]


@pytest.mark.parametrize(
    "entries",
    [
        (),
        ("1002",),
        ("1002", "50"),
        ("1002", "50", PIN),
        ("1002", "50", PIN, "2"),
        ("1002", "50", PIN, "*"),
        ("10*2", "50", PIN, "1"),
        ("1002", "", PIN, "1"),
    ],
)
@pytest.mark.parametrize("stays", [True, False])
@pytest_twisted.ensureDeferred
async def test_anything_but_the_last_key_sells_nothing(house, entries, stays):
    result, _ = await dialled(house, Keys(*entries, stays=stays))
    assert result in (("CANCELLED", "WRONG_PIN") if stays else ("", "CANCELLED"))
    assert state(house) == (1000, 0)


@pytest_twisted.ensureDeferred
async def test_a_wrong_pin_may_be_tried_again(house):
    result, heard = await dialled(house, Keys("1002", "50", "1111", PIN, "1"))
    assert (result, heard.count("vm-incorrect"), state(house)) == ("GRANTED", 1, (950, 50))
    result, heard = await dialled(house, Keys("1002", "50", "1111", "1112", "1113", PIN, "1"))
    assert (result, heard[-1], state(house)) == ("WRONG_PIN", "im-sorry", (950, 50))


@pytest.mark.parametrize(
    ("entries", "result"),
    [
        (("4711", "50", PIN, "1"), "UNKNOWN"),
        (("1002", "5*5", PIN, "1"), "INVALID"),
        (("1002", "0", PIN, "1"), "INVALID"),
        (("1002", "1001", PIN, "1"), "NO_CREDIT"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_refused_is_said(house, entries, result):
    assert await dialled(house, Keys(*entries)) == (result, ["telephone-number", "number", "vm-password", "im-sorry"])
    assert state(house) == (1000, 0)


@pytest_twisted.ensureDeferred
async def test_the_same_sale_again_needs_another_key(house):
    assert (await dialled(house, Keys("1002", "50", PIN, "1")))[0] == "GRANTED"
    result, heard = await dialled(house, Keys("1002", "50", PIN, "1", "2"))
    assert (result, heard[-2:], state(house)) == ("CANCELLED", ["beeperr", "cancelled"], (950, 50))
    assert (await dialled(house, Keys("1002", "50", PIN, "1", "1")))[0] == "GRANTED"
    assert state(house) == (900, 100)


@pytest_twisted.ensureDeferred
async def test_two_billers_of_one_call_sell_once(house):
    for _ in range(2):
        assert (await dialled(house, Keys("1002", "50", PIN, "1", uniqueid="7.1")))[0] == "GRANTED"
    assert state(house) == (950, 50)


@pytest.mark.parametrize(
    ("code", "arguments", "result"),
    [
        ("", (), "UNTRUSTED_SENDER"),
        ("", (b"payer=1001",), "GRANTED"),
        ("", (b"authenticated",), "GRANTED"),
        ("1002", (b"authenticated",), "WRONG_PIN"),
        ("4711", (), "UNKNOWN"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_asterisk_says_who_sells(house, code, arguments, result):
    assert (await dialled(house, Keys("1003", "50", PIN, "1", code=code, arguments=arguments)))[0] == result
    assert state(house)[0] == (950 if result == "GRANTED" else 1000)


@pytest_twisted.ensureDeferred
async def test_missing_sounds_stop_no_sale(house):
    lacks = ("telephone-number", "number", "vm-password", "you-entered", "50", "seconds", "if-correct-press")
    assert (await dialled(house, Keys("1002", "50", PIN, "1", lacks=lacks)))[0] == "GRANTED"
    assert state(house) == (950, 50)


@pytest_twisted.ensureDeferred
async def test_credit_is_handed_on_with_keys(house):
    with house.engine.begin() as tx:
        sell(tx, 100, "1002", key="s", now=NOW)
    result, heard = await dialled(house, Keys("1003", "40", code="1002"), "transfer")
    assert (result, heard[-1], state(house)) == ("GRANTED", "auth-thankyou", (900, 60))
    assert (await dialled(house, Keys("1003", "400", code="1002"), "transfer"))[0] == "NO_CREDIT"
    assert (await dialled(house, Keys("1003", code="1002"), "transfer"))[0] == "CANCELLED"
    assert state(house) == (900, 60)


@pytest.fixture
def cards(house):
    with house.engine.begin() as tx:
        return batch(tx)[1]


@pytest_twisted.ensureDeferred
async def test_a_voucher_is_redeemed_with_keys(house, cards):
    result, heard = await dialled(house, Keys(cards[0], code="1002"), "redeem")
    assert (result, state(house)) == ("GRANTED", (1000, 50))
    assert heard == ["number", "auth-thankyou", "vm-youhave", "50", "seconds"]
    assert await dialled(house, Keys(cards[0], code="1003"), "redeem") == ("VOUCHER_REDEEMED", ["number", "im-sorry"])
    assert state(house) == (1000, 50)


@pytest_twisted.ensureDeferred
async def test_a_mistyped_voucher_may_be_tried_again(house, cards):
    wrong = cards[0][:-1] + str((int(cards[0][-1]) + 1) % 10)
    result, heard = await dialled(house, Keys(wrong, cards[0], code="1002"), "redeem")
    assert (result, heard.count("please-try-again"), state(house)) == ("GRANTED", 1, (1000, 50))
    result, heard = await dialled(house, Keys(wrong, "1", "12", cards[1], code="1003"), "redeem")
    assert (result, heard[-1]) == ("UNKNOWN_VOUCHER", "im-sorry")
    assert (await dialled(house, Keys(code="1003"), "redeem"))[0] == "CANCELLED"


@pytest.mark.parametrize(
    ("entries", "result", "heard"),
    [
        ((PIN, "8642", "8642"), "GRANTED", "vm-passchanged"),
        (("1111", "8642", "8642", PIN, "8642", "8642"), "GRANTED", "vm-passchanged"),
        (("1111", "8642", "8642") * 3, "WRONG_PIN", "im-sorry"),
        ((PIN, "8642", "8643"), "INVALID", "im-sorry"),
        ((PIN, "1234", "1234"), "INVALID", "im-sorry"),
        ((PIN, "8642"), "CANCELLED", "cancelled"),
        ((), "CANCELLED", "cancelled"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_pin_is_changed_with_keys(house, entries, result, heard):
    said, all_heard = await dialled(house, Keys(*entries), "pin")
    assert (said, all_heard[-1]) == (result, heard)
    valid, other = ("8642", PIN) if result == "GRANTED" else (PIN, "8642")
    assert (await dialled(house, Keys("1002", "50", valid, "1")))[0] == "GRANTED"
    assert (await dialled(house, Keys("1002", "50", *[other] * 3)))[0] == "WRONG_PIN"
