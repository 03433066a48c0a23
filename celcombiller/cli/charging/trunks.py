"""``celcombiller trunk`` and ``celcombiller route``: the ways of calls to numbers outside."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import add_command, current_operator, open_database, print_json, print_rows, whole_number
from celcombiller.cli.terminal import echo
from celcombiller.core.access.changes import routing_changes
from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.routing import RouteTrunk, TrunkChoice
from celcombiller.core.model.text import format_count
from celcombiller.core.routing import route_records, trunk_records
from celcombiller.core.routing.route_records import WEIGHT_MAX
from celcombiller.core.routing.trunk_records import CALLS_MAX
from celcombiller.core.tariffs import tariff_records
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.routing import CallRoute, Trunk

_TEXTS = ("dial", "strip", "prepend", "caller_id")
_TRUNK = ("name", "dial", "strip", "prepend", "caller_id", "tariff", "calls_max", "enabled", "open_calls")


# -- trunks ----------------------------------------------------------------------------------------------------------


def _list_trunks(arguments: argparse.Namespace, config: Config) -> int:
    rows = transact(open_database(config), lambda tx: _trunk_rows(tx, trunk_records.list_all(tx)))
    print_rows(rows, _TRUNK, as_json=arguments.json)
    return 0


def _show_trunk(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> tuple[dict[str, Any], list[str]]:
        found = trunk_records.find(tx, arguments.name)
        routes = [each.prefix for each in route_records.list_all(tx) if found.id in [t.trunk_id for t in each.trunks]]
        return _trunk_rows(tx, [found])[0], routes

    shown, routes = transact(open_database(config), work)
    if arguments.json:
        print_json(shown | {"routes": routes})
        return 0
    for name, value in shown.items():
        echo(f"{name:12} {'' if value is None else value}")
    echo(f"{'routes':12} {', '.join(each or 'all numbers' for each in routes)}")
    return 0


def _add_trunk(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> Trunk:
        facts = _trunk_facts(tx, arguments)
        return routing_changes.add_trunk(tx, current_operator(), name=arguments.name, now=datetime.now(UTC), **facts)

    made = transact(open_database(config), work)
    echo(f"Added trunk {made.name}. No route has it yet: `celcombiller route add PREFIX {made.name}`.")
    return 0


def _change_trunk(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> Trunk:
        was, facts = trunk_records.find(tx, arguments.name), _trunk_facts(tx, arguments)
        if arguments.new_name is not None:
            facts["name"] = arguments.new_name
        return routing_changes.change_trunk(tx, current_operator(), was.id, facts, datetime.now(UTC))

    changed = transact(open_database(config), work)
    echo(f"Trunk {changed.name} is changed, from the next call on.")
    return 0


def _delete_trunk(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> Trunk:
        was = trunk_records.find(tx, arguments.name)
        return routing_changes.delete_trunk(tx, current_operator(), was.id, datetime.now(UTC))

    echo(f"Deleted trunk {transact(open_database(config), work).name}.")
    return 0


def _trunk_rows(tx: sa.Connection, trunks: list[Trunk]) -> list[dict[str, Any]]:
    tariffs = {each.id: each.name for each in tariff_records.list_all(tx)}
    busy = trunk_records.count_open_calls(tx, [each.id for each in trunks])
    rows = []
    for each in trunks:
        row = asdict(each) | {"tariff": tariffs.get(each.tariff_id or 0), "open_calls": busy.get(each.id, 0)}
        del row["tariff_id"]
        rows.append(row)
    return rows


def _trunk_facts(tx: sa.Connection, arguments: argparse.Namespace) -> dict[str, Any]:
    facts = {name: value for name in _TEXTS if (value := getattr(arguments, name)) is not None}
    if arguments.tariff is not None:
        facts["tariff_id"] = tariff_records.find(tx, arguments.tariff).id if arguments.tariff else None
    if arguments.calls_max is not None:
        facts["calls_max"] = None if arguments.calls_max == "any" else arguments.calls_max
    if arguments.state is not None:
        facts["enabled"] = arguments.state == "enabled"
    return facts


# -- routes ----------------------------------------------------------------------------------------------------------


def _list_routes(arguments: argparse.Namespace, config: Config) -> int:
    rows = transact(open_database(config), lambda tx: _route_rows(tx, route_records.list_all(tx)))
    if not arguments.json:
        rows = [row | {"prefix": row["prefix"] or "(all)", "trunks": " ".join(row["trunks"])} for row in rows]
    print_rows(rows, ("prefix", "choose", "trunks"), as_json=arguments.json)
    return 0


def _show_route(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> dict[str, Any]:
        return _route_rows(tx, [route_records.find(tx, arguments.prefix)])[0]

    shown = transact(open_database(config), work)
    if arguments.json:
        print_json(shown)
        return 0
    for name, value in shown.items():
        echo(f"{name:8} {' '.join(value) if isinstance(value, list) else value}")
    return 0


def _add_route(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> CallRoute:
        trunks = _places(tx, arguments.trunks)
        facts = {"prefix": arguments.prefix, "choose": TrunkChoice(arguments.choose), "trunks": trunks}
        return routing_changes.add_route(tx, current_operator(), now=datetime.now(UTC), **facts)

    made = transact(open_database(config), work)
    echo(f"Added a route for {_numbers(made)}, by {format_count(len(made.trunks), 'trunk')}.")
    return 0


def _change_route(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> CallRoute:
        was, facts = route_records.find(tx, arguments.prefix), dict[str, Any]()
        if arguments.trunks:
            facts["trunks"] = _places(tx, arguments.trunks)
        if arguments.choose is not None:
            facts["choose"] = TrunkChoice(arguments.choose)
        if arguments.new_prefix is not None:
            facts["prefix"] = arguments.new_prefix
        return routing_changes.change_route(tx, current_operator(), was.id, facts, datetime.now(UTC))

    changed = transact(open_database(config), work)
    echo(f"The route for {_numbers(changed)} is changed, from the next call on.")
    return 0


def _delete_route(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> CallRoute:
        was = route_records.find(tx, arguments.prefix)
        return routing_changes.delete_route(tx, current_operator(), was.id, datetime.now(UTC))

    echo(f"Deleted the route for {_numbers(transact(open_database(config), work))}.")
    return 0


def _places(tx: sa.Connection, words: list[str]) -> tuple[RouteTrunk, ...]:
    """Return the trunks that words name: ``name``, or ``name=weight``."""
    places = []
    for word in words:
        name, sign, weight = word.rpartition("=")
        if sign and not (weight.isascii() and weight.isdecimal() and len(weight) < 5):  # noqa: PLR2004
            raise InvalidValue(f"{word}: a weight is a number from 1 to {WEIGHT_MAX}, such as {name}=2")
        found = trunk_records.find(tx, name if sign else word)
        places.append(RouteTrunk(found.id, int(weight) if sign else 1))
    return tuple(places)


def _route_rows(tx: sa.Connection, routes: list[CallRoute]) -> list[dict[str, Any]]:
    names = {each.id: each.name for each in trunk_records.list_all(tx)}

    def words(route: CallRoute) -> list[str]:
        weighted = route.choose is TrunkChoice.WEIGHT
        return [f"{names[each.trunk_id]}={each.weight}" if weighted else names[each.trunk_id] for each in route.trunks]

    return [{"prefix": each.prefix, "choose": each.choose.value, "trunks": words(each)} for each in routes]


def _numbers(route: CallRoute) -> str:
    return f"numbers with {route.prefix}" if route.prefix else "all numbers"


# -- arguments -------------------------------------------------------------------------------------------------------


def configure_trunk(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``trunk``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list_trunks, "List the trunks, and how many calls go by each.")
    show = add_command(actions, "show", _show_trunk, "Show a trunk and its routes.")
    add = add_command(actions, "add", _add_trunk, "Add a trunk: a way to a provider.")
    change = add_command(actions, "change", _change_trunk, "Change a trunk, from the next call on.")
    delete = add_command(actions, "delete", _delete_trunk, "Delete a trunk that no route has.")
    for each in (show, add, change, delete):
        each.add_argument("name", metavar="NAME", help="its name")
    add.add_argument("dial", metavar="DIAL", help="its dial string, such as PJSIP/{number}@provider")
    change.add_argument("--name", dest="new_name", metavar="NAME", help="its new name")
    change.add_argument("--dial", help="its dial string")
    for each in (add, change):
        each.add_argument("--strip", help="take this away where a number begins with it")
        each.add_argument("--prepend", help="put this before the number then")
        each.add_argument(
            "--caller-id", help="the caller's number that is shown, with {number} for their own (as it is)"
        )
        each.add_argument("--tariff", help="the tariff of its provider, by which its calls cost; '': none")
        each.add_argument("--calls-max", type=_calls_max, help=f"calls at once, 0 to {CALLS_MAX}, or any (any)")
        each.add_argument("--state", choices=("enabled", "disabled"), help="a disabled trunk takes no new calls")
    for each in (listed, show):
        each.add_argument("--json", action="store_true", help="one JSON document")


def configure_route(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``route``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list_routes, "List the routes and their trunks.")
    show = add_command(actions, "show", _show_route, "Show the route of a prefix.")
    add = add_command(actions, "add", _add_route, "Add a route: the trunks for numbers that begin with a prefix.")
    change = add_command(actions, "change", _change_route, "Change a route, from the next call on.")
    delete = add_command(actions, "delete", _delete_route, "Delete a route.")
    for each in (show, add, change, delete):
        each.add_argument("prefix", metavar="PREFIX", help="digits that numbers begin with; '': all numbers")
    for each, count in ((add, "+"), (change, "*")):
        each.add_argument(
            "trunks", metavar="TRUNK", nargs=count, help="trunks in their order, each with a weight if wanted: NAME=2"
        )
    choices = tuple(each.value for each in TrunkChoice)
    for each, default in ((add, TrunkChoice.ORDER.value), (change, None)):
        each.add_argument(
            "--choose", choices=choices, default=default, help="the first: as they stand, by weight, or the cheapest"
        )
    change.add_argument("--prefix", dest="new_prefix", metavar="PREFIX", help="its new prefix")
    for each in (listed, show):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _calls_max(text: str) -> int | str:
    try:
        return text if text == "any" else whole_number(0, CALLS_MAX)(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be from 0 to {CALLS_MAX}, or any") from None
