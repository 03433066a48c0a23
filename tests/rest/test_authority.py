"""Rights and credit change in one place each, where the author is checked: no route and no command goes around it."""

import ast
from pathlib import Path

import celcombiller

ROOT = Path(celcombiller.__file__).parent
UNCHECKED = {
    "subscriber_records": {"add", "change", "delete", "enable", "replace_hash"},
    "schedule_records": {"add", "change", "delete"},
    "memberships": {"join", "leave", "leave_all", "renew", "set_count"},
    "accounts": {"set_credit_limit"},
    "ledger_accounts": {"set_credit_limit"},
    "reversals": {"reverse"},
    "tokens": {"revoke_tokens"},
    "sessions": {"close_sessions"},
    "ChargingBatch": {"load"},
}
"""Functions that change rights or credit and know no author."""
EXEMPT = {
    ("cli/operations/setup.py", "subscriber_records.add"),  # the first administrator, before anybody is one
    ("http/credentials/login.py", "subscriber_records.replace_hash"),  # another hash of the same password
}
WAITING = {
    "http/credentials/login.py",  # there is no principal yet, or it ends
    "rest/operations/health.py",  # for everybody
    "rest/v1/selling/payments.py",  # signed by a provider: there is no principal
}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node, ast.unparse(node.func)


def sources(*packages):
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, str(path.relative_to(ROOT))


def test_routes_and_commands_change_by_an_author_only():
    found = {
        (name, called)
        for path, name in sources("rest", "cli", "http")
        for _, called in calls(path)
        for module, _, function in [called.rpartition(".")]
        if function in UNCHECKED.get(module.rpartition(".")[2], ())
    }
    assert found == EXEMPT


def test_routes_write_no_row_of_their_own():
    for path, name in sources("rest", "http"):
        for node, called in calls(path):
            if called in ("sa.insert", "sa.update", "sa.delete"):
                assert (name, ast.unparse(node.args[0])) == ("rest/legacy/balances.py", "_detail"), called


def test_routes_that_wait_are_admitted_again():
    for path, name in sources("rest"):
        for _, called in calls(path):
            assert not called.endswith("store.transact") or name in WAITING, f"{name}: use api.transact"
