"""The console in a real browser: Debian's Chromium, driven by Playwright. The whole file takes about 25 s."""

import pytest

from celcombiller.console.routes import CONSOLE_ROUTES
from celcombiller.http.route import ResponseStyle
from tests.system.lab.biller import Biller
from tests.system.lab.browser import PASSWORD, Visit

NARROW = 360
PLACES = {
    "username": "user2001",
    "id": 1,
    "number": 1,
    "receipt": "S1-000001",
    "document": "index.md",
    "name": "village",
    "action": "enable",
}
PAGES = sorted(
    each.open_path.format(**PLACES)
    for each in CONSOLE_ROUTES
    if (each.method, each.style) == ("GET", ResponseStyle.PAGE)
    and not each.path.endswith(("<path:unknown>", "/assets/<name>", "/images/<name>"))
)


@pytest.fixture(scope="module")
def biller(tmp_path_factory):
    """Give a biller with two subscribers; one has called the other, who sells credit."""
    made = Biller(tmp_path_factory.mktemp("console"))
    made.rest, made.sms = {"login_code": True}, {"on_net_route": "smpp"}
    made.smpp = {"host": "127.0.0.1", "port": 1, "system_id": "x", "password": "x"}
    made.write()
    (made.folder / "password").write_text(PASSWORD)
    made.run("init", "--admin", "admin", "--password-file", "password")
    made.subscriber(2001, 60)
    made.subscriber(2002)
    made.run("seller", "add", "user2002")
    made.run("seller", "refill", "user2002", 1000)
    made.run("user", "password", "user2002", "--password-file", "password")
    made.run("tariff", "add", "retail")
    (made.folder / "rates.csv").write_text("prefix,name,price\n55,Brazil,10\n,,20\n")
    made.run("tariff", "import", "--tariff", "retail", "--yes", "rates.csv")
    made.run("offer", "add", "hour", "--seconds", 3600, "--price", 300, "--for", "30d")
    made.run("trunk", "add", "north", "PJSIP/{number}@north")
    made.run("route", "add", "55", "north")
    made.run("bundle", "give", "user2001", "--seconds", 3600, "--for", "30d")
    made.run("voucher", "make", "cards", "--cards", 3, "--voice", 50, "--output", "cards.csv")
    made.run("voucher", "activate", "cards", "--to", 2, "--seller", "user2002")
    made.run("group", "add", "village")
    made.run("user", "change", "user2001", "--group", "village")
    made.run("broadcast", "send", "village", "The network is off on Sunday.", "--yes")
    made.run("schedules", "add", "fee", "--fee", 500, "--every", 1, "--suspend-after", 3)
    made.run("schedules", "join", "fee", "user2001")
    made.run("schedules", "run")
    made.start()
    made.run("call", "user2001", 2002, "--talk", 10.2)
    yield made
    made.stop()


@pytest.mark.parametrize("width", [1280, NARROW])
def test_pages_are_open_to_all(chromium, biller, width):
    visit = Visit(chromium, biller, viewport={"width": width, "height": 800}).log_in()
    bundle = biller.json("bundle", "list")[0]["id"]
    for path in PAGES:
        visit.go(path.replace("/ui/bundles/1", f"/ui/bundles/{bundle}"))
        visit.check(barriers=width > NARROW)
    visit.go("/ui/bundles/plan?username=user2001&name=hour&kind=seconds&amount=60&valid_hours=1")
    visit.check()
    page = visit.go("/ui/tariffs/1/import")
    for rates in ("prefix,price\n55,x", "prefix,name,price\n55,Brazil,100\n1,A destination with a long name,7"):
        page.fill("[name=list]", rates)
        page.click("text=Show what it would change")
        visit.check()
    assert page.is_visible("text=Make this the next version")
    visit.context.close()
    assert not visit.faults


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no_scripts"])
def test_a_subscriber_is_added_and_credited(chromium, biller, scripts):
    name = f"eva{int(scripts)}"
    visit = Visit(chromium, biller, java_script_enabled=scripts).log_in()
    page = visit.go("/ui/subscribers")
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
    page.dblclick("main button")
    page.wait_for_url("**/ui/receipts/*")
    first = page.url
    page.go_back()
    page.click("main button")
    page.wait_for_url("**/ui/receipts/*")
    assert page.url == first
    assert biller.json("user", "show", name)["voice_balance"] == 60
    page.click("text=Log out")
    assert "/ui/login" in page.url
    visit.context.close()
    assert not visit.faults
    biller.run("audit")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no_scripts"])
def test_back_after_a_sale_sells_nothing(chromium, biller, scripts):
    visit = Visit(chromium, biller, java_script_enabled=scripts, viewport={"width": 360, "height": 800})
    page = visit.log_in("user2002").page
    stock = biller.json("seller", "show", "user2002")["posted"]
    page.fill("[name=to]", "2001")
    page.fill("[name=amount]", "60")
    page.click("main form button")
    assert "user2001" in page.inner_text("main")
    page.dblclick("main form button")
    page.wait_for_url("**/ui/receipts/*")
    first = page.url
    page.go_back()
    page.click("main form button")
    page.wait_for_url("**/ui/receipts/*")
    assert page.url == first
    assert biller.json("seller", "show", "user2002")["posted"] == stock - 60
    visit.context.close()
    assert not visit.faults


def test_search_follows_what_is_typed(chromium, biller):
    visit = Visit(chromium, biller).log_in()
    page = visit.go("/ui/subscribers")
    page.fill("[name=search]", "ER2002")
    page.wait_for_selector("#found tbody tr:only-child >> text=user2002")
    assert "search=ER2002" in page.url
    visit.context.close()
    assert not visit.faults


def test_chart_is_drawn_from_its_table(chromium, biller):
    visit = Visit(chromium, biller, viewport={"width": 360, "height": 800}).log_in()
    page = visit.go("/ui/reports/days")
    for _ in range(20):
        if page.locator(".chart").count():
            break
        page.wait_for_timeout(1000)  # the sums are a few seconds old
        page.reload()
    page.wait_for_selector(".chart canvas")
    assert page.locator(".chart .u-series").count() == 3
    assert page.evaluate("document.querySelector('.chart canvas').getBoundingClientRect().width") <= 360
    visit.context.close()
    assert not visit.faults
