"""A whole day of an operator and a seller in Chromium, from the first subscriber to the audit. 15 s."""

from tests.system.lab.biller import Biller
from tests.system.lab.browser import NARROW, PASSWORD, Visit
from tests.system.lab.waiting import until

NUMBERS = {"rosa": "2101", "davi": "2102", "lia": "2103"}
LIST = "username,clid,imsi,name\ndavi,2102,724000000002102,Davi Souza\nlia,2103,724000000002103,Lia Costa\n"

ORIGINS = (("sale", "voucher"), ("call",), ("undo",))
"""Of the movements that the report by day calls sold, used and taken back."""


def fill(page, **fields):
    """Fill in fields by their names, and press the button of their form."""
    for name, text in fields.items():
        page.fill(f"main form [name={name}]", text)
    page.locator(f"main form:has([name={name}]) button").last.click()


def read_facts(page):
    """Give what a list of figures says, by name."""
    return dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))


def add_people(page):
    """Have three subscribers, one by hand and two by a file, and a seller with credit to sell."""
    for username, name, number in (("rosa", "Rosa Lima", "2101"), ("shop", "The shop", "2100")):
        page.click("header >> text=Subscribers")
        page.click("text=New subscriber")
        fill(page, username=username, name=name, clid=number, imsi=f"72400000000{number}", password=PASSWORD)
        assert "was added" in page.inner_text(".done")
    page.click("header >> text=Subscribers")
    page.click("text=Subscribers from a file")
    fill(page, list=LIST)
    page.locator("main form:has([name=sure]) button").click()
    assert "were added" in page.inner_text(".done")
    page.click("header >> text=Credit")
    page.click("text=New seller")
    fill(page, username="shop")
    fill(page, amount="1000")
    page.click("text=Give 1,000 credits")
    page.wait_for_url("**/ui/receipts/*")


def sell(page, number, amount):
    """Sell credit to a number."""
    page.click("header >> text=Sell")
    fill(page, to=number, amount=amount)
    page.click("main form[method=post] button")
    page.wait_for_url("**/ui/receipts/*")


def sum_days(page):
    """Give what the report by day calls sold, used and taken back, of all its days."""
    rows = page.locator("#days tbody tr").all()
    days = [[int(each.get_attribute("data-value")) for each in row.locator("td.amount").all()] for row in rows]
    return [sum(day[column] for day in days) for column in (0, 1, 9)]


def make_voucher(page):
    """Make two vouchers, activate them, and give the code of one."""
    page.click("header >> text=Credit")
    page.click("nav >> text=Vouchers")
    page.click("text=New vouchers")
    fill(page, name="cards", cards="2", value="50")
    code = page.locator(".cards code").first.inner_text()
    page.click("main >> text=Activate")
    page.click("text=Go on")
    page.click("main form[method=post] button")
    assert "are active" in page.inner_text(".done")
    return code


def test_a_day_ends_with_proven_books(chromium, tmp_path):
    biller = Biller(tmp_path / "biller")
    biller.write()
    (biller.folder / "password").write_text(PASSWORD)
    biller.run("init", "--admin", "admin", "--password-file", "password")
    biller.start()
    try:
        operator = Visit(chromium, biller).log_in()
        page = operator.page
        add_people(page)

        seller = Visit(chromium, biller, width=NARROW).log_in("shop")
        for username, amount in (("rosa", "100"), ("davi", "60"), ("lia", "200")):
            sell(seller.page, NUMBERS[username], amount)
        seller.page.go_back()
        sell(seller.page, NUMBERS["lia"], "40")
        seller.page.click("summary >> text=Undo")
        seller.page.click("main form button")
        assert "was undone" in seller.page.inner_text(".done")

        code = make_voucher(page)
        subscriber = Visit(chromium, biller, width=NARROW).log_in("rosa")
        subscriber.page.click("text=Vouchers and plans")
        fill(subscriber.page, code=code)
        assert "was redeemed" in subscriber.page.inner_text(".done")

        biller.run("call", "rosa", NUMBERS["davi"], "--talk", "30.2")
        [call] = biller.json("calls")
        assert call["cost"] > 0
        page.click("header >> text=Calls")
        page.click("tbody a >> nth=0")
        facts = read_facts(page)
        assert (facts["Talk"], facts["Credits"].split()[0]) == ("0:30", str(call["cost"]))
        assert str(call["cost"]) in page.inner_text("main p[lang=en] >> nth=-1")

        lines = [line for each in NUMBERS for line in biller.json("statement", each)]
        sums = [sum(line["value"] for line in lines if line["origin"] in each) for each in ORIGINS]
        assert sums == [450, -call["cost"], -40]
        operator.go("/ui/reports/days")
        until(lambda: sum_days(page) == [abs(each) for each in sums] or page.reload(), "the day is counted", every=0.5)
        page.click("header >> text=Subscribers")
        balances = [int(each) for each in page.locator("tr:has-text('210') td.amount").all_inner_texts()]
        assert sum(balances) == sum(sums)
        operator.go("/ui/sellers/shop")
        seller.go("/ui/sell/settlement")
        facts = read_facts(seller.page)
        assert facts == read_facts(page)
        assert [facts[each] for each in ("Refilled", "Paid for it", "Sales", "Sold", "Undone", "At the end")] == [
            *("1,000", "1,000", "4", "400", "40", "640")
        ]
        for visit in (operator, seller, subscriber):
            visit.leave()
        assert biller.json("audit")["ok"]
    finally:
        biller.stop()
