"""``celcombiller messages``: text messages and their queues.

It changes nothing and does not show the texts. A running biller sends what waits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from celcombiller.cli.common import (
    add_command,
    find_payer,
    open_database,
    parse_time,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo
from celcombiller.core.errors import NotFound
from celcombiller.core.model.messages import MessageState
from celcombiller.core.model.text import format_count
from celcombiller.core.reports.views import message_view
from celcombiller.core.sms import message_queries
from celcombiller.database.transaction import transact
from celcombiller.http.route import ID_MAX

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.sms.message_queries import Queue, RecordedMessage

LIST_MAX = 1000
TROUBLES_MAX = 10


def _list(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[RecordedMessage]:
        who = None if arguments.user is None else find_payer(tx, arguments.user).id
        return list(
            message_queries.list_messages(
                tx,
                limit=arguments.limit,
                subscriber_id=who,
                state=None if arguments.state is None else MessageState(arguments.state),
                since=arguments.since,
                until=arguments.until,
            )
        )

    rows = transact(open_database(config).execution_options(reading=True), work)
    columns = ("id", "queued_at", "username", "name", "from_number", "to_number", "route", "parts", "cost", "state")
    shown = [msgspec.structs.asdict(message_view(each)) for each in rows]
    print_rows(shown, (*columns, "note"), as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    found = transact(
        open_database(config).execution_options(reading=True), partial(message_queries.find, message_id=arguments.id)
    )
    if found is None:
        raise NotFound(f"there is no message {arguments.id}")
    facts = msgspec.structs.asdict(message_view(found))
    if arguments.json:
        print_json(facts)
    else:
        for name, value in facts.items():
            echo(f"{name:14} {'' if value is None else value}".rstrip())
    return 0


def _queue(arguments: argparse.Namespace, config: Config) -> int:
    look = partial(message_queries.list_queues, now=datetime.now(UTC), troubles_max=TROUBLES_MAX)
    found = transact(open_database(config).execution_options(reading=True), look)
    if arguments.json:
        print_json(found)
    for each in [] if arguments.json else found:
        echo(_line(each, is_used=each.route in config.sms.ways))
        for note, number in each.troubles:
            echo(f"  {note} ({format_count(number, 'message')})")
    if not found and not arguments.json:
        echo("No message waits.")
    return DIFFERS if any(each.failing for each in found) else DONE


def _line(each: Queue, *, is_used: bool) -> str:
    said = f"{each.route}: {each.waiting} waiting since {each.oldest_at.astimezone().isoformat(' ', 'seconds')}"
    if each.sending:
        said += f", {each.sending} of them being sent"
    if each.failing:
        said += f", {each.failing} of them tried without success"
    return said if is_used else f"{said}; [sms] has no such route here: they expire"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``messages``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list, "List the last messages, newest first.")
    listed.add_argument("--user", metavar="WHO", help="the payer: a username or a number")
    listed.add_argument("--state", choices=[each.value for each in MessageState])
    listed.add_argument(
        "--since", type=parse_time, metavar="TIME", help="the earliest time, such as 2026-11-05T18:30:00Z"
    )
    listed.add_argument("--until", type=parse_time, metavar="TIME", help="only messages before this time")
    listed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    show = add_command(actions, "show", _show, "Show one message.")
    show.add_argument("id", type=whole_number(1, ID_MAX), metavar="ID")
    queue = add_command(actions, "queue", _queue, "Show the queues; exit 1 when a message was tried without success.")
    for each in (listed, show, queue):
        each.add_argument("--json", action="store_true", help="one JSON document")
