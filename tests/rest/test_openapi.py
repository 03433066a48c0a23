"""The description of the API: made of what is checked, complete, and true of the running biller."""

import json
import re
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
import pytest_twisted
from schemathesis.specs.openapi import definitions

from celcombiller.core.errors import BillerError
from celcombiller.core.subscribers.fields import Username
from celcombiller.http.decoding import convert_fields
from celcombiller.http.openapi import describe_routes
from celcombiller.http.problem_details import STATUS
from celcombiller.http.route import ResponseStyle
from celcombiller.rest.routes import ROUTES
from tests.support.http.api_service import biller_fixture, header
from tests.support.http.schemathesis_run import fill, run, token_of
from tests.support.properties import share

biller = biller_fixture()
DESCRIBED = describe_routes(ROUTES)
SCHEMAS = DESCRIBED["components"]["schemas"]
TODAY = [route for route in ROUTES if route.style is ResponseStyle.TODAY]
UNITS = (
    "credits",
    "days from",
    "day number",
    "milliseconds",
    "seconds",
    "number of",
    "which dial",
    "rows on a page",
    "0 administrator",
    "HTTP status",
    "of a percent",
)


def operations():
    for path, methods in DESCRIBED["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def fields():
    """Give every field of every schema and every parameter: where it stands, and its schema."""
    for name, schema in SCHEMAS.items():
        for field, given in schema.get("properties", {}).items():
            yield f"{name}.{field}", given
    for name, operation in operations():
        for parameter in operation.get("parameters", ()):
            yield f"{name} {parameter['name']}", parameter["schema"] | parameter


def kinds_of(schema):
    if "$ref" in schema:
        schema = schema | SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return [schema, *(kind for each in schema.get("anyOf", ()) for kind in kinds_of(each))]


def said_of(schema):
    return " ".join(each.get("description", "") for each in kinds_of(schema))


def patterns(value):
    """Yield every pattern in a part of the document."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "pattern" and isinstance(each, str):
                yield each
            else:
                yield from patterns(each)
    elif isinstance(value, list):
        for each in value:
            yield from patterns(each)


def test_only_todays_routes_and_logins_are_described():
    today = {f"{route.method} {route.open_path}" for route in TODAY}
    assert {name for name, _ in operations()} == today | {"POST /login", "GET /logout"}


def test_the_document_is_valid_openapi_3_1():
    document = json.loads(json.dumps(DESCRIBED))
    jsonschema_rs.validator_for(definitions.OPENAPI_31).validate(document)


def test_every_pattern_is_one_that_re2_knows():
    found = set(patterns(DESCRIBED))
    assert len(found) > 10
    for each in found:
        # The engine of Rust is of RE2's family: no looking ahead or behind, no references back.
        jsonschema_rs.validator_for({"pattern": each}, pattern_options=jsonschema_rs.RegexOptions())
        assert not re.search(r"\\[ZuGXRKkghH]|\(\?[^:Pims]|[*+?}]\+", each), each
        assert all(int(count) <= 1000 for count in re.findall(r"[0-9]+(?=[,}])", each)), each


@pytest.mark.parametrize(
    "name", ["", ".", "..", "ana", ".a", "a\n", "a b", "a/b", "\u00e9", "\u00d7", "x" * 64, "x" * 65]
)
def test_a_documented_pattern_allows_what_the_biller_allows(name):
    try:
        msgspec.convert(name, Username)
        allowed = True
    except msgspec.ValidationError:
        allowed = False
    schema = SCHEMAS["NewSubscriber"]["properties"]["username"]
    assert jsonschema_rs.validator_for(schema).is_valid(name) is allowed


def test_names_of_schemas_stay_apart_in_generated_code():
    def plain(name):
        return re.sub(r"[^a-z0-9]", "", name.lower())

    names = [plain(each) for each in SCHEMAS]
    made = [
        plain(operation["operationId"]) + part
        for _, operation in operations()
        for part in ("", "params", "response", "request", "requestbody", "jsonrequestbody", "jsonbody")
    ]
    assert len(set(names)) == len(names)
    assert not set(names) & set(made)
    assert len(set(made)) == len(made)


def test_every_part_of_the_api_has_a_tag():
    explained = {tag["name"] for tag in DESCRIBED["tags"]}
    for path, methods in DESCRIBED["paths"].items():
        if path.startswith("/api/v1/") and path != "/api/v1/openapi.json":
            assert {tag for each in methods.values() for tag in each["tags"]} == {path.split("/")[3].partition(".")[0]}
    assert explained == {tag for _, operation in operations() for tag in operation["tags"]}


def test_every_body_has_an_example_the_biller_reads():
    for name, operation in operations():
        for content in operation.get("requestBody", {"content": {}})["content"].values():
            assert content["example"], name
            schema = content["schema"] | {"components": DESCRIBED["components"]}
            jsonschema_rs.validator_for(schema).validate(content["example"])
    for route in TODAY:
        if route.body is not None:
            convert_fields(route.body, route.example)


def test_a_media_type_stands_there_without_parameters():
    types = {
        kind for _, each in operations() for answer in each["responses"].values() for kind in answer.get("content", ())
    }
    assert types == {"application/json", "application/problem+json", "text/csv", "text/event-stream", "text/plain"}


def test_each_operation_has_name_summary_and_tag():
    names = [operation["operationId"] for _, operation in operations()]
    assert len(set(names)) == len(names)
    explained = {tag["name"] for tag in DESCRIBED["tags"]}
    for name, operation in operations():
        assert operation["summary"], name
        assert set(operation["tags"]) <= explained, name


def test_every_number_says_its_unit():
    for name, schema in fields():
        if any(each.get("type") in ("integer", "number") for each in kinds_of(schema)):
            assert any(unit in said_of(schema) for unit in UNITS) or name.endswith(" id"), name


def test_every_time_is_rfc_3339_in_utc():
    for name, schema in fields():
        if any(each.get("format") == "date-time" for each in kinds_of(schema)):
            assert "RFC 3339" in said_of(schema) or "zone" in said_of(schema), name
        is_time = name.endswith(("_at", ".at"))
        assert not is_time or any(each.get("format") == "date-time" for each in kinds_of(schema)), name


def test_every_schema_is_one():
    for name, schema in SCHEMAS.items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema), name


def test_every_error_is_a_described_problem_document():
    codes = {each.code for each in STATUS}
    for name, operation in operations():
        for status, answer in operation["responses"].items():
            if status >= "400" and name not in ("GET /readyz", "POST /login", "GET /logout"):
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
                assert set(answer["description"].partition(": ")[2].split(", ")) <= codes, (name, status)


def test_each_operation_states_its_authentication():
    free = {name for name, operation in operations() if operation["security"] == []}
    signed = {"POST /api/v1/payments"}
    by_phone = {"POST /api/v1/login-codes", "POST /api/v1/login-codes/login"}
    service = {"GET /healthz", "GET /readyz", "GET /api/v1/openapi.json"}
    assert free == signed | by_phone | service | {"POST /login", "GET /logout"}
    for name, operation in operations():
        if name not in free:
            assert [way for way in operation["security"] if way] == [{"token": []}, {"session": []}], name
            assert {} not in operation["security"] or name == "GET /metrics"
    assert set(DESCRIBED["components"]["securitySchemes"]) == {"token", "session"}


def test_a_key_is_demanded_where_credit_moves():
    needs_idempotency_key = {
        name
        for name, operation in operations()
        for each in operation.get("parameters", ())
        if each["name"] == "Idempotency-Key" and each["required"]
    }
    assert needs_idempotency_key == {
        "POST /api/v1/transfers",
        "POST /api/v1/credit-transfers",
        "POST /api/v1/me/credit-transfers",
        "POST /api/v1/me/refills",
        "POST /api/v1/sellers/{username}/refills",
        "POST /api/v1/sellers/{username}/sales",
        "POST /api/v1/messages",
        "POST /api/v1/broadcasts",
        "POST /api/v1/bundles",
        "POST /api/v1/voucher-batches",
        "POST /api/v1/me/bundles",
        "POST /api/v1/subscribers/{username}/bundles",
    }


def test_every_error_has_a_status_of_its_own():
    def kinds(of):
        for each in of.__subclasses__():
            yield each
            yield from kinds(each)

    ours = [each for each in kinds(BillerError) if each.__module__ == BillerError.__module__]
    without = {each.__name__ for each in ours if not any(base in STATUS for base in each.__mro__)}
    assert without == {"ConfigError", "WrongFields"}


@pytest_twisted.ensureDeferred
async def test_the_document_is_public_and_complete(biller):
    answer = await biller.client().get("/api/v1/openapi.json")
    assert (answer.code, header(answer, "content-type")) == (200, "application/json")
    assert answer.body == json.loads(json.dumps(DESCRIBED))
    text = answer.bytes.decode()
    named = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named == set(SCHEMAS)


@pytest.mark.parametrize(
    ("username", "phases", "part"),
    [
        ("clara", "examples,fuzzing", 0.05),
        ("admin", "coverage,fuzzing", 0.2),
        # Each edge of each parameter of 200 routes: 2 min.
        pytest.param("clara", "coverage,fuzzing,stateful", 0.15, marks=pytest.mark.nightly),
    ],
)
@pytest.mark.hypothesis  # so that it is tried longer by night
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_no_answer_differs_from_its_description(biller, tmp_path, username, phases, part):
    await fill(biller)
    secret = await token_of(biller, username)
    is_administrator = username == "admin"
    status, said = await run(
        biller,
        tmp_path,
        secret,
        examples=share(part, least=1).max_examples,
        phases=phases,
        administrator=is_administrator,
    )
    assert status == 0, said
    assert "No issues found" in said


def test_every_refusal_says_what_to_do():
    silent = sorted({error.code for error in STATUS if not error.remedy})
    assert silent == [], "say in `remedy` of these what who gets the refusal can do"


def test_commands_that_remedies_name_are_there():
    commands = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for error in STATUS:
        for words in re.findall(r"`(celcombiller [a-z-]+(?: [a-z-]+)?)", error.remedy):
            assert words in commands, (error.code, words)
