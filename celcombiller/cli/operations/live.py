"""``celcombiller live`` and ``hangup``: the calls in progress.

An order is a row in the ledger: the biller that is connected to the call's server carries it out.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import (
    LIST_MAX,
    current_operator,
    find_payer,
    open_database,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.exit_status import DONE, REFUSED
from celcombiller.cli.terminal import echo, print_error, refresh
from celcombiller.core.access.changes import call_order_changes
from celcombiller.core.errors import InvalidValue, StoreUnavailable, UnknownCall
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.text import format_count
from celcombiller.core.reports import live_calls
from celcombiller.core.reports.live_views import view_live_call, view_order
from celcombiller.core.voice import asterisk_heartbeat, call_orders, call_queries
from celcombiller.core.voice.call_orders import OrderKind
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.reports.live_calls import BundleUse, LiveCall
    from celcombiller.core.voice.call_orders import CallOrder

REFRESH_SECONDS = 1.0
LOOK_SECONDS = 0.1
"""The interval between two looks whether an order was carried out."""
WAIT_SECONDS = 5
LINES_ABOVE = 3
"""The lines of a terminal that are no rows: the line above the table, its columns, and the last line."""

_COLUMNS = (
    *("id", "username", "name", "number", "to", "server", "trunk", "since", "answered", "used", "left", "until"),
    *("cost", "bundles", "order"),
)
_AS_TIME = BalanceStyle(as_time=True)


def configure_live(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``live``."""
    parser.set_defaults(run=_live)
    parser.add_argument("--user", metavar="USER", help="only calls of this subscriber: a username or a number")
    parser.add_argument("--server", metavar="NAME", help="only calls of this Asterisk server")
    parser.add_argument(
        "--limit", type=whole_number(1, LIST_MAX), default=200, metavar="N", help="the most that are shown (200)"
    )
    parser.add_argument("--once", action="store_true", help="show them once; a pipe always gets them once")
    parser.add_argument("--json", action="store_true", help="one JSON document, once")


def configure_hangup(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hangup``."""
    parser.set_defaults(run=_hang_up)
    parser.add_argument("call", metavar="CALL", help="its id in `celcombiller live`, its reference or uniqueid")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why, for the audit trail")
    parser.add_argument(
        "--wait",
        type=whole_number(0, 60),
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help=f"how long to wait for the biller that does it ({WAIT_SECONDS})",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")


# -- live ------------------------------------------------------------------------------------------------------------


def _live(arguments: argparse.Namespace, config: Config) -> int:
    """Show the calls in progress, again each second on a terminal."""
    engine = open_database(config).execution_options(reading=True)

    def read(limit: int) -> tuple[list[LiveCall], int, datetime]:
        now = datetime.now(UTC)

        def work(tx: sa.Connection) -> tuple[list[LiveCall], int, datetime]:
            who = None if arguments.user is None else find_payer(tx, arguments.user).id
            found = live_calls.list_live_calls(tx, now, limit=limit, subscriber_id=who, server=arguments.server)
            return found, live_calls.count_live_calls(tx, subscriber_id=who, server=arguments.server), now

        return transact(engine, work)

    def show(lines: int, _columns: int) -> tuple[tuple[str, ...], list[list[str]], str]:
        try:
            found, count, now = read(max(1, min(arguments.limit, lines - LINES_ABOVE)))
        except StoreUnavailable as error:
            return _COLUMNS, [], f"{datetime.now(UTC).astimezone():%H:%M:%S}  {error}"
        rows = [_row(each, now) for each in found]
        return _COLUMNS, [[str(row[name]) for name in _COLUMNS] for row in rows], _title(len(found), count, now)

    if sys.stdout.isatty() and not (arguments.once or arguments.json):
        refresh(show, REFRESH_SECONDS)
        return DONE
    found, count, now = read(arguments.limit)
    if arguments.json:
        print_json([view_live_call(each) for each in found])
        return DONE
    print_rows([_row(each, now) for each in found], _COLUMNS, as_json=False)
    if count > len(found):
        echo(_title(len(found), count, now))
    return DONE


def _title(shown: int, count: int, now: datetime) -> str:
    what = f"{format_count(count, 'call')} in progress"
    return f"{now.astimezone():%H:%M:%S}  {what}" + (f", the oldest {shown} are shown" if shown < count else "")


def _row(each: LiveCall, now: datetime) -> dict[str, Any]:
    """Return a call as the cells of a table."""
    call = each.call
    return {
        "id": each.id,
        "username": each.username,
        "name": each.name,
        "number": each.number,
        "to": call.to_number + (f" ({each.callee})" if each.callee else ""),
        "server": call.server,
        "trunk": each.trunk,
        "since": _time_of_day(call.started_at, now),
        "answered": _time_of_day(call.answered_at, now),
        "used": _clock(each.used_seconds),
        "left": "" if each.granted_until is None else _clock(max(0, call.granted_seconds - each.used_seconds)),
        "until": _time_of_day(each.granted_until, now),
        "cost": each.cost,
        "bundles": ", ".join(map(_format_use, each.bundles)),
        "order": "" if each.order is None else f"{each.order.kind}: {each.order.result or 'waits'}",
    }


def _format_use(use: BundleUse) -> str:
    taken = format_balance(use.taken, Kind.VOICE, _AS_TIME) if use.kind is BundleKind.SECONDS else str(use.taken)
    return f"{use.name}: {taken}"


def _clock(seconds: int) -> str:
    """Return seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _time_of_day(at: datetime | None, now: datetime) -> str:
    """Return a moment in the zone of this machine, with its date where it is not today."""
    if at is None:
        return ""
    local, today = at.astimezone(), now.astimezone()
    return f"{local:%H:%M:%S}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M:%S}"


# -- hangup ----------------------------------------------------------------------------------------------------------


def _hang_up(arguments: argparse.Namespace, config: Config) -> int:
    """Order a call to be hung up, and say what became of it."""
    engine = open_database(config)

    def work(tx: sa.Connection) -> tuple[LiveCall, CallOrder]:
        now = datetime.now(UTC)
        found = live_calls.find_live_call(tx, _resolve(tx, arguments.call), now)
        kind, reason = OrderKind.HANGUP, arguments.reason
        return found, call_order_changes.order(tx, current_operator(), found.id, kind, reason, now)

    found, order = transact(engine, work)
    order = _wait_for(engine, order, arguments.wait)
    if arguments.json:
        print_json(view_order(order))
    who = f"call {found.id} of {found.username} to {found.call.to_number}"
    if order.result == call_orders.DONE:
        if not arguments.json:
            echo(f"Hung up {who}.")
        return DONE
    if order.waits:
        print_error(f"celcombiller: {_explain_wait(engine, found, order, arguments.wait)}")
    else:
        print_error(f"celcombiller: {who} was not hung up: {order.result}")
    return REFUSED


def _resolve(tx: sa.Connection, name: str) -> int:
    """Return the number of the open call of this id, reference or uniqueid. Raises `UnknownCall`, `InvalidValue`."""
    if name.isdecimal() and name.isascii() and len(name) <= len(str(2**53)):
        return int(name)
    found = call_queries.find_open_ids(tx, name)
    if not found:
        raise UnknownCall(f"no call in progress has the reference or the uniqueid {name}: see `celcombiller live`")
    if len(found) > 1:
        raise InvalidValue(f"{len(found)} calls in progress have the uniqueid {name}: name one by its id")
    return found[0]


def _wait_for(engine: sa.Engine, order: CallOrder, seconds: float) -> CallOrder:
    """Return an order as it is once a biller has done it, or after so many seconds."""
    reading, order_id = engine.execution_options(reading=True), order.id
    until = time.monotonic() + seconds
    while order.waits and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        order = transact(reading, lambda tx: call_orders.find(tx, order_id)) or order
    return order


def _explain_wait(engine: sa.Engine, found: LiveCall, order: CallOrder, seconds: int) -> str:
    """Return why an order may wait, and what to do."""
    server, channel = found.call.server, found.call.channel
    now = datetime.now(UTC)
    heard = transact(engine.execution_options(reading=True), lambda tx: asterisk_heartbeat.server_last_seen(tx, server))
    last = "never" if heard is None else f"{(now - heard) // timedelta(seconds=1)} s ago"
    return (
        f"no biller has hung up call {found.id} within {seconds} s. The order {order.id} waits for a biller that is"
        f" connected to {server}'s AMI; one last heard that server {last}. See that a biller runs with an [[asterisk]]"
        f" table for {server} (`celcombiller doctor`), or on that server: "
        f"asterisk -rx 'channel request hangup {channel}'"
    )
