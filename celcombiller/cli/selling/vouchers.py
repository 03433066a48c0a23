"""``celcombiller voucher``: make cards with a code, activate and revoke them, look at them, and redeem one.

Codes go to a new file that only its owner reads, or to standard output; they are not stored, and cannot be shown again.
"""

from __future__ import annotations

import csv
import os
import secrets
import sys
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

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
from celcombiller.cli.terminal import echo, print_error, progress_bar, track
from celcombiller.core.bundles import offers
from celcombiller.core.errors import BillerError, InvalidValue, UnknownVoucher
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import Kind
from celcombiller.core.model.text import format_count
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.vouchers import voucher_batches
from celcombiller.core.vouchers.card_sheet import COLUMNS, Card, card_from_row, card_rows, format_gift, page
from celcombiller.core.vouchers.redemption import redeem
from celcombiller.core.vouchers.voucher_batches import CARDS_MAX, CREDIT_DAYS_MAX, VoucherOrder
from celcombiller.core.vouchers.voucher_codes import ENTROPY_BYTES, make_codes
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import sqlalchemy as sa

    from celcombiller.config.tables import Config
    from celcombiller.core.model.vouchers import Redemption, VoucherBatch, VoucherRange
    from celcombiller.core.vouchers.voucher_batches import Voucher

_STDOUT = "-"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``voucher``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    make = add_command(actions, "make", _make, "Make a batch of cards; their codes are written this one time.")
    make.add_argument("name", help="of the batch")
    make.add_argument("--cards", type=whole_number(1, CARDS_MAX), required=True, metavar="N", help="how many")
    gift = make.add_mutually_exclusive_group(required=True)
    for kind in Kind:
        gift.add_argument(f"--{kind}", type=whole_number(1, AMOUNT_MAX), metavar="N", help=f"{kind} credits of a card")
    gift.add_argument("--offer", help="the offer that a card gives a bundle of: its name, or its id")
    make.add_argument(
        "--credit-days", type=whole_number(1, CREDIT_DAYS_MAX), metavar="N", help="keep its credit valid so many days"
    )
    make.add_argument("--valid-until", type=parse_time, metavar="TIME", help="when the cards are over (never)")
    make.add_argument("--output", default=_STDOUT, metavar="FILE", help="a new file of CSV (standard output)")
    make.add_argument("--note", default="", metavar="TEXT", help="a remark, kept with it")
    listed = add_command(actions, "list", _list, "List the batches, newest first.")
    show = add_command(actions, "show", _show, "Show a batch: how many cards are in each state, and its ranges.")
    show.add_argument("--cards", action="store_true", help="list its cards, with who redeemed them")
    show.add_argument("--from", dest="first", type=whole_number(1, CARDS_MAX), default=1, metavar="N")
    activate = add_command(actions, "activate", _activate, "Activate the cards of a batch; before, none works.")
    activate.add_argument("--seller", metavar="WHO", help="the seller that they are handed to")
    activate.add_argument(
        "--price", type=whole_number(0, AMOUNT_MAX), default=0, help="credits that the seller pays for all of them (0)"
    )
    revoke = add_command(actions, "revoke", _revoke, "Revoke cards of a batch, for good; what was redeemed stays so.")
    for each in (activate, revoke):
        each.add_argument(
            "--from", dest="first", type=whole_number(1, CARDS_MAX), metavar="N", help="serial number (1)"
        )
        each.add_argument(
            "--to", dest="last", type=whole_number(1, CARDS_MAX), metavar="N", help="serial number (last)"
        )
        each.add_argument("--note", default="", metavar="TEXT", help="a remark, kept with it")
    for each in (show, activate, revoke):
        each.add_argument("batch", metavar="BATCH", help="its name, or its id")
    find = add_command(actions, "find", _find, "Show the card of a code: its state, and who redeemed it.")
    spend = add_command(actions, "redeem", _redeem, "Redeem a card for a subscriber.")
    spend.add_argument("username", help="a username or a number")
    for each in (find, spend):
        each.add_argument("code", help="as it is printed; - reads it from standard input")
    sheet = add_command(actions, "print", _print, "Write a page to print, with QR codes, of the CSV file of a batch.")
    sheet.add_argument("file", type=Path, help="the CSV file that `make` wrote")
    sheet.add_argument("--output", default=_STDOUT, metavar="FILE", help="a new file of HTML (standard output)")
    for each in (listed, show):
        each.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    for each in (listed, show, activate, revoke, find, spend):
        each.add_argument("--json", action="store_true", help="one JSON document")


# -- making ----------------------------------------------------------------------------------------------------------


def _make(arguments: argparse.Namespace, config: Config) -> int:
    engine, operator, now = open_database(config), current_operator(), datetime.now(UTC)
    reference = f"id:{uuid.uuid4()}"
    kind = next((each for each in Kind if getattr(arguments, each.value) is not None), None)

    def begin(tx: sa.Connection) -> VoucherBatch:
        order = VoucherOrder(
            name=arguments.name,
            cards=arguments.cards,
            kind=kind,
            value=None if kind is None else getattr(arguments, kind.value),
            offer=None if arguments.offer is None else offers.resolve(tx, arguments.offer),
            credit_days=arguments.credit_days,
            valid_until=arguments.valid_until,
            note=arguments.note,
        )
        return voucher_batches.begin(tx, operator, order, reference=reference, now=now)

    with _new_file(arguments.output) as file:
        while transact(engine, lambda tx: voucher_batches.discard_unfinished(tx, now)):
            pass
        batch = transact(engine, begin)
        try:
            _make_cards(engine, config, batch, file)
        except BaseException:
            with suppress(BillerError):
                while transact(engine, lambda tx: voucher_batches.discard_unfinished(tx, now, batch_id=batch.id)):
                    pass
            raise
    # What is said goes to standard error, as the codes may go to standard output.
    print_error(
        f"Made {format_count(batch.cards, 'card')} of {format_gift(batch, config.balance.style)}: "
        f"batch {batch.id} ({batch.name}). None works before `celcombiller voucher activate {batch.id}`."
    )
    return 0


def _make_cards(engine: sa.Engine, config: Config, batch: VoucherBatch, file: TextIO) -> None:
    """Make the cards piece by piece; each piece is in the file before it is in the ledger, and so are all of them."""
    operator, lines = current_operator(), csv.writer(file)
    lines.writerow(COLUMNS)
    with progress_bar("Making cards", batch.cards) as advance:
        for first, count in voucher_batches.pieces(batch.cards):
            codes = make_codes(secrets.token_bytes(ENTROPY_BYTES * count))
            lines.writerows(card_rows(batch, first, codes, config.balance.style))
            _flush(file)

            def add(tx: sa.Connection, first: int = first, codes: list[str] = codes) -> None:
                voucher_batches.add_piece(tx, operator, batch, first, codes, now=datetime.now(UTC))

            transact(engine, add)
            advance(count)


@contextmanager
def _new_file(name: str) -> Iterator[TextIO]:
    """Open a new file that only its owner reads, or standard output; after an error the file is gone.

    Raises `InvalidValue` where it cannot be made, or is there already.
    """
    if name == _STDOUT:
        yield sys.stdout
        return
    try:
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidValue(f"--output {name}: is there already, and is not overwritten") from None
    except (OSError, ValueError) as error:
        raise InvalidValue(f"--output {name}: {error}") from None
    try:
        with open(opened, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123  of a descriptor
            yield file
            _flush(file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _flush(file: TextIO) -> None:
    file.flush()
    with suppress(OSError, ValueError):  # standard output may be a pipe
        os.fsync(file.fileno())


# -- changing --------------------------------------------------------------------------------------------------------


def _activate(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[VoucherBatch, VoucherRange]:
        batch = voucher_batches.resolve(tx, arguments.batch)
        made, _ = voucher_batches.activate(
            tx,
            current_operator(),
            batch.id,
            arguments.first,
            arguments.last,
            seller=None if arguments.seller is None else find_payer(tx, arguments.seller).username,
            price=arguments.price,
            note=arguments.note,
            today=local_date(now, config.schedules.zone),
            now=now,
        )
        return batch, made

    return _print_range(arguments, *transact(open_database(config), work))


def _revoke(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[VoucherBatch, VoucherRange]:
        batch = voucher_batches.resolve(tx, arguments.batch)
        made, _ = voucher_batches.revoke(
            tx, current_operator(), batch.id, arguments.first, arguments.last, note=arguments.note, now=now
        )
        return batch, made

    return _print_range(arguments, *transact(open_database(config), work))


def _print_range(arguments: argparse.Namespace, batch: VoucherBatch, made: VoucherRange) -> int:
    if arguments.json:
        print_json(made)
    else:
        echo(f"The cards {made.first_serial} to {made.last_serial} of {batch.name} are {made.state}.")
    return 0


def _redeem(arguments: argparse.Namespace, config: Config) -> int:
    now, code = datetime.now(UTC), _read_code(arguments)

    def work(tx: sa.Connection) -> tuple[str, Redemption | BillerError]:
        who = find_payer(tx, arguments.username)
        today = local_date(now, config.schedules.zone)
        return who.username, redeem(tx, who.id, code, actor=current_operator(), today=today, now=now)

    username, outcome = transact(open_database(config), work)
    if isinstance(outcome, BillerError):
        raise outcome
    if arguments.json:
        facts = {"batch_id": outcome.batch.id, "serial": outcome.serial, "is_new": outcome.is_new, "at": outcome.at}
        print_json(facts | {"username": username, "reference": outcome.reference})
    else:
        gift = format_gift(outcome.batch, config.balance.style)
        verb = "has redeemed" if outcome.is_new else "had redeemed"
        echo(f"{username} {verb} card {outcome.serial} of {outcome.batch.name}: {gift}.")
    return 0


# -- looking ---------------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        return [_batch_row(tx, each, now) for each in voucher_batches.list_all(tx, limit=arguments.limit)]

    rows = transact(open_database(config).execution_options(reading=True), work)
    columns = ("id", "name", "made_at", "kind", "value", "bundle_name", "valid_until", "cards")
    print_rows(rows, (*columns, "active", "redeemed", "revoked"), as_json=arguments.json)
    return 0


def _batch_row(tx: sa.Connection, batch: VoucherBatch, now: datetime) -> dict[str, Any]:
    counts = voucher_batches.count_states(tx, batch, now)
    return asdict(batch) | {state.value: count for state, count in counts.items()}


def _show(arguments: argparse.Namespace, config: Config) -> int:
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        batch = voucher_batches.resolve(tx, arguments.batch)
        ranges = voucher_batches.ranges_of(tx, batch.id)
        names = subscriber_records.usernames_of(tx, {each.seller_id for each in ranges if each.seller_id is not None})
        shown = [asdict(each) | {"seller": names.get(each.seller_id or 0)} for each in ranges]
        cards: list[Voucher] = []
        if arguments.cards:
            cards = voucher_batches.list_cards(tx, batch, now, after=arguments.first - 1, limit=arguments.limit)
        return _batch_row(tx, batch, now), shown, list(map(_card_row, cards))

    batch, ranges, cards = transact(open_database(config).execution_options(reading=True), work)
    if arguments.json:
        print_json(batch | {"ranges": ranges} | ({"vouchers": cards} if arguments.cards else {}))
    elif arguments.cards:
        print_rows(cards, ("serial", "state", "redeemed_by", "redeemed_at"), as_json=False)
    else:
        for name, value in batch.items():
            echo(f"{name:14} {' '.join(value) if isinstance(value, tuple) else '' if value is None else value}")
        columns = ("first_serial", "last_serial", "state", "at", "author", "seller", "price", "note")
        print_rows(ranges, columns, as_json=False)
    return 0


def _find(arguments: argparse.Namespace, config: Config) -> int:
    now, code = datetime.now(UTC), _read_code(arguments)
    found = transact(
        open_database(config).execution_options(reading=True), lambda tx: voucher_batches.find_by_code(tx, code, now)
    )
    row = {"batch_id": found.batch.id, "batch": found.batch.name} | _card_row(found)
    if arguments.json:
        print_json(row)
    else:
        for name, value in row.items():
            echo(f"{name:14} {'' if value is None else value}")
    return 0


def _card_row(card: Voucher) -> dict[str, Any]:
    return {name: getattr(card, name) for name in ("serial", "state", "redeemed_by", "redeemed_at")}


def _read_code(arguments: argparse.Namespace) -> str:
    code: str = arguments.code
    return sys.stdin.readline() if code == _STDOUT else code


# -- printing --------------------------------------------------------------------------------------------------------


def _print(arguments: argparse.Namespace, config: Config) -> int:
    from celcombiller.runtime.languages import load_language  # noqa: PLC0415  loads Babel

    cards, language = _read_cards(arguments.file), load_language(config.console.language)
    with _new_file(arguments.output) as file:
        file.writelines(page(track(cards, "Drawing cards", len(cards)), config.vouchers.look, language))
    return 0


def _read_cards(path: Path) -> list[Card]:
    """Return the cards of a CSV file. Raises `InvalidValue`, which says in which line it is none."""
    cards = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            for row in lines:
                try:
                    cards.append(card_from_row(row))
                except UnknownVoucher as error:
                    raise InvalidValue(f"{path}, line {lines.line_num}: {error}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidValue(f"{path}: {error}") from None
    return cards
