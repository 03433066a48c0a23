"""``celcombiller tariff``: price lists of the ledger, their versions and rates, and those of the settings."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from celcombiller.cli.charging import tariff_files
from celcombiller.cli.common import (
    LIST_MAX,
    add_command,
    current_operator,
    open_database,
    parse_date,
    parse_time,
    print_json,
    print_rows,
    whole_number,
)
from celcombiller.cli.terminal import echo
from celcombiller.core.access.changes import tariff_changes
from celcombiller.core.errors import InvalidValue, UnknownTariff
from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.reports.tariff_views import view_rate, view_tariff, view_version
from celcombiller.core.tariffs import tariff_records, versions
from celcombiller.core.tariffs.price_format import (
    UNITS_OF_PRICE,
    make_steps,
    parse_amount,
    whole_credits,
)
from celcombiller.core.tariffs.rate_checks import normalise_window
from celcombiller.core.tariffs.rate_records import list_destination_rates, list_rates
from celcombiller.core.tariffs.rate_row import RateRow, encode_steps
from celcombiller.core.tariffs.tariff_records import SETTINGS_NAME, TariffRecord
from celcombiller.core.tariffs.versions import NewVersion, RateKey, VersionWritten, key_of
from celcombiller.database.transaction import transact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    import sqlalchemy as sa

    from celcombiller.config.tables import Config

_INCREMENTS = re.compile(r"([1-9][0-9]{0,8})(?:/([1-9][0-9]{0,8}))?", re.ASCII)
_COLUMNS = (
    "service",
    "prefix",
    "name",
    "window",
    "valid_from",
    "valid_until",
    "connect_fee",
    "minimum",
    "grace",
    "price",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``tariff``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    tariff_files.configure(actions)
    made = [
        add_command(actions, "list", _list, "List the tariffs, and the rates of the settings as one of them."),
        _add_show(actions),
        _add_add(actions),
        _add_change(actions),
        _add_rate(actions),
    ]
    listed = add_command(actions, "versions", _versions, "List the versions of a tariff, newest first.")
    withdraw = add_command(actions, "withdraw", _withdraw, "Withdraw a version that waits for its time.")
    default = add_command(actions, "default", _set_default, "Make a tariff the default, or none with --none.")
    delete = add_command(actions, "delete", _delete, "Delete a tariff that nothing uses.")
    adopt = add_command(
        actions, "adopt", _adopt, "Make a tariff of the rates in the settings, and make it the default."
    )
    for each in (listed, withdraw, delete, adopt):
        each.add_argument("tariff", metavar="TARIFF", help="the name")
    default.add_argument("tariff", metavar="TARIFF", nargs="?", help="the name")
    default.add_argument("--none", action="store_true", help="no default: the rates of the settings count")
    withdraw.add_argument("number", metavar="NUMBER", type=whole_number(1, 2**31 - 1), help="of the version")
    _add_money(adopt)
    for each in (*made, listed, withdraw, default, delete, adopt):
        each.add_argument("--json", action="store_true", help="one JSON document")


def _add_show(actions: Any) -> argparse.ArgumentParser:
    show = add_command(actions, "show", _show, f"Show the rates of a tariff; `{SETTINGS_NAME}`: of the settings.")
    show.add_argument("tariff", metavar="TARIFF", help="the name")
    when = show.add_mutually_exclusive_group()
    when.add_argument("--at", type=parse_time, metavar="TIME", help="those in force at this time; default: now")
    when.add_argument("--version", type=whole_number(1, 2**31 - 1), metavar="NUMBER", help="those of this version")
    show.add_argument("--service", choices=[*Service], help="only of this service")
    show.add_argument("--prefix", metavar="PREFIX", help="only prefixes that begin so")
    show.add_argument("--search", metavar="TEXT", help="only destinations with this in their name")
    show.add_argument("--limit", type=whole_number(1, LIST_MAX), default=50)
    return show


def _add_add(actions: Any) -> argparse.ArgumentParser:
    add = add_command(actions, "add", _add, "Make a tariff, without rates.")
    add.add_argument("tariff", metavar="TARIFF", help="the name")
    _add_money(add)
    add.add_argument("--zone", metavar="ZONE", help="of its times of the week; default: schedules.time_zone")
    return add


def _add_money(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--currency", metavar="TEXT", help="how money is shown, such as R$ or EUR")
    parser.add_argument("--credits-per-unit", type=int, metavar="N", help="the credits of one unit of the currency")


def _add_change(actions: Any) -> argparse.ArgumentParser:
    change = add_command(actions, "change", _change, "Change the name, the currency, or the holidays of a tariff.")
    change.add_argument("tariff", metavar="TARIFF", help="the name")
    change.add_argument("--name", metavar="NEW", help="another name")
    _add_money(change)
    change.add_argument("--zone", metavar="ZONE", help="of its times of the week; only before its first version")
    change.add_argument(
        "--holidays", nargs="*", type=parse_date, metavar="DATE", help="all holidays: this makes a version"
    )
    _add_version_options(change)
    return change


def _add_rate(actions: Any) -> argparse.ArgumentParser:
    rate = add_command(
        actions, "rate", _rate, "Add, change or remove one rate: a new version, in force at once or at a time."
    )
    rate.add_argument("tariff", metavar="TARIFF", help="the name")
    rate.add_argument("prefix", metavar="PREFIX", help="the first digits of the numbers; `all`: all others; `on-net`")
    rate.add_argument("--remove", action="store_true", help="take the rate out")
    rate.add_argument("--service", choices=[*Service], default=Service.VOICE, help="default: voice")
    rate.add_argument("--name", metavar="TEXT", help="the destination")
    rate.add_argument("--price", metavar="AMOUNT", help="for a minute, a message or a MiB, or for --per units")
    rate.add_argument(
        "--per", type=whole_number(1, 2**53 - 1), metavar="UNITS", help="seconds, messages or octets that --price buys"
    )
    rate.add_argument("--increments", metavar="FIRST/NEXT", help="such as 30/6 or 60/60; default: 1/1")
    rate.add_argument(
        "--step",
        action="append",
        metavar="START:INCREMENT:PRICE:PER",
        help="in place of --price: what counts from a unit on, in credits; may be repeated",
    )
    rate.add_argument("--connect-fee", metavar="AMOUNT", help="once for each use")
    rate.add_argument("--minimum", metavar="AMOUNT", help="the least that a use costs")
    rate.add_argument("--grace", type=whole_number(0, 2**53 - 1), metavar="UNITS", help="a use of no more is free")
    rate.add_argument("--money", action="store_true", help="amounts are in the currency of the tariff, not in credits")
    rate.add_argument("--window", metavar="TEXT", default="", help="times of the week, such as `mon-fri 08:00-18:00`")
    rate.add_argument("--valid-from", type=parse_time, metavar="TIME", help="not before")
    rate.add_argument("--valid-until", type=parse_time, metavar="TIME", help="only before")
    _add_version_options(rate)
    return rate


def _add_version_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", type=parse_time, metavar="TIME", help="when it takes effect; default: at once")
    parser.add_argument("--note", default="", metavar="TEXT", help="why, for the list of versions")


# -- what they do ----------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace, config: Config) -> int:
    """List the tariffs."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        return [msgspec.structs.asdict(view_tariff(tx, each, now)) for each in tariff_records.list_all(tx)]

    found = transact(open_database(config), work)
    settings = {
        "id": None,
        "name": SETTINGS_NAME,
        "currency": "",
        "credits_per_unit": 1,
        "time_zone": config.schedules.zone,
        "is_default": not any(each["is_default"] for each in found),
        "version": None,
        "next_version": None,
        "created_at": None,
    }
    columns = ("id", "name", "currency", "credits_per_unit", "time_zone", "is_default", "version", "next_version")
    print_rows([*found, settings], columns, as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace, config: Config) -> int:
    """Show the rates of a tariff."""
    now = datetime.now(UTC)
    if arguments.tariff == SETTINGS_NAME:
        document: dict[str, Any] = {"name": SETTINGS_NAME, "version": None}
        return _print_rates(arguments, document, _settings_rates(config), None)

    def work(tx: sa.Connection) -> tuple[TariffRecord, dict[str, Any], list[RateRow]]:
        tariff = tariff_records.find(tx, arguments.tariff)
        in_force = versions.find_version_at(tx, tariff.id, now)
        version = versions.find_version_at(tx, tariff.id, arguments.at or now)
        if arguments.version is not None:
            version = versions.find_version(tx, tariff.id, arguments.version)
        shown = msgspec.structs.asdict(view_tariff(tx, tariff, now))
        if version is None:
            return tariff, shown | {"version": None}, []
        rows = list_rates(
            tx,
            tariff.id,
            version.number,
            limit=arguments.limit,
            service=None if arguments.service is None else Service(arguments.service),
            prefix=arguments.prefix and arguments.prefix.removeprefix("+"),
            text=arguments.search,
        )
        shown["version"] = msgspec.structs.asdict(view_version(version, in_force, now))
        return tariff, shown, [each.row for each in rows]

    tariff, document, rows = transact(open_database(config).execution_options(reading=True), work)
    return _print_rates(arguments, document, rows, tariff)


def _print_rates(
    arguments: argparse.Namespace, document: dict[str, Any], rows: Iterable[RateRow], tariff: TariffRecord | None
) -> int:
    money = () if tariff is None else (tariff.currency, tariff.credits_per_unit)
    views = [view_rate(each, *money) for each in rows]
    if arguments.json:
        print_json(document | {"rates": views})
        return 0
    for name, value in document.items():
        if name == "version" and value is not None:
            moment = value["effective_at"]
            at = "never" if moment is None else moment.astimezone().isoformat(" ", "seconds")
            holidays = f"; holidays: {' '.join(value['holidays'])}" if value["holidays"] else ""
            value = f"{value['number']} ({value['state']}), in force from: {at}{holidays}"  # noqa: PLW2901
        echo(f"{name:17} {'' if value is None else value}")
    shown = [
        msgspec.structs.asdict(each)
        | {
            "prefix": "on-net" if each.on_net else each.prefix or "all",
            "minimum": each.minimum_charge,
            "price": each.text,
        }
        for each in views
    ]
    columns = [each for each in _COLUMNS if any(row[each] for row in shown) or each in ("service", "prefix", "price")]
    print_rows(shown, tuple(columns), as_json=False)
    return 0


def _settings_rates(config: Config) -> list[RateRow]:
    """Return the rates of the settings as rows."""
    return [
        RateRow(
            Service.VOICE,
            each.prefix.removeprefix("+"),
            False,
            each.name,
            "",
            None,
            None,
            each.connect_fee,
            0,
            0,
            encode_steps((Step(0, each.increment_seconds, each.price, each.increment_seconds),)),
        )
        for each in config.rates
    ]


def _add(arguments: argparse.Namespace, config: Config) -> int:
    """Make a tariff."""
    made = transact(open_database(config), lambda tx: _make(tx, arguments, config))
    _print_tariff(arguments, made, f"Added {made.name}. It has no rates yet: `celcombiller tariff rate`.")
    return 0


def _make(tx: sa.Connection, arguments: argparse.Namespace, config: Config) -> TariffRecord:
    return tariff_changes.add(
        tx,
        current_operator(),
        name=arguments.tariff,
        currency=arguments.currency or "",
        credits_per_unit=1 if arguments.credits_per_unit is None else arguments.credits_per_unit,
        time_zone=getattr(arguments, "zone", None) or config.schedules.zone,
        now=datetime.now(UTC),
    )


def _change(arguments: argparse.Namespace, config: Config) -> int:
    """Change a tariff."""
    facts = {
        "name": arguments.name,
        "currency": arguments.currency,
        "credits_per_unit": arguments.credits_per_unit,
        "time_zone": arguments.zone,
    }
    changes = {name: value for name, value in facts.items() if value is not None}
    if not changes and arguments.holidays is None:
        raise InvalidValue("nothing to change: name a field, such as --name or --holidays")
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[TariffRecord, VersionWritten | None]:
        tariff, written = tariff_records.find(tx, arguments.tariff), None
        if changes:
            tariff = tariff_changes.change(tx, current_operator(), tariff.id, changes, now)
        if arguments.holidays is not None:
            new = NewVersion(holidays=frozenset(arguments.holidays), **_version_options(arguments))
            written = tariff_changes.write_version(tx, current_operator(), tariff.id, new, datetime.now(UTC))
        return tariff, written

    changed, written = transact(open_database(config), work)
    _print_tariff(arguments, changed, f"Changed {changed.name}.")
    if written is not None and not arguments.json:
        echo(_describe(changed, written))
    return 0


def _rate(arguments: argparse.Namespace, config: Config) -> int:
    """Add, change or remove one rate."""
    on_net = arguments.prefix == "on-net"
    prefix = "" if on_net or arguments.prefix == "all" else arguments.prefix.removeprefix("+")
    service = Service(arguments.service)
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> tuple[TariffRecord, VersionWritten]:
        tariff = tariff_records.find(tx, arguments.tariff)
        last = versions.find_last_version(tx, tariff.id)
        number = 0 if last is None else last.number
        rows = [each.row for each in list_destination_rates(tx, tariff.id, number, [prefix])]
        window = normalise_window(arguments.window)
        key = RateKey(service, prefix, on_net, window, arguments.valid_from)
        was = next((each for each in rows if key_of(each) == key), None)
        if arguments.remove:
            new = NewVersion(removed=[key], **_version_options(arguments))
        else:
            new = NewVersion([_row_of(arguments, tariff, key, was)], **_version_options(arguments))
        return tariff, tariff_changes.write_version(tx, current_operator(), tariff.id, new, datetime.now(UTC))

    tariff, written = transact(open_database(config), work)
    if arguments.json:
        version = None if written.version is None else view_version(written.version, None, now)
        changes = written.changes
        print_json(
            {
                "version": version,
                "added": len(changes.added),
                "changed": len(changes.changed),
                "removed": len(changes.removed),
            }
        )
    else:
        echo(_describe(tariff, written))
    return 0


def _row_of(arguments: argparse.Namespace, tariff: TariffRecord, key: RateKey, was: RateRow | None) -> RateRow:
    """Return the rate of the arguments; what they do not name is as it was."""
    scale = tariff.credits_per_unit if arguments.money else 1
    row = was or RateRow(*key[:3], "", key.window, key.valid_from, None, 0, 0, 0, "")
    fields: dict[str, Any] = {}
    if arguments.step:
        if arguments.price is not None or arguments.increments is not None:
            raise InvalidValue("--step stands in place of --price and --increments")
        fields["steps"] = encode_steps(tuple(map(_parse_step, arguments.step)))
    elif arguments.price is not None:
        per = arguments.per or UNITS_OF_PRICE[key.service]
        increments = _parse_increments(arguments.increments or "1/1")
        fields["steps"] = encode_steps(make_steps(parse_amount(arguments.price, scale), per, increments))
    elif was is None or arguments.increments is not None or arguments.per is not None:
        raise InvalidValue("name the price: --price AMOUNT, or --step")
    if arguments.connect_fee is not None:
        fields["connect_fee"] = whole_credits(parse_amount(arguments.connect_fee, scale), "--connect-fee")
    if arguments.minimum is not None:
        fields["minimum_charge"] = whole_credits(parse_amount(arguments.minimum, scale), "--minimum")
    for option, field in (("name", "name"), ("grace", "grace"), ("valid_until", "valid_until")):
        if getattr(arguments, option) is not None:
            fields[field] = getattr(arguments, option)
    return row._replace(**fields)


def _parse_increments(text: str) -> tuple[int, int]:
    found = _INCREMENTS.fullmatch(text)
    if found is None:
        raise InvalidValue(f"--increments {text}: write the first and the next ones, such as 30/6")
    return int(found[1]), int(found[2] or found[1])


def _parse_step(text: str) -> Step:
    try:
        start, increment, price, per = map(int, text.split(":"))
    except ValueError:
        raise InvalidValue(f"--step {text}: write START:INCREMENT:PRICE:PER, such as 0:30:12:60") from None
    return Step(start, increment, price, per)


def _version_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"effective_at": arguments.at, "author": current_operator().name, "note": arguments.note}


def _describe(tariff: TariffRecord, written: VersionWritten) -> str:
    if written.version is None or written.version.effective_at is None:
        return f"Nothing to change: {tariff.name} is just so."
    at = written.version.effective_at.astimezone().isoformat(" ", "milliseconds")
    changes = written.changes
    counts = ((changes.added, "added"), (changes.changed, "changed"), (changes.removed, "removed"))
    rates = ", ".join(f"{len(each)} {what}" for each, what in counts if each)
    return f"Version {written.version.number} of {tariff.name} takes effect at {at}: {rates or 'holidays'}."


def _versions(arguments: argparse.Namespace, config: Config) -> int:
    """List the versions of a tariff."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> list[dict[str, Any]]:
        tariff = tariff_records.find(tx, arguments.tariff)
        in_force = versions.find_version_at(tx, tariff.id, now)
        found = versions.list_versions(tx, tariff.id, limit=LIST_MAX)
        return [msgspec.structs.asdict(view_version(each, in_force, now)) for each in found]

    columns = ("number", "state", "effective_at", "created_at", "created_by", "note")
    print_rows(transact(open_database(config), work), columns, as_json=arguments.json)
    return 0


def _withdraw(arguments: argparse.Namespace, config: Config) -> int:
    """Withdraw a version."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> TariffRecord:
        tariff = tariff_records.find(tx, arguments.tariff)
        tariff_changes.withdraw(tx, current_operator(), tariff.id, arguments.number, now)
        return tariff

    tariff = transact(open_database(config), work)
    _print_tariff(arguments, tariff, f"Withdrew version {arguments.number} of {tariff.name}.")
    return 0


def _set_default(arguments: argparse.Namespace, config: Config) -> int:
    """Make a tariff the default."""
    if (arguments.tariff is None) != arguments.none:
        raise InvalidValue("name a tariff, or --none")
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> TariffRecord | None:
        tariff_id = None if arguments.none or arguments.tariff == SETTINGS_NAME else _id_of(tx, arguments.tariff)
        return tariff_changes.set_default(tx, current_operator(), tariff_id, now)

    tariff = transact(open_database(config), work)
    name = SETTINGS_NAME if tariff is None else tariff.name
    if arguments.json:
        print_json({"default": name})
    else:
        echo(f"The default tariff is {name}.")
    return 0


def _id_of(tx: sa.Connection, name: str) -> int:
    return tariff_records.find(tx, name).id


def _delete(arguments: argparse.Namespace, config: Config) -> int:
    """Delete a tariff."""
    now = datetime.now(UTC)

    def work(tx: sa.Connection) -> TariffRecord:
        return tariff_changes.delete(tx, current_operator(), _id_of(tx, arguments.tariff), now)

    deleted = transact(open_database(config), work)
    _print_tariff(arguments, deleted, f"Deleted {deleted.name}; what was charged by it still names its versions.")
    return 0


def _adopt(arguments: argparse.Namespace, config: Config) -> int:
    """Make a tariff of the rates in the settings, and make it the default."""
    rates = _settings_rates(config)
    if not rates:
        raise UnknownTariff("the settings have no [[rates]]")

    def work(tx: sa.Connection) -> tuple[TariffRecord, VersionWritten]:
        actor, now = current_operator(), datetime.now(UTC)
        tariff = _make(tx, arguments, config)
        new = NewVersion(rates, author=actor.name, note="the rates of the settings")
        written = tariff_changes.write_version(tx, actor, tariff.id, new, now)
        tariff_changes.set_default(tx, actor, tariff.id, now)
        return tariff_records.find_by_id(tx, tariff.id), written

    tariff, written = transact(open_database(config), work)
    _print_tariff(
        arguments,
        tariff,
        f"{_describe(tariff, written)}\n{tariff.name} is the default tariff now. The [[rates]] of the settings"
        " count only while it has no version in force.",
    )
    return 0


def _print_tariff(arguments: argparse.Namespace, tariff: TariffRecord, text: str) -> None:
    if arguments.json:
        print_json(tariff)
    else:
        for line in text.split("\n"):
            echo(line)
