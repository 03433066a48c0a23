"""Credit sold by messages that a message centre brings, where the operator trusts it, and not otherwise."""

import pytest

from tests.system.asterisk.selling.test_text_sales import BUYER, SELLER, check_books
from tests.system.lab.sellers import PIN, add_seller
from tests.system.lab.smsc import Centre

pytestmark = pytest.mark.sip_messages

SALE = {
    "source_addr": str(SELLER),
    "destination_addr": "777",
    "short_message": f"{PIN}#{BUYER}#50".encode(),
}
UNKNOWN_NUMBER = 0x0B


@pytest.fixture
def centre():
    made = Centre()
    yield made
    made.stop()


def begin(biller, centre, *, trusted):
    biller.smpp = {"host": "127.0.0.1", "port": centre.port, "system_id": "biller"}
    biller.sms = {"on_net_route": "asterisk", "off_net_route": "smpp"}
    biller.prepare({SELLER: 60, BUYER: 0})
    with (biller.folder / "celcombiller.toml").open("a") as settings:
        settings.write(f'[text_commands]\nsell_code = "777"\nover_smpp = {str(trusted).lower()}\n')
    add_seller(biller, SELLER)
    biller.start()
    centre.let_in()


def test_a_trusted_message_centre_sells_once(biller_on_each, pbx, centre):
    begin(biller_on_each, centre, trusted=True)
    for _ in range(3):  # it has no ids: who knows whether it is the same message
        assert centre.bring(**SALE) == 0
    assert centre.bring(**SALE | {"short_message": b"1111#1401#50"}) == 0
    assert centre.bring(**SALE | {"source_addr": "4711"}) == UNKNOWN_NUMBER
    long = b"\x05\x00\x03\x07\x02\x01" + SALE["short_message"]  # the first of two parts
    assert centre.bring(**SALE | {"short_message": long, "esm_class": 0x40}) == 0
    check_books(biller_on_each, sold=50)


def test_an_untrusted_message_centre_sells_nothing(biller, pbx, centre):
    begin(biller, centre, trusted=False)
    assert centre.bring(**SALE) == UNKNOWN_NUMBER
    check_books(biller, sold=0)
