"""``celcombiller explain``: why a call cost what it cost, and what took accounts below their floor."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from celcombiller.cli.common import find_payer, open_database, print_json
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo
from celcombiller.core.errors import InvalidValue, NotFound
from celcombiller.core.reports import history
from celcombiller.core.reports.explanation.call_explanation import explain_call
from celcombiller.core.reports.explanation.call_text import list_details
from celcombiller.core.reports.explanation.debts import describe_debt, list_debts
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from datetime import tzinfo

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.reports.explanation.call_views import CallExplanation
    from celcombiller.core.reports.explanation.debts import Debt
    from celcombiller.core.reports.history import RecordedCall


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``explain``."""
    parser.set_defaults(run=_explain)
    parser.add_argument(
        "call", metavar="CALL", nargs="?", help="its reference, its number (`id`), or Asterisk's uniqueid of the caller"
    )
    parser.add_argument(
        "--negative",
        action="store_true",
        help="instead: each account below its floor, the transfers that took it there, and why they could",
    )
    parser.add_argument("--user", metavar="WHO", help="with --negative: the accounts of one subscriber only")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _explain(arguments: argparse.Namespace, config: Config) -> int:
    if arguments.negative == (arguments.call is not None):
        raise InvalidValue("say one of two: a CALL, or --negative")
    if arguments.user is not None and not arguments.negative:
        raise InvalidValue("--user goes with --negative only")
    engine = open_database(config).execution_options(reading=True)
    if arguments.negative:
        return _explain_debts(engine, arguments)
    zone = ZoneInfo(config.schedules.zone)
    made = transact(engine, lambda tx: _explain_call(tx, arguments.call, zone))
    if arguments.json:
        print_json(made)
    else:
        echo(made.text)
        echo()
        for line in list_details(made, zone):
            echo(line)
    return DONE if made.adds_up else DIFFERS


def _explain_call(tx: sa.Connection, word: str, zone: tzinfo) -> CallExplanation:
    return explain_call(tx, _find_call(tx, word), zone)


_DIGITS_MAX = 18
"""The digits of a number that every database takes."""


def _find_call(tx: sa.Connection, word: str) -> RecordedCall:
    """Return the call that a word names: by its number, by a reference that contains its own, or by its channel."""
    if word.isascii() and word.isdecimal() and len(word) <= _DIGITS_MAX:
        return history.find_call(tx, int(word))
    _, colon, rest = word.partition("call:")
    if colon:  # `share:7:call:...`, `rerate:3:call:...` and `reversal:call:...` are of the call too
        return history.find_call_by_reference(tx, colon + rest)
    found = history.list_calls_of_channel(tx, word)
    if not found:
        raise NotFound(f"there is no call {word}: name it by its reference, its number or Asterisk's uniqueid")
    if len(found) > 1:
        raise InvalidValue(
            f"{word} has {len(found)} calls; say which: {', '.join(each.call.reference for each in found)}"
        )
    return found[0]


def _explain_debts(engine: sa.Engine, arguments: argparse.Namespace) -> int:
    """Print the accounts below their floors; return 1 when rows do not explain one of them."""
    who = None if arguments.user is None else transact(engine, lambda tx: find_payer(tx, arguments.user).id)
    debts = _list_all_debts(engine, who)
    if arguments.json:
        found = list(debts)
        print_json(found)
        return DONE if all(debt.explained for debt in found) else DIFFERS
    count, status = 0, DONE
    for debt in debts:
        count += 1
        for line in describe_debt(debt):
            echo(line)
        status = status if debt.explained else DIFFERS
    verb = "account is" if count == 1 else "accounts are"
    echo(f"{count} {verb} below the floor." if count else "No account is below its floor.")
    return status


def _list_all_debts(engine: sa.Engine, subscriber_id: int | None) -> Iterator[Debt]:
    last_id = 0
    while found := transact(engine, partial(list_debts, subscriber_id=subscriber_id, after_id=last_id)):
        last_id = found[-1][0]
        yield from (debt for _, debt in found)
