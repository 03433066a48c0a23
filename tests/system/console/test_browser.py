"""The console in a real browser: Debian's Chromium, driven by Playwright. The whole file takes about 80 s."""

import sqlite3

import pytest

from celcombiller.console.routes import CONSOLE_ROUTES
from celcombiller.http.route import ResponseStyle
from celcombiller.runtime.languages import LANGUAGES
from tests.system.lab.browser import NARROW, WIDE, Visit

PLACES = {
    "username": "user2002",
    "id": 1,
    "number": 1,
    "receipt": "S1-000001",
    "document": "index.md",
    "name": "village",
    "action": "enable",
    "kind": "voice",
}
EMPTY = {
    "/ui/data-sessions/1",
    "/ui/messages/1",
    "/ui/networks/village",
    "/ui/networks/village/diff",
    "/ui/networks/village/sync",
    "/ui/payments/1",
    "/ui/payments/1/reversal",
}
"""Pages of what this biller has none of: they say so. tests/console has them with content."""
PAGES = sorted(
    each.open_path.format(**PLACES)
    for each in CONSOLE_ROUTES
    if (each.method, each.style) == ("GET", ResponseStyle.PAGE)
    and not each.path.endswith(("<path:unknown>", "/assets/<name>", "/images/<name>"))
)
PLANS = (
    "/ui/bundles/plan?username=user2003&name=hour&kind=seconds&amount=60&valid_hours=1",
    "/ui/broadcasts/plan?group_id=1&text=The+network+is+off",
    "/ui/subscribers/user2001/credit/plan?kind=voice&value=60",
    "/ui/sellers/user2002/refills/plan?amount=60",
    "/ui/vouchers/1/activation/plan?first=3&last=3",
)
"""What pages show before the button that moves credit."""
pytestmark = pytest.mark.xdist_group("console")  # one biller for all of it


def walk(visit, biller):
    """Go to each page, as a seller to those of sellers; each must have something to show, or ask for it."""
    bundle, receipt = biller.json("bundle", "list")[0]["id"], biller.json("seller", "sales")[0]["receipt"]
    visit.enter()
    for path in sorted((*PAGES, *PLANS), key=lambda each: f"{each}/".startswith("/ui/sell/")):
        if path == "/ui/sell":
            visit.enter("user2002")
        came = visit.go(path.replace("/ui/bundles/1", f"/ui/bundles/{bundle}").replace("S1-000001", receipt))
        assert came.status in (200, 422) or path in EMPTY, f"{path}: {came.status}"
        yield path


def test_pages_are_open_to_all(chromium, biller):
    """Look at each page at both widths: it comes at the width that the one before it was left with."""
    visit = Visit(chromium, biller, barriers=True)
    width, other = WIDE, NARROW
    for _ in walk(visit, biller):
        visit.check(barriers=width == WIDE)
        visit.resize(other)
        visit.check(barriers=other == WIDE)
        width, other = other, width
    visit.leave()


@pytest.mark.nightly
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_pages_are_open_in_each_language(chromium, biller, language, width):
    visit = Visit(chromium, biller, language=language, width=width, barriers=True)
    for _ in walk(visit, biller):
        visit.check(barriers=True)
    visit.leave()


def test_price_list_is_shown_on_a_phone(chromium, biller):
    visit = Visit(chromium, biller, width=NARROW).enter()
    page = visit.open("/ui/tariffs/1/import")
    for rates in ("prefix,price\n55,x", "prefix,name,price\n55,Brazil,100\n1,A destination with a long name,7"):
        page.fill("[name=list]", rates)
        page.click("text=Show what it would change")
        visit.check()
    assert page.is_visible("text=Make this the next version")
    visit.leave()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no_scripts"])
def test_a_subscriber_is_added_and_credited(chromium, biller, scripts):
    name = f"eva{int(scripts)}"
    visit = Visit(chromium, biller, java_script_enabled=scripts).log_in()
    page = visit.open("/ui/subscribers")
    page.click("text=New subscriber")
    for field, value in (
        ("username", name),
        ("name", "Eva <b>"),
        ("clid", "x"),
        ("imsi", f"72400000009900{int(scripts)}"),
    ):
        page.fill(f"[name={field}]", value)
    page.click("main button")
    assert page.locator("#clid-error").inner_text()
    page.fill("[name=clid]", f"300{int(scripts)}")
    page.click("main button")
    page.click("text=Give credit")
    page.fill("[name=value]", "60")
    page.click("main button")
    assert "Eva <b>" in page.inner_text("main")
    visit.tap_twice("main button")
    page.wait_for_url("**/ui/receipts/*")
    first = page.url
    page.go_back()
    page.click("main button")
    page.wait_for_url("**/ui/receipts/*")
    assert page.url == first
    assert biller.json("user", "show", name)["voice_balance"] == 60
    page.click("text=Log out")
    assert "/ui/login" in page.url
    visit.leave()
    biller.run("audit")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no_scripts"])
def test_back_after_a_sale_sells_nothing(chromium, biller, scripts):
    visit = Visit(chromium, biller, java_script_enabled=scripts, width=NARROW)
    page = visit.enter("user2002").page
    stock = biller.json("seller", "show", "user2002")["posted"]
    page.fill("[name=to]", "2001")
    page.fill("[name=amount]", "60")
    page.click("main form button")
    assert "user2001" in page.inner_text("main")
    visit.tap_twice("main form button")
    page.wait_for_url("**/ui/receipts/*")
    first = page.url
    page.go_back()
    page.click("main form button")
    page.wait_for_url("**/ui/receipts/*")
    assert page.url == first
    assert biller.json("seller", "show", "user2002")["posted"] == stock - 60
    visit.leave()


MONEY = {
    "credit": ("admin", "/ui/subscribers/user2003/credit/plan?kind=voice&value=60", {}),
    "refill": ("admin", "/ui/sellers/user2002/refills/plan?amount=60", {}),
    "bundle": ("admin", PLANS[0], {}),
    "sale": ("user2002", "/ui/sell/plan?to=2003&amount=60", {}),
    "voucher": ("user2003", "/ui/me/plans", {"code": ""}),
    "plan": ("user2003", "/ui/me/plans/1", {}),
    "transfer": ("user2003", "/ui/me/transfer/plan?to=2002&amount=1", {}),
}


def count_transfers(biller):
    """Give the number of movements in the ledger."""
    with sqlite3.connect(biller.folder / "celcombiller.sqlite") as ledger:
        return ledger.execute("select count(*) from transfer").fetchone()[0]


@pytest.mark.parametrize("form", MONEY)
def test_credit_moves_once_however_sent(chromium, biller, codes, form):
    """Click twice, reload what came, go back, send it again and reload: one movement, or what one makes."""
    who, path, fields = MONEY[form]
    fields = {name: text or codes.pop() for name, text in fields.items()}
    visit = Visit(chromium, biller, width=NARROW).enter(who)
    page = visit.open(path)
    before, sent = count_transfers(biller), []
    for _ in range(2):
        for name, text in fields.items():
            page.fill(f"[name={name}]", text)
        visit.tap_twice("main form[method=post] button")
        page.reload()
        sent.append((page.url, count_transfers(biller)))
        page.go_back()
    assert sent[0] == sent[1]
    assert sent[0][1] > before
    visit.leave()


def test_search_follows_what_is_typed(chromium, biller):
    visit = Visit(chromium, biller).enter()
    page = visit.open("/ui/subscribers")
    page.fill("[name=search]", "ER2002")
    page.wait_for_selector("#found tbody tr:only-child >> text=user2002")
    assert "search=ER2002" in page.url
    visit.leave()


def test_chart_is_drawn_from_its_table(chromium, biller):
    visit = Visit(chromium, biller, width=NARROW).enter()
    page = visit.open("/ui/reports/days")
    for _ in range(20):
        if page.locator(".chart").count():
            break
        page.wait_for_timeout(1000)  # the sums are a few seconds old
        page.reload()
    page.wait_for_selector(".chart canvas")
    assert page.locator(".chart .u-series").count() == 3
    assert page.evaluate("document.querySelector('.chart canvas').getBoundingClientRect().width") <= 360
    visit.leave()
