"""``celcombiller provisioning status | diff | sync | unknown-phones | forget``: the radio networks.

It works with and without a running biller: ``sync`` itself sends what it queues to the network. A running biller may
work on the same queue meanwhile.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from celcombiller.cli.common import add_command, open_database, print_json, print_rows
from celcombiller.cli.exit_status import DIFFERS, DONE
from celcombiller.cli.terminal import echo, print_error
from celcombiller.core.errors import BillerError, InvalidValue
from celcombiller.core.model.text import format_count
from celcombiller.core.provisioning import desired_state, drift
from celcombiller.core.provisioning import status as provisioning_status
from celcombiller.database.transaction import transact
from celcombiller.provisioning import reconciliation
from celcombiller.provisioning.factory import kinds_of, network_of
from celcombiller.provisioning.unknown_phones import UnknownPhones, find_unknown
from celcombiller.provisioning.worker import ProvisioningWorker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    import sqlalchemy as sa

    from celcombiller.config.tables import Config, RadioNetwork
    from celcombiller.core.provisioning.drift import DriftDifference
    from celcombiller.core.provisioning.network import Network
    from celcombiller.core.provisioning.status import Backlog

SHOWN_MAX = 100
"""The most differences that are printed; ``--json`` has all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``provisioning``."""
    under = parser.add_subparsers(required=True, metavar="ACTION")
    status = add_command(
        under,
        "status",
        _status,
        "Show the state of each network; exit 1 when a change fails or a network does not answer.",
    )
    diff = add_command(
        under, "diff", _diff, "List the differences between biller and network; exit 1 when there is one."
    )
    bring = add_command(under, "sync", _sync, "Change the network to what the biller has.")
    bring.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    bring.add_argument(
        "--remove-unknown", action="store_true", help="also remove subscribers that the biller did not put there"
    )
    for each in (diff, bring):
        each.add_argument("network", nargs="?", help="its name in the settings (default: all)")
    for each in (status, diff, bring):
        each.add_argument("--json", action="store_true", help="one JSON document")
    phones = add_command(
        under, "unknown-phones", _unknown_phones, "List the phones that the networks have seen and no subscriber has."
    )
    phones.add_argument("--json", action="store_true", help="one JSON document")
    drop = add_command(under, "forget", _forget, "Drop the queue of a network that is no longer in the settings.")
    drop.add_argument("network")


def _status(arguments: argparse.Namespace, config: Config) -> int:
    engine = open_database(config)

    def work(tx: sa.Connection) -> list[tuple[Backlog, list[provisioning_status.Trouble]]]:
        return [
            (each, provisioning_status.troubles(tx, each.network, limit=SHOWN_MAX))
            for each in provisioning_status.backlog(tx)
        ]

    found = transact(engine.execution_options(reading=True), work)
    configured = kinds_of(config)
    if arguments.json:
        shown = [
            asdict(each) | {"configured": each.network in configured, "troubles": [asdict(one) for one in troubles]}
            for each, troubles in found
        ]
        print_json(shown)
    for each, troubles in [] if arguments.json else found:
        echo(_line(each, configured=each.network in configured))
        for one in troubles:
            echo(f"  IMSI {one.imsi}: {one.error} ({one.attempts} times)")
    if not found and not arguments.json:
        echo("No radio network: add [[provisioning]] tables to the settings, and start the biller.")
    return DIFFERS if any(each.failing or each.last_error or each.warning for each, _ in found) else DONE


def _line(each: Backlog, *, configured: bool) -> str:
    said = f"{each.network} ({each.kind}): {format_count(each.entries, 'subscriber')}, {each.waiting} waiting"
    if each.oldest_at is not None:
        said += f" since {each.oldest_at.astimezone().isoformat(' ', 'seconds')}"
    if each.failing:
        said += f", {each.failing} of them tried without success"
    if each.last_error:
        said += f"; unreachable: {each.last_error}"
    elif each.answered_at is not None:
        said += f"; answered {each.answered_at.astimezone().isoformat(' ', 'seconds')}"
    if each.warning:
        said += f"; {each.warning}"
    return said if configured else f"{said}; not in the settings (add it again, or forget it)"


def _diff(arguments: argparse.Namespace, config: Config) -> int:
    engine = open_database(config)
    found: dict[str, list[DriftDifference]] = {}

    async def run(reactor: Any) -> None:
        for settings in _chosen(arguments.network, config):
            network = network_of(reactor, settings)
            try:
                found[settings.name] = await reconciliation.compare(settings.name, network, _in_thread(engine))
            finally:
                await network.close()

    _react(run)
    if arguments.json:
        print_json({name: _shown(each) for name, each in found.items()})
    else:
        for name, each in found.items():
            _print(name, each)
    return DIFFERS if any(not one.waiting for each in found.values() for one in each) else DONE


def _sync(arguments: argparse.Namespace, config: Config) -> int:
    engine = open_database(config)
    said: dict[str, Any] = {}

    async def run(reactor: Any) -> None:
        for settings in _chosen(arguments.network, config):
            network = network_of(reactor, settings)
            try:
                said[settings.name] = await _bring(arguments, engine, settings, network)
            finally:
                await network.close()

    if not arguments.dry_run:
        transact(engine, partial(desired_state.configure, kinds=kinds_of(config), now=datetime.now(UTC)))
    _react(run)
    if arguments.json:
        print_json(said)
    for name, each in {} if arguments.json else said.items():
        verb = "would be queued" if arguments.dry_run else "queued"
        echo(
            f"{name}: {each['queued']} {verb} of {sum(each['counts'].values())} that differ, {each['waiting']} waiting."
        )
    return DIFFERS if any(each["waiting"] for each in said.values()) else DONE


async def _bring(
    arguments: argparse.Namespace, engine: sa.Engine, settings: RadioNetwork, network: Network
) -> dict[str, Any]:
    name, in_thread = settings.name, _in_thread(engine)
    found = await reconciliation.compare(name, network, in_thread)
    chosen = drift.to_sync(found, remove_unknown=arguments.remove_unknown)
    if not arguments.dry_run:
        queue = partial(
            reconciliation.queue, found=found, remove_unknown=arguments.remove_unknown, now=datetime.now(UTC)
        )
        await in_thread(partial(queue, name=name))
        await ProvisioningWorker(
            name,
            network,
            transact=in_thread,
            read=in_thread,
            now=partial(datetime.now, UTC),
            retry_seconds_max=settings.retry_seconds_max,
        ).work()
    waiting = [each.waiting for each in await in_thread(provisioning_status.backlog) if each.network == name]
    return {"queued": len(chosen), "waiting": sum(waiting), "counts": drift.count(found), "items": _shown(found)}


def _unknown_phones(arguments: argparse.Namespace, config: Config) -> int:
    engine, found = open_database(config), UnknownPhones()

    async def run(reactor: Any) -> None:
        nonlocal found
        networks = {each.name: network_of(reactor, each) for each in _chosen(None, config)}
        try:
            found = await find_unknown(networks, _in_thread(engine), SHOWN_MAX)
        finally:
            for each in networks.values():
                await each.close()

    now = datetime.now(UTC)
    _react(run)
    rows = [
        {"imsi": each.imsi, "network": each.network, "seen_at": None if each.age is None else now - each.age}
        for each in found.phones
    ]
    print_rows(rows, ("imsi", "network", "seen_at"), as_json=arguments.json)
    for name, error in found.failures.items():
        print_error(f"{name}: {error}")
    return DIFFERS if found.failures else DONE


def _forget(arguments: argparse.Namespace, config: Config) -> int:
    name = arguments.network
    if name in kinds_of(config):
        raise InvalidValue(f"{name} is in the settings: take its [[provisioning]] table out first")
    if not transact(open_database(config), partial(desired_state.forget, name=name)):
        raise InvalidValue(f"there is no network {name}")
    echo(f"{name} is forgotten. The network itself keeps its subscribers.")
    return 0


# -- parts -----------------------------------------------------------------------------------------------------------


def _chosen(name: str | None, config: Config) -> list[RadioNetwork]:
    found = [each for each in config.provisioning if each.kind != "none" and name in (None, each.name)]
    if not found:
        raise InvalidValue("there is no such network in the settings ([[provisioning]])")
    return found


def _in_thread(engine: sa.Engine) -> Callable[[Callable[[sa.Connection], Any]], Awaitable[Any]]:
    from twisted.internet.threads import deferToThread  # noqa: PLC0415  only these commands use the reactor

    def through(work: Callable[[sa.Connection], Any]) -> Awaitable[Any]:
        return deferToThread(transact, engine, work)

    return through


def _react(run: Callable[[Any], Any]) -> None:
    """Run the reactor for one coroutine, and raise here what it raised."""
    from twisted.internet.defer import Deferred  # noqa: PLC0415
    from twisted.internet.task import react  # noqa: PLC0415

    raised: list[BillerError] = []

    async def guarded(reactor: Any) -> None:
        try:
            await run(reactor)
        except BillerError as error:
            raised.append(error)

    try:
        react(lambda reactor: Deferred.fromCoroutine(guarded(reactor)))
    except SystemExit as over:
        if over.code:
            raise
    if raised:
        raise raised[0]


def _print(name: str, found: list[DriftDifference]) -> None:
    counts = ", ".join(f"{number} {kind}" for kind, number in drift.count(found).items() if number)
    echo(f"{name}: {counts or 'as the biller says'}.")
    for each in found[:SHOWN_MAX]:
        if each.row is not None:
            echo(f"  {each.drift}: {each.row}")
            continue
        wanted = "not there" if each.wanted is None else f"number {each.wanted.msisdn}"
        there = ", ".join(f"number {one.msisdn or 'none'}" for one in each.found) or "not there"
        more = f", number taken by {each.holder}" if each.holder else ""
        queued = " (queued)" if each.waiting else ""
        echo(f"  IMSI {each.imsi}: {each.drift}: here {wanted}, there {there}{more}{queued}")


def _shown(found: list[DriftDifference]) -> list[dict[str, Any]]:
    return [asdict(each) for each in found]
