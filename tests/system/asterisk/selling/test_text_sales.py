"""Credit sold by text message over a real Asterisk: told by a password, sold once, and answered to the phone."""

import email.utils
import re
import socket
import time
import uuid

import pytest

from tests.system.asterisk.messages.test_messages import body_of, reader
from tests.system.lab.asterisk import PASSWORD, SELLERS
from tests.system.lab.sellers import PIN, STOCK, add_seller, shows_pin, stock_of
from tests.system.lab.sip_phones import Phone
from tests.system.lab.waiting import free_ports, until

pytestmark = pytest.mark.sip_messages

SELLER, BUYER = SELLERS[0], SELLERS[1]
SETTINGS = """
[text_commands]
sell_code = "777"
transfer_code = "777"
[credit_transfers]
enabled = true
"""


def begin(biller):
    biller.sms = {"on_net_route": "asterisk", "retry_seconds_max": 1}
    biller.prepare({SELLER: 60, BUYER: 0})
    with (biller.folder / "celcombiller.toml").open("a") as settings:
        settings.write(SETTINGS)
    add_seller(biller, SELLER)
    return biller.start()


def text(folder, words, *, pbx, number=SELLER, to="777", call_id=None, date="", does="authenticated"):
    port = free_ports(1, socket.SOCK_DGRAM)
    arguments = ["-i", "127.0.0.1", "-p", str(port), "-s", to, "-key", "caller", str(number)]
    arguments += ["-cid_str", call_id or uuid.uuid4().hex, "-au", str(number), "-ap", PASSWORD]
    arguments += [f"127.0.0.1:{pbx.sip_port}"]
    date = date or email.utils.formatdate(usegmt=True)
    Phone(folder, f"texter_{does}", arguments, talk=1, text=words, date=date).finish()


def phone_of(folder, pbx, number=SELLER):
    return reader(folder, pbx.seller_port + SELLERS.index(number))


def answer_to(phone):
    phone.finish()
    return body_of(phone).strip()


def check_books(biller, *, sold):
    assert (stock_of(biller, SELLER), biller.user(BUYER)["voice_balance"]) == (STOCK - sold, sold)
    report = biller.json("audit")
    assert report["ok"], report["differences"]
    assert "Traceback" not in biller.log
    assert not shows_pin(biller.log)


def test_a_text_message_sells_once(biller, pbx, tmp_path):
    begin(biller)
    phone = phone_of(tmp_path / "answer", pbx)
    call_id = uuid.uuid4().hex
    for number in range(2):  # the same message again
        text(tmp_path / f"sale{number}", f"{PIN}#{BUYER}#50", pbx=pbx, call_id=call_id)
    assert answer_to(phone) == f"You have sold 50 s to {BUYER}. You have 15 min 50 s left to sell."
    check_books(biller, sold=50)
    asking = phone_of(tmp_path / "question", pbx)
    text(tmp_path / "again", f"{PIN} # +{BUYER} # 50", pbx=pbx)
    question = answer_to(asking)
    assert question.startswith(f"You have sold 50 s to {BUYER} at ")
    check_books(biller, sold=50)
    text(tmp_path / "code", re.search(r"Send ([0-9]{4}) ", question)[1], pbx=pbx)
    until(lambda: stock_of(biller, SELLER) == 900, "the second sale")
    check_books(biller, sold=100)


def test_wrong_words_get_a_sentence_back(biller, pbx, tmp_path):
    begin(biller)
    for number, (words, sentence) in enumerate(
        (
            (f"1111#{BUYER}#50", "Not done: the PIN is wrong."),
            (f"{PIN}#{BUYER}#five", "Not done: the amount 'five' is no amount"),
            (f"{PIN}#4711#50", "Not done: no subscriber has this number."),
            ("hello", "This is no command."),
        )
    ):
        phone = phone_of(tmp_path / f"answer{number}", pbx)
        text(tmp_path / f"words{number}", words, pbx=pbx)
        assert answer_to(phone).startswith(sentence)
    phone = phone_of(tmp_path / "late", pbx)
    yesterday = email.utils.formatdate(time.time() - 90_000, usegmt=True)
    text(tmp_path / "old", f"{PIN}#{BUYER}#50", pbx=pbx, date=yesterday)
    assert answer_to(phone).startswith("Not done: your message came too late.")
    check_books(biller, sold=0)


def test_a_forged_sender_sells_nothing(biller, pbx, tmp_path):
    begin(biller)
    biller.subscriber(1000)
    text(tmp_path / "forged", f"{PIN}#{BUYER}#50", pbx=pbx, number=1000, does="accepted")
    until(lambda: "UNTRUSTED_SENDER" in biller.log, "the refusal")
    check_books(biller, sold=0)


def test_a_transfer_is_confirmed_from_the_phone(biller, pbx, tmp_path):
    begin(biller)
    phone = phone_of(tmp_path / "question", pbx)
    text(tmp_path / "ask", f"{BUYER}#20", pbx=pbx)
    code = re.search(r"Send ([0-9]{6}) ", answer_to(phone))[1]
    phone = phone_of(tmp_path / "answer", pbx)
    text(tmp_path / "code", code, pbx=pbx)
    assert answer_to(phone) == f"You have given 20 s to {BUYER}. Your balance is 40 s."
    assert (biller.user(SELLER)["voice_balance"], biller.user(BUYER)["voice_balance"]) == (40, 20)
    assert biller.json("audit")["ok"]
