"""``celcombiller broadcast``: text messages of the operator to all members of a group.

A running biller queues and sends them.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import (
    LIST_MAX,
    add_command,
    current_operator,
    open_database,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.terminal import echo
from celcombiller.core.model.text import format_count
from celcombiller.core.notifications import broadcasts
from celcombiller.core.subscribers import group_records
from celcombiller.database.transaction import transact
from celcombiller.http.route import ID_MAX

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.notifications.broadcasts import Broadcast, BroadcastPlan

_COLUMNS = ("id", "made_at", "author", "group", "recipients", "queued", "left_out", "cancelled_at", "completed_at")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``broadcast``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    send = add_command(actions, "send", _send, "Send a text to all members of a group; members pay nothing.")
    send.add_argument("group", metavar="GROUP", help="the name")
    send.add_argument("text", metavar="TEXT")
    send.add_argument("--yes", action="store_true", help="send it; without it nothing is sent, only shown")
    send.add_argument("--id", metavar="KEY", help="the same KEY again sends nothing twice")
    listed = add_command(actions, "list", _list, "List the last broadcasts, newest first.")
    listed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    show = add_command(actions, "show", _show, "Show a broadcast, and where its messages are.")
    cancel = add_command(actions, "cancel", _cancel, "Send no more of a broadcast; what was sent stays sent.")
    for each in (show, cancel):
        each.add_argument("id", type=whole_number(1, ID_MAX), metavar="ID")
    for each in (send, listed, show, cancel):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _send(arguments: argparse.Namespace, config: Config) -> int:
    """Show what would be sent; with ``--yes`` send it."""
    operator, policy, now = current_operator(), config.message_policy, datetime.now(UTC)
    key = arguments.id or str(uuid.uuid4())

    def work(tx: sa.Connection) -> tuple[BroadcastPlan, Broadcast | None]:
        group_id = group_records.find(tx, arguments.group).id
        planned, made = broadcasts.plan(tx, policy, group_id, arguments.text), None
        if arguments.yes:
            made = broadcasts.add(tx, operator, policy, group_id, arguments.text, key=key, now=now)
        return planned, made

    planned, made = transact(open_database(config), work)
    if arguments.json:
        facts = {"group": planned.group.name, "parts_total": planned.parts * planned.recipients}
        facts |= {name: getattr(planned, name) for name in ("recipients", "disabled", "encoding", "parts")}
        print_json(facts | {"id": None if made is None else made.id})
        return 0
    recipients, parts = format_count(planned.recipients, "recipient"), format_count(planned.parts, "part")
    echo(f"To {recipients} of {planned.group.name}; {planned.disabled} more are disabled and do not get it.")
    echo(f"Each message has {parts} ({planned.encoding}): {planned.parts * planned.recipients} in all.")
    if made is None:
        echo("Nothing was sent: to send it, run it again with --yes.")
    else:
        echo(f"Broadcast {made.id} is made: a running biller sends it. `celcombiller broadcast show {made.id}`")
    return 0


def _list(arguments: argparse.Namespace, config: Config) -> int:
    engine = open_database(config).execution_options(reading=True)
    found = transact(engine, partial(broadcasts.list_all, limit=arguments.limit))
    print_rows([asdict(each) for each in found], _COLUMNS, as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    facts = transact(
        open_database(config).execution_options(reading=True),
        lambda tx: _facts(tx, broadcasts.find(tx, arguments.id)),
    )
    _print(arguments, facts)
    return 0


def _cancel(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> dict[str, Any]:
        return _facts(tx, broadcasts.cancel(tx, current_operator(), arguments.id, datetime.now(UTC)))

    _print(arguments, transact(open_database(config), work))
    return 0


def _facts(tx: sa.Connection, broadcast: Broadcast) -> dict[str, Any]:
    return asdict(broadcast) | {"messages": broadcasts.count_messages(tx, broadcast.id)}


def _print(arguments: argparse.Namespace, facts: dict[str, Any]) -> None:
    if arguments.json:
        print_json(facts)
        return
    counts = ", ".join(f"{number} {state}" for state, number in facts["messages"].items() if number)
    for name, value in (facts | {"messages": counts}).items():
        echo(f"{name:20} {'' if value is None else value}".rstrip())
