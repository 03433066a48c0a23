"""A real browser: Debian's Chromium without windows, driven by Playwright, and what goes wrong in it."""

import re
import time
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from celcombiller.runtime.languages import load_language

PASSWORD = "correct horse"
WIDE, NARROW = 1280, 360
"""Pixels: a screen, and a small telephone."""
AXE = (Path(__file__).parent / "axe.min.js").read_text()
"""axe-core of Deque (MPL-2.0): it finds what keeps people with a screen reader, or without a mouse, out."""
TABS_MAX = 60
BETWEEN_TAPS = 0.5
"""Seconds within which two taps of an impatient finger come."""
TAP_MS = 100
"""How long a tap takes. If it takes no time, Chromium handles the second tap before it sends the first request."""
TIMEOUT_MS = 60_000
"""A page takes 0.2 s, and a hundred times as long on a machine that is busy with ten such things."""
FIND_BARRIERS = """axe.run({resultTypes: ["violations"], preload: {assets: ["media"]}}).then(
    found => found.violations.map(each => each.id + ": " + each.nodes[0].html.slice(0, 200)))"""
"""Without the details of what is right, and without a second request for each style sheet, it takes half the time."""
IS_TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
READ_TEXTS = """() => {
    const texts = [document.title.split(" · ")[0]];
    const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode())
        if (!nodes.currentNode.parentElement.closest("script, pre, code, textarea, .document, [lang=en]"))
            texts.push(nodes.currentNode.data);
    for (const name of ["title", "aria-label", "alt", "placeholder"])
        for (const each of document.querySelectorAll(`[${name}]`)) texts.push(each.getAttribute(name));
    return texts.map(each => each.replace(/\\s+/g, " ").trim()).filter(each => each);
}"""
"""What a page says, without what is the same in each language: code, files, receipts and documents."""
NEXT_FOCUS = """() => {
    const at = document.activeElement, before = window.lastFocus, style = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    window.lastFocus = at;
    return {
        tag: at.tagName,
        name: (at.labels?.[0] || at).innerText || at.getAttribute("aria-label") || "",
        inOrder: !before || !!(before.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING),
        isSeen: at.matches(":focus-visible") && (style.outlineStyle != "none" || style.boxShadow != "none")
            && box.width > 0 && box.top < innerHeight && box.bottom > 0 && box.left < innerWidth && box.right > 0,
    };
}"""
_sessions: dict[tuple[str, str], dict] = {}
"""Who has logged in where, as cookies: a password takes a second."""
_PLACEHOLDER = re.compile(r"%\(\w+\)s")


@cache
def texts_to_translate(language: str) -> re.Pattern[str]:
    """Return a pattern of the English texts that have another one in a language, whatever they are filled with."""
    catalog = load_language(language)._translations._catalog
    of_both = set(catalog.values())  # a word of theirs too: "Data" is a date in Portuguese
    found = [
        ".+".join(re.escape(part.replace("%%", "%")) for part in _PLACEHOLDER.split(text))
        for text in catalog
        if isinstance(text, str) and text and text not in of_both and re.search(r"[a-z]{2}", _PLACEHOLDER.sub("", text))
    ]
    return re.compile("|".join(found))


def _answer_late(route):
    if route.request.method == "POST":
        answer = route.fetch(max_redirects=0)
        time.sleep(BETWEEN_TAPS)
        route.fulfill(response=answer)
    else:
        route.continue_()


class Visit:
    """One browser window, and all that went wrong in it."""

    def __init__(self, chromium, biller, *, language="en", width=WIDE, barriers=False, **options):
        self.base = f"http://127.0.0.1:{biller.rest_port}"
        self.language = language
        self.faults = []
        self.context = chromium.new_context(
            locale=language.replace("_", "-"), viewport={"width": width, "height": 800}, **options
        )
        if barriers:
            self.context.add_init_script(AXE)
        self.context.set_default_timeout(TIMEOUT_MS)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self._hear(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self._hear(str(error)))
        self.page.on("request", self._see)

    def _hear(self, text):
        if "status of 4" not in text:  # a refused form is an answer that was asked for
            self.faults.append(f"{self.page.url}: {text[:200]}")

    def _see(self, request):
        if not request.url.startswith((self.base, "data:")):
            self.faults.append(f"{self.page.url} asks {request.url}")

    def go(self, path):
        """Go to an address, and return what came."""
        return self.page.goto(self.base + path)

    def open(self, path):
        """Go to an address, and return the page."""
        self.go(path)
        return self.page

    def log_in(self, username="admin"):
        """Log in by the form, with a session of this window's own."""
        self.go("/")
        self.page.fill("[name=username]", username)
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("main button")
        return self

    def enter(self, username="admin"):
        """Come in as somebody, with the session of an earlier window where there is one."""
        self.context.clear_cookies()
        if found := _sessions.get((self.base, username)):
            self.context.add_cookies([found])
            self.go("/")
        else:
            self.log_in(username)
            [found] = (each for each in self.context.cookies() if each["name"] == "session")
            _sessions[self.base, username] = found
        return self

    def leave(self):
        """Close the window, in which nothing may have gone wrong."""
        self.context.close()
        assert not self.faults, "\n".join(self.faults)

    def check(self, *, barriers=False):
        """Note whether the page is too wide, says English words to others, or keeps people out, which takes 0.1 s."""
        if barriers:
            self.faults += [f"{self.page.url}: {each}" for each in self.page.evaluate(FIND_BARRIERS)]
        if self.page.evaluate(IS_TOO_WIDE):
            self.faults.append(f"{self.page.url} is wider than the window")
        if self.language != "en":
            english = texts_to_translate(self.language)
            said = set(filter(english.fullmatch, self.page.evaluate(READ_TEXTS)))
            self.faults += [f"{urlsplit(self.page.url).path} says {each!r}" for each in sorted(said)]

    def tab_to(self, name, *tags: str):
        """Press Tab until the focus is on what has this name or label; each step must be seen, and lead forward."""
        name, said = " ".join(name.split()), []
        for _ in range(TABS_MAX):
            self.page.keyboard.press("Tab")
            at = self.page.evaluate(NEXT_FOCUS)
            said.append(" ".join(at["name"].split()))
            assert at["inOrder"], f"{self.page.url}: back to {said[-1]!r}"
            assert at["isSeen"], f"{self.page.url}: nobody sees the focus on {said[-1]!r}"
            if said[-1].startswith(name) and at["tag"] in tags:
                return
        raise AssertionError(f"{self.page.url}: no {name!r} in {said}")

    def press(self, name):
        """Go to a link or button by Tab, press Enter, and wait for the page that it leads to."""
        self.tab_to(name, "A", "BUTTON")
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def open_question(self, name):
        """Go by Tab to what asks before it does something, and open it."""
        self.tab_to(name, "SUMMARY")
        self.page.keyboard.press("Enter")

    def type(self, **fields):
        """Go to fields by Tab, by their labels with ``_`` for a space, and type into them."""
        for label, text in fields.items():
            self.tab_to(label.replace("_", " "), "INPUT")
            self.page.keyboard.type(text)

    def tap_twice(self, button):
        """Click a button twice before the answer to the first click comes, and wait for the page that it leads to."""
        self.page.route("**/*", _answer_late)
        with self.page.expect_event("framenavigated"):  # the browser gives up the first request, not the biller
            self.page.locator(button).first.dblclick(delay=TAP_MS)
        self.page.wait_for_load_state()
        self.page.unroute("**/*", _answer_late)

    def skip_menu(self):
        """Go past the menu, by the first link of each page."""
        self.page.keyboard.press("Tab")
        assert self.page.evaluate("document.activeElement.getBoundingClientRect().left") > 0
        self.page.keyboard.press("Enter")
        self.page.evaluate("window.lastFocus = document.querySelector('main')")

    def resize(self, width):
        """Make the window wider or narrower."""
        self.page.set_viewport_size({"width": width, "height": 800})
