"""A deleted subscriber is found by nothing: only `core.subscribers` looks for one by username, number or IMSI."""

import ast
from pathlib import Path

import pytest

import celcombiller

ROOT = Path(celcombiller.__file__).parent
IDENTITIES = {"username", "clid", "imsi", "cpf"}
OTHER_TABLES = {
    "core/provisioning": "entries of radio networks are kept by IMSI",
    "core/schema": "tables and migrations",
    "bench": "subscribers of its own",
}


def identity(node):
    """Return the identity that a column is of: `x.c.clid`, or `x.c[name]` for any name."""
    if (isinstance(node, ast.Attribute) and node.attr in IDENTITIES) or isinstance(node, ast.Subscript):
        column = node.value
    else:
        return None
    if isinstance(column, ast.Attribute) and column.attr in ("c", "columns"):
        return ast.unparse(node)
    return None


def comparisons(tree):
    """Yield the columns of identities that are compared with something."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from filter(None, map(identity, (node.left, *node.comparators)))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in METHODS:
            yield from filter(None, [identity(node.func.value)])


METHODS = {"in_", "like", "ilike", "is_", "is_not_distinct_from", "startswith", "contains"}
LISTS = {
    ("rest/v1/subscribers.py", "table.c[name]"),
    ("rest/legacy/search.py", "self.columns[each.name]"),
    ("rest/legacy/collections.py", "source.columns[name]"),
    ("rest/legacy/collections.py", "source.columns['_id']"),
    ("core/selling/sellers.py", "_subscriber.c.username"),  # the place in a list
    # The columns of these are references and counts.
    ("core/audit/checks/schedule_checks.py", "credit.c[f'{kind}_reference']"),
    ("core/audit/checks/schedule_checks.py", "run.c[outcome]"),
}
"""Filters of lists, which leave out the deleted whatever the filter; a test of each route says so."""


@pytest.mark.slow
def test_only_one_package_looks_for_identities():
    found = {
        (name, column)
        for path in sorted(ROOT.rglob("*.py"))
        for name in [str(path.relative_to(ROOT))]
        if not name.startswith(("core/subscribers/", *OTHER_TABLES))
        for column in comparisons(ast.parse(path.read_text()))
    }
    assert found == LISTS
