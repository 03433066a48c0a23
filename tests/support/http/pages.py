"""A reader of the console: pages as a browser without JavaScript has them."""

from urllib.parse import urlencode, urlsplit

from bs4 import BeautifulSoup

from tests.support.http.api_service import header

FORM_TYPE = "application/x-www-form-urlencoded"


async def voice_of(biller, username):
    """Give the settled voice credit of a subscriber."""
    answer = await (await biller.logged_in("admin")).get(f"/api/v1/subscribers/{username}")
    return answer.body["voice"]["posted"]


class Page:
    """One page that came: its status, where the browser ended up, and its content."""

    def __init__(self, answer, path):
        self.status = answer.code
        self.path = path
        self.headers = answer.headers
        self.content = BeautifulSoup(answer.bytes, "html.parser")

    @property
    def text(self):
        """Give the words of the page, with one space between them."""
        return " ".join((self.content.main or self.content).get_text(" ").split())

    def fields(self, action=None):
        """Give the fields of a form, with what stands in them."""
        main = self.content.main or self.content
        form = main.find("form", **({"action": action} if action else {"method": "post", "class": False}))
        inputs = [each for each in form.find_all("input") if each.get("type") != "checkbox" or each.has_attr("checked")]
        found = {each["name"]: each.get("value", "") for each in inputs if each.get("name")}
        found |= {each["name"]: each.get_text().removeprefix("\n") for each in form.find_all("textarea")}
        for each in form.find_all("select"):
            chosen = each.find("option", selected=True) or each.find("option")
            found[each["name"]] = chosen["value"] if chosen else ""
        return found

    def facts(self):
        """Return the facts that the page lists: each text by its name."""
        return {
            each.get_text(" ", strip=True): each.find_next_sibling("dd").get_text(" ", strip=True)
            for each in self.content.main.find_all("dt")
        }

    def error_of(self, name):
        """Give what stands beside a field; empty if nothing is wrong with it."""
        found = self.content.find(id=f"{name}-error")
        return found.get_text(" ", strip=True) if found else ""


class Reader:
    """Who looks at pages and sends their forms. ``client`` has the session."""

    def __init__(self, client, languages="en"):
        self.client = client
        self._headers = {"Accept": "text/html", "Accept-Language": languages}

    async def look(self, path):
        """Ask for a page, and follow to where it sends."""
        answer = await self.client.get(path, headers=self._headers)
        return await self._follow(answer, path)

    async def send(self, path, **fields):
        """Send a form with these fields, and follow to where it sends."""
        raw = urlencode(fields).encode()
        answer = await self._post(path, raw)
        if answer.code == 307:
            path = header(answer, "location")
            answer = await self._post(path, raw)
        for each in answer.headers.getRawHeaders("set-cookie") or []:
            name, _, value = each.partition(";")[0].partition("=")
            if name == "session":
                self.client.cookie = value or None
        return await self._follow(answer, path)

    async def _post(self, path, raw):
        return await self.client.post(path, raw=raw, headers=self._headers | {"Content-Type": FORM_TYPE})

    async def fill(self, page, action=None, **fields):
        """Send the form of a page, with some of its fields filled in."""
        return await self.send(action or urlsplit(page.path).path, **(page.fields(action) | fields))

    async def _follow(self, answer, path):
        for _ in range(5):
            if answer.code != 303:
                return Page(answer, path)
            path = header(answer, "location")
            answer = await self.client.get(path, headers=self._headers)
        raise AssertionError(f"{path} sends on and on")
