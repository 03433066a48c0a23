"""``celcombiller user``: add, show, find, list, change, enable, disable and delete subscribers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celcombiller.cli.bundle_rows import bundle_row
from celcombiller.cli.common import (
    LIST_MAX,
    add_command,
    ask_password,
    current_operator,
    open_database,
    print_json,
    print_rows,
    read_password,
    whole_number,
)
from celcombiller.cli.selling.fees import fee_row
from celcombiller.cli.subscribers.groups import NO_LIMIT, limit
from celcombiller.cli.terminal import echo
from celcombiller.core.access.changes import subscriber_changes
from celcombiller.core.access.changes.subscriber_changes import NewPassword
from celcombiller.core.access.credentials import second_factor
from celcombiller.core.bundles import bundle_records
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger import accounts as ledger_accounts
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.schedules import FeeState
from celcombiller.core.model.subscribers import Level, Subscriber
from celcombiller.core.schedules import fee_periods
from celcombiller.core.subscribers import group_records, subscriber_filters, subscriber_records
from celcombiller.core.tariffs import tariff_records
from celcombiller.core.validity.end_dates import read_last_days
from celcombiller.database.transaction import transact
from celcombiller.runtime.credentials.authenticator import make_recovery_codes, make_secret
from celcombiller.runtime.credentials.password_hash import hash_password
from celcombiller.runtime.languages import LANGUAGES

if TYPE_CHECKING:
    import argparse

    import sqlalchemy as sa

    from celcombiller.config.tables import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``user``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = add_command(actions, "add", _add, "Add a subscriber.")
    add.add_argument("username")
    add.add_argument("--clid", required=True, help="the subscriber's number: digits")
    add.add_argument("--imsi", required=True, help="6 to 15 digits")
    add.add_argument("--name", required=True)
    add.add_argument("--cpf")
    add.add_argument("--level", type=int, choices=(0, 1, 2), default=1, help="0 administrator, 1 user, 2 collaborator")
    add.add_argument("--address", default="")
    add.add_argument(
        "--password-file", type=Path, metavar="FILE", help="without a password the subscriber cannot log in"
    )
    _add_terms(add)
    show = add_command(actions, "show", _show, "Show a subscriber and their balances.")
    show.add_argument("username")
    listed = add_command(actions, "list", _list, "List the subscribers.")
    listed.add_argument("--disabled", action="store_true", help="those who are disabled")
    listed.add_argument("--suspended", action="store_true", help="those who are suspended, as a fee is unpaid")
    listed.add_argument("--at-zero", action="store_true", help="those who have no voice credit left")
    listed.add_argument(
        "--inactive", type=whole_number(1, 3650), metavar="DAYS", help="those who neither called nor sent a message"
    )
    listed.add_argument("--group", metavar="GROUP", help="those of this group")
    sought = add_command(actions, "find", _find, "Find subscribers by a part of their name, or of a number.")
    sought.add_argument("text", metavar="TEXT", help="a part of the name, username, number, IMSI or CPF")
    sought.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    change = add_command(actions, "change", _change, "Change fields of a subscriber.")
    change.add_argument("username")
    change.add_argument("--username", dest="new_username", metavar="NEW", help="another username")
    for name in ("clid", "imsi", "name", "cpf", "address"):
        change.add_argument(f"--{name}")
    change.add_argument("--language", choices=("", *LANGUAGES), help="of pages and messages; empty: none chosen")
    _add_terms(change)
    change.add_argument("--level", type=int, choices=(0, 1, 2), help="0 administrator, 1 user, 2 collaborator")
    password = add_command(actions, "password", _set_password, "Set a subscriber's password, and end their sessions.")
    password.add_argument("username")
    password.add_argument(
        "--password-file", type=Path, metavar="FILE", help="the new password; without it, it is asked for"
    )
    password.add_argument("--revoke-tokens", action="store_true", help="also revoke their API tokens")
    factor = add_command(actions, "set-second-factor", _set_second_factor, "Set a second factor of somebody's logins.")
    factor.add_argument("username")
    factor.add_argument("--secret", help="the secret of an authenticator that is set already; without it, a new one")
    factor.add_argument("--code", help="what the authenticator shows; without it, it is asked for")
    reset = add_command(actions, "reset-second-factor", _reset_second_factor, "Take a subscriber's second factor away.")
    reset.add_argument("username")
    delete = add_command(actions, "delete", _delete, "Delete a subscriber; their records and their credit stay.")
    delete.add_argument("username")
    for each in (add, show, sought, listed, change, password, delete):
        each.add_argument("--json", action="store_true", help="one JSON document")
    for action, text in (
        ("enable", "Enable a subscriber, from the next call on."),
        ("disable", "Disable a subscriber, and end their calls in progress."),
    ):
        changed = add_command(actions, action, _enable, text)
        changed.add_argument("username")
        changed.add_argument("--json", action="store_true", help="one JSON document")
        changed.set_defaults(action=action)


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tariff", metavar="TARIFF", help=f"their own; `{NO_LIMIT}`: that of the group, or the default"
    )
    parser.add_argument("--group", metavar="GROUP", help=f"their group; `{NO_LIMIT}`")
    parser.add_argument("--calls-max", type=limit, metavar="N", help=f"calls at once; `{NO_LIMIT}`: as the group")
    for name, what in (("barred", "may not"), ("allowed", "may")):
        parser.add_argument(
            f"--{name}", nargs="*", metavar="PREFIX", help=f"prefixes that they {what} call; `{NO_LIMIT}`: as the group"
        )


def _terms(tx: sa.Connection, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the tariff, group and limits that the arguments name."""
    found: dict[str, Any] = {}
    if arguments.tariff is not None:
        found["tariff_id"] = None if arguments.tariff == NO_LIMIT else tariff_records.find(tx, arguments.tariff).id
    if arguments.group is not None:
        found["group_id"] = None if arguments.group == NO_LIMIT else group_records.find(tx, arguments.group).id
    if arguments.calls_max is not None:
        found["calls_max"] = None if arguments.calls_max == NO_LIMIT else arguments.calls_max
    for name in ("barred", "allowed"):
        prefixes = getattr(arguments, name)
        if prefixes is not None:
            found[name] = None if prefixes == [NO_LIMIT] else prefixes
    return found


def _add(arguments: argparse.Namespace, config: Config) -> int:
    """Add a subscriber."""
    password = read_password(arguments.password_file)
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> Subscriber:
        return subscriber_changes.add(
            tx,
            current_operator(),
            username=arguments.username,
            name=arguments.name,
            clid=arguments.clid,
            imsi=arguments.imsi,
            cpf=arguments.cpf,
            address=arguments.address,
            level=Level(arguments.level),
            password=None if password is None else NewPassword(password, hash_password(password)),
            terms=_terms(tx, arguments),
            now=now,
        )

    made = transact(open_database(config), work)
    _print_changed(arguments, made, f"Added {made.username}, number {made.clid}, IMSI {made.imsi}.")
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    """Show a subscriber, their balances and their bundles."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        who = subscriber_records.find(tx, arguments.username)
        bundles = [bundle_row(who.username, each, now) for each in bundle_records.list_of(tx, who.id)]
        owed = fee_periods.list_all(tx, subscriber_id=who.id, state=FeeState.OWED, limit=LIST_MAX)
        fees = [fee_row(each.username, each.schedule, each.period) for each in owed]
        accounts = ledger_accounts.balances(tx, who.id)
        days = read_last_days(tx, accounts.values(), config.schedules.zone)
        ends = {f"{kind}_valid_until": days[each.id] for kind, each in accounts.items() if each.id in days}
        return with_balances(tx, who) | ends | {"bundles": bundles, "fees_owed": fees}

    user = transact(open_database(config), work)
    if arguments.json:
        print_json(user)
    else:
        bundles, fees = user.pop("bundles"), user.pop("fees_owed")
        for name, value in user.items():
            echo(f"{name:17} {' '.join(value) if isinstance(value, tuple) else value}")
        if bundles:
            echo()
            print_rows(bundles, ("id", "name", "kind", "left", "held", "valid_until", "state"), as_json=False)
        if fees:
            echo()
            print_rows(fees, ("id", "schedule", "due_on", "amount", "left", "suspend_at"), as_json=False)
    return 0


def _list(arguments: argparse.Namespace, config: Config) -> int:
    """List the subscribers."""
    wanted: list[sa.ColumnElement[bool]] = []
    if arguments.disabled:
        wanted.append(subscriber_filters.is_disabled())
    if arguments.suspended:
        wanted.append(subscriber_filters.is_suspended())
    if arguments.at_zero:
        wanted.append(subscriber_filters.is_at_zero())
    if arguments.inactive is not None:
        wanted.append(subscriber_filters.is_inactive_since(datetime.now(UTC) - timedelta(days=arguments.inactive)))

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        group = None if arguments.group is None else group_records.find(tx, arguments.group)
        found = list(subscriber_records.list_all(tx, *wanted))
        return [with_balances(tx, each) for each in found if group is None or each.group_id == group.id]

    users = transact(open_database(config).execution_options(reading=True), work)
    columns = ("username", "clid", "imsi", "level", "enabled", "voice_balance", "data_balance", "sms_balance")
    print_rows(users, columns, as_json=arguments.json)
    return 0


def _enable(arguments: argparse.Namespace, config: Config) -> int:
    """Enable or disable a subscriber."""
    username, now = arguments.username, datetime.now(UTC)

    def work(tx: sa.Connection) -> Subscriber:
        enabled = arguments.action == "enable"
        return subscriber_changes.change(tx, current_operator(), username, {"enabled": enabled}, now)

    changed = transact(open_database(config), work)
    _print_changed(arguments, changed, f"{arguments.username} is {arguments.action}d.")
    return 0


def _find(arguments: argparse.Namespace, config: Config) -> int:
    """List the subscribers whose name or number has this part."""

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        found = list(subscriber_records.search(tx, arguments.text, limit=arguments.limit))
        return [with_balances(tx, each) for each in found]

    users = transact(open_database(config).execution_options(reading=True), work)
    columns = ("username", "name", "clid", "imsi", "level", "enabled", "voice_balance")
    print_rows(users, columns, as_json=arguments.json)
    return 0


def _change(arguments: argparse.Namespace, config: Config) -> int:
    """Change fields of a subscriber."""
    facts = {name: getattr(arguments, name) for name in ("clid", "imsi", "name", "cpf", "address", "language")}
    level = None if arguments.level is None else Level(arguments.level)
    facts |= {"username": arguments.new_username, "level": level}
    changes = {name: value for name, value in facts.items() if value is not None}
    if changes.get("cpf") == "":
        changes["cpf"] = None
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[Subscriber, list[str]]:
        all_changes = changes | _terms(tx, arguments)
        if not all_changes:
            raise InvalidValue("nothing to change: name a field, such as --clid")
        changed = subscriber_changes.change(tx, current_operator(), arguments.username, all_changes, now)
        return changed, sorted(name.removesuffix("_id") for name in all_changes)

    changed, names = transact(open_database(config), work)
    _print_changed(arguments, changed, f"Changed {changed.username}: {', '.join(names)}.")
    return 0


def _set_password(arguments: argparse.Namespace, config: Config) -> int:
    """Set a subscriber's password."""
    text = read_password(arguments.password_file) or ask_password(f"New password of {arguments.username}: ")
    password = NewPassword(text, hash_password(text), revoke_tokens=arguments.revoke_tokens)
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> Subscriber:
        return subscriber_changes.change(tx, current_operator(), arguments.username, {}, now, password=password)

    changed = transact(open_database(config), work)
    _print_changed(arguments, changed, f"{changed.username} has a new password; their sessions have ended.")
    return 0


def _set_second_factor(arguments: argparse.Namespace, config: Config) -> int:
    """Show a secret for an authenticator, and set the second factor by its first code."""
    engine = open_database(config)
    who = transact(engine, lambda tx: subscriber_records.find(tx, arguments.username))
    actor = current_operator()
    actor.check_manages(who.level)
    secret, code = arguments.secret or make_secret(), arguments.code
    if code is None:
        uri = second_factor.make_uri(secret, who.username)
        if sys.stdout.isatty():
            import segno  # noqa: PLC0415  only a terminal needs it

            segno.make(uri).terminal(compact=True)
        echo(f"Secret of {who.username} for an authenticator: {secret}\n{uri}")
        if not sys.stdin.isatty():
            echo(f"Then run: celcombiller user set-second-factor {who.username} --secret {secret} --code CODE")
            return 0
        code = input("Code that it shows: ")
    codes, now = make_recovery_codes(), datetime.now(UTC)
    transact(engine, lambda tx: second_factor.set_up(tx, actor, who.id, secret, code, codes, now))
    echo(f"{who.username} logs in with a code from now on. Recovery codes, each good once, not shown again:")
    for each in codes:
        echo(f"  {each}")
    return 0


def _reset_second_factor(arguments: argparse.Namespace, config: Config) -> int:
    """Take the second factor away."""
    now = datetime.now(UTC)
    is_gone = transact(
        open_database(config), lambda tx: second_factor.reset(tx, current_operator(), arguments.username, now)
    )
    done = "logs in with the password only; their sessions have ended" if is_gone else "has no second factor"
    echo(f"{arguments.username} {done}.")
    return 0


def _delete(arguments: argparse.Namespace, config: Config) -> int:
    """Delete a subscriber."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> Subscriber:
        return subscriber_changes.delete(tx, current_operator(), arguments.username, now)

    deleted = transact(open_database(config), work)
    _print_changed(arguments, deleted, f"Deleted {deleted.username}: the username and the numbers are free again.")
    return 0


def _print_changed(arguments: argparse.Namespace, subscriber: Subscriber, text: str) -> None:
    if arguments.json:
        print_json(asdict(subscriber))
    else:
        echo(text)


def with_balances(tx: sa.Connection, subscriber: Subscriber) -> dict[str, Any]:
    """Return a subscriber's fields, the names of their tariff and group, and the balance and hold of each account."""
    tariff = None if subscriber.tariff_id is None else tariff_records.find_by_id(tx, subscriber.tariff_id).name
    group = None if subscriber.group_id is None else group_records.find_by_id(tx, subscriber.group_id).name
    accounts = ledger_accounts.balances(tx, subscriber.id)
    posted = {f"{kind}_balance": accounts[kind].posted for kind in Kind}
    names = {"tariff": tariff, "group": group}
    return asdict(subscriber) | names | posted | {f"{kind}_held": accounts[kind].held for kind in Kind}
