"""Who may call, on a real Asterisk: limits of simultaneous calls, and prefixes; all of it takes about 20 s."""

import pytest

from tests.system.lab.sip_phones import callee, caller

CREDIT = 60
CALLEE = 2001


@pytest.fixture
def calling(biller, pbx, tmp_path):
    """Begin with two callers and a callee, and make calls between them."""
    biller.prepare({1000: CREDIT, 1001: CREDIT, CALLEE: 0})
    biller.start()

    def call(place, number, does):
        words = {"number": str(number), "dials": str(CALLEE), "sip_port": pbx.sip_port}
        return caller(tmp_path / f"caller{place}", does, **words, **({} if does == "refused" else {"talk": 3}))

    return call


@pytest.fixture
def answering(pbx, tmp_path):
    phone = callee(tmp_path / "callee", "waits", port=pbx.port_of(str(CALLEE)), talk=10)
    yield phone
    phone.stop()


@pytest.mark.parametrize(
    ("limit", "second", "code"),
    [
        (("user", "change", "user1000", "--calls-max", 1), 1000, "TOO_MANY_CALLS"),
        (("group", "change", "village", "--calls-max", 1), 1001, "GROUP_FULL"),
        (("group", "change", "village", "--subscriber-calls-max", 1), 1000, "TOO_MANY_CALLS"),
    ],
)
def test_a_limit_refuses_the_second_call(biller, calling, answering, limit, second, code):
    biller.run("group", "add", "village")
    for number in (1000, 1001):
        biller.run("user", "change", f"user{number}", "--group", "village")
    biller.run(*limit)
    first = calling("first", 1000, "hangs_up")
    first.until_answered()
    calling("second", second, "refused").finish()
    assert code in biller.log
    first.finish()
    biller.check_books(1000, credit=CREDIT, cost=biller.closed_call(1000)["cost"])


def test_a_barred_number_is_not_dialled(biller, calling):
    biller.run("user", "change", "user1000", "--barred", "2")
    calling("barred", 1000, "refused").finish()
    assert "BARRED" in biller.log
    assert biller.calls_of(1000) == []
