"""A phone may put line ends into its name and the number it calls; nobody else pays, and no forged event is believed."""

import pytest

from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import until

CREDIT = 60
STRANGER = "127.0.0.66"  # known to Asterisk by its address, so that From may say anything

FROM = (
    "1999%0Aagi_accountcode%3A%20user1000",
    "1999%0A%0A200%20result%3D1%20(PWNED)",
    "1999%0D%0A%0D%0AEvent%3A%20Hangup%0D%0AUniqueid%3A%20pbx1-1.0",
)
DIALLED = (
    "2001%0Aagi_arg_1%3A%20evil",
    "2001%0Aagi_accountcode%3A%20user1000",
    "2001%26PJSIP",
    "2001%2C60",
    "2001%22%20%7C%20%221",
)


def _begin(biller):
    return biller.prepare({1000: CREDIT, 2001: 0}).start()


@pytest.mark.parametrize("name", FROM)
def test_a_forged_name_calls_on_nobodys_credit(biller, pbx, tmp_path, name):
    _begin(biller)
    phone = caller(tmp_path / "evil", "refused", number=name, dials="2001", sip_port=pbx.sip_port, address=STRANGER)
    phone.finish()
    assert biller.json("calls") == []
    biller.check_books(1000, credit=CREDIT, cost=0)


@pytest.mark.parametrize("dialled", DIALLED)
def test_a_forged_number_is_not_dialled(biller, pbx, tmp_path, dialled):
    _begin(biller)
    phone = caller(tmp_path / "evil", "refused", number="1000", dials=dialled, sip_port=pbx.sip_port)
    phone.finish()
    assert biller.json("calls") == []
    biller.check_books(1000, credit=CREDIT, cost=0)


def test_a_forged_hangup_ends_no_other_call(biller, pbx, tmp_path):
    _begin(biller)
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2001"), talk=4)
    phone = caller(tmp_path / "caller", "hangs_up", number="1000", dials="2001", sip_port=pbx.sip_port, talk=4)
    phone.until_answered()
    uniqueid = until(lambda: biller.calls_of(1000), "the call is recorded")[0]["uniqueid"]
    forged = f"9%0D%0A%0D%0AEvent%3A%20Hangup%0D%0AUniqueid%3A%20{uniqueid}"
    evil = caller(tmp_path / "evil", "refused", number=forged, dials="2001", sip_port=pbx.sip_port, address=STRANGER)
    evil.finish()
    assert biller.calls_of(1000)[0]["state"] == "open"
    phone.finish()
    other.finish()
    assert biller.closed_call(1000)["cost"] == 5
    biller.check_books(1000, credit=CREDIT, cost=5)
