"""One biller for the pages: subscribers, a seller, and something on each page."""

import csv

import pytest

from tests.system.lab.biller import Biller
from tests.system.lab.browser import PASSWORD


@pytest.fixture(scope="session")
def biller(tmp_path_factory):
    """Give a biller with three subscribers; one has called another, who sells credit."""
    made = Biller(tmp_path_factory.mktemp("console"))
    made.rest, made.sms = {"login_code": True}, {"on_net_route": "smpp"}
    made.smpp = {"host": "127.0.0.1", "port": 1, "system_id": "x", "password": "x"}
    made.more = ["[credit_transfers]", "enabled = true", 'confirm = "none"']
    made.write()
    (made.folder / "password").write_text(PASSWORD)
    made.run("init", "--admin", "admin", "--password-file", "password")
    made.subscriber(2001, 60)
    made.subscriber(2002)
    made.subscriber(2003, 400)
    made.run("seller", "add", "user2002")
    made.run("seller", "refill", "user2002", 1000)
    made.run("user", "password", "user2002", "--password-file", "password")
    made.run("seller", "sell", "user2002", 2003, 50)
    made.run("tariff", "add", "retail")
    (made.folder / "rates.csv").write_text("prefix,name,price\n55,Brazil,10\n,,20\n")
    made.run("tariff", "import", "--tariff", "retail", "--yes", "rates.csv")
    made.run("offer", "add", "hour", "--seconds", 3600, "--price", 300, "--for", "30d")
    made.run("trunk", "add", "north", "PJSIP/{number}@north")
    made.run("route", "add", "55", "north")
    made.run("bundle", "give", "user2002", "--seconds", 3600, "--for", "30d")
    made.run("voucher", "make", "cards", "--cards", 3, "--voice", 50, "--output", "cards.csv")
    made.run("voucher", "activate", "cards", "--to", 2, "--seller", "user2002")
    made.run("group", "add", "village")
    made.run("user", "change", "user2002", "--group", "village")
    made.run("broadcast", "send", "village", "The network is off on Sunday.", "--yes")
    made.run("schedules", "add", "tower", "--fee", 500, "--every", 1, "--suspend-after", 3)
    made.run("schedules", "join", "tower", "user2002")
    made.run("schedules", "run")
    made.run("voucher", "make", "shop", "--cards", 9, "--voice", 50, "--output", "shop.csv")
    made.run("voucher", "activate", "shop")
    made.run("user", "password", "user2003", "--password-file", "password")
    made.start()
    made.run("call", "user2001", 2003, "--talk", 10.2)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def codes(biller):
    """Give codes of vouchers that nobody has redeemed yet."""
    with (biller.folder / "shop.csv").open() as file:
        return [each["code"] for each in csv.DictReader(file)]
