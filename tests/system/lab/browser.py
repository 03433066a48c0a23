"""A real browser: Debian's Chromium, driven by Playwright, and what goes wrong in it."""

from pathlib import Path

PASSWORD = "correct horse"
AXE = (Path(__file__).parent / "axe.min.js").read_text()
"""axe-core of Deque (MPL-2.0): it finds what keeps people with a screen reader, or without a mouse, out."""


class Visit:
    """One browser window, and all that went wrong in it."""

    def __init__(self, chromium, biller, **options):
        self.base = f"http://127.0.0.1:{biller.rest_port}"
        self.faults = []
        self.context = chromium.new_context(locale="en", **options)
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
        self.page.goto(self.base + path)
        return self.page

    def log_in(self, username="admin"):
        self.go("/")
        self.page.fill("[name=username]", username)
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("main button")
        return self

    def check(self, *, barriers=True):
        """Note what keeps people out of the page, which takes 0.3 s, and whether it is too wide."""
        if barriers:
            self.faults += [f"{self.page.url}: {each}" for each in self.find_barriers()]
        if self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            self.faults.append(f"{self.page.url} is wider than the window")

    def find_barriers(self):
        """Return what axe-core finds on the page, in words."""
        self.context.new_cdp_session(self.page).send("Runtime.evaluate", {"expression": AXE})
        return self.page.evaluate(
            "axe.run().then(found => found.violations.map(each => each.id + ': ' + each.nodes[0].html.slice(0, 200)))"
        )
