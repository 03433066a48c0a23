"""Pages from templates: one Jinja2 environment a language, and how numbers, times and names stand on a page."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

from babel.dates import format_datetime, format_skeleton
from babel.numbers import format_decimal
from jinja2 import Environment, PackageLoader, StrictUndefined

from celcombiller.console import assets
from celcombiller.console.menu import find_document, menu_of
from celcombiller.core.languages.error_texts import describe_error, describe_field
from celcombiller.core.model.subscribers import Level
from celcombiller.http.problem_details import find_remedy
from celcombiller.http.responses import HTML_TYPE
from celcombiller.runtime.languages import LANGUAGES, choose_language, load_language

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from celcombiller.http.route import Request

PAGE_HEADERS = {
    "Content-Type": HTML_TYPE,
    # The back button shows the page that was left, with the key of its form: sent again, it is done once.
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    # With "no-referrer" a browser sends "Origin: null" with a form, which is that of a page of another site.
    "Referrer-Policy": "same-origin",
    "Vary": "Accept-Language, Cookie, Accept-Encoding",
}


def language_of(request: Request) -> str:
    """Return the language of a page: the reader's own, else the browser's, else that of ``console.language``."""
    own = "" if request.who is None else request.who.language
    return choose_language((own,), request.languages) or request.config.console.language


def render(request: Request, template: str, context: Mapping[str, Any]) -> bytes:
    """Return a page. ``request`` is the one that it answers; every template may read it."""
    language, at = language_of(request), urlsplit(request.url).path
    environment = environment_of(language)
    everything = {
        "request": request,
        "language": language,
        "zone": ZoneInfo(request.config.schedules.zone),
        "menu": () if request.who is None else menu_of(request.who),
        "at": at,
        "help": find_document(at),
        "done_what": (request.query or {}).get("done", ""),
        **context,
    }
    return environment.get_template(template).render(everything).encode()


@cache
def environment_of(language: str) -> Environment:
    """Return the templates in a language."""
    made = Environment(
        loader=PackageLoader("celcombiller.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,  # else each page looks at six files whether they have changed
    )
    written = load_language(language)
    made.install_gettext_translations(written, newstyle=True)  # type: ignore[attr-defined]
    locale = written.locale
    made.globals |= {
        "asset": assets.address_of,
        "Level": Level,
        "languages": list(LANGUAGES.items()),
        "address": make_address,
        "describe_error": lambda error: describe_error(error, written),
        "find_remedy": find_remedy,
        "describe_field": lambda text: describe_field(text, written),
    }

    def number(value: float | None) -> str:
        return "" if value is None else format_decimal(value, locale=locale)

    def time(value: datetime | None, zone: ZoneInfo, width: str = "short") -> str:
        if value is None:
            return ""
        return format_datetime(value.astimezone(zone), "medium" if width == "long" else "short", locale=locale)

    def day(value: date | None) -> str:
        return "" if value is None else written.format_day(value)

    def month(value: date) -> str:
        return str(format_skeleton("yMMM", value, locale=locale))

    made.filters |= {"number": number, "time": time, "day": day, "month": month, "duration": format_duration}
    return made


def format_duration(seconds: float | None) -> str:
    """Return seconds as ``1:02:03`` or ``2:03``, which reads the same in every language."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def make_address(path: str, **query: object) -> str:
    """Return an address with a query, without the fields that are empty."""
    given = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path
