"""``/api/v1/openapi.json``: the description of the API (OpenAPI 3.1).

It is generated from the table of routes and from the types that check requests and make answers.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.web import http

from celcombiller.core import errors
from celcombiller.http.problem_details import PROBLEM_TYPE, STATUS, Problem, reason_phrase
from celcombiller.http.route import ALWAYS_SERVED, ID_MAX, Response, ResponseStyle, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from celcombiller.http.application import Api
    from celcombiller.http.route import Request
    from celcombiller.http.transport.http_request import HttpRequest

PATH = "/api/v1/openapi.json"
JSON_TYPE = "application/json"
_ABOUT = """\
Prepaid billing: subscribers, their accounts, what moved them, and their calls.

Amounts are whole credits. The operator decides what a credit is worth; by default it is a second of talk, or a byte.
Times are RFC 3339 in UTC. Lists are pages; `next` is the `cursor` of the following page. An error is a problem document
(RFC 9457): its `code` never changes once released, and its `fields` give the reason for each wrong field. Nothing that
is recorded is edited or deleted: a transfer is undone by its reversal.
"""
_PARAMETER = re.compile(r"<(?:([a-z]+)(?:\(([^)]*)\))?:)?([a-z_]+)>")
_TAGS = {
    "subscribers": "Who holds the service, their accounts and their statements.",
    "transfers": "Credits, debits and reversals.",
    "credit-transfers": "Credit that subscribers hand to each other.",
    "sellers": "Subscribers who sell credit from a stock of their own.",
    "denominations": "Amounts of credit that are sold most.",
    "receipts": "Numbered receipts of sales, refills and credits.",
    "settlements": "What sellers got, paid and sold in a period.",
    "overview": "What happens now, and what needs a person.",
    "reports": "What was sold and used by day, seller, destination and trunk.",
    "payments": "What payment providers report, and the credit that it became.",
    "fees": "Fees that schedules take: what is owed, paid, waived and undone.",
    "bundles": "Pots of seconds, messages, octets or credits, which pay before the balance.",
    "offers": "Bundles that can be bought.",
    "voucher-batches": "Cards with a secret code, made, activated and revoked together.",
    "vouchers": "Such a card: found by its code, and redeemed once.",
    "tariffs": "Price lists, their versions and their rates.",
    "groups": "Subscribers with a tariff and limits in common.",
    "holds": "Credit that calls in progress set aside.",
    "calls": "Calls: authorized, answered and charged.",
    "live": "Calls in progress: what they have cost so far, and hanging one up.",
    "messages": "Text messages: sent, received, charged and refunded.",
    "broadcasts": "Text messages of the operator to all members of a group.",
    "data-sessions": "Data sessions, as NASes reported them.",
    "schedules": "Groups whose members are credited on due dates.",
    "runs": "The due dates of schedules, and what they credited.",
    "trunks": "The ways to providers, for calls to numbers outside.",
    "routes": "Which trunks the numbers with a prefix go by.",
    "rates": "The prices of calls that are in force for a subscriber.",
    "rate": "What a call would cost, and why.",
    "provisioning": "The radio networks, and what differs between them and the biller.",
    "me": "The principal of a request.",
    "sessions": "Browsers that are logged in.",
    "login-codes": "Logins by a code that is sent to the phone.",
    "tokens": "Keys for programs.",
    "cdr-differences": "How Asterisk's call detail records differ from the ledger.",
    "trail": "The audit trail: what operators changed.",
    "settings": "The settings in force, and where each comes from.",
    "audit": "The ledger, recomputed.",
    "service": "Whether the process is alive and can charge, and this description.",
}


async def describe(api: Api, _http_request: HttpRequest, _request: Request) -> Response:
    """Describe the API."""
    return Response(msgspec.Raw(encode_description(tuple(api.routes))))


@cache
def encode_description(routes: tuple[Route, ...]) -> bytes:
    """Return the description of these routes in JSON. To make it takes 0.1 s, in which no call is served."""
    return msgspec.json.encode(describe_routes(routes))


def describe_routes(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of these routes, without those of the original program."""
    described = [route for route in routes if route.style is ResponseStyle.TODAY]
    kinds = {kind: None for route in described for kind in _kinds(route)}
    references, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(kinds, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        paths.setdefault(route.open_path, {})[route.method.lower()] = _operation(route, schemas, components)
    queries = {route.query.__name__ for route in described if route.query is not None}
    used = {_tag(route) for route in described}
    for route in routes:
        if route.operation is not None:
            paths.setdefault(route.open_path, {})[route.method.lower()] = dict(route.operation)
            used.update(route.operation["tags"])
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "CELCOMBiller",
            "version": version("celcombiller"),
            "description": _ABOUT,
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items() if name in used],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name not in queries},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token: `POST /api/v1/tokens`."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "session",
                    "description": "The cookie that `POST /login` sets.",
                },
            },
        },
    }
    portable: dict[str, Any] = _make_portable(document)
    return portable


_NOT_SO = re.compile(r"\^\(\?!([^()]*)\$\)")
_END = re.compile(r"\$\(\?!\\n\)|\\Z")
_CHARACTER = re.compile(r"\\u([0-9a-f]{4})")


def _make_portable(value: Any) -> Any:
    r"""Return the document with patterns that all readers know, RE2 of Go among them.

    RE2 does not look ahead, and knows no ``\u``. The ``$`` of Python matches before a line feed at the end too, that of
    JSON Schema does not.
    """
    if isinstance(value, list):
        return [_make_portable(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: _make_portable(each) for name, each in value.items()}
    pattern = made.get("pattern")
    if isinstance(pattern, str):
        refused = _NOT_SO.match(pattern)
        if refused is not None:
            made["not"] = {"pattern": f"^{refused[1]}$"}
            pattern = f"^{pattern[refused.end() :]}"
        made["pattern"] = _CHARACTER.sub(lambda match: chr(int(match[1], 16)), _END.sub("$", pattern))
    return made


def _kinds(route: Route) -> Iterable[Any]:
    yield Problem
    yield from (kind for kind in (route.query, route.body, route.answer) if kind is not None)
    yield from route.other_answers.values()


def _operation(route: Route, schemas: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters = [*_path_parameters(route), *_query_parameters(route, components)]
    if route.needs_idempotency_key:
        parameters.append(_KEY)
    if route.verify is not None:
        parameters += _SIGNED
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [_tag(route)],
        "summary": _summary(route),
        "description": _who(route),
        "security": _security(route),
        "responses": _responses(route, schemas),
    }
    if parameters:
        operation["parameters"] = parameters
    if route.takes_upload:
        schema = {"type": "string", "description": "a file, of at most rest.upload_mib_max"}
        upload = {"schema": schema, "example": route.upload_example}
        operation["requestBody"] = {"required": True, "content": {"text/csv": upload}}
    if route.body is not None:
        content: dict[str, Any] = {"schema": schemas[route.body]}
        if route.example is not None:
            content["example"] = route.example
        operation["requestBody"] = {"required": not route.body_is_optional, "content": {JSON_TYPE: content}}
    return operation


def _tag(route: Route) -> str:
    first = route.path.removeprefix("/api/v1/").partition("/")[0].partition(".")[0]
    return "service" if first in ("openapi", "") or not route.path.startswith("/api/v1/") else first


def _operation_id(route: Route) -> str:
    does = route.do or route.serve
    module = getattr(does, "__module__", "").rpartition(".")[2]
    return f"{module}_{getattr(does, '__name__', '')}"


def _summary(route: Route) -> str:
    text = route.summary or (getattr(route.do or route.serve, "__doc__", "") or "").strip().partition("\n")[0]
    return text.rstrip(".")


def _who(route: Route) -> str:
    if route.verify is not None:
        return "No login: the request is signed. Its headers say by whom, when, and how."
    if route.who is None:
        return "No login is needed."
    levels = ", ".join(f"{level.value} ({level.name.lower()})" for level in sorted(route.who.levels))
    own = "; a subscriber for their own records" if route.who.own else ""
    free = "" if route.free is None else " Some addresses need no login, as the settings say."
    return f"Allowed levels: {levels}{own}. A token needs the scope `{route.who.scope}` or one that includes it.{free}"


def _security(route: Route) -> list[dict[str, Any]]:
    """Return the ways to log in. An empty one among others: a login is not always needed."""
    if route.who is None:
        return []
    ways: list[dict[str, Any]] = [{"token": []}, {"session": []}]
    return ways if route.free is None else [{}, *ways]


# -- parameters ------------------------------------------------------------------------------------------------------

_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "An id that you choose. The same request again gets the first answer, other content with it 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]([ -~]*[!-~])?$"},
}


_SIGNED = [
    {
        "name": name,
        "in": "header",
        "required": True,
        "description": text,
        "schema": {"type": "string", "pattern": pattern},
    }
    for name, text, pattern in (
        ("Payment-Provider", "The name of the provider in the settings.", "^[A-Za-z0-9_-]{1,32}$"),
        ("Payment-Time", "When it is sent, in seconds since 1970 by the sender's clock.", "^[0-9]{1,12}$"),
        (
            "Payment-Signature",
            "The HMAC-SHA256 of Payment-Time, a point and the body, by the provider's secret, in hexadecimal.",
            "^[0-9a-fA-F]{64}$",
        ),
    )
]


_PATH_WORDS = {
    "number": "the number of a version in its tariff",
    "receipt": "the number of a receipt, such as S12-000034",
}


def _path_parameters(route: Route) -> Iterable[dict[str, Any]]:
    for kind, argument, name in _PARAMETER.findall(route.path):
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        if kind == "row":
            schema = {"type": "integer", "minimum": 0, "maximum": ID_MAX}
        elif kind == "any":
            schema = {"type": "string", "enum": [each.strip() for each in argument.split(",")]}
        said = {"description": _PATH_WORDS[name]} if name in _PATH_WORDS else {}
        yield {"name": name, "in": "path", "required": True, "schema": schema, **said}


def _query_parameters(route: Route, components: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if route.query is None:
        return
    schema = components[route.query.__name__]
    for name, given in schema["properties"].items():
        wanted = _not_null(given)
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": wanted,
            **({"description": wanted["description"]} if "description" in wanted else {}),
        }


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without the ``null`` that stands for a parameter that is not given."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return kinds[0] if len(kinds) == 1 else schema


# -- answers ---------------------------------------------------------------------------------------------------------


def _responses(route: Route, schemas: dict[Any, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": reason_phrase(route.status)}
    if route.answer is not None:
        # A media type without its parameters, as generators of clients look it up.
        good["content"] = {route.answer_type.partition(";")[0]: {"schema": schemas[route.answer]}}
    elif route.status == http.OK:
        good["content"] = {JSON_TYPE: {"schema": {"type": "object"}}}
    responses: dict[str, Any] = {str(route.status): good}
    for status, kind in route.other_answers.items():
        responses[str(status)] = {
            "description": reason_phrase(status),
            "content": {JSON_TYPE: {"schema": schemas[kind]}},
        }
    for status, codes in _refusals(route).items():
        refusal = responses.setdefault(str(status), {"description": reason_phrase(status), "content": {}})
        refusal["description"] += f": {', '.join(codes)}"
        refusal["content"][PROBLEM_TYPE] = {"schema": schemas[Problem]}
    return dict(sorted(responses.items()))


def _refusals(route: Route) -> dict[int, list[str]]:
    """Return the error codes of a route by status: its own, and those of all routes of its kind."""
    found: dict[int, list[str]] = {}
    for each in (*_common(route), *route.refusals):
        codes = found.setdefault(STATUS[each], [])
        if each.code not in codes:
            codes.append(each.code)
    return dict(sorted(found.items()))


def _common(route: Route) -> Iterable[type[errors.BillerError]]:
    yield from (errors.BrokenRequest, errors.TooLarge, errors.InvalidValue)
    if route.path not in ALWAYS_SERVED:
        yield errors.Overloaded
    if route.who is not None:
        yield from (errors.NotAuthenticated, errors.Forbidden, errors.StoreUnavailable)
    if "<" in route.path:
        yield errors.NotFound
    if route.body is not None or route.takes_upload:
        yield errors.WrongMediaType
    if route.reads and route.query is not None:
        yield errors.TooSlow
