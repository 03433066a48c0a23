"""A message that the message centre brings goes over a real Asterisk to a real phone, once, through a biller's death."""

import pytest

from tests.system.asterisk.messages.test_messages import Api, begin, body_of, check_books, reader
from tests.system.lab.smsc import Centre

pytestmark = pytest.mark.sip_messages

BROUGHT = {"source_addr": "5599", "destination_addr": "2001", "short_message": b"hello from far"}


@pytest.fixture
def centre():
    made = Centre()
    yield made
    made.stop()


def with_centre(biller, centre):
    biller.smpp = {"host": "127.0.0.1", "port": centre.port, "system_id": "biller"}
    begin(biller, off_net_route="smpp")
    centre.let_in()
    return biller


def test_an_smscs_message_reaches_the_phone_free(biller_on_each, pbx, tmp_path, centre):
    biller = with_centre(biller_on_each, centre)
    other = reader(tmp_path / "reader", pbx.port_of("2001"))
    assert centre.bring(**BROUGHT) == 0
    other.finish()
    assert body_of(other) == "hello from far"
    assert "From: <sip:5599@" in other.messages.partition("\nMESSAGE ")[2]
    message = Api(biller).the_message("accepted")
    assert (message["username"], message["cost"], message["origin"]) == (None, 0, "phone")
    assert centre.bring(**BROUGHT) == 0
    assert len(Api(biller).messages()) == 1
    assert centre.bring(**BROUGHT | {"destination_addr": "7777"}) == 0x0B
    check_books(biller, cost=0)


def test_an_accepted_message_survives_a_kill_once(biller, pbx, tmp_path, centre):
    with_centre(biller, centre)
    pbx.stop()
    assert centre.bring(**BROUGHT) == 0
    biller.kill9()
    biller.start()
    centre.let_in()
    assert centre.bring(**BROUGHT) == 0
    other = reader(tmp_path / "reader", pbx.port_of("2001"))
    pbx.start()
    Api(biller).the_message("accepted")
    other.finish()
    assert body_of(other) == "hello from far"
    assert len(Api(biller).messages()) == 1
    check_books(biller, cost=0)
