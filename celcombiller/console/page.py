"""Pages and forms as routes: a handler returns what the page shows, or where to go next.

A page asks the routes of the API (`ask`), in one transaction and with their access rules, checks, trail and errors. So
it shows and does what a program can, and no more. What is refused comes back as the same page, with the reasons beside
the fields; what the reader typed is still there.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET
from twisted.web import http

from celcombiller.console.rendering import PAGE_HEADERS, make_address, render
from celcombiller.core.access import sessions
from celcombiller.core.errors import (
    BillerError,
    BrokenRequest,
    Forbidden,
    NotAuthenticated,
    NotFound,
    PasswordNeeded,
    StoreUnavailable,
)
from celcombiller.http.application import FORM_FIELDS_MAX
from celcombiller.http.authorization import AccessRule, check_access
from celcombiller.http.decoding import convert_fields, list_fields, list_types, parse_form, parse_query
from celcombiller.http.problem_details import status_of
from celcombiller.http.route import Response, ResponseStyle, Route
from celcombiller.rest.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request, Served
    from celcombiller.http.transport.http_request import HttpRequest

LOGIN = "/ui/login"
SECRET_FIELDS = ("password", "pin", "code")
"""Fields whose name has one of these words are not kept when a form is shown again."""

_TODAY = [each for each in ROUTES if each.style is ResponseStyle.TODAY]
_ASKED = {each.name: (each, each.do) for each in _TODAY if each.do is not None}
_SERVED = {each.name: (each, each.serve) for each in _TODAY if each.serve is not None}


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows: a template and its values."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = http.OK


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where the browser goes after a form (303 See Other). ``done`` names the sentence that the next page shows."""

    to: str
    done: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


PageHandler = Callable[["Connection", "Request"], View | Redirect]


def page(path: str, who: AccessRule | None, do: PageHandler, *, shown_by: PageHandler | None = None) -> Route:
    """Return the route of a page, which only reads.

    ``shown_by`` is the page with the form that leads here, where it is another; it is shown when the query is refused.
    """
    return _make_route("GET", path, who, shown_by or do, do=_answer_by(do))


def form(
    path: str,
    who: AccessRule | None,
    do: PageHandler,
    *,
    shown_by: PageHandler,
    takes_password: bool = False,
    needs_idempotency_key: bool = False,
) -> Route:
    """Return the route of a form. ``shown_by`` is the page that has it, and shows it again when it is refused.

    A form that moves credit has an address of its own: a browser forgets the page at an address to which it has sent
    something (RFC 9111, section 4.4), and the back button would make a fresh one, with another key. For the same reason
    a page with such a form is never the answer to another form.
    """
    return _make_route(
        "POST",
        path,
        who,
        shown_by,
        do=_answer_by(do),
        takes_form=True,
        takes_password=takes_password,
        needs_idempotency_key=needs_idempotency_key,
    )


def serving_form(path: str, who: AccessRule | None, serve: Served, *, shown_by: PageHandler) -> Route:
    """Return the route of a form whose work is more than one transaction; ``serve`` returns a `Response`."""
    return _make_route("POST", path, who, shown_by, serve=serve, takes_form=True)


def serving_page(path: str, who: AccessRule | None, serve: Served, *, shown_by: PageHandler | None = None) -> Route:
    """Return the route of a page that asks more than the database; ``shown_by`` is the page for when it is refused."""
    return _make_route("GET", path, who, shown_by or show_refusal, serve=serve)


def show_refusal(_tx: Connection, _request: Request) -> View:
    """Show only that something was refused, and why."""
    return View("error.html")


def _make_route(method: str, path: str, who: AccessRule | None, shows: PageHandler, **more: Any) -> Route:
    async def refuse(
        api: Api, http_request: HttpRequest, route: Route, request: Request, error: BillerError
    ) -> Response:
        return await _refuse(api, http_request, route, request, error, shows=shows)

    return Route(method=method, path=path, who=who, style=ResponseStyle.PAGE, refuse=refuse, **more)


def _answer_by(do: PageHandler) -> Callable[[Connection, Request], Response]:
    return lambda tx, request: respond(request, do(tx, request))


def respond(request: Request, result: View | Redirect) -> Response:
    """Return the answer to a browser: a page, or where to go."""
    if isinstance(result, Redirect):
        to = make_address(result.to, **result.query, done=result.done)
        return Response(b"", http.SEE_OTHER, {"Location": to})
    values = {"errors": getattr(request.refused, "fields", {}), "new_key": make_key} | dict(result.values)
    return Response(render(request, result.template, values), result.status, PAGE_HEADERS)


def make_key() -> str:
    """Return an idempotency key for a form. The form is sent twice with it, and done once."""
    return uuid.uuid4().hex


# -- asking the API ----------------------------------------------------------------------------------------------------


def ask(
    tx: Connection,
    request: Request,
    name: str,
    *,
    path: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
) -> Any:
    """Return what a route of the API answers, such as ``GET /api/v1/subscribers``, in this transaction.

    ``query`` and ``body`` are texts by name, as forms have them, or values. Raises what the route raises, and
    `LookupError` for a name that no route has whose work is one transaction.
    """
    route, do = _ASKED[name]
    answer = do(tx, _prepare(request, route, path=path, query=query, body=body))
    return answer.body if isinstance(answer, Response) else answer


async def ask_served(
    api: Api,
    http_request: HttpRequest,
    request: Request,
    name: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
) -> Any:
    """Return what a route of the API answers whose work is more than one transaction. Raises as `ask` does.

    ``body`` of a route that takes a file are its octets.
    """
    route, serve = _SERVED[name]
    answer = await serve(api, http_request, _prepare(request, route, query=query, body=body))
    return None if answer is None else answer.body


def prepare(request: Request, name: str, *, body: Any) -> Request:
    """Return the request as a route expects it whose work is more than one transaction. Raises as `ask` does."""
    return _prepare(request, _SERVED[name][0], body=body)


def own(request: Request) -> dict[str, str]:
    """Return the username of the reader, as the path or the query of a route that is asked for their own things."""
    return {"username": request.principal.username}


def _prepare(
    request: Request,
    route: Route,
    *,
    path: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    body: Any = None,
) -> Request:
    """Return the request as a route of the API expects it. Raises `Forbidden` and `InvalidValue`."""
    where = request.path if path is None else path
    check_access(request.who, route.who, where)
    if route.needs_idempotency_key and request.key is None:
        raise BrokenRequest("this form has no key: load the page again")
    zone = ZoneInfo(request.config.schedules.zone)
    asked: Any = query or {}
    if route.query is not None:
        asked = read_fields(route.query, query or {}, zone)
    if route.body is not None and not isinstance(body, msgspec.Struct):
        body = read_fields(route.body, body or {}, zone)
    return replace(request, path=where, query=asked, body=body, rule=route.who)


def read_fields(kind: type[msgspec.Struct], given: Mapping[str, Any], zone: ZoneInfo) -> Any:
    """Return a query or a body from the texts of a form, whose times are those of the zone.

    An empty text leaves its field out; in a change, where a field that is left out stays as it is, it clears the field.
    A list is written with spaces or commas between its items. Fields that ``kind`` does not have are no part of it.
    Raises `InvalidValue`.
    """
    values = {
        each.encode_name: _from_text(given[each.encode_name], each.type, zone)
        for each in list_fields(kind)
        if given.get(each.encode_name) is not None and (given[each.encode_name] != "" or each.default is UNSET)
    }
    return convert_fields(kind, values, strict=False)


def _from_text(value: Any, kind: Any, zone: ZoneInfo) -> Any:
    if not isinstance(value, str):
        return value
    value = value.strip()
    kinds = list_types(kind)
    if value == "" and any(isinstance(each, msgspec.inspect.NoneType) for each in kinds):
        return None
    if any(isinstance(each, msgspec.inspect.ListType) for each in kinds):
        return value.replace(",", " ").split()
    if any(isinstance(each, msgspec.inspect.DateTimeType) for each in kinds):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return value
        return (at if at.tzinfo else at.replace(tzinfo=zone)).isoformat()
    return value


# -- refusals ----------------------------------------------------------------------------------------------------------


async def _refuse(
    api: Api,
    http_request: HttpRequest,
    route: Route,
    request: Request,
    error: BillerError,
    *,
    shows: Callable[[Connection, Request], View | Redirect],
) -> Response:
    """Return the page that has the form once more, with what was refused; or a page that says what happened."""
    given = _kept_fields(route, http_request)
    request = replace(request, form=given, refused=error, query={})
    if isinstance(error, NotAuthenticated):
        return _ask_to_log_in(http_request, route, request)

    def work(tx: Connection) -> Response:
        who = next((found for each in request.secrets if (found := sessions.by_session(tx, each, request.now))), None)
        asked = replace(request, who=who, rule=route.who)
        status = status_of(error)
        if isinstance(error, PasswordNeeded):
            kept = given if route.takes_form else {}
            return respond(asked, View("password.html", {"next": http_request.uri.decode(), "kept": kept}, status))
        is_fault = type(error) is BillerError  # of the program: the page itself may have it
        if not is_fault and not isinstance(error, Forbidden | NotFound | StoreUnavailable):
            try:
                check_access(who, route.who, request.path)
                shown = shows(tx, asked)
            except BillerError:
                pass
            else:
                if isinstance(shown, View):
                    return respond(asked, replace(shown, status=status))
        return respond(asked, View("error.html", {"error": error}, status))

    try:
        return await api.reader.read(work)
    except BillerError:  # without the database it is not known who asks
        return respond(request, View("error.html", {"error": error}, status_of(error)))


def _ask_to_log_in(http_request: HttpRequest, route: Route, request: Request) -> Response:
    """Send a reader to the login. A form that came without a session is kept, to be sent after the login."""
    address = http_request.uri.decode("ascii", "replace")
    if not route.takes_form:
        to = make_address(LOGIN, next="" if address in ("/ui", "/ui/") else address)
        return Response(b"", http.SEE_OTHER, {"Location": to})
    return respond(request, View("login.html", {"next": address, "kept": request.form}, http.UNAUTHORIZED))


def _kept_fields(route: Route, http_request: HttpRequest) -> dict[str, str]:
    """Return what the reader typed, without secrets: the fields of a form, or of the query of a page."""
    try:
        if route.takes_form:
            given = parse_form(http_request.body, FORM_FIELDS_MAX)
        else:
            given = parse_query(http_request.uri.partition(b"?")[2])
    except BillerError:
        return {}
    return {name: value for name, value in given.items() if not any(word in name for word in SECRET_FIELDS)}
