"""The page of live calls, in Chromium, while a real call goes on. 12 s."""

from tests.system.lab.browser import PASSWORD, Visit
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import until


def test_the_page_follows_a_call_and_ends_it(biller, pbx, chromium, tmp_path):
    """The row comes by itself, its button ends the call, and the row goes by itself."""
    biller.prepare({1000: 60, 2003: 0})
    (biller.folder / "password").write_text(PASSWORD)
    biller.run("user", "password", "admin", "--password-file", "password")
    biller.start()
    visit = Visit(chromium, biller).log_in()
    page = visit.open("/ui/live")
    page.wait_for_selector("text=No call is in progress.")
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2003"), talk=60.0)
    phone = caller(tmp_path / "caller", "waits", number="1000", dials="2003", sip_port=pbx.sip_port, talk=60.0)
    try:
        phone.until_answered()
        page.wait_for_selector("#live td >> text=user1000")
        page.click("#live summary")
        page.click("#live button")
        page.wait_for_selector("text=No call is in progress.")
        until(lambda: pbx.channels() == 0, "the call is over")
        assert biller.closed_call(1000)["outcome"].startswith("ANSWER")
    finally:
        phone.stop()
        other.stop()
    visit.leave()
