"""Credit sold by the keys of a phone over a real Asterisk: what is heard, which key sells, and that it sells once."""

import csv
import re
import socket

from tests.system.lab.asterisk import PASSWORD, SELLERS
from tests.system.lab.sellers import PIN, STOCK, add_seller, shows_pin, stock_of
from tests.system.lab.sip_phones import Phone, caller
from tests.system.lab.waiting import free_ports, until

SELLER, BUYER = SELLERS[0], SELLERS[1]
A_KEY = 0.4
"""Seconds that SIPp takes for one."""


def begin(biller):
    biller.prepare({SELLER: 60, BUYER: 0})
    add_seller(biller, SELLER)
    with (biller.folder / "celcombiller.toml").open("a") as settings:
        settings.write("[keypad]\nkey_seconds = 3\n")
    return biller.start()


STAYS = """
  <recv request="BYE"/>
  <send><![CDATA[
      SIP/2.0 200 OK
      [last_Via:]
      [last_From:]
      [last_To:]
      [last_Call-ID:]
      [last_CSeq:]
      Content-Length: 0
  ]]></send>
"""
HANGS_UP = """
  <send retrans="500"><![CDATA[
      BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: <sip:[caller]@[local_ip]:[local_port]>;tag=[call_number]
      To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
      Call-ID: [call_id]
      CSeq: 3 BYE
      Max-Forwards: 70
      Content-Length: 0
  ]]></send>
  <recv response="200"/>
"""


def keys(*entries, wait=2.0, last_wait=2.0):
    """Return the steps of a phone that enters these, one after the other."""
    waits = [wait] * (len(entries) - 1) + [last_wait]
    return "\n".join(
        f'<nop><action><exec play_dtmf="{entry}"/></action></nop>'
        f'<pause milliseconds="{round((len(entry) * A_KEY + seconds) * 1000)}"/>'
        for entry, seconds in zip(entries, waits, strict=True)
    )


def dial(folder, pbx, steps, *, ending=STAYS, number=SELLER, dials="*101"):
    words = ["-i", "127.0.0.1", "-p", str(free_ports(1, socket.SOCK_DGRAM)), "-s", dials]
    words += ["-key", "caller", str(number), "-au", str(number), "-ap", PASSWORD, f"127.0.0.1:{pbx.sip_port}"]
    pause = '<pause milliseconds="600"/>\n'
    return Phone(folder, "caller_keys", words, talk=1, keys=pause + steps, ending=ending)


def played(pbx):
    return re.findall(r"Playing '([^']+)\.gsm'", pbx.log)


def check_books(biller, *, sold, redeemed=0):
    assert (stock_of(biller, SELLER), biller.user(BUYER)["voice_balance"]) == (STOCK - sold, sold + redeemed)
    report = biller.json("audit")
    assert report["ok"], report["differences"]
    assert "Traceback" not in biller.log
    assert not shows_pin(biller.log)


def test_a_seller_sells_with_keys(biller, pbx, tmp_path):
    begin(biller)
    dial(tmp_path / "seller", pbx, keys(f"{BUYER}#", "50#", f"{PIN}#", "1")).finish()
    assert "auth-thankyou" in played(pbx)
    check_books(biller, sold=50)


def test_another_key_and_a_hangup_sell_nothing(biller, pbx, tmp_path):
    begin(biller)
    dial(tmp_path / "wrong", pbx, keys(f"{BUYER}#", "50#", f"{PIN}#", "3", last_wait=0)).finish()
    assert played(pbx)[-1] == "cancelled"
    dial(tmp_path / "gone", pbx, keys(f"{BUYER}#", "50#", f"{PIN}#"), ending=HANGS_UP).finish()
    until(lambda: pbx.channels() == 0, "the channel is gone")
    check_books(biller, sold=0)


def test_a_hangup_after_the_key_sells_once(biller, pbx, tmp_path):
    begin(biller)
    steps = keys(f"{BUYER}#", "50#", f"{PIN}#", "1", last_wait=1.0)
    dial(tmp_path / "seller", pbx, steps, ending=HANGS_UP).finish()
    until(lambda: stock_of(biller, SELLER) < STOCK, "the sale")
    check_books(biller, sold=50)


def test_a_card_and_a_pin_by_keys(biller, pbx, tmp_path):
    begin(biller)
    biller.run("voucher", "make", "cards", "--cards", 1, "--voice", 50, "--output", tmp_path / "cards.csv")
    biller.run("voucher", "activate", "cards")
    with (tmp_path / "cards.csv").open() as file:
        [card] = csv.DictReader(file)
    code = card["code"].replace(" ", "")
    buyer = dial(tmp_path / "buyer", pbx, keys(code), number=BUYER, dials="*103")
    dial(tmp_path / "seller", pbx, keys(f"{PIN}#", "8642#", "8642#"), dials="*104").finish()
    buyer.finish()
    assert "vm-passchanged" in played(pbx)
    assert code not in biller.log
    assert not shows_pin(biller.log, "8642")
    check_books(biller, sold=0, redeemed=50)


def test_a_phone_without_a_password_sells_nothing(biller, pbx, tmp_path):
    begin(biller)
    biller.subscriber(1000)
    phone = caller(tmp_path / "forger", "hangs_up", number="1000", dials="*101", sip_port=pbx.sip_port, talk=1)
    phone.finish()
    check_books(biller, sold=0)
