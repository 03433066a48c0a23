"""``celcombiller seller``: who sells credit, what they sold, and what they owe."""

from __future__ import annotations

import argparse
import sys
import uuid
from dataclasses import asdict, fields
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import (
    LIST_MAX,
    add_command,
    current_operator,
    find_payer,
    open_database,
    parse_date,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.terminal import echo
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.selling import Commission
from celcombiller.core.selling import receipts, sales, sellers
from celcombiller.core.selling.amounts import read_money
from celcombiller.core.selling.settlements import Settlement, settle
from celcombiller.core.vouchers import voucher_batches
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.selling import Receipt, Seller
    from celcombiller.core.model.vouchers import VoucherBatch, VoucherRange
    from celcombiller.core.selling.sales import Sold

_COLUMNS = ("username", "name", "clid", "parent", "seller_class", "commission", "percent", "posted", "credit_line")
_LIMITS = ("day_limit", "sale_max", "enabled")
_RECEIPT = ("receipt", "at", "kind", "to_number", "amount", "commission", "paid", "origin", "voided_at")
_HANDED = ("batch", "first_serial", "last_serial", "at", "price", "kind", "value", "active", "redeemed", "revoked")
_NONE = -1
"""What a limit is set to by ``none``."""


# -- sellers ---------------------------------------------------------------------------------------------------------


def _add(arguments: argparse.Namespace, config: Config) -> int:
    return _print_seller(arguments, _write(arguments, config, sellers.add), "sells credit now")


def _change(arguments: argparse.Namespace, config: Config) -> int:
    return _print_seller(arguments, _write(arguments, config, sellers.change), "is changed")


def _disable(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        who = find_payer(tx, arguments.username)
        zone = config.selling_terms.zone
        changed = sellers.change(tx, current_operator(), who.username, {"enabled": False}, zone=zone, now=now)
        return _row(tx, changed)

    return _print_seller(arguments, transact(open_database(config), work), "may not sell any more")


def _write(arguments: argparse.Namespace, config: Config, write: Callable[..., Seller]) -> dict[str, Any]:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> dict[str, Any]:
        who, terms = find_payer(tx, arguments.username), _terms(tx, arguments)
        zone = config.selling_terms.zone
        if write is sellers.add:
            return _row(tx, sellers.add(tx, current_operator(), who.username, terms=terms, zone=zone, now=now))
        if not terms:
            raise InvalidValue("nothing to change: name a field, such as --sale-max")
        return _row(tx, sellers.change(tx, current_operator(), who.username, terms, zone=zone, now=now))

    return transact(open_database(config), work)


def _terms(tx: sa.Connection, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a seller that the arguments name."""
    terms: dict[str, Any] = {}
    for name in ("credit_line", "sale_max", "day_limit"):
        value = getattr(arguments, name)
        if value is not None:
            terms[name] = None if value == _NONE else value
    if arguments.seller_class is not None:
        terms["seller_class"] = arguments.seller_class
    if arguments.parent is not None:
        is_none = arguments.parent == "none"
        terms["parent_id"] = None if is_none else sellers.find(tx, find_payer(tx, arguments.parent).id).subscriber_id
    for earns in (Commission.DISCOUNT, Commission.BONUS):
        rate = getattr(arguments, earns.value)
        if rate is not None:
            terms |= {"commission": earns if rate else Commission.NONE, "commission_rate": rate}
    if getattr(arguments, "state", None) is not None:
        terms["enabled"] = arguments.state == "enabled"
    return terms


def _show(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> dict[str, Any]:
        return _row(tx, sellers.find_by_name(tx, find_payer(tx, arguments.username).username))

    row = transact(open_database(config).execution_options(reading=True), work)
    if arguments.json:
        print_json(row)
    else:
        for name, value in row.items():
            echo(f"{name:14} {'' if value is None else value}")
    return 0


def _list(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        parent = None if arguments.parent is None else find_payer(tx, arguments.parent).id
        return [_row(tx, each) for each in sellers.list_sellers(tx, parent_id=parent)]

    rows = transact(open_database(config).execution_options(reading=True), work)
    print_rows(rows, (*_COLUMNS, *_LIMITS), as_json=arguments.json)
    return 0


def _row(tx: sa.Connection, each: Seller) -> dict[str, Any]:
    parent = None if each.parent_id is None else sellers.find(tx, each.parent_id).username
    facts = asdict(each)
    return {name: facts[name] for name in ("username", "name", "clid")} | {
        "parent": parent,
        "seller_class": each.seller_class,
        "commission": each.commission,
        "percent": each.commission_rate / 100,
        "posted": each.posted,
        "available": each.available,
        "credit_line": -each.floor,
        "day_limit": each.day_limit,
        "sale_max": each.sale_max,
        "enabled": each.enabled,
    }


# -- credit ----------------------------------------------------------------------------------------------------------


def _refill(arguments: argparse.Namespace, config: Config) -> int:
    now, key = datetime.now(UTC), arguments.id or str(uuid.uuid4())

    def work(tx: sa.Connection) -> tuple[Sold, str]:
        who = find_payer(tx, arguments.username)
        made = sales.refill(
            tx,
            config.selling_terms,
            current_operator(),
            who.username,
            arguments.amount,
            paid=arguments.paid,
            from_parent=arguments.from_parent,
            key=key,
            note=arguments.note,
            origin="command",
            now=now,
        )
        return made, who.username

    made, username = transact(open_database(config), work)
    verb = "has given back" if arguments.amount < 0 else "got"
    text = f"{username} {verb} {made.receipt.amount} credits for {made.receipt.paid}: {made.balance} to sell now"
    return _print_receipt(arguments, made.receipt, f"{text} (receipt {made.receipt.label}).")


def _sell(arguments: argparse.Namespace, config: Config) -> int:
    now, key = datetime.now(UTC), arguments.id or str(uuid.uuid4())

    def work(tx: sa.Connection) -> tuple[Sold, str]:
        who = find_payer(tx, arguments.username)
        made = sales.sell(
            tx,
            config.selling_terms,
            current_operator(),
            who.id,
            arguments.to,
            arguments.amount,
            key=key,
            origin="command",
            now=now,
        )
        return made, who.username

    made, username = transact(open_database(config), work)
    text = f"{username} has sold {made.receipt.amount} credits to {made.receipt.to_number}: {made.stock} left to sell"
    return _print_receipt(arguments, made.receipt, f"{text} (receipt {made.receipt.label}).")


def _undo(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> Sold:
        return sales.undo(tx, config.selling_terms, current_operator(), arguments.receipt, now=now)

    made = transact(open_database(config), work)
    verb = "is undone" if made.is_new else "was undone before"
    return _print_receipt(arguments, made.receipt, f"Receipt {made.receipt.label} over {made.receipt.amount} {verb}.")


def _sales(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        seller = None if arguments.username is None else sellers.find(tx, find_payer(tx, arguments.username).id)
        seller_id = None if seller is None else seller.subscriber_id
        return [_receipt_row(each) for each in receipts.list_receipts(tx, seller_id=seller_id, limit=arguments.limit)]

    rows = transact(open_database(config).execution_options(reading=True), work)
    print_rows(rows, _RECEIPT, as_json=arguments.json)
    return 0


def _vouchers(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        seller = sellers.find(tx, find_payer(tx, arguments.username).id)
        found = voucher_batches.list_handed(tx, seller.subscriber_id, limit=arguments.limit)
        return [_handed_row(tx, *each, now) for each in found]

    rows = transact(open_database(config).execution_options(reading=True), work)
    print_rows(rows, _HANDED, as_json=arguments.json)
    return 0


def _handed_row(tx: sa.Connection, batch: VoucherBatch, handed: VoucherRange, now: datetime) -> dict[str, Any]:
    serials = handed.first_serial, handed.last_serial
    facts = asdict(batch) | asdict(handed) | voucher_batches.count_states(tx, batch, now, *serials)
    return {"batch": batch.name} | {name: facts[name] for name in _HANDED[1:]}


def _receipt(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> tuple[Receipt, str]:
        found = receipts.find(tx, arguments.receipt)
        return found, receipts.write_receipt(found, config.selling_terms, read_money(tx))

    found, text = transact(open_database(config).execution_options(reading=True), work)
    return _print_receipt(arguments, found, text)


def _settlement(arguments: argparse.Namespace, config: Config) -> int:
    zone = config.selling_terms.zone
    since, until = (datetime.combine(each, time(), zone) for each in (arguments.since, arguments.until))

    def work(tx: sa.Connection) -> list[Settlement]:
        seller = None if arguments.username is None else sellers.find(tx, find_payer(tx, arguments.username).id)
        return settle(tx, since, until, seller_id=None if seller is None else seller.subscriber_id)

    rows = [asdict(each) for each in transact(open_database(config).execution_options(reading=True), work)]
    columns = tuple(each.name for each in fields(Settlement))
    if arguments.csv:
        from celcombiller.http.transport.streaming import format_csv  # noqa: PLC0415  loads Twisted

        sys.stdout.write(format_csv([columns, *(row.values() for row in rows)]).decode())
    else:
        print_rows(rows, columns, as_json=arguments.json)
    return 0


def _receipt_row(each: Receipt) -> dict[str, Any]:
    return {"receipt": each.label} | asdict(each)


def _print_receipt(arguments: argparse.Namespace, receipt: Receipt, text: str) -> int:
    if arguments.json:
        print_json(_receipt_row(receipt))
    else:
        for line in text.splitlines():
            echo(line)
    return 0


def _print_seller(arguments: argparse.Namespace, row: dict[str, Any], verb: str) -> int:
    if arguments.json:
        print_json(row)
    else:
        echo(f"{row['username']} {verb}: {row['posted']} to sell, commission {row['commission']} {row['percent']:g} %.")
    return 0


# -- arguments -------------------------------------------------------------------------------------------------------


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``seller``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = add_command(actions, "add", _add, "Make a subscriber a seller of credit.")
    change = add_command(actions, "change", _change, "Change a seller.")
    change.add_argument("--state", choices=("enabled", "disabled"), help="a disabled seller cannot sell")
    disable = add_command(actions, "disable", _disable, "Let a seller sell no more; their credit stays.")
    show = add_command(actions, "show", _show, "Show a seller.")
    listed = add_command(actions, "list", _list, "List the sellers.")
    listed.add_argument("--parent", metavar="SELLER", help="those below this seller")
    refill = add_command(actions, "refill", _refill, "Give a seller credit to sell; a negative AMOUNT takes it back.")
    sell = add_command(actions, "sell", _sell, "Sell credit of a seller to a subscriber.")
    undo = add_command(actions, "undo", _undo, "Undo a sale, a refill or a credit, while the credit is still there.")
    listing = add_command(actions, "sales", _sales, "List sales and refills, newest first.")
    listing.add_argument("username", nargs="?", help="a seller: username or number (default: all)")
    listing.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    handed = add_command(actions, "vouchers", _vouchers, "List the vouchers that were handed to a seller.")
    handed.add_argument("username", help="a username or a number")
    handed.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    printed = add_command(actions, "receipt", _receipt, "Print a receipt.")
    sheet = add_command(actions, "settlement", _settlement, "Show what each seller got, paid, sold and has.")
    for each in (add, change, disable, show, refill, sell):
        each.add_argument("username", help="a username or a number")
    for each in (add, change):
        _add_terms(each)
    refill.add_argument("amount", type=_parse_change, metavar="AMOUNT", help="whole credits")
    refill.add_argument("--paid", type=whole_number(0, AMOUNT_MAX), metavar="CREDITS", help="what was paid for it")
    refill.add_argument("--from-parent", action="store_true", help="from the stock of the seller above")
    refill.add_argument("--note", default="", metavar="TEXT", help="a remark, kept with it")
    sell.add_argument("to", metavar="NUMBER", help="the subscriber's number")
    sell.add_argument("amount", type=whole_number(1, AMOUNT_MAX), metavar="AMOUNT", help="whole credits")
    for each in (refill, sell):
        each.add_argument("--id", help="your own id of this: repeating it changes nothing")
    for each in (undo, printed):
        each.add_argument("receipt", metavar="RECEIPT", help="the number of the receipt, such as S12-000034")
    sheet.add_argument("username", nargs="?", help="a seller: username or number (default: all)")
    sheet.add_argument("--since", type=parse_date, required=True, metavar="DATE", help="the first day")
    sheet.add_argument("--until", type=parse_date, required=True, metavar="DATE", help="the day after the last one")
    sheet.add_argument("--csv", action="store_true", help="CSV, for a spreadsheet")
    for each in (add, change, disable, show, listed, refill, sell, undo, listing, handed, printed, sheet):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parent", metavar="SELLER", help="the seller who may refill them, or none")
    parser.add_argument("--class", dest="seller_class", metavar="WORD", help="your own word for sellers of this kind")
    earns = parser.add_mutually_exclusive_group()
    earns.add_argument("--discount", type=_parse_percent, metavar="PERCENT", help="less to pay for a refill; 0: none")
    earns.add_argument("--bonus", type=_parse_percent, metavar="PERCENT", help="credit with each sale; 0: none")
    parser.add_argument(
        "--credit-line", type=whole_number(0, AMOUNT_MAX), metavar="N", help="how far the stock may fall below 0"
    )
    parser.add_argument("--sale-max", type=_parse_limit, metavar="N", help="most credits of one sale, or none")
    parser.add_argument("--day-limit", type=_parse_limit, metavar="N", help="most credits sold on a day, or none")


def _parse_limit(text: str) -> int:
    return _NONE if text == "none" else whole_number(0, AMOUNT_MAX)(text)


def _parse_change(text: str) -> int:
    value = whole_number(-AMOUNT_MAX, AMOUNT_MAX)(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must not be 0")
    return value


def _parse_percent(text: str) -> int:
    """Return a percentage with up to two decimals in hundredths of a percent."""
    whole, _, decimals = text.partition(".")
    digits = whole + decimals.ljust(2, "0")
    if not (digits.isascii() and digits.isdigit() and len(digits) == len(whole) + 2 and int(digits) <= 10_000):  # noqa: PLR2004
        raise argparse.ArgumentTypeError("must be from 0 to 100 with up to two decimals, such as 7.5")
    return int(digits)
