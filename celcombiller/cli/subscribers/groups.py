"""``celcombiller group``: subscribers with a tariff and limits in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.cli.common import add_command, current_operator, open_database, print_json, print_rows, whole_number
from celcombiller.cli.terminal import echo
from celcombiller.core.access.changes import group_changes
from celcombiller.core.errors import InvalidValue
from celcombiller.core.reports.tariff_views import view_group
from celcombiller.core.subscribers import group_records
from celcombiller.core.subscribers.fields import LIMIT_MAX
from celcombiller.core.tariffs import tariff_records
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.subscribers import Group

NO_LIMIT = "none"
_LIMITS = ("calls_max", "subscriber_calls_max", "call_seconds_max", "call_cost_max")
_PREFIX_LISTS = ("barred", "allowed")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``group``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list, "List the groups.")
    show = add_command(actions, "show", _show, "Show a group.")
    add = add_command(actions, "add", _add, "Make a group, without members.")
    change = add_command(actions, "change", _change, "Change a group; calls in progress follow within a second.")
    delete = add_command(actions, "delete", _delete, "Delete a group without members.")
    for each in (show, add, change, delete):
        each.add_argument("group", metavar="GROUP", help="the name")
    change.add_argument("--name", metavar="NEW", help="another name")
    for each in (add, change):
        each.add_argument("--tariff", metavar="TARIFF", help=f"of members without one of their own; `{NO_LIMIT}`")
        each.add_argument("--calls-max", type=limit, metavar="N", help=f"calls at once of all members; `{NO_LIMIT}`")
        each.add_argument("--subscriber-calls-max", type=limit, metavar="N", help="calls at once of each member")
        each.add_argument("--call-seconds-max", type=limit, metavar="N", help="the longest call, in seconds")
        each.add_argument("--call-cost-max", type=limit, metavar="N", help="the dearest call, in credits")
        each.add_argument("--barred", nargs="*", metavar="PREFIX", help="prefixes that members may not call")
        each.add_argument(
            "--allowed", nargs="*", metavar="PREFIX", help="prefixes that members may call, and no others"
        )
    for each in (listed, show, add, change, delete):
        each.add_argument("--json", action="store_true", help="one JSON document")


def limit(text: str) -> int | str:
    """Read a limit: a whole number, or ``none``."""
    return NO_LIMIT if text == NO_LIMIT else whole_number(0, LIMIT_MAX)(text)


def _facts(tx: sa.Connection, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields that the arguments name."""
    found: dict[str, Any] = {
        name: None if value == NO_LIMIT else value
        for name in (*_LIMITS, *_PREFIX_LISTS)
        if (value := getattr(arguments, name)) is not None
    }
    if arguments.tariff is not None:
        found["tariff_id"] = None if arguments.tariff == NO_LIMIT else tariff_records.find(tx, arguments.tariff).id
    return found


def _view(tx: sa.Connection, group: Group) -> dict[str, Any]:
    members = group_records.count_members(tx, [group.id]).get(group.id, 0)
    tariff = None if group.tariff_id is None else tariff_records.find_by_id(tx, group.tariff_id).name
    return msgspec.structs.asdict(view_group(group, members)) | {"tariff": tariff}


def _list(arguments: argparse.Namespace, config: Config) -> int:
    """List the groups."""
    groups = transact(open_database(config), lambda tx: [_view(tx, each) for each in group_records.list_all(tx)])
    print_rows(groups, ("id", "name", "tariff", "members", *_LIMITS), as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    """Show a group."""
    group = transact(open_database(config), lambda tx: _view(tx, group_records.find(tx, arguments.group)))
    if arguments.json:
        print_json(group)
        return 0
    for name, value in group.items():
        shown = " ".join(value) if isinstance(value, list) else value
        echo(f"{name:20} {'' if shown is None else shown}")
    return 0


def _add(arguments: argparse.Namespace, config: Config) -> int:
    """Make a group."""

    def work(tx: sa.Connection) -> dict[str, Any]:
        facts, now = _facts(tx, arguments), datetime.now(UTC)
        return _view(tx, group_changes.add(tx, current_operator(), name=arguments.group, **facts, now=now))

    made = transact(open_database(config), work)
    _print_changed(arguments, made, f"Added {made['name']}: `celcombiller user change USERNAME --group` adds members.")
    return 0


def _change(arguments: argparse.Namespace, config: Config) -> int:
    """Change a group."""

    def work(tx: sa.Connection) -> dict[str, Any]:
        changes = _facts(tx, arguments) | ({} if arguments.name is None else {"name": arguments.name})
        if not changes:
            raise InvalidValue("nothing to change: name a field, such as --tariff")
        was = group_records.find(tx, arguments.group)
        return _view(tx, group_changes.change(tx, current_operator(), was.id, changes, datetime.now(UTC)))

    changed = transact(open_database(config), work)
    _print_changed(arguments, changed, f"Changed {changed['name']}; calls in progress follow within a second.")
    return 0


def _delete(arguments: argparse.Namespace, config: Config) -> int:
    """Delete a group."""

    def work(tx: sa.Connection) -> dict[str, Any]:
        was = group_records.find(tx, arguments.group)
        view = _view(tx, was)
        group_changes.delete(tx, current_operator(), was.id, datetime.now(UTC))
        return view

    deleted = transact(open_database(config), work)
    _print_changed(arguments, deleted, f"Deleted {deleted['name']}.")
    return 0


def _print_changed(arguments: argparse.Namespace, group: dict[str, Any], text: str) -> None:
    if arguments.json:
        print_json(group)
    else:
        echo(text)
