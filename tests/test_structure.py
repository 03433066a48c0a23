"""The house: arrows point up the list only, and the core knows no Twisted, no clock and no I/O."""

import ast
from pathlib import Path

import celcombiller

ROOT = Path(celcombiller.__file__).parent
ORDER = [
    "errors",
    "model",
    "rating",
    "calendar",
    "telling",
    "schema",
    "setwise",
    "migrations",
    "ledger",
    "networks",
    "subscribers",
    "credentials",
    "trail",
    "calls",
    "datareports",
    "datasessions",
    "disconnects",
    "history",
    "nodes",
    "sms",
    "postbox",
    "events",
    "charging",
    "messages",
    "notices",
    "enquiries",
    "schedules",
    "turns",
    "runs",
    "forecast",
    "audit",
    "progress",
    "metrics",
    "cores",
    "store",
    "reading",
    "passwords",
    "asterisk.agi",
    "asterisk.ami",
    "asterisk.variables",
    "asterisk.deadlines",
    "asterisk.settling",
    "asterisk.fastagi",
    "asterisk.speech",
    "asterisk.amiclient",
    "asterisk.peer",
    "trust",
    "config",
    "agreement",
    "asterisk.scripts",
    "asterisk.monitor",
    "periodic",
    "noticing",
    "outbox",
    "asterisk.texts",
    "deliveries",
    "smpp",
    "provisioning.network",
    "provisioning.steps",
    "provisioning.drift",
    "provisioning.sync",
    "provisioning.ctrl",
    "provisioning.osmocom",
    "provisioning.openbts",
    "provisioning.kinds",
    "provisioning.provisioner",
    "radius.complaints",
    "radius.duplicates",
    "radius.packets",
    "radius.access",
    "radius.accounting",
    "radius.ports",
    "radius.disconnecting",
    "radius.service",
    "rest.problems",
    "rest.reading",
    "rest.routes",
    "rest.paging",
    "rest.serving",
    "rest.sessions",
    "rest.health",
    "rest.scrape",
    "rest.subscribers",
    "rest.transfers",
    "rest.accounts",
    "rest.download",
    "rest.calls",
    "rest.datasessions",
    "rest.me",
    "rest.trail",
    "rest.tokens",
    "rest.schedules",
    "rest.memberships",
    "rest.provisioning",
    "rest.messages",
    "rest.openapi",
    "rest.search",
    "rest.restless",
    "rest.original.loose",
    "rest.original.moves",
    "rest.original.users",
    "rest.original.groups",
    "rest.original.members",
    "rest.original.plain",
    "rest.original.texts",
    "rest.table",
    "nightly",
    "plainlog",
    "logs",
    "watch",
    "workers",
    "service",
    "terminal",
    "provisioning.command",
    "cli_schedules",
    "cli_tokens",
    "cli_messages",
    "cli_data",
    "legacy.rows",
    "legacy.cells",
    "legacy.findings",
    "legacy.original",
    "legacy.users",
    "legacy.movements",
    "legacy.plans",
    "legacy.prepared",
    "legacy.references",
    "legacy.arrivals",
    "legacy.history",
    "legacy.enrolment",
    "legacy.imports",
    "legacy.command",
    "bench.traffic",
    "bench.house",
    "bench.floor",
    "bench.history",
    "bench.series",
    "bench.run",
    "cli",
]
CORE = ORDER[: ORDER.index("metrics")]
FORBIDDEN_IN_CORE = {"twisted", "klein", "alchimia", "time", "os", "socket", "random", "secrets", "uuid"}


def _imports(module):
    """Give what a module imports when it runs (not what only its types name)."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def test_every_module_has_its_place_in_the_list():
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py" and "migrations" not in path.parts
    }
    assert found | {"migrations"} == set(ORDER)


def test_arrows_point_up_the_list_only():
    for place, module in enumerate(ORDER):
        for name in _imports(module):
            target = name.removeprefix("celcombiller.")
            if target != name and target in ORDER:  # `calendar` alone is Python's own
                assert ORDER.index(target) < place, f"{module} imports {target}"


def test_the_core_knows_no_twisted_no_clock_and_no_io():
    for module in CORE:
        assert not {name.partition(".")[0] for name in _imports(module)} & FORBIDDEN_IN_CORE, module
