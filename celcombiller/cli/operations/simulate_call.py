"""``celcombiller call``: play Asterisk's side of one call against the running biller."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import LIST_MAX, open_database
from celcombiller.cli.exit_status import REFUSED
from celcombiller.cli.subscribers.users import with_balances
from celcombiller.cli.terminal import echo
from celcombiller.core.errors import BillerError, InvalidValue
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.tariffs.price_format import count_credits
from celcombiller.core.voice import call_queries
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``call``."""
    parser.set_defaults(run=_simulate_call)
    parser.add_argument("caller", metavar="FROM", help="a username or a number")
    parser.add_argument("callee", metavar="TO", help="the number that is called")
    parser.add_argument(
        "--talk",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="the talk time to report; the command does not wait for it",
    )
    how = parser.add_mutually_exclusive_group()
    for option, text in (("busy", "the callee is busy"), ("cancel", "the caller hangs up while it rings")):
        how.add_argument(f"--{option}", action="store_true", help=text)
    how.add_argument("--no-answer", dest="noanswer", action="store_true", help="the callee does not answer")
    parser.add_argument("--verbose", action="store_true", help="show what both sides said")


def _simulate_call(arguments: argparse.Namespace, config: Config) -> int:
    """Play Asterisk's side of one call against the running biller."""
    from twisted.internet.error import ConnectError  # noqa: PLC0415  only this command uses the reactor
    from twisted.internet.task import react  # noqa: PLC0415

    from celcombiller.asterisk.agi.simulator import Channel, play  # noqa: PLC0415

    host, port = _agi_address(config.agi.listen)
    engine = open_database(config)
    who = arguments.caller

    def number_of(tx: sa.Connection) -> str:
        try:
            return subscriber_records.find(tx, who).clid
        except BillerError:
            return str(who)

    outcome = next((word for word in ("BUSY", "NOANSWER", "CANCEL") if getattr(arguments, word.lower())), "ANSWER")
    uniqueid = f"{config.asterisk[0].name}-" if config.asterisk else ""
    channel = Channel(
        caller_number=transact(engine, number_of),
        called_number=arguments.callee,
        outcome=outcome,
        talk_ms=round(arguments.talk * 1000),
        uniqueid=f"{uniqueid}{datetime.now(UTC).timestamp():.6f}",
    )
    failed: list[str] = []

    async def run(reactor: Any) -> None:
        try:
            await play(reactor, host, port, channel)
        except (ConnectError, TimeoutError) as error:
            failed.append(f"no biller answers on {host}:{port} (start one: twistd celcombiller): {error}")

    try:
        react(lambda reactor: _deferred(run(reactor)))
    except SystemExit as over:
        if over.code:
            return REFUSED
    if failed:
        raise BillerError(failed[0])
    if arguments.verbose:
        for side, line in channel.transcript:
            echo(f"{side:>8} {line}")
    return _print_played(channel, engine, config)


_REASONS = {
    "BAD_NUMBER": (
        'No subscriber has the number {callee}, and calls.external_dial ("{config.calls.external_dial}") gives no way'
        " to it. A number is made of digits, * and #."
    ),
    "UNKNOWN": "No subscriber has the number {caller}: add one by `celcombiller user add`.",
    "DISABLED": "The subscriber of {caller} is disabled: `celcombiller user enable`.",
    "SUSPENDED": "A fee of {caller} is unpaid: `celcombiller fee list`. They may call fees.suspended_allowed only.",
    "NO_CREDIT": "The voice credit of {caller} does not pay for the shortest call: `celcombiller credit`.",
    "BARRED": "{caller} or their group may not call {callee}: `celcombiller group show`, `celcombiller user show`.",
    "TOO_MANY_CALLS": "{caller} has as many calls at once as they may have.",
    "GROUP_FULL": "The group of {caller} has as many calls at once as it may have: `celcombiller group show`.",
    "NO_TRUNK": "All trunks of the route of {callee} are full or disabled: `celcombiller trunk list`.",
    "TOO_EXPENSIVE": "The shortest call to {callee} costs more than the group allows: `celcombiller group show`.",
    "NO_RATE": "No [[rates]] table has a prefix of {callee}.",
    "FAILED": "The biller could not decide; its log says why. What then happens: calls.on_failure.",
}
"""Why the biller refuses a call, and what to do: for each ``CELCOMBILLER_RESULT``."""


def _print_played(channel: Any, engine: sa.Engine, config: Config) -> int:
    result = channel.variables.get("CELCOMBILLER_RESULT", "")
    if result != "GRANTED":
        echo(f"Refused: {result or 'the biller closed the session without an answer'}.")
        if result in _REASONS:
            echo(_REASONS[result].format(caller=channel.caller_number, callee=channel.called_number, config=config))
        return REFUSED
    echo(f"Granted {channel.variables.get('CELCOMBILLER_SECONDS', 'unlimited')} s; dialled {channel.dialled}")
    rows = transact(engine, lambda tx: call_queries.recent(tx, limit=LIST_MAX))
    mine = next(((user, call) for user, _, call in rows if call.uniqueid == channel.uniqueid), None)
    if mine is None:
        echo(f"{channel.variables['DIALSTATUS']}; not billed: an always allowed number.")
        return 0
    user, call = mine
    cost = count_credits(call.cost or 0)
    echo(f"{channel.variables['DIALSTATUS']}: {call.state}, {call.talk_ms} ms of talk, {cost}.")
    balances = transact(engine, lambda tx: with_balances(tx, subscriber_records.find(tx, user)))
    echo(f"{user} has {balances['voice_balance']} voice credits now, {balances['voice_held']} held.")
    return 0


def _deferred(work: Any) -> Any:
    from twisted.internet.defer import Deferred  # noqa: PLC0415

    return Deferred.fromCoroutine(work)


def _agi_address(listen: str) -> tuple[str, int]:
    parts = listen.split(":")
    if not parts[0].startswith("tcp"):
        raise InvalidValue("`call` needs a biller that listens on TCP: agi.listen is not tcp:")
    interface = next((part.partition("=")[2] for part in parts if part.startswith("interface=")), "")
    return interface.replace("\\", "") or "127.0.0.1", int(parts[1])
