"""``celcombiller``: the operator's command. It works on the database itself, beside a running biller or without one.

Exit status: 0 done, 1 refused or a difference found, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.bench import report as benchmark
from celcombiller.cli import data_sessions, messages, provisioning, schedules, tokens
from celcombiller.cli import import_legacy as legacy
from celcombiller.cli.bench import run_bench
from celcombiller.cli.common import LIST_MAX, add_command, whole_number
from celcombiller.cli.ledger import give_credit, list_calls, run_audit, show_statement
from celcombiller.cli.setup import check_config, initialize
from celcombiller.cli.simulate_call import simulate_call
from celcombiller.cli.users import add_user, enable_user, list_users, show_user
from celcombiller.config import loader
from celcombiller.core.errors import BillerError
from celcombiller.core.model.accounts import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; what is refused is one line on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        path = arguments.config or loader.source()
        config = loader.load(path, os.environ)
        status: int = arguments.run(arguments, config)
    except BillerError as error:
        print(f"celcombiller: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="celcombiller", description="Prepaid biller for Asterisk and OpenBTS.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings (default: as for twistd)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = add_command(commands, "init", initialize, "Make or upgrade the database, with a first administrator.")
    init.add_argument("--admin", metavar="USERNAME", default="admin")
    init.add_argument("--password-file", type=Path, metavar="FILE", help="his password (default: a random one)")
    add_command(commands, "check-config", check_config, "Say whether the settings are right.")

    user = commands.add_parser("user", help="Subscribers.").add_subparsers(required=True, metavar="ACTION")
    add = add_command(user, "add", add_user, "Add a subscriber.")
    add.add_argument("username")
    add.add_argument("--clid", required=True, help="his number: digits")
    add.add_argument("--imsi", required=True, help="6 to 15 digits")
    add.add_argument("--name", required=True)
    add.add_argument("--cpf")
    add.add_argument("--level", type=int, choices=(0, 1, 2), default=1, help="0 administrator, 1 user, 2 collaborator")
    add.add_argument("--address", default="")
    add.add_argument("--password-file", type=Path, metavar="FILE", help="without it he cannot log in")
    show = add_command(user, "show", show_user, "Show a subscriber and his balances.")
    listed = add_command(user, "list", list_users, "List the subscribers.")
    for action in ("enable", "disable"):
        changed = add_command(user, action, enable_user, f"{action.capitalize()} a subscriber, from the next call on.")
        changed.add_argument("username")
        changed.set_defaults(action=action)

    credit = add_command(
        commands, "credit", give_credit, "Give credit to a subscriber; a negative VALUE takes it away."
    )
    credit.add_argument("username")
    credit.add_argument("value", type=int, metavar="VALUE", help="whole credits")
    credit.add_argument("--kind", choices=[kind.value for kind in Kind], default=Kind.VOICE.value)
    credit.add_argument("--origin", default="web", metavar="TEXT")
    credit.add_argument("--id", help="your own id of this movement: the same again changes nothing")

    last = add_command(commands, "calls", list_calls, "List the last calls.")
    statement = add_command(commands, "statement", show_statement, "List a subscriber's last movements of credit.")
    for each in (show, statement):
        each.add_argument("username")
    for each in (last, statement):
        each.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    proof = add_command(commands, "audit", run_audit, "Recompute every balance and hold; exit 1 at a difference.")
    for each in (show, listed, last, statement, proof):
        each.add_argument("--json", action="store_true", help="one JSON document")

    messages.add_commands(commands)
    data_sessions.add_commands(commands)
    schedules.add_commands(commands)
    tokens.add_commands(commands)
    legacy.add_commands(commands)
    benchmark.add_arguments(
        add_command(commands, "bench", run_bench, "Measure how fast the biller is on this machine.")
    )
    provisioning.add_commands(commands)

    play = add_command(commands, "call", simulate_call, "Play Asterisk's side of one call against the running biller.")
    play.add_argument("caller", metavar="FROM", help="a username or a number")
    play.add_argument("callee", metavar="TO", help="the number that is called")
    play.add_argument("--talk", type=float, default=10.0, metavar="SECONDS", help="talk asked for; it takes no time")
    how = play.add_mutually_exclusive_group()
    for option, text in (("busy", "the callee is busy"), ("cancel", "the caller hangs up while it rings")):
        how.add_argument(f"--{option}", action="store_true", help=text)
    how.add_argument("--no-answer", dest="noanswer", action="store_true", help="nobody answers")
    play.add_argument("--verbose", action="store_true", help="show what both sides said")
    return parser
