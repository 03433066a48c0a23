"""The names that operators, programs and dialplans know: none of them moves, and none is added, unseen.

``tests/data/public_names.json`` holds them. After a change that is meant, write it again and look at the difference:
``python -m tests.test_public_names --write``. What is gone from it breaks somebody's file, program or dialplan.
"""

import argparse
import ast
import difflib
import importlib
import importlib.util
import json
import os
import pkgutil
import re
import sqlite3
import sys
import tempfile
from contextlib import closing, redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import msgspec
import pytest
import pytest_twisted
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import Logger, capturedLogs

# All that this file needs of the product, whose modules may move; the rest is found by its public surface.
import celcombiller
from celcombiller.asterisk.scripts import Scripts
from celcombiller.cli import main
from celcombiller.config.loader import load
from celcombiller.config.tables import Config
from celcombiller.core.errors import BillerError, ConfigError
from celcombiller.core.reports.open_items import NetworkProgress, OpenItems
from celcombiller.core.reports.seller_items import SellerItems
from celcombiller.core.schema import migrations
from celcombiller.core.schema.tables import metadata
from celcombiller.database.engine import open_engine
from celcombiller.http.problem_details import make_legacy_message, make_problem
from celcombiller.rest.routes import ROUTES
from celcombiller.runtime.metrics import Metrics
from tests.support.http.api_service import Biller

ROOT = Path(__file__).parents[1]
PACKAGE = Path(celcombiller.__file__).parent
DATA = Path(__file__).parent / "data"
FILE = DATA / "public_names.json"
LEDGER = DATA / "ledger_before_move.sql"
FRAGMENT = ROOT / "etc" / "asterisk" / "extensions.conf"
PLUGIN = ROOT / "twisted" / "plugins" / "celcombiller_plugin.py"
ASTERISK = PACKAGE / "asterisk"
NO_FILE = Path(os.devnull)
"""Settings without a word in them: what this machine has set is nothing to these tests."""

ANY = "*"
"""Stands for a label's value that is no name of ours: a server, a network, a route."""


# -- settings --------------------------------------------------------------------------------------------------------


def settings():
    """Return each key of the settings file with its type, its limits and its default."""
    (reference,), schemas = msgspec.json.schema_components([Config], ref_template="{name}")
    return dict(sorted(_keys(schemas, schemas[reference["$ref"]], "")))


def _keys(schemas, table, place):
    for name, schema in table["properties"].items():
        many = "$ref" in schema.get("items", {})
        below = schema["items"] if many else schema
        if "$ref" in below:
            yield from _keys(schemas, schemas[below["$ref"]], f"{place}{name}{'[]' * many}.")
        else:
            default = "required" if name in table.get("required", ()) else f"= {json.dumps(schema['default'])}"
            yield f"{place}{name}", f"{_limits(schema)} {default}"


def _limits(schema):
    if "enum" in schema:
        return " or ".join(schema["enum"])
    items = f" of {_limits(schema['items'])}" if "items" in schema else ""
    least, most = schema.get("minimum"), schema.get("maximum")
    return f"{schema['type']}{items}{'' if most is None else f' {least}..{most}'}"


def environment():
    """Return each environment variable that is read, with the key that it sets: it refuses what no key can be."""
    keys = [key for key in settings() if "[]" not in key]
    named = {f"CELCOMBILLER_{key}".upper().replace(".", "_"): key for key in keys}
    found = {variable: key for variable, key in named.items() if _is_read(variable)}
    return dict(sorted(found.items())) | dict.fromkeys(sorted(_words(PACKAGE) - _words(ASTERISK)), "no key")


def _is_read(variable):
    try:
        load(NO_FILE, {variable: "\x00"})
    except ConfigError as error:
        return str(error).startswith(f"environment: {variable}: must")
    return False


# -- channel variables and scripts -----------------------------------------------------------------------------------


def channel():
    """Return the channel variables that the biller reads and sets, and all that the dialplan fragment names."""
    texts = _constants(ASTERISK)
    fragment = FRAGMENT.read_text(encoding="utf-8")
    return {
        "variables of its own": sorted(_words(ASTERISK)),
        "reads": sorted({each for text in texts for each in re.findall(r"\$\{([A-Z]\w*(?:\([^{}]*\))?)\}", text)}),
        "reads or sets": sorted(text for text in texts if re.fullmatch(r"[A-Z]+\([a-z_]+\)", text)),
        "scripts": sorted(_scripts()),
        "fragment, contexts": sorted(re.findall(r"^\[([a-z-]+)\]$", fragment, re.MULTILINE)),
        "fragment, variables": sorted(set(re.findall(r"CELCOMBILLER[A-Z_]*", fragment))),
        "fragment, scripts": sorted(set(re.findall(r"AGI\([^()]*/([^()]*)\)", fragment))),
    }


def _scripts():
    """Ask for a script that there is not: the log says which there are."""
    scripts = Scripts(None, Config(), None, None, {})
    scripts.add_sms(None)
    with capturedLogs() as events:
        Deferred.fromCoroutine(scripts(SimpleNamespace(variables={"agi_network_script": ANY})))
    return events[0]["known"].split(", ")


def _words(folder):
    return {text for text in _constants(folder) if re.fullmatch(r"CELCOMBILLER_[A-Z_]+[A-Z]", text)}


@cache
def _constants(folder):
    """Return the texts that stand in the code of a folder, without what only describes it."""
    found = set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_bytes())
        described = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
        found.update(
            each.value
            for each in ast.walk(tree)
            if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in described
        )
    return found


# -- errors and log namespaces ---------------------------------------------------------------------------------------


def errors():
    """Return each code with its HTTP status, the status on the original's routes, and its problem type."""
    _modules()
    found = {}
    for kind in {BillerError, *_below(BillerError)}:
        if kind.__module__.partition(".")[0] == celcombiller.__name__:
            error = kind.__new__(kind, "why")
            told, (status, _) = make_problem(error), make_legacy_message(error)
            found.setdefault(told.code, set()).add(f"{told.status}, original {status}, {told.type}")
    return {code: sorted(facts) for code, facts in sorted(found.items())}


def _below(kind):
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def log_namespaces():
    """Return each namespace of the log: of the `Logger` of a module, and of a class as its objects have it.

    A class's own `Logger(namespace=...)` does not keep a name: Twisted names it after the class all the same.
    """
    found = set()
    for module in _modules():
        owners = [each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__]
        for owner in (module, *(each for each in owners if isinstance(each, type))):
            for name in dir(owner):
                logger = getattr(owner, name, None)
                if isinstance(logger, Logger):
                    found.add(logger.namespace)
    return sorted(found)


def _modules():
    """Import and return every module of the product; migrations run when they are imported, and log nothing."""
    names = (each.name for each in pkgutil.walk_packages(celcombiller.__path__, f"{celcombiller.__name__}."))
    return [importlib.import_module(name) for name in names if ".migrations." not in name]


# -- metrics ---------------------------------------------------------------------------------------------------------


def metrics():
    """Return each metric with its type, its labels, and the values of those that are the biller's own."""
    found = _exposed(None)
    several = _exposed(1)
    assert all(several[name].endswith(" worker=1") for name in found)
    return found | {"with several workers, each": "worker=…"}


def _exposed(worker):
    made = Metrics(worker=worker)
    made.links.record_up(ANY)
    made.rest.count(ANY, ANY)
    made.messages.count_command(ANY, ANY, ANY, is_new=True)
    made.payments.count(ANY, ANY)
    made.radius.count_request(ANY)
    made.radius.count_disconnect(ANY)
    made.calls.count_failover(ANY, ANY)
    for answered in (True, False):
        made.calls.count_way(ANY, ANY, answered=answered, trunk_cost=0)
    network = NetworkProgress(up=True, waiting=0, oldest_seconds=0.0, failing=0, done_total=0, failed_total=0)
    sellers = SellerItems({(ANY, ANY): (1, 1)}, {ANY: 1}, 1)
    items = OpenItems(0, 0, 0.0, 0, 0.0, {ANY: 1}, {ANY: network}, sellers=sellers)
    text = made.exposition(items, {ANY: 1}, {ANY: True}).decode()
    kinds = dict(re.findall(r"^# TYPE (celcombiller_\S+) (\S+)$", text, re.MULTILINE))
    labels = {name: {} for name in kinds}
    for name, named in re.findall(r"^(celcombiller_[a-z_]+)\{(.*)\} ", text, re.MULTILINE):
        for label, value in re.findall(r'([a-z_]+)="([^"]*)"', named):
            values = labels[name if name in kinds else re.sub("_(bucket|count|sum)$", "", name)].setdefault(label, [])
            values.append(ANY if label == "version" else value)
    return {
        name: " ".join(
            [kind, *(f"{label}={'|'.join(dict.fromkeys(values))}" for label, values in labels[name].items())]
        )
        for name, kind in sorted(kinds.items())
    }


# -- tables ----------------------------------------------------------------------------------------------------------


def tables():
    """Return each table as it is made on each database: columns with their types, constraints, indexes."""
    return {
        dialect.name: {
            table.name: {
                "table": _lines(CreateTable(table), dialect)[1:-1],
                "indexes": sorted(" ".join(_lines(CreateIndex(each), dialect)) for each in table.indexes),
            }
            for table in metadata.sorted_tables
        }
        for dialect in (postgresql.dialect(), sqlite.dialect())
    }


def _lines(statement, dialect):
    lines = str(statement.compile(dialect=dialect)).splitlines()
    return [line.strip().rstrip(",") for line in lines if line.strip()]


# -- commands --------------------------------------------------------------------------------------------------------


def commands():
    """Return every command with its words and its options, as its parser knows them."""
    return dict(_commands(()))


def _commands(words):
    parser = _parser(words)
    found, below = {}, ()
    for action in parser._actions:
        choices = "" if action.choices is None else f" {'|'.join(map(str, action.choices))}"
        if action.nargs == argparse.PARSER:
            below = action.choices
        elif action.option_strings:
            silent = any(action.default is each for each in (None, False, argparse.SUPPRESS))
            default = "" if silent else f" = {json.dumps(action.default, default=str)}"
            value = " flag" if action.nargs == 0 else f" value {action.nargs or ''}".rstrip()
            found[", ".join(action.option_strings)] = (
                f"{value}{choices}{' required' * action.required}{default}".strip()
            )
        else:
            found[action.metavar or action.dest] = f"word {action.nargs or ''}{choices}".rstrip()
    yield " ".join(("celcombiller", *words)), found
    for each in below:
        yield from _commands((*words, each))


def _parser(words):
    """Ask a command for its help, and return the parser that would print it."""
    asked = []
    with mock.patch.object(argparse.ArgumentParser, "print_help", lambda parser, _file=None: asked.append(parser)):
        assert _run(*words, "--help") == (0, "")
    return asked[-1]


def twistd():
    """Return what `twistd` knows of the service: its name and its options."""
    spec = importlib.util.spec_from_file_location("plugin", PLUGIN)
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    maker = next(each for each in vars(plugin).values() if hasattr(each, "tapname"))
    options = maker.options()
    found = {"name": maker.tapname, "long": sorted(options.longOpt), "short": options.shortOpt}
    options.parseOptions(["--config", str(DATA / "none.toml")])
    with pytest.raises(SystemExit) as over:
        maker.makeService(options)
    return found | {"refused, CONFIG": 1 if isinstance(over.value.code, str) else over.value.code}


def command_answers(folder):
    """Return with what status the command ends, for each way in which it can, and the fields of its JSON."""
    ledger, altered, older = (folder / f"{name}.sqlite" for name in ("ledger", "altered", "older"))
    _restore(ledger)
    _restore(altered, "update account set posted = posted + 1 where id = 6")
    _restore(older, "update alembic_version set version_num = '0006'")
    statuses = {
        "done": _on(ledger, "user show ana"),
        "done, credit": _on(ledger, "credit ana 5 --id x"),
        "done, the same credit again": _on(ledger, "credit ana 5 --id x"),
        "done, settings are right": _on(ledger, "check-config"),
        "done, no difference": _on(ledger, "audit"),
        "done, help": _run("--help"),
        "difference": _on(altered, "audit"),
        "refused, CONFIG": _run("--config", str(folder / "none.toml"), "check-config"),
        "refused, UNKNOWN": _on(ledger, "user show nobody"),
        "refused, NO_CREDIT": _on(ledger, "credit ana -100000"),
        "refused, CONFLICT": _on(ledger, "credit ana 6 --id x"),
        "refused, TAKEN": _on(ledger, "user add ana --clid 1 --imsi 724001 --name A"),
        "refused, SCHEMA": _on(older, "user list"),
        "refused, UNAVAILABLE": _on(folder / "no" / "such.sqlite", "user list"),
        "usage, no command": _run(),
        "usage, no such command": _run("frobnicate"),
        "usage, a word is missing": _run("user", "show"),
        "usage, not a choice": _on(ledger, "credit ana 5 --kind gold"),
    }
    asked = (
        *("user show ana", "user list", "calls", "statement ana", "audit", "messages list", "messages show 2"),
        *("messages queue", "data-sessions --all", "schedules list", "schedules show gold", "schedules history"),
        *("schedules history gold --uncredited", "schedules due gold --on 2026-04-02", "token list"),
        "provisioning status",
    )
    return {
        "statuses": {name: status for name, (status, _) in statuses.items()},
        "json": {words: _shown(json.loads(_on(ledger, f"{words} --json")[1])) for words in asked},
    }


def _shown(value):
    return sorted(_fields(value if isinstance(value, dict) else {"": value}))


def _on(ledger, words):
    return _run("--config", str(NO_FILE), *words.split(), CELCOMBILLER_DATABASE_URL=f"sqlite:///{ledger}")


def _run(*words, **environ):
    """Run the command; return its exit status and what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELCOMBILLER_")}
    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(StringIO()), mock.patch.dict(os.environ, kept | environ, clear=True):
        try:
            status = main(list(words))
        except SystemExit as over:
            status = over.code
    return status, printed.getvalue()


def _restore(path, *statements):
    with closing(sqlite3.connect(path)) as made:
        made.executescript(LEDGER.read_text(encoding="utf-8"))
    engine = open_engine(f"sqlite:///{path}", lock_seconds=1, foreign_keys=False)
    with engine.begin() as tx:
        migrations.upgrade(tx)
        for each in statements:
            tx.execute(sa.text(each))
    engine.dispose()


# -- REST ------------------------------------------------------------------------------------------------------------

Q = '{"filters": [{"name": "username", "op": "eq", "val": "dora"}]}'
MEMBER = {"filters": [{"name": "schedule_id", "op": "eq", "val": 5}, {"name": "user_id", "op": "eq", "val": 3}]}
DORA = {
    "level": 1,
    "name": "Dora",
    "username": "dora",
    "password": "correct horse",
    "clid": "2010",
    "imsi": "724000000002010",
    "cpf": "10",
    "address": "",
    "voice_balance": 5,
    "data_balance": 6,
}
CHANGED = {name: value for name, value in DORA.items() if not name.endswith("_balance")}
GROUP = {"name": "silver", "day": 3, "value": 4, "kind": 1, "count": 2}
VOICE = {"from_user_id": 2, "value": 7, "origin": "shop", "to_user_id": 3, "date": "2026-03-02T12:00:00"}
DATA_VOLUME = {
    "user_id": 2,
    "value": 7,
    "origin": "shop",
    "user_ip": "192.0.2.2",
    "connection_ip": "192.0.2.3",
    "date": "2026-03-02T12:00:00",
}
IMSI = {"imsi": "724000000002001"}
PAGE = "page=1&results_per_page=3"

ORIGINAL = (
    # Every route of the original program, asked with every field that it takes: one that it did not know is refused.
    ("GET", "/", None),
    ("POST", "/", None),
    ("GET", "/test", None),
    ("GET", "/check", None),
    ("GET", "/checkadm", None),
    ("GET", "/check_voice_balance", IMSI),
    ("POST", "/check_voice_balance", IMSI),
    ("GET", "/check_data_balance", IMSI),
    ("POST", "/check_data_balance", IMSI),
    ("POST", "/sms", {"id": 2, "to": "2002", "msg": "hello"}),
    ("POST", "/api/users", DORA),
    ("GET", f"/api/users?q={Q.replace(' ', '')}&{PAGE}", None),
    ("PATCH", "/api/users", {"q": json.loads(Q), "name": "Dora"}),
    ("PUT", "/api/users", {"q": json.loads(Q), "fields": ["name"], "values": ["Dora"]}),
    ("GET", "/api/users/dora", None),
    ("PATCH", "/api/users/dora", CHANGED),
    ("DELETE", "/api/users/dora", None),
    ("POST", "/api/voice_balance", VOICE),
    ("GET", f"/api/voice_balance?{PAGE}", None),
    ("GET", "/api/voice_balance/8", None),
    ("POST", "/api/data_balance", DATA_VOLUME),
    ("GET", f"/api/data_balance?{PAGE}", None),
    ("GET", "/api/data_balance/2", None),
    ("POST", "/api/schedule", GROUP),
    ("GET", f"/api/schedule?{PAGE}", None),
    ("GET", "/api/schedule/1", None),
    ("PATCH", "/api/schedule/4", GROUP | {"name": "bronze"}),
    ("DELETE", "/api/schedule/4", None),
    ("POST", "/api/schedules", GROUP | {"month": 1, "year": 9000, "users": [2]}),
    ("GET", f"/api/schedules?{PAGE}", None),
    ("GET", "/api/schedules/silver", None),
    ("PATCH", "/api/schedules/silver", GROUP | {"newUser": [6], "removeUser": [2], "updateGroup": 1}),
    ("POST", "/api/schedule_user", {"user_id": 3, "schedule_id": 5, "count": 4}),
    ("PATCH", "/api/schedule_user", {"q": MEMBER, "count": 3, "number": 2}),
    ("PUT", "/api/schedule_user", {"q": MEMBER, "count": 3, "number": 2}),
    ("GET", f"/api/schedule_user?{PAGE}", None),
    ("GET", "/api/schedule_user/1", None),
    ("PATCH", "/api/schedule_user/1", {"count": 3}),
    ("DELETE", "/api/schedule_user/1", None),
    ("GET", f"/api/schedule_contract?{PAGE}", None),
    ("GET", "/api/schedule_contract/1", None),
    ("GET", f"/api/schedule_input?{PAGE}", None),
    ("GET", "/api/schedule_input/1", None),
    ("DELETE", "/api/schedules/silver", None),
    ("GET", "/logout", None),
)


async def rest(folder):
    """Return every route with the fields of what is asked and answered, asked of a running biller."""
    ledger = folder / "rest.sqlite"
    _restore(ledger)
    way = {"ON_NET_ROUTE": "smpp", "ACCOUNT": "sms"}
    environ = {f"CELCOMBILLER_SMS_{name}": value for name, value in way.items()}
    ways = load(NO_FILE, environ | {"CELCOMBILLER_SMPP_HOST": "127.0.0.1", "CELCOMBILLER_SMPP_PORT": "1"})
    biller = Biller(folder, {}, f"sqlite:///{ledger}", sms=ways.sms, smpp=ways.smpp)
    try:
        client = biller.client()
        document = (await client.get("/api/v1/openapi.json")).body
        asked = {"POST /login": _answered(await client.log_in("admin"), {"username": "", "password": ""}, "")}
        assert client.cookie, "a password and the cookie named session are as before"
        for method, path, body in ORIGINAL:
            answer = await client.ask(method, path, body)
            asked[f"{method} {_route(method, path.partition('?')[0])}"] = _answered(answer, body or {}, path)
    finally:
        await biller.stop()
    routes = {f"{each.method} {each.open_path}" for each in ROUTES}
    today = dict(_described(document))
    assert routes | {"refusals"} == today.keys() | asked.keys(), "each route is described or in ORIGINAL"
    return {"today": today, "original": dict(sorted(asked.items()))}


def _route(method, path):
    """Return the route at an address; one with fewer gaps comes first."""
    known = sorted((each.open_path for each in ROUTES if each.method == method), key=lambda each: each.count("{"))
    return next(each for each in known if re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", each), path))


def _answered(answer, body, path):
    shown = sorted(_fields(answer.body or {})) if answer.body is not None or not answer.bytes else "text"
    query = re.findall(r"[?&]([a-z_]+)=", path)
    return {"query": query, "body": sorted(_fields(body)), f"answer {answer.code}": shown}


def _fields(value, place=""):
    """Return the names of a JSON value's fields, those of its lists' items too."""
    names = set()
    for name, each in value.items() if isinstance(value, dict) else ():
        names.add(f"{place}{name}")
        for item in each if isinstance(each, list) else [each]:
            names |= _fields(item, f"{place}{name}{'[]' * isinstance(each, list)}.")
    return names


def _described(document):
    """Return each route of an OpenAPI document: its parameters and, by their places, the fields of its bodies."""
    schemas = document["components"]["schemas"]
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            found = {
                f"{each['in']} {each['name']}": _type(schemas, each["schema"]) + " required" * each["required"]
                for each in operation.get("parameters", ())
            }
            for kind, content in operation.get("requestBody", {"content": {}})["content"].items():
                found[f"body {kind}"] = _places(schemas, content["schema"])
            for status, response in operation["responses"].items():
                codes = response["description"].partition(": ")[2]
                if codes:
                    found[f"refusals {status}"] = codes
                for kind, content in response.get("content", {}).items():
                    if "problem" not in kind:
                        found[f"answer {status} {kind}"] = _places(schemas, content["schema"])
            yield f"{method.upper()} {path}", found
    yield "refusals", {"application/problem+json": _places(schemas, {"$ref": "/Problem"})}


def _places(schemas, schema, place=""):
    """Return the fields of a schema by their places in the document that it describes, each with its type."""
    found = {}
    for each in schema.get("anyOf", [schema]):
        whole = _whole(schemas, each)
        for name, field in whole.get("properties", {}).items():
            needed = " required" * (name in whole.get("required", ()))
            found[f"{place}{name}"] = _type(schemas, field) + needed
            found |= _places(schemas, field, f"{place}{name}.")
        if "items" in whole:
            found |= _places(schemas, whole["items"], f"{place.removesuffix('.')}[].")
    return found


def _whole(schemas, schema):
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _type(schemas, schema):
    """Write a type in a word or two; the fields of an object stand below it."""
    whole = _whole(schemas, schema)
    if "anyOf" in whole:
        return " or ".join(_type(schemas, each) for each in whole["anyOf"])
    if "enum" in whole:
        return "|".join(map(str, whole["enum"]))
    if "items" in whole:
        return f"array of {_type(schemas, whole['items'])}"
    return " ".join(filter(None, (whole.get("type", "any"), whole.get("format"))))


# -- the comparison --------------------------------------------------------------------------------------------------

LISTS = {
    "settings": settings,
    "environment": environment,
    "errors": errors,
    "metrics": metrics,
    "channel": channel,
    "tables": tables,
    "commands": commands,
    "twistd": twistd,
    "log_namespaces": log_namespaces,
}
"""What needs no running biller and no folder."""


def _text(value):
    return json.dumps(value, indent=1, ensure_ascii=False).splitlines()


def check(name, found):
    """Fail with what differs, and with what to do about it."""
    was = json.loads(FILE.read_text(encoding="utf-8"))[name]
    lines = list(difflib.unified_diff(_text(was), _text(found), "known", "in the code", lineterm="", n=4))
    gone = any(line.startswith("-") and not line.startswith("---") for line in lines)
    what = "A name that others use is gone or has changed" if gone else "A name is new"
    advice = f"{what}: if that is meant, run `python -m tests.test_public_names --write` and say it in the change log."
    assert not lines, "\n".join([advice, *lines])


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTS)
def test_names_that_others_use_stay(name):
    check(name, LISTS[name]())


@pytest.mark.slow
def test_exit_statuses_and_json_of_commands_stay(tmp_path):
    check("command_answers", command_answers(tmp_path))


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_routes_and_their_fields_stay(tmp_path):
    check("rest", await rest(tmp_path))


async def write(folder):
    """Write the file from what the code has now."""
    found = {name: give() for name, give in LISTS.items()}
    found |= {"command_answers": command_answers(folder), "rest": await rest(folder)}
    FILE.write_text("\n".join(_text(dict(sorted(found.items())))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_public_names --write")
    with tempfile.TemporaryDirectory() as made:
        react(lambda _reactor: Deferred.fromCoroutine(write(Path(made))))
