"""A real phone asks its balance by text message, and is told by one when the balance has become low."""

import socket

import pytest
import sqlalchemy as sa

from celcombiller.core.notifications.low_balance import BOOKMARK
from celcombiller.core.schema import tables
from celcombiller.database.engine import open_engine
from tests.system.asterisk.messages.test_messages import body_of, reader
from tests.system.lab.sip_phones import Phone
from tests.system.lab.waiting import free_ports, until

pytestmark = pytest.mark.sip_messages

WAY = {"on_net_route": "asterisk", "on_net_price": 3, "retry_seconds_max": 1, "sender": "100"}
CODE = "100"


def begin(biller, settings="", **sms):
    biller.sms = WAY | sms
    biller.prepare({1000: 0, 2001: 125})
    with (biller.folder / "celcombiller.toml").open("a") as file:
        file.write(settings)
    return biller.start()


def asks(folder, pbx, *, number="2001", call_id="asking@phone"):
    port = free_ports(1, socket.SOCK_DGRAM)
    words = ["-i", "127.0.0.1", "-p", str(port), "-s", CODE, "-key", "caller", number, "-cid_str", call_id]
    Phone(folder, "texter_accepted", [*words, f"127.0.0.1:{pbx.sip_port}"], talk=1, text="balance?").finish()


def rows(biller, table):
    url = sa.make_url(biller.url)
    if url.get_backend_name() == "sqlite":
        url = url.set(database=str(biller.folder / url.database))
    engine = open_engine(url.render_as_string(hide_password=False), lock_seconds=5)
    with engine.connect() as tx:
        found = tx.execute(sa.select(table)).all()
    engine.dispose()
    return found


def marks(biller):
    """Give how far the transfers were read for notices."""
    return [row.transfer_id for row in rows(biller, tables.bookmark) if row.name == BOOKMARK]


def all_are_sent(biller, count):
    until(lambda: [row.state for row in rows(biller, tables.message)] == ["accepted"] * count, f"{count} are sent")
    assert [row.subscriber_id for row in rows(biller, tables.message)] == [None] * count


def test_a_balance_enquiry_by_message_is_free(biller_on_each, pbx, tmp_path):
    biller = begin(biller_on_each, balance_code=CODE)
    phone = reader(tmp_path / "reader", pbx.port_of("2001"))
    asks(tmp_path / "asks", pbx)
    phone.finish()
    assert body_of(phone) == "Your balance is 2 min 5 s."
    all_are_sent(biller, 1)
    biller.check_books(2001, credit=125, cost=0)


def test_a_repeated_enquiry_is_answered_once(biller, pbx, tmp_path):
    begin(biller, balance_code=CODE)
    phone = reader(tmp_path / "reader", pbx.port_of("2001"))
    for number in range(2):
        asks(tmp_path / f"asks{number}", pbx)
    phone.finish()
    until(lambda: biller.log.count("asked for by message") == 2, "both were heard")
    all_are_sent(biller, 1)
    phone = reader(tmp_path / "second", pbx.port_of("2001"))
    asks(tmp_path / "anew", pbx, call_id="another@phone")
    phone.finish()
    all_are_sent(biller, 2)


def test_a_strangers_enquiry_is_not_answered(biller, pbx, tmp_path):
    begin(biller, balance_code=CODE)
    asks(tmp_path / "asks", pbx, number="1001")
    until(lambda: "Refused a message: UNKNOWN" in biller.log, "it is refused")
    assert rows(biller, tables.message) == []


def test_a_low_balance_notice_survives_a_kill(biller_on_each, pbx, tmp_path):
    biller = begin(biller_on_each, '[notices]\nthresholds = [600, 60]\ntext = "Low: {balance}"\n')
    until(lambda: marks(biller), "it looks")
    phone = reader(tmp_path / "reader", pbx.port_of("2001"))
    biller.run("credit", "user2001", -100)
    biller.kill9()
    biller.start()
    phone.finish()
    assert body_of(phone) == "Low: 25 s"
    all_are_sent(biller, 1)
    biller.stop()
    biller.start()
    biller.run("credit", "user2001", -1)
    until(lambda: marks(biller) == [3], "it has looked again")
    all_are_sent(biller, 1)
    assert biller.json("audit")["ok"]
    assert "Traceback" not in biller.log
