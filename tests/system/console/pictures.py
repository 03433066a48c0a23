"""Pictures of the documents: the console of a small network, as PNG files. `make pictures` writes them."""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.system.lab.biller import Biller
from tests.system.lab.browser import NARROW, PASSWORD, Visit
from tests.system.lab.requirements import find_chromium

PEOPLE = (
    ("rosa", "Rosa Lima"),
    ("davi", "Davi Souza"),
    ("lia", "Lia Costa"),
    ("ivo", "Ivo Alves"),
    ("shop", "The shop"),
)
PAGES = {
    "start": ("admin", "/ui/start", 960, 450),
    "subscribers": ("admin", "/ui/subscribers", 960, 480),
    "subscriber": ("admin", "/ui/subscribers/rosa", 960, 485),
    "credit": ("admin", "/ui/subscribers/rosa/credit/plan?kind=voice&value=60&note=in+cash", 960, 560),
    "sale": ("shop", "/ui/sell/plan?to=2102&amount=60", NARROW, 420),
    "settlement": ("shop", "/ui/sell/settlement", NARROW, 870),
}
"""By the name of the picture: who looks at which page, and the size of the window."""


def prepare(biller):
    """Have a small network: people with credit, a seller, prices, a plan and a call."""
    biller.more = ["[schedules]", 'time_zone = "America/Sao_Paulo"']
    biller.write()
    (biller.folder / "password").write_text(PASSWORD)
    biller.run("init", "--admin", "admin", "--password-file", "password")
    for number, (username, name) in enumerate(PEOPLE, 2101):
        biller.run("user", "add", username, "--clid", number, "--imsi", f"72400000000{number}", "--name", name)
    biller.run("user", "password", "shop", "--password-file", "password")
    biller.run("seller", "add", "shop")
    biller.run("seller", "refill", "shop", 1000)
    for number, amount in ((2101, 120), (2102, 60), (2103, 200)):
        biller.run("seller", "sell", "shop", number, amount)
    biller.run("bundle", "give", "rosa", "--seconds", 3600, "--for", "30d", "--name", "One hour")
    biller.start()
    biller.run("call", "lia", 2102, "--talk", 40.2)


def draw(folder):
    """Write the pictures into a folder."""
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        biller = Biller(Path(home) / "biller")
        try:
            prepare(biller)
            chromium = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
            for name, (who, path, width, height) in PAGES.items():
                visit = Visit(chromium, biller, width=width, color_scheme="light").enter(who)
                page = visit.open(path)
                page.set_viewport_size({"width": width, "height": height})
                page.wait_for_load_state("networkidle")
                page.screenshot(path=folder / f"{name}.png")
                visit.leave()
            chromium.close()
        finally:
            biller.stop()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
