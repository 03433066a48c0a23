"""``celcombiller rate`` and ``rerate``: what a call would cost, and what recorded calls cost by another version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import (
    current_operator,
    find_payer,
    open_database,
    parse_time,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.terminal import echo, track
from celcombiller.config.charging_policy import charging_policy
from celcombiller.core.access import audit_trail
from celcombiller.core.catalogue.loading import read_catalogue, read_version
from celcombiller.core.charging.octet_simulation import simulate_octets
from celcombiller.core.charging.rerating import NewPrices, Rerated, charge_again, count_calls, list_rerated
from celcombiller.core.charging.simulation import SECONDS_MAX, simulate_call
from celcombiller.core.errors import InvalidValue
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.tariffs import Service
from celcombiller.core.model.text import format_count
from celcombiller.core.reports.call_price import CallPriceView, call_price_view, describe_call_price
from celcombiller.core.reports.octet_price import OctetPriceView, describe_octet_price, octet_price_view
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import sqlalchemy as sa

    from celcombiller.config.tables import Config

SHOWN_MAX = 20
"""Calls that are shown, those with the largest differences; `--json` shows all."""


def configure_rate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rate``."""
    parser.set_defaults(run=_rate)
    parser.add_argument("caller", metavar="FROM", help="the caller: a number or a username")
    parser.add_argument("number", metavar="TO", nargs="?", help="the number, as it is dialled")
    parser.add_argument(
        "--seconds", type=whole_number(0, SECONDS_MAX), default=60, metavar="N", help="seconds of talk (default 60)"
    )
    parser.add_argument(
        "--octets", type=whole_number(0, AMOUNT_MAX), metavar="N", help="in place of TO: octets of data, not a call"
    )
    parser.add_argument("--at", type=parse_time, metavar="TIME", help="when it is answered (default: now)")
    parser.add_argument("--as", dest="payer", metavar="USERNAME", help="who pays, in place of the caller")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def configure_rerate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rerate``."""
    parser.set_defaults(run=_rerate)
    parser.add_argument("--tariff", required=True, metavar="NAME", help="the tariff whose prices count")
    parser.add_argument("--version", type=whole_number(1, 2**31 - 1), metavar="N", help="default: the one in force now")
    parser.add_argument(
        "--since", required=True, type=parse_time, metavar="TIME", help="calls that began then or later"
    )
    parser.add_argument("--until", type=parse_time, metavar="TIME", help="and before then (default: now)")
    parser.add_argument("--user", metavar="WHO", help="the calls of one subscriber only")
    parser.add_argument("--yes", action="store_true", help="post the differences; without it they are only shown")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def _rate(arguments: argparse.Namespace, config: Config) -> int:
    if (arguments.number is None) == (arguments.octets is None):
        raise InvalidValue("say one of two: TO, the number of a call, or --octets N")
    if arguments.octets is not None:
        return _rate_octets(arguments, config)

    def work(tx: sa.Connection) -> CallPriceView:
        now, policy = datetime.now(UTC), charging_policy(config)
        policy.catalogue.current = read_catalogue(tx, policy.catalogue.current, lambda: now)
        simulated = simulate_call(
            tx,
            policy,
            from_number=arguments.caller,
            to_number=arguments.number,
            seconds=arguments.seconds,
            at=arguments.at or now,
            username=find_payer(tx, arguments.payer or arguments.caller).username,
        )
        return call_price_view(simulated)

    view = transact(open_database(config).execution_options(reading=True), work)
    if arguments.json:
        print_json(view)
    else:
        for line in describe_call_price(view):
            echo(line)
    return 0


def _rate_octets(arguments: argparse.Namespace, config: Config) -> int:
    def work(tx: sa.Connection) -> OctetPriceView:
        now, policy = datetime.now(UTC), charging_policy(config)
        catalogue = read_catalogue(tx, policy.catalogue.current, lambda: now)
        payer, per_credit = find_payer(tx, arguments.payer or arguments.caller), config.radius.octets_per_credit
        simulated = simulate_octets(tx, catalogue, payer, arguments.octets, per_credit, arguments.at or now)
        return octet_price_view(simulated)

    view = transact(open_database(config), work)
    if arguments.json:
        print_json(view)
    else:
        for line in describe_octet_price(view):
            echo(line)
    return 0


@dataclass(slots=True)
class _Sums:
    """What all calls of a rerating add up to."""

    calls: int = 0
    without_rate: int = 0
    known: int = 0
    changed: int = 0
    more: int = 0
    less: int = 0
    posted: int = 0

    def add(self, each: Rerated) -> None:
        self.calls += 1
        self.without_rate += each.price is None
        self.known += each.known
        self.changed += each.difference != 0
        self.more += max(each.difference, 0)
        self.less -= min(each.difference, 0)


def _rerate(arguments: argparse.Namespace, config: Config) -> int:
    """Show what calls would cost; with ``--yes`` post the differences, in many short transactions."""
    engine, now = open_database(config), datetime.now(UTC)
    new, payer_ids = transact(engine, lambda tx: _new_prices(tx, arguments, now))
    until = min(arguments.until or now, now)
    if arguments.since >= until:
        raise InvalidValue("--since must be before --until, and not in the future")
    span: dict[str, Any] = {"since": arguments.since, "until": until, "subscriber_ids": payer_ids}
    sums, largest, rows = _Sums(), list[Rerated](), list[dict[str, Any]]()

    def chunks() -> Iterator[list[Rerated]]:
        after_id = 0
        while found := transact(engine, partial(list_rerated, new=new, after_id=after_id, **span)):
            yield found
            after_id = found[-1].id

    total = transact(engine, lambda tx: count_calls(tx, **span))
    for each in track(
        (each for chunk in _posted(engine, new, chunks(), sums, now, arguments) for each in chunk), "calls", total
    ):
        sums.add(each)
        if each.difference and arguments.json:
            rows.append(_row(each))
        elif each.difference:
            largest = sorted([*largest, each], key=lambda one: -abs(one.difference))[:SHOWN_MAX]
    if sums.posted:
        transact(engine, lambda tx: _record(tx, new, span, sums, now))
    _print(arguments, new, sums, rows or [_row(each) for each in largest])
    return 0


def _posted(
    engine: sa.Engine,
    new: NewPrices,
    chunks: Iterator[list[Rerated]],
    sums: _Sums,
    now: datetime,
    arguments: argparse.Namespace,
) -> Iterator[list[Rerated]]:
    """Yield the chunks, each after its differences are posted where that is wanted."""
    for chunk in chunks:
        if arguments.yes and any(each.difference for each in chunk):
            sums.posted += transact(engine, lambda tx, found=chunk: charge_again(tx, new, found, now))  # type: ignore[misc]
        yield chunk


def _new_prices(tx: sa.Connection, arguments: argparse.Namespace, now: datetime) -> tuple[NewPrices, list[int] | None]:
    tariff = tariff_records.find(tx, arguments.tariff)
    if arguments.version is None:
        version = versions.find_version_at(tx, tariff.id, now)
        if version is None:
            raise InvalidValue(f"no version of {tariff.name} is in force yet: choose one with --version")
    else:
        version = versions.find_version(tx, tariff.id, arguments.version)
    rates = read_version(tx, tariff, version).tariffs.get(Service.VOICE)
    if rates is None:
        raise InvalidValue(f"version {version.number} of {tariff.name} has no rates of calls")
    payer_ids = None if arguments.user is None else [find_payer(tx, arguments.user).id]
    return NewPrices(version.id, tariff.name, version.number, rates), payer_ids


def _record(tx: sa.Connection, new: NewPrices, span: dict[str, Any], sums: _Sums, now: datetime) -> None:
    facts = {"version": new.version, "since": span["since"], "until": span["until"], "calls": sums.posted}
    facts |= {"taken": sums.more, "given_back": sums.less}
    audit_trail.record(tx, current_operator(), "rerate", f"tariff:{new.tariff}", after=facts, now=now)


def _row(each: Rerated) -> dict[str, Any]:
    call = each.call
    return {
        "id": each.id,
        "started_at": call.started_at,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "talk_ms": call.talk_ms,
        "charged": each.charged,
        "price": each.price,
        "difference": each.difference,
    }


def _print(arguments: argparse.Namespace, new: NewPrices, sums: _Sums, rows: list[dict[str, Any]]) -> None:
    if arguments.json:
        facts = {"tariff": new.tariff, "version": new.version, "written": bool(arguments.yes), "items": rows}
        print_json(facts | {name: getattr(sums, name) for name in _Sums.__slots__})
        return
    if rows:
        print_rows(rows, tuple(rows[0]), as_json=False)
    echo(f"{sums.calls} calls by version {new.version} of {new.tariff}: {sums.changed} cost something else.")
    echo(f"{sums.more} credits more would be charged, {sums.less} given back.")
    if sums.known:
        echo(f"{sums.known} were charged again by this version before: they stay as they are.")
    if sums.without_rate:
        echo(f"{sums.without_rate} go to numbers that it has no rate for: they stay as they are.")
    if arguments.yes:
        echo(f"Posted {format_count(sums.posted, 'difference')}, each a transfer that names its call.")
    elif sums.changed:
        echo("Nothing was written: to post the differences, run it again with --yes.")
