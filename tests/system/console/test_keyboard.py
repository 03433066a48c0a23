"""The main jobs by Tab, Enter and what is typed, with scripts and without, on the width of a phone. 25 s."""

import pytest

from tests.system.lab.browser import NARROW, PASSWORD, Visit

pytestmark = pytest.mark.xdist_group("console")


@pytest.fixture(params=[True, False], ids=["scripts", "no_scripts"])
def visit(request, chromium, biller):
    """Give a window at the page of the login."""
    made = Visit(chromium, biller, width=NARROW, java_script_enabled=request.param)
    made.go("/")
    yield made
    made.leave()


def log_in(visit, username):
    visit.type(Username_or_number=username, Password=PASSWORD)
    visit.press("Log in")


def test_operators_credit_and_reverse_by_keyboard(visit, biller):
    before = biller.user(2003)["data_balance"]
    log_in(visit, "admin")
    visit.press("Subscribers")
    visit.skip_menu()
    visit.type(A_part_of_the_name="user2003")
    if visit.page.locator("noscript button").count():
        visit.press("Search")
        visit.skip_menu()
    else:
        visit.page.wait_for_selector("#found tbody tr:only-child >> text=user2003")
    visit.press("user2003")
    visit.skip_menu()
    visit.press("Give credit")
    visit.skip_menu()
    visit.tab_to("Kind", "SELECT")
    visit.page.keyboard.type("data")
    visit.type(Amount_in_credits="60", Note="by keyboard")
    visit.press("Go on")
    visit.skip_menu()
    visit.press("Give 60 credits")
    assert biller.user(2003)["data_balance"] == before + 60
    visit.skip_menu()
    visit.open_question("Reverse it")
    visit.type(Reason="a test")
    visit.press("Reverse it")
    assert biller.user(2003)["data_balance"] == before


def test_sellers_sell_and_undo_by_keyboard(visit, biller):
    before = biller.user(2003)["voice_balance"]
    log_in(visit, "user2002")
    visit.skip_menu()
    visit.type(Number="2003", Amount_in_credits="60")
    visit.press("Go on")
    visit.skip_menu()
    visit.press("Sell 60 credits")
    assert biller.user(2003)["voice_balance"] == before + 60
    visit.skip_menu()
    visit.open_question("Undo")
    visit.press("Undo")
    assert biller.user(2003)["voice_balance"] == before


def test_subscribers_redeem_and_transfer_by_keyboard(visit, biller, codes):
    before = biller.user(2003)["voice_balance"]
    log_in(visit, "user2003")
    visit.skip_menu()
    visit.press("Vouchers and plans")
    visit.skip_menu()
    visit.type(Code_of_the_card=codes.pop())
    visit.press("Redeem")
    assert biller.user(2003)["voice_balance"] == before + 50
    visit.skip_menu()
    visit.press("Hand credit on")
    visit.skip_menu()
    visit.type(Number="2002", Amount_in_credits="20")
    visit.press("Go on")
    visit.skip_menu()
    visit.press("Hand on 20 credits")
    assert biller.user(2003)["voice_balance"] == before + 30
