"""Write the reference pages, and the manual page of the command, from the code that they describe.

``python docs/generate.py`` writes them. ``python docs/generate.py --check`` writes nothing and exits with status 1 when
one of them is not as the code has it now.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
from contextlib import suppress
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the code of this tree, also where an older copy of it is installed

import msgspec
from argparse_manpage.manpage import Manpage

import celcombiller
from celcombiller.cli import main as run_command
from celcombiller.cli import make_parser
from celcombiller.config import tables
from celcombiller.config.error_messages import ENVIRONMENT_PREFIX
from celcombiller.core.errors import BillerError
from celcombiller.core.languages.built_in_texts import BUILT_IN, BUILT_IN_TEXTS
from celcombiller.core.reports.open_items import NetworkProgress, OpenItems
from celcombiller.http.openapi import describe_routes
from celcombiller.http.problem_details import make_legacy_message, make_problem
from celcombiller.rest.routes import ROUTES
from celcombiller.runtime.metrics import Metrics
from celcombiller.runtime.metrics.calls import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER = Path(__file__).parent / "reference"
MANUAL = ROOT / "etc" / "celcombiller.1"
NOTE = "<!-- Written by `python docs/generate.py` from the code. Do not edit this page: change the code. -->"
ANY = "any"
"""Stands for a label's value that is no name of the biller's own: a server, a network, a route."""


# -- configuration ---------------------------------------------------------------------------------------------------


def configuration() -> Iterator[str]:
    """Yield the page about every key of the settings file."""
    yield from (
        "# Settings",
        "All settings stand in one TOML file. The biller reads `--config FILE`; without it `./celcombiller.toml`; "
        "without that `/etc/celcombiller/celcombiller.toml`. Every setting has a default: no file is needed to begin.",
        f"An environment variable wins over the file: `{ENVIRONMENT_PREFIX}<SECTION>_<KEY>`, for example "
        f"`{ENVIRONMENT_PREFIX}CALLS_RING_SECONDS=30`. Items of a list are separated by commas. Sections in double "
        "brackets, such as `[[asterisk]]`, can stand in the file any number of times. They cannot be set by "
        "environment variables.",
        f'A text of a message that is `"{BUILT_IN}"` is the one that stands here, in the language of each subscriber. '
        "One that you write is the same for all: see "
        "[languages](../how-to/balance-enquiries-and-notices.md#languages).",
        "`etc/celcombiller.toml` is a commented file with all of them. `celcombiller check-config` checks a file and "
        "reports a mistake in one line.",
    )
    (reference,), schemas = msgspec.json.schema_components([tables.Config], ref_template="{name}")
    config = schemas[reference["$ref"]]
    docs = _field_docs(tables)
    for name, schema in config["properties"].items():
        yield from _section(schemas, docs, name, schema)


def _section(schemas: Any, docs: dict[str, dict[str, str]], name: str, schema: Any) -> Iterator[str]:
    many = "$ref" in schema.get("items", {})
    kind = (schema["items"] if many else schema)["$ref"]
    heading = f"[[{name}]]" if many else f"[{name}]"
    yield f"## `{heading}`"
    yield _markdown(inspect.getdoc(getattr(tables, kind)) or "")
    rows, below = [], []
    for key, value in schemas[kind]["properties"].items():
        if "$ref" in value.get("items", {}):
            below.append((f"{name}.{key}", value))
            continue
        required = key in schemas[kind].get("required", ())
        default = "required" if required else f"`{json.dumps(value['default'], ensure_ascii=False)}`"
        meaning = _markdown(docs[kind].get(key, ""))
        if f"{name}.{key}" in BUILT_IN_TEXTS:
            meaning += f' `"{BUILT_IN}"`: "{BUILT_IN_TEXTS[f"{name}.{key}"]}"'
        rows.append((f"`{key}`", _limits(value), default, meaning))
    yield _table(("key", "value", "default", "meaning"), rows)
    for place, value in below:
        yield from _section(schemas, docs, place, value)


def _limits(schema: Any) -> str:
    if "enum" in schema:
        return " or ".join(f'`"{each}"`' for each in schema["enum"])
    if schema["type"] == "array":
        return f"list of: {_limits(schema['items'])}" if schema["items"] else "list"
    if "description" in schema:
        return str(schema["description"])
    kind = {"integer": "whole number", "boolean": "`true` or `false`", "string": "text"}[schema["type"]]
    if "maximum" in schema:
        kind += f", {schema['minimum']} to {schema['maximum']}"
    return kind


def _field_docs(module: Any) -> dict[str, dict[str, str]]:
    """Return what stands below each field of each class of a module; Python itself does not keep these texts."""
    found: dict[str, dict[str, str]] = {}
    for table in ast.parse(inspect.getsource(module)).body:
        if isinstance(table, ast.ClassDef):
            texts = found[table.name] = {}
            for field, after in zip(table.body, table.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    text = after.value if isinstance(after, ast.Expr) else None
                    if isinstance(text, ast.Constant):
                        texts[field.target.id] = inspect.cleandoc(str(text.value))
    return found


EXIT_STATUSES = (
    ("`0`", "Done."),
    ("`1`", "Done, and what was looked at differs, waits or was left out: an audit, a network, a queue, a finding."),
    ("`2`", "The command line is wrong."),
    ("`3`", "Nothing was done: refused, a setting is wrong, or something that it needs cannot be reached."),
)


# -- the command -----------------------------------------------------------------------------------------------------


def cli() -> Iterator[str]:
    """Yield the page about the command, asked of the parsers themselves."""
    yield from (
        "# The `celcombiller` command",
        "The operator's command works on the database itself, with or without a running biller. Each command also "
        "explains itself: `celcombiller COMMAND --help`.",
        "## Exit status",
        _table(("status", "meaning"), EXIT_STATUSES),
    )
    yield from _command(())


def _command(words: tuple[str, ...]) -> Iterator[str]:
    parser = _parser(words)
    below: Any = None
    usage, rows = ["celcombiller", *words], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = action
            usage.append(str(action.metavar))
        elif "--help" not in action.option_strings:
            name, usage_words = _words_of(action)
            usage.append(usage_words)
            rows.append(
                (
                    f"`{name}`",
                    _facts(action),
                    _markdown(parser._get_formatter()._expand_help(action) if action.help else ""),
                )
            )
    if words:
        yield f"{'#' * min(len(words) + 1, 4)} `celcombiller {' '.join(words)}`"
    text = _markdown(parser.description or "")
    if below is not None and words:
        told = {each.dest: each.help for each in _parser(words[:-1])._subparsers._group_actions[0]._choices_actions}
        text = text or _markdown(told.get(words[-1]) or "")
    if text:
        yield text
    yield f"```text\n{' '.join(usage)}\n```"
    if rows:
        yield _table(("argument", "value", "meaning"), rows)
    for each in () if below is None else below.choices:
        yield from _command((*words, each))


def _words_of(action: argparse.Action) -> tuple[str, str]:
    """Return how an argument is named in a table and how it stands in a line of usage."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest)
    if action.nargs in ("*", "+", "?"):
        value = {"*": f"[{value} …]", "+": f"{value} [{value} …]", "?": f"[{value}]"}[str(action.nargs)]
    if not action.option_strings:
        return str(value), str(value)
    named = value if action.metavar or action.choices else str(value).upper()
    words = action.option_strings[-1] if action.nargs == 0 else f"{action.option_strings[-1]} {named}"
    return ", ".join((*action.option_strings[:-1], words)), words if action.required else f"[{words}]"


def _facts(action: argparse.Action) -> str:
    if action.required and action.option_strings:
        return "required"
    if action.nargs == 0 or action.default in (None, "", argparse.SUPPRESS):
        return ""
    return f"default `{action.default}`"


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Ask a command for its help, and return the parser that would print it: it may be made only then."""
    asked: list[argparse.ArgumentParser] = []
    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", lambda parser, _file=None: asked.append(parser)),
        suppress(SystemExit),
    ):
        run_command([*words, "--help"])
    return asked[-1]


def manual() -> str:
    """Return the manual page of the command. It has no date: that would be out of date by itself."""
    with mock.patch.dict(os.environ, COLUMNS="72"):
        parser = make_parser()
        for action in parser.walk():
            if isinstance(action, argparse._SubParsersAction):
                for listed in action._choices_actions:  # said once: the page prints both texts
                    below = action.choices[listed.dest]
                    below.description = None if below.description == listed.help else below.description
        page = Manpage(parser, format="single-commands-section")
        page.date, page.manual, page.source = "", "CELCOMBiller", f"celcombiller {version('celcombiller')}"
        page.description = "operate a prepaid biller for Asterisk and OpenBTS"
        statuses = "".join(f".TP\n\\fB{status.strip('`')}\\fR\n{text}\n" for status, text in EXIT_STATUSES)
        return f"{str(page).rstrip()}\n\n.SH EXIT STATUS\n{statuses}"


# -- REST ------------------------------------------------------------------------------------------------------------


COMMON = (
    *("BROKEN_REQUEST", "NOT_AUTHENTICATED", "FORBIDDEN", "TOO_LARGE"),
    *("WRONG_MEDIA_TYPE", "INVALID", "UNAVAILABLE"),
)
"""What nearly every route can answer: said once and not with each route."""


def rest_api() -> Iterator[str]:
    """Yield the page about the routes of today's API, from its OpenAPI document."""
    described = describe_routes(ROUTES)
    schemas = described["components"]["schemas"]
    document = _inline(described, {name: each for name, each in schemas.items() if "properties" not in each})
    yield "# REST API"
    yield (
        "A running biller describes its API at `/api/v1/openapi.json` (OpenAPI 3.1). This page says the same for "
        "people. How to log in and the first requests: [Use the API](../how-to/use-the-api.md). Error codes: "
        "[Errors](errors.md). Routes of the original program: [Legacy API](legacy-api.md)."
    )
    yield document["info"]["description"].strip()
    yield (
        "With each route stand its answer and the refusals of its own. Nearly every route can refuse also with "
        f"{', '.join(f'`{each}`' for each in COMMON)}."
    )
    operations = [
        (tag, method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for tag in operation["tags"][:1]
    ]
    for tag in document["tags"]:
        yield f"## Routes: {tag['name']}"
        yield tag["description"]
        for name, method, path, operation in operations:
            if name == tag["name"]:
                yield from _operation(method, path, operation)
    yield "## Objects"
    yield (
        "The JSON objects that requests and answers are made of. A request needs the required fields. An answer has "
        "all fields, except where it says otherwise."
    )
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema:
            yield f"### {name}"
            yield _markdown(schema.get("description", ""))
            yield _table(
                ("field", "type", "meaning"),
                [
                    (f"`{field}`" + " (required)" * (field in schema.get("required", ())), _type(value), _said(value))
                    for field, value in schema["properties"].items()
                ],
            )


def _inline(value: Any, schemas: dict[str, Any]) -> Any:
    """Return a document with each reference to one of these schemas replaced by what it refers to."""
    if isinstance(value, list):
        return [_inline(each, schemas) for each in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _inline(each, schemas) for name, each in value.items()}
    return schemas.get(str(value.get("$ref", "")).rpartition("/")[2], {}) | inner


def _operation(method: str, path: str, operation: Any) -> Iterator[str]:
    yield f"### `{method} {path}`"
    yield f"{_markdown(operation['summary'])}. {operation['description']}"
    if operation.get("parameters"):
        yield _table(
            ("parameter", "in", "type", "meaning"),
            [
                (
                    f"`{each['name']}`" + " (required)" * each["required"],
                    each["in"],
                    _type(each["schema"]),
                    _markdown(each.get("description", "")),
                )
                for each in operation["parameters"]
            ],
        )
    taken = operation.get("requestBody", {"content": {}})["content"].values()
    lines = [f"- Body: {_type(content['schema'])}" for content in taken]
    for status, response in operation["responses"].items():
        title, _, codes = response["description"].partition(": ")
        kinds = [_type(each["schema"]) for kind, each in response.get("content", {}).items() if "problem" not in kind]
        own = [f"`{code}`" for code in codes.split(", ") if code and code not in COMMON]
        if own or not codes or kinds:
            lines.append(f"- {status} {title}" + f": {', '.join((*kinds, *own))}" * bool(kinds or own))
    yield "\n".join(lines)


def _type(schema: Any) -> str:
    if "$ref" in schema and len(schema.keys() - {"description"}) == 1:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    words = [schema.get("type", "any"), schema.get("format", "")]
    if "maximum" in schema:
        words.append(f"{schema.get('minimum', '')} to {schema['maximum']}")
    return " ".join(filter(None, words))


def _said(schema: Any) -> str:
    texts = [schema.get("description", ""), *(each.get("description", "") for each in schema.get("anyOf", ()))]
    return _markdown(next(filter(None, texts), ""))


# -- metrics ---------------------------------------------------------------------------------------------------------


def metrics() -> Iterator[str]:
    """Yield the page about every metric of the biller's own, from an exposition."""
    yield from (
        "# Metrics",
        "`GET /metrics` on the REST port, in the text format of Prometheus. How to scrape it and what to look at "
        "first: [Monitoring](../how-to/monitoring.md). The usual `process_…` and `python_gc_…` metrics are there too. "
        "With `service.workers` above 1 every series has the label `worker`.",
    )
    made = Metrics()
    made.links.record_up(ANY)
    made.rest.count(ANY, ANY)
    made.radius.count_request(ANY)
    made.radius.count_disconnect(ANY)
    made.calls.count_failover(ANY, ANY)
    for answered in (True, False):
        made.calls.count_way(ANY, ANY, answered=answered, trunk_cost=0)
    network = NetworkProgress(up=True, waiting=0, oldest_seconds=0.0, failing=0, done_total=0, failed_total=0)
    text = made.exposition(OpenItems(0, 0, 0.0, 0, 0.0, {ANY: 1}, {ANY: network}), {ANY: 1}, {ANY: True}).decode()
    kinds = dict(re.findall(r"^# TYPE (celcombiller_\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (celcombiller_\S+) (.*)$", text, re.MULTILINE))
    labels: dict[str, dict[str, list[str]]] = {name: {} for name in kinds}
    for name, named in re.findall(r"^(celcombiller_[a-z_]+)\{(.*)\} ", text, re.MULTILINE):
        whole = name if name in kinds else re.sub("_(bucket|count|sum)$", "", name)
        for label, value in re.findall(r'([a-z_]+)="([^"]*)"', named):
            if label not in ("le", "version"):
                values = labels[whole].setdefault(label, [])
                values += [] if value in (ANY, *values) else [value]
    rows = [
        (
            f"`{name}`",
            kind,
            ", ".join(f"`{label}`" + f": {', '.join(values)}" * bool(values) for label, values in labels[name].items()),
            _markdown(helps[name]),
        )
        for name, kind in sorted(kinds.items())
    ]
    yield _table(("metric", "type", "labels", "meaning"), rows)


# -- errors ----------------------------------------------------------------------------------------------------------


def errors() -> Iterator[str]:
    """Yield the page about every code, from the error classes and the two shapes in which the API sends them."""
    yield from (
        "# Errors",
        "Every refusal has a code. Programs look at the code: it never changes once released. The sentence beside it "
        "is for people and may change. The API sends the code in a problem document (RFC 9457), the command prints the "
        "sentence and exits with status 3, and FastAGI sets a code as the channel variable `CELCOMBILLER_RESULT`.",
    )
    for each in pkgutil.walk_packages(celcombiller.__path__, f"{celcombiller.__name__}."):
        if ".migrations." not in each.name:
            importlib.import_module(each.name)
    kinds: dict[str, list[type[BillerError]]] = {}
    for kind in (BillerError, *_below(BillerError)):
        if kind.__module__.partition(".")[0] == celcombiller.__name__:
            kinds.setdefault(kind.code, []).append(kind)
    sent, internal = [], []
    for code, classes in sorted(kinds.items()):
        kind = next(each for each in classes if "code" in vars(each))
        error = kind.__new__(kind, "why")
        status, meaning = make_problem(error).status, _markdown(inspect.getdoc(kind) or "")
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            internal.append((f"`{code}`", meaning))
        else:
            sent.append((f"`{code}`", str(status), str(make_legacy_message(error)[0]), meaning, kind.remedy))
    yield "## Refusals"
    yield "The first status is that of `/api/v1/`, the second that of the original program's routes."
    yield _table(("code", "status", "legacy status", "meaning", "what to do"), sent)
    yield "## Faults"
    yield (
        "These have no status of their own: the command and the log show them. If one reached the API, the answer "
        f"would be {HTTPStatus.INTERNAL_SERVER_ERROR.value}."
    )
    yield _table(("code", "meaning"), internal)
    yield "## `CELCOMBILLER_RESULT`"
    yield (
        "The biller sets `GRANTED`, or the code of the refusal, on the channel. The metric "
        "`celcombiller_authorizations_total` counts calls by these results; the last two are `GRANTED` on the channel, "
        "but the ledger did not decide them."
    )
    yield "\n".join(f"- `{each}`" for each in RESULTS)


def _below(kind: type[BillerError]) -> Iterator[type[BillerError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


# -- pages -----------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "configuration.md": configuration,
    "cli.md": cli,
    "rest-api.md": rest_api,
    "metrics.md": metrics,
    "errors.md": errors,
}


def _markdown(text: str) -> str:
    """Return a text of the code as Markdown."""
    return " ".join(re.sub(r"``(.+?)``", r"`\1`", text).split())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is out of date")
    check = parser.parse_args().check
    stale = []
    texts = {FOLDER / name: "\n\n".join((NOTE, *filter(None, page()))) + "\n" for name, page in PAGES.items()}
    for file, text in (texts | {MANUAL: manual()}).items():
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(file.relative_to(ROOT)))
        if not check:
            file.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"{', '.join(stale)} not as the code is: run `python docs/generate.py`", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
