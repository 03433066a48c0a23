"""``celcombiller bundle`` and ``celcombiller offer``: pots that pay before the balance, and those that are sold."""

from __future__ import annotations

import argparse
import re
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celcombiller.cli.bundle_rows import bundle_row
from celcombiller.cli.common import (
    LIST_MAX,
    add_command,
    current_operator,
    find_payer,
    open_database,
    parse_time,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.terminal import echo
from celcombiller.core.access.changes import bundle_changes
from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.bundles.terms import CALL_SECONDS_MAX, HOURS_MAX, PRIORITY_MAX, BundleTerms, unlimited_amount
from celcombiller.core.charging.request_keys import find_reference
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger import statement
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.bundles import UNLIMITED, is_unlimited
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.bundles import Offer

_HOURS = {"h": 1, "d": 24, "w": 168}
_ROW = ("id", "username", "name", "kind", "amount", "left", "held", "valid_from", "valid_until", "state", "renews")


# -- bundles ---------------------------------------------------------------------------------------------------------


def _give(arguments: argparse.Namespace, config: Config) -> int:
    operator, key, now = current_operator(), arguments.id or str(uuid.uuid4()), datetime.now(UTC)
    kind, amount = _content(arguments)
    words = "unlimited" if is_unlimited(kind, amount) else str(amount)
    terms = _terms(arguments, arguments.name or f"{words} {'credits' if kind is BundleKind.MONEY else kind}")

    def work(tx: sa.Connection) -> dict[str, Any]:
        who = find_payer(tx, arguments.username)
        made, _ = bundle_changes.give(
            tx,
            operator,
            who.username,
            terms,
            valid_hours=arguments.hours,
            valid_from=arguments.valid_from,
            reference=find_reference(tx, operator, key),
            note=arguments.note,
            now=now,
        )
        return bundle_row(who.username, made, now)

    return _print_bundle(arguments, transact(open_database(config), work), "has")


def _list(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        who = None if arguments.username is None else find_payer(tx, arguments.username).id
        ended = None if arguments.all else False
        found = bundle_records.list_all(tx, subscriber_id=who, ended=ended, limit=arguments.limit)
        return [bundle_row(username, each, now) for username, each in found]

    rows = transact(open_database(config).execution_options(reading=True), work)
    print_rows(rows, _ROW, as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        found = bundle_records.find(tx, arguments.bundle)
        return bundle_row(bundle_records.find_owner(tx, found).username, found, now)

    row = transact(open_database(config).execution_options(reading=True), work)
    if arguments.json:
        print_json(row)
    else:
        for name, value in row.items():
            echo(f"{name:14} {_text(value)}")
    return 0


def _statement(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        found = bundle_records.account_of(bundle_records.find(tx, arguments.bundle))
        return [asdict(line) for line in statement.statement(tx, found, limit=arguments.limit)]

    lines = transact(open_database(config).execution_options(reading=True), work)
    print_rows(lines, ("at", "value", "posted", "origin", "reference", "note"), as_json=arguments.json)
    return 0


def _change(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        renews = arguments.renews == "yes"
        changed = bundle_changes.set_renewal(tx, current_operator(), arguments.bundle, renews=renews, now=now)
        return bundle_row(bundle_records.find_owner(tx, changed).username, changed, now)

    return _print_bundle(arguments, transact(open_database(config), work), "has")


def _end(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        ended = bundle_changes.end(tx, current_operator(), arguments.bundle, note=arguments.note, now=now)
        return bundle_row(bundle_records.find_owner(tx, ended).username, ended, now)

    row = transact(open_database(config), work)
    bundle = f"Bundle {row['id']} ({row['name']}) of {row['username']}"
    if arguments.json:
        print_json(row)
    elif row["ended_at"] is None:
        echo(f"{bundle} ends when the uses in progress, which hold {row['held']} of it, have ended.")
    else:
        echo(f"{bundle} has ended.")
    return 0


# -- offers ----------------------------------------------------------------------------------------------------------


def _list_offers(arguments: argparse.Namespace, config: Config) -> int:
    rows = transact(
        open_database(config).execution_options(reading=True), lambda tx: list(map(_offer_row, offers.list_all(tx)))
    )
    columns = ("id", "name", "price", "kind", "amount", "valid_hours", "destinations", "renews", "enabled")
    print_rows(rows, columns, as_json=arguments.json)
    return 0


def _show_offer(arguments: argparse.Namespace, config: Config) -> int:
    found = transact(
        open_database(config).execution_options(reading=True), lambda tx: offers.resolve(tx, arguments.offer)
    )
    if arguments.json:
        print_json(found)
    else:
        for name, value in _offer_row(found).items():
            echo(f"{name:14} {_text(value)}")
    return 0


def _add_offer(arguments: argparse.Namespace, config: Config) -> int:
    terms = _terms(arguments, arguments.name)

    def work(tx: sa.Connection) -> Offer:
        return bundle_changes.add_offer(
            tx,
            current_operator(),
            terms,
            price=arguments.price,
            valid_hours=arguments.hours,
            renews=arguments.renews == "yes",
            now=datetime.now(UTC),
        )

    return _print_offer(arguments, transact(open_database(config), work), "Added")


def _change_offer(arguments: argparse.Namespace, config: Config) -> int:
    names = {"price": "price", "amount": "amount", "hours": "valid_hours", "priority": "priority", "name": "name"}
    names |= {"services": "services", "destinations": "destinations"}
    changes = {name: value for key, name in names.items() if (value := getattr(arguments, key)) is not None}
    for key, name, on in (("renews", "renews", "yes"), ("state", "enabled", "enabled")):
        if getattr(arguments, key) is not None:
            changes[name] = getattr(arguments, key) == on
    if arguments.call_seconds_max is not None:
        changes["call_seconds_max"] = None if arguments.call_seconds_max == "none" else arguments.call_seconds_max
    if not changes:
        raise InvalidValue("nothing to change: name a field, such as --price")

    def work(tx: sa.Connection) -> Offer:
        was = offers.resolve(tx, arguments.offer)
        return bundle_changes.change_offer(tx, current_operator(), was.id, changes, datetime.now(UTC))

    return _print_offer(arguments, transact(open_database(config), work), "Changed")


def _delete_offer(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> Offer:
        was = offers.resolve(tx, arguments.offer)
        return bundle_changes.delete_offer(tx, current_operator(), was.id, datetime.now(UTC))

    return _print_offer(arguments, transact(open_database(config), work), "Deleted")


def _buy(arguments: argparse.Namespace, config: Config) -> int:
    operator, key, now = current_operator(), arguments.id or str(uuid.uuid4()), datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        who = find_payer(tx, arguments.username)
        made, _ = bundle_changes.buy(
            tx,
            operator,
            who.username,
            offers.resolve(tx, arguments.offer),
            renews=None if arguments.renews is None else arguments.renews == "yes",
            reference=find_reference(tx, operator, key),
            today=local_date(now, config.schedules.zone),
            now=now,
        )
        return bundle_row(who.username, made, now)

    return _print_bundle(arguments, transact(open_database(config), work), "has bought")


# -- parts -----------------------------------------------------------------------------------------------------------


def _terms(arguments: argparse.Namespace, name: str) -> BundleTerms:
    kind, amount = _content(arguments)
    most = None if arguments.call_seconds_max == "none" else arguments.call_seconds_max
    return BundleTerms(
        name, kind, amount, arguments.services, arguments.destinations, arguments.priority, call_seconds_max=most
    )


def _content(arguments: argparse.Namespace) -> tuple[BundleKind, int]:
    for kind in BundleKind:
        amount = getattr(arguments, kind.value)
        if amount is not None:
            return kind, amount
    if arguments.unlimited is not None:
        kind = BundleKind(arguments.unlimited)
        return kind, unlimited_amount(kind)
    raise InvalidValue("say what it holds: --seconds, --messages, --octets, --money or --unlimited")


def _offer_row(offer: Offer) -> dict[str, Any]:
    lists = {"services": " ".join(offer.services), "destinations": " ".join(offer.destinations)}
    return asdict(offer) | {"unlimited": offer.unlimited} | lists


def _text(value: object) -> object:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else value


def _print_bundle(arguments: argparse.Namespace, row: dict[str, Any], verb: str) -> int:
    if arguments.json:
        print_json(row)
    else:
        until = row["valid_until"].astimezone().isoformat(" ", "minutes")
        again = ", then bought again" if row["renews"] else ""
        bundle = f"bundle {row['id']} ({row['name']})"
        left = "unlimited" if row["unlimited"] else row["left"]
        echo(f"{row['username']} {verb} {bundle}: {left} {row['kind']} until {until}{again}.")
    return 0


def _print_offer(arguments: argparse.Namespace, offer: Offer, verb: str) -> int:
    if arguments.json:
        print_json(offer)
    else:
        amount = "unlimited" if offer.unlimited else offer.amount
        what = f"{amount} {offer.kind} for {offer.valid_hours} hours, price {offer.price}"
        echo(f"{verb} offer {offer.id} ({offer.name}): {what}{'' if offer.enabled else ', not for sale'}.")
    return 0


# -- arguments -------------------------------------------------------------------------------------------------------


def configure_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``bundle``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    give = add_command(actions, "give", _give, "Give a subscriber a bundle for nothing.")
    give.add_argument("username", help="a username or a number")
    _add_content(give)
    _add_terms(give, required=True)
    give.add_argument("--from", dest="valid_from", type=parse_time, metavar="TIME", help="since when (now)")
    give.add_argument("--name", help="its name, which the subscriber sees (its content)")
    give.add_argument("--id", help="your own id of this gift: repeating it changes nothing")
    give.add_argument("--note", default="", metavar="TEXT", help="a remark, kept with it")
    listed = add_command(actions, "list", _list, "List bundles, newest first.")
    listed.add_argument("username", nargs="?", help="a username or a number (default: all subscribers)")
    listed.add_argument("--all", action="store_true", help="those that have ended too")
    listed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    show = add_command(actions, "show", _show, "Show a bundle, and what is left of it.")
    lines = add_command(actions, "statement", _statement, "List the last movements of a bundle.")
    lines.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    change = add_command(actions, "change", _change, "Change whether a bundle of an offer is bought again at its end.")
    change.add_argument("--renews", choices=("yes", "no"), required=True)
    end = add_command(actions, "end", _end, "End a bundle before its time; what is left goes back.")
    end.add_argument("--note", default="", metavar="TEXT", help="a remark, kept with it")
    for each in (show, lines, change, end):
        each.add_argument("bundle", type=whole_number(1, 2**63 - 1), metavar="ID", help="the number of the bundle")
    for each in (give, listed, show, lines, change, end):
        each.add_argument("--json", action="store_true", help="one JSON document")


def configure_offer(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``offer``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = add_command(actions, "list", _list_offers, "List the offers.")
    show = add_command(actions, "show", _show_offer, "Show an offer.")
    add = add_command(actions, "add", _add_offer, "Add an offer: a bundle that can be bought.")
    add.add_argument("name")
    add.add_argument("--price", type=whole_number(0, AMOUNT_MAX), required=True, help="voice credits")
    _add_content(add)
    _add_terms(add, required=True)
    change = add_command(
        actions, "change", _change_offer, "Change an offer, for the bundles that are bought from now on."
    )
    change.add_argument("--name")
    change.add_argument("--price", type=whole_number(0, AMOUNT_MAX), help="voice credits")
    change.add_argument("--amount", type=whole_number(1, AMOUNT_MAX), help="seconds, messages, octets or credits")
    _add_terms(change, required=False)
    change.add_argument("--state", choices=("enabled", "disabled"), help="a disabled offer cannot be bought")
    delete = add_command(actions, "delete", _delete_offer, "Delete an offer; bundles of it go on to their end.")
    buy = add_command(actions, "buy", _buy, "Buy an offer for a subscriber, from their voice balance.")
    buy.add_argument("username", help="a username or a number")
    buy.add_argument("--id", help="your own id of this purchase: repeating it changes nothing")
    for each in (show, change, delete, buy):
        each.add_argument("offer", metavar="OFFER", help="its name, or its id")
    for each in (add, change):
        each.add_argument("--renews", choices=("yes", "no"), help="whether it is bought again at its end (no)")
    buy.add_argument(
        "--renews", choices=("yes", "no"), help="whether it is bought again at its end (as the offer says)"
    )
    for each in (listed, show, add, change, delete, buy):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _add_content(parser: argparse.ArgumentParser) -> None:
    content = parser.add_mutually_exclusive_group(required=True)
    for kind, what in (
        (BundleKind.SECONDS, "seconds of talk"),
        (BundleKind.MESSAGES, "messages (parts)"),
        (BundleKind.OCTETS, "octets of data"),
        (BundleKind.MONEY, "voice credits"),
    ):
        content.add_argument(f"--{kind}", type=whole_number(1, AMOUNT_MAX), metavar="N", help=what)
    content.add_argument("--unlimited", choices=[each.value for each in UNLIMITED], help="without limit")


def _add_terms(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what a bundle is good for; without ``required`` nothing has a default."""
    parser.add_argument(
        "--for",
        dest="hours",
        type=_parse_hours,
        required=required,
        metavar="TIME",
        help="how long, such as 12h, 30d, 4w",
    )
    parser.add_argument(
        "--destinations",
        type=_parse_words,
        default=() if required else None,
        metavar="LIST",
        help="prefixes of numbers and on-net, separated by commas (everywhere)",
    )
    parser.add_argument(
        "--services",
        type=_parse_words,
        default=() if required else None,
        metavar="LIST",
        help="of voice, sms and data, separated by commas (those of its kind)",
    )
    parser.add_argument(
        "--call-seconds-max",
        type=_parse_seconds,
        metavar="N",
        help="the seconds of one call that it pays at most, then the balance pays; `none`",
    )
    parser.add_argument(
        "--priority",
        type=whole_number(-PRIORITY_MAX, PRIORITY_MAX),
        default=0 if required else None,
        help="the lowest is spent first (0)",
    )


def _parse_seconds(text: str) -> int | str:
    return text if text == "none" else whole_number(1, CALL_SECONDS_MAX)(text)


def _parse_words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, re.split(r"[\s,]+", text)))


def _parse_hours(text: str) -> int:
    """Read a time such as ``30d``, and return hours."""
    found = re.fullmatch(r"([0-9]{1,6})([hdw])", text)
    hours = 0 if found is None else int(found[1]) * _HOURS[found[2]]
    if not 1 <= hours <= HOURS_MAX:
        raise argparse.ArgumentTypeError(f"must be a time such as 12h, 30d or 4w, at most {HOURS_MAX // 24}d")
    return hours
