"""``celcombiller``: the operator's command. It works on the database itself, beside a running biller or without one.

Exit status: 0 done, 1 refused or a difference found, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celcombiller import (
    audit,
    calls,
    cli_data,
    cli_messages,
    cli_schedules,
    cli_tokens,
    ledger,
    migrations,
    subscribers,
    trail,
)
from celcombiller import config as settings
from celcombiller.bench import run as benchmark
from celcombiller.charging import Credit, credit
from celcombiller.errors import BillerError, InvalidValue
from celcombiller.legacy import command as legacy
from celcombiller.model import Call, Kind, Level, Subscriber, Transfer
from celcombiller.passwords import LENGTH_MIN, hash_password
from celcombiller.provisioning import command as provisioning
from celcombiller.store import open_engine, transact
from celcombiller.terminal import command, opened, operator, print_json, print_rows, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from celcombiller.config import Config

LIST_MAX = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; what is refused is one line on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        path = arguments.config or settings.source()
        config = settings.load(path, os.environ)
        status: int = arguments.run(arguments, config)
    except BillerError as error:
        print(f"celcombiller: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return status


# -- the commands ----------------------------------------------------------------------------------------------------


def _init(arguments: argparse.Namespace, config: Config) -> int:
    engine = open_engine(config.database.url, lock_seconds=config.database.lock_seconds, foreign_keys=False)
    _check_folder(config)
    password = _password(arguments.password_file)
    generated = password is None
    password = password or secrets.token_urlsafe(12)

    def work(tx: sa.Connection) -> str | None:
        migrations.upgrade(tx)
        known = subscribers.any_administrator(tx)
        if known is None:
            subscribers.add(
                tx,
                username=arguments.admin,
                name="Administrator",
                clid="0",
                imsi="000000000000000",
                cpf=None,
                address="",
                level=Level.ADMINISTRATOR,
                password_hash=hash_password(password),
                now=datetime.now(UTC),
            )
        return known

    known = transact(engine, work)
    print(f"Database {_shown(engine)} is ready.")
    if known is not None:
        print(f"Administrator: {known}, as before.")
    elif generated:
        print(f"Administrator: {arguments.admin}, password {password} (shown this once; only its hash is kept).")
    else:
        print(f"Administrator: {arguments.admin}.")
    return 0


def _check_config(arguments: argparse.Namespace, config: Config) -> int:
    where = arguments.config or settings.source() or "built-in defaults"
    print(f"{where}: right. Database {config.database.url}, REST {config.rest.listen}, FastAGI {config.agi.listen},")
    print(f"AMI of {', '.join(each.name for each in config.asterisk) or 'no server'}.")
    return 0


def _user_add(arguments: argparse.Namespace, config: Config) -> int:
    password = _password(arguments.password_file)
    hashed = None if password is None else hash_password(password)

    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> Subscriber:
        made = subscribers.add(
            tx,
            username=arguments.username,
            name=arguments.name,
            clid=arguments.clid,
            imsi=arguments.imsi,
            cpf=arguments.cpf,
            address=arguments.address,
            level=Level(arguments.level),
            password_hash=hashed,
            now=now,
        )
        trail.record(tx, operator(), "add", f"subscriber:{made.username}", after=made, now=now)
        return made

    made = transact(opened(config), work)
    print(f"Added {made.username}, number {made.clid}, IMSI {made.imsi}.")
    return 0


def _user_show(arguments: argparse.Namespace, config: Config) -> int:
    user = transact(opened(config), lambda tx: _with_balances(tx, subscribers.find(tx, arguments.username)))
    if arguments.json:
        print_json(user)
    else:
        for name, value in user.items():
            print(f"{name:14} {value}")
    return 0


def _user_list(arguments: argparse.Namespace, config: Config) -> int:
    users = transact(opened(config), lambda tx: [_with_balances(tx, each) for each in list(subscribers.everyone(tx))])
    columns = ("username", "clid", "imsi", "level", "enabled", "voice_balance", "data_balance", "sms_balance")
    print_rows(users, columns, as_json=arguments.json)
    return 0


def _user_enable(arguments: argparse.Namespace, config: Config) -> int:
    username, now = arguments.username, datetime.now(UTC)

    def work(tx: sa.Connection) -> None:
        was = subscribers.find(tx, username)
        is_ = subscribers.enable(tx, username, now, enabled=arguments.action == "enable")
        trail.record(tx, operator(), "change", f"subscriber:{username}", before=was, after=is_, now=now)

    transact(opened(config), work)
    print(f"{arguments.username} is {arguments.action}d.")
    return 0


def _credit(arguments: argparse.Namespace, config: Config) -> int:
    request = Credit(
        username=arguments.username,
        kind=Kind(arguments.kind),
        value=arguments.value,
        origin=arguments.origin,
        reference=f"id:{arguments.id or uuid.uuid4()}",
    )

    def work(tx: sa.Connection) -> Transfer:
        made, _ = credit(tx, request, operator(), datetime.now(UTC))
        return made

    result = transact(opened(config), work)
    posted = result.credit_posted if request.value > 0 else result.debit_posted
    print(f"{request.value:+} {request.kind} for {request.username}: {posted} now (id {request.reference[3:]}).")
    return 0


def _calls(arguments: argparse.Namespace, config: Config) -> int:
    rows = transact(opened(config), lambda tx: calls.recent(tx, limit=arguments.limit))
    columns = ("started_at", "user", "from", "to", "state", "talk_ms", "cost", "witness", "server", "uniqueid")
    print_rows([_call(user, call) for user, call in rows], columns, as_json=arguments.json)
    return 0


def _statement(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[ledger.StatementLine]:
        accounts = ledger.balances(tx, subscribers.find(tx, arguments.username).id)
        lines = [line for each in accounts.values() for line in ledger.statement(tx, each, limit=arguments.limit)]
        return sorted(lines, key=lambda line: -line.id)[: arguments.limit]

    lines = [asdict(line) for line in transact(opened(config), work)]
    columns = ("at", "kind", "value", "posted", "origin", "reference", "note")
    print_rows(lines, columns, as_json=arguments.json)
    return 0


def _audit(arguments: argparse.Namespace, config: Config) -> int:
    report = transact(opened(config).execution_options(reading=True), audit.audit)
    if arguments.json:
        print_json({"ok": report.ok} | asdict(report))
    else:
        counted = (
            f"{report.accounts} accounts, {report.transfers} transfers, {report.holds} holds, {report.calls} calls,"
            f" {report.schedule_credits} scheduled credits"
        )
        print(f"{counted} recomputed: {'all as recorded' if report.ok else f'{len(report.differences)} differences'}.")
        for each in report.differences[:1]:
            print(f"First difference: {each.subject}: {each.law}; expected {each.expected}, found {each.found}.")
    return 0 if report.ok else 1


def _play(arguments: argparse.Namespace, config: Config) -> int:
    from twisted.internet.error import ConnectError  # noqa: PLC0415  the reactor is for this command alone
    from twisted.internet.task import react  # noqa: PLC0415

    from celcombiller.asterisk.peer import Channel, play  # noqa: PLC0415

    host, port = _agi_address(config.agi.listen)
    engine = opened(config)
    who = arguments.caller

    def number_of(tx: sa.Connection) -> str:
        try:
            return subscribers.find(tx, who).clid
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
            return 1
    if failed:
        raise BillerError(failed[0])
    if arguments.verbose:
        for side, line in channel.transcript:
            print(f"{side:>8} {line}")
    return _print_played(channel, engine)


def _print_played(channel: Any, engine: sa.Engine) -> int:
    result = channel.variables.get("CELCOMBILLER_RESULT", "")
    if result != "GRANTED":
        print(f"Refused: {result or 'the biller closed the session without a word'}.")
        return 1
    print(f"Granted {channel.variables.get('CELCOMBILLER_SECONDS', 'unlimited')} s; dialled {channel.dialled}")
    rows = transact(engine, lambda tx: calls.recent(tx, limit=LIST_MAX))
    mine = next(((user, call) for user, call in rows if call.uniqueid == channel.uniqueid), None)
    if mine is None:
        print(f"{channel.variables['DIALSTATUS']}; not billed: an always allowed number.")
        return 0
    user, call = mine
    print(f"{channel.variables['DIALSTATUS']}: {call.state}, {call.talk_ms} ms of talk, {call.cost} credits.")
    balances = transact(engine, lambda tx: _with_balances(tx, subscribers.find(tx, user)))
    print(f"{user} has {balances['voice_balance']} voice credits now, {balances['voice_held']} held.")
    return 0


# -- small things ----------------------------------------------------------------------------------------------------


def _deferred(work: Any) -> Any:
    from twisted.internet.defer import Deferred  # noqa: PLC0415

    return Deferred.fromCoroutine(work)


def _bench(arguments: argparse.Namespace, _config: Config) -> int:
    return benchmark.bench(arguments)


def _agi_address(listen: str) -> tuple[str, int]:
    parts = listen.split(":")
    if not parts[0].startswith("tcp"):
        raise InvalidValue("`call` reaches a biller over TCP: agi.listen is not tcp:")
    interface = next((part.partition("=")[2] for part in parts if part.startswith("interface=")), "")
    return interface.replace("\\", "") or "127.0.0.1", int(parts[1])


def _check_folder(config: Config) -> None:
    if config.database.url.startswith("sqlite:///"):
        folder = Path(config.database.url.removeprefix("sqlite:///")).parent
        if not folder.is_dir():
            raise InvalidValue(f"database.url: the folder {folder} is not there")


def _shown(engine: sa.Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        password = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InvalidValue(f"--password-file {file}: {error}") from None
    if len(password) < LENGTH_MIN:
        raise InvalidValue(f"--password-file {file}: a password has at least {LENGTH_MIN} characters")
    return password


def _with_balances(tx: sa.Connection, subscriber: Subscriber) -> dict[str, Any]:
    accounts = ledger.balances(tx, subscriber.id)
    posted = {f"{kind}_balance": accounts[kind].posted for kind in Kind}
    return asdict(subscriber) | posted | {f"{kind}_held": accounts[kind].held for kind in Kind}


def _call(user: str, call: Call) -> dict[str, Any]:
    return {
        "server": call.server,
        "uniqueid": call.uniqueid,
        "user": user,
        "from": call.from_number,
        "to": call.to_number,
        "state": call.state,
        "started_at": call.started_at,
        "answered_at": call.answered_at,
        "ended_at": call.ended_at,
        "talk_ms": call.talk_ms,
        "cost": call.cost,
        "witness": call.witness,
        "outcome": call.outcome,
        "note": call.note,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="celcombiller", description="Prepaid biller for Asterisk and OpenBTS.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings (default: as for twistd)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = command(commands, "init", _init, "Make or upgrade the database, with a first administrator.")
    init.add_argument("--admin", metavar="USERNAME", default="admin")
    init.add_argument("--password-file", type=Path, metavar="FILE", help="his password (default: a random one)")
    command(commands, "check-config", _check_config, "Say whether the settings are right.")

    user = commands.add_parser("user", help="Subscribers.").add_subparsers(required=True, metavar="ACTION")
    add = command(user, "add", _user_add, "Add a subscriber.")
    add.add_argument("username")
    add.add_argument("--clid", required=True, help="his number: digits")
    add.add_argument("--imsi", required=True, help="6 to 15 digits")
    add.add_argument("--name", required=True)
    add.add_argument("--cpf")
    add.add_argument("--level", type=int, choices=(0, 1, 2), default=1, help="0 administrator, 1 user, 2 collaborator")
    add.add_argument("--address", default="")
    add.add_argument("--password-file", type=Path, metavar="FILE", help="without it he cannot log in")
    show = command(user, "show", _user_show, "Show a subscriber and his balances.")
    listed = command(user, "list", _user_list, "List the subscribers.")
    for action in ("enable", "disable"):
        changed = command(user, action, _user_enable, f"{action.capitalize()} a subscriber, from the next call on.")
        changed.add_argument("username")
        changed.set_defaults(action=action)

    credit = command(commands, "credit", _credit, "Give credit to a subscriber; a negative VALUE takes it away.")
    credit.add_argument("username")
    credit.add_argument("value", type=int, metavar="VALUE", help="whole credits")
    credit.add_argument("--kind", choices=[kind.value for kind in Kind], default=Kind.VOICE.value)
    credit.add_argument("--origin", default="web", metavar="TEXT")
    credit.add_argument("--id", help="your own id of this movement: the same again changes nothing")

    last = command(commands, "calls", _calls, "List the last calls.")
    statement = command(commands, "statement", _statement, "List a subscriber's last movements of credit.")
    for each in (show, statement):
        each.add_argument("username")
    for each in (last, statement):
        each.add_argument("--limit", type=whole(1, LIST_MAX), default=50)
    proof = command(commands, "audit", _audit, "Recompute every balance and hold; exit 1 at a difference.")
    for each in (show, listed, last, statement, proof):
        each.add_argument("--json", action="store_true", help="one JSON document")

    cli_messages.add_commands(commands)
    cli_data.add_commands(commands)
    cli_schedules.add_commands(commands)
    cli_tokens.add_commands(commands)
    legacy.add_commands(commands)
    benchmark.add_arguments(command(commands, "bench", _bench, "Measure how fast the biller is on this machine."))
    provisioning.add_commands(commands)

    play = command(commands, "call", _play, "Play Asterisk's side of one call against the running biller.")
    play.add_argument("caller", metavar="FROM", help="a username or a number")
    play.add_argument("callee", metavar="TO", help="the number that is called")
    play.add_argument("--talk", type=float, default=10.0, metavar="SECONDS", help="talk asked for; it takes no time")
    how = play.add_mutually_exclusive_group()
    for option, text in (("busy", "the callee is busy"), ("cancel", "the caller hangs up while it rings")):
        how.add_argument(f"--{option}", action="store_true", help=text)
    how.add_argument("--no-answer", dest="noanswer", action="store_true", help="nobody answers")
    play.add_argument("--verbose", action="store_true", help="show what both sides said")
    return parser
