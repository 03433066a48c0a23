"""``celcombiller``: the operator's command. It works on the database itself, with or without a running biller.

The exit statuses are those of `exit_status`.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from celcombiller.cli.exit_status import REFUSED
from celcombiller.cli.parser import CommandParser, PrintCompletion, PrintVersion, extract_global_options
from celcombiller.cli.terminal import print_error

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    ("init", "operations.setup:configure_init", "Make or upgrade the database, with a first administrator."),
    ("check-config", "operations.setup:configure_check_config", "Check the settings."),
    ("settings", "operations.settings:configure", "List the settings in force, and where each comes from."),
    ("doctor", "operations.doctor:configure", "Try the database, ports and peers of the settings; exit 1 at a fault."),
    (
        "serve",
        "operations.serve:configure",
        "Run the biller in the foreground, as `twistd --nodaemon celcombiller` does.",
    ),
    ("backup", "operations.backup:configure", "Copy the ledger while the biller works, and recompute the copy."),
    ("user", "subscribers.users:configure", "Subscribers."),
    ("credit", "charging.ledger:configure_credit", "Give credit to a subscriber; a negative VALUE takes it away."),
    ("limit", "charging.limits:configure", "Show or change what a subscriber may owe, and spend in a day or month."),
    ("credit-validity", "charging.credit_validity:configure", "Show which credit ends soon; keep it valid for longer."),
    ("payment", "selling.payments:configure", "Payments that providers report: list, assign and reverse them."),
    ("bundle", "charging.bundles:configure_bundle", "Bundles of subscribers, which pay before the balance."),
    ("offer", "charging.bundles:configure_offer", "Offers: bundles that can be bought."),
    ("voucher", "selling.vouchers:configure", "Vouchers: cards with a code that subscribers redeem once."),
    ("transfer", "selling.credit_transfers:configure", "Credit that subscribers hand to each other."),
    ("seller", "selling.sellers:configure", "Sellers of credit: their stock, sales, receipts and settlement."),
    ("calls", "charging.ledger:configure_calls", "List the last calls."),
    ("overview", "operations.reports:configure_overview", "Show what happens now, and what needs a person."),
    ("report", "operations.reports:configure_report", "What was sold and used by day, seller, destination, trunk."),
    ("live", "operations.live:configure_live", "Show the calls in progress: who, how long, what they cost so far."),
    ("hangup", "operations.live:configure_hangup", "Hang up a call in progress."),
    ("statement", "charging.ledger:configure_statement", "List a subscriber's last movements of credit."),
    ("rate", "charging.prices:configure_rate", "Say what a call, or octets of data, would cost, and why."),
    (
        "explain",
        "charging.explain:configure",
        "Say why a call cost what it cost, or why accounts are below their floor.",
    ),
    ("rerate", "charging.prices:configure_rerate", "Show what recorded calls cost by another version; charge it."),
    ("audit", "charging.ledger:configure_audit", "Recompute every balance and hold; exit 1 at a difference."),
    ("reconcile", "operations.reconcile:configure", "Compare Asterisk's CDRs with the ledger; settle what is missing."),
    ("messages", "charging.messages:configure", "Text messages, and how far their queues are."),
    ("broadcast", "charging.broadcasts:configure", "Text messages to all members of a group."),
    ("data-sessions", "charging.data_sessions:configure", "List the data sessions that are open, newest first."),
    ("schedules", "charging.schedules:configure", "Scheduled credits of groups, and fees."),
    ("fee", "selling.fees:configure", "Fees that schedules take: what is owed; pay, waive and undo."),
    ("tariff", "charging.tariffs:configure", "Price lists, their versions and rates."),
    ("group", "subscribers.groups:configure", "Groups of subscribers, with a tariff and limits in common."),
    ("trunk", "charging.trunks:configure_trunk", "Trunks: the ways to providers, for calls to numbers outside."),
    ("route", "charging.trunks:configure_route", "Routes: which trunks the numbers with a prefix go by."),
    ("pin", "subscribers.pins:configure", "PINs, by which subscribers confirm requests from phones."),
    ("token", "subscribers.tokens:configure", "Keys for programs that use the API."),
    ("import", "subscribers.import_users:configure", "Add the subscribers of a CSV file."),
    ("import-legacy", "operations.import_legacy:configure", "Import the database of an original CELCOMBiller."),
    ("bench", "operations.bench:configure", "Measure how fast the biller is on this machine."),
    (
        "provisioning",
        "subscribers.provisioning:configure",
        "The radio networks: their state, their differences, and their update.",
    ),
    ("call", "operations.simulate_call:configure", "Play Asterisk's side of one call against the running biller."),
)
"""Each command, the function of this package that adds its arguments, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; a refusal is one line on standard error."""
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return REFUSED


def _run(argv: Sequence[str]) -> int:
    _escape_what_the_terminal_cannot_show()
    gc.disable()  # loaded modules stay: looking for garbage among them takes a tenth of a short command
    try:
        parser = make_parser()
        for word in argv:
            if not _is_unicode(word):
                parser.error(f"{os.fsencode(word)!r} is not UTF-8 text")
        arguments = parser.parse_args(extract_global_options(argv))
        from celcombiller.config import loader  # noqa: PLC0415  `--help` needs no settings
        from celcombiller.core.errors import BillerError  # noqa: PLC0415
        from celcombiller.database.transaction import explain_database_error  # noqa: PLC0415
    finally:
        gc.freeze()
        gc.enable()
    try:
        path = arguments.config or loader.find_file()
        config = loader.load(path, os.environ)
        status: int = arguments.run(arguments, config)
    except BillerError as error:
        print_error(f"celcombiller: {error}")
        return REFUSED
    except Exception as error:
        reason = explain_database_error(error)
        if reason is None:
            raise
        print_error(f"celcombiller: {reason}")
        return REFUSED
    return status


def _escape_what_the_terminal_cannot_show() -> None:
    """Print the code of a character that the locale does not have: it is no reason to stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_unicode(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def make_parser() -> CommandParser:
    """Return the parser of all commands; each loads its module at its first use."""
    parser = CommandParser(prog="celcombiller", description="Prepaid biller for Asterisk and OpenBTS.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings file (default: as for twistd)")
    parser.add_argument(
        "--json", action="store_true", help="one JSON document, where a command shows or lists something"
    )
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="show the version and exit")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=("bash", "zsh"),
        help="print the script that lets this shell complete commands and options",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=CommandParser)
    for name, configured_by, text in COMMANDS:
        commands.add_parser(name, help=text, description=text, configured_by=f"celcombiller.cli.{configured_by}")
    return parser
