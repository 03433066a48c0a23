"""Hold a whole network against what it should know, and queue what differs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celcombiller.core.provisioning import desired_state, drift
from celcombiller.provisioning.network_numbers import in_wanted_form

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.provisioning.desired_state import Desired
    from celcombiller.core.provisioning.drift import DriftDifference
    from celcombiller.core.provisioning.network import Network


async def compare(
    name: str, network: Network, read: Callable[[Callable[[Connection], Any]], Awaitable[Any]]
) -> list[DriftDifference]:
    """Return what differs. What changes meanwhile, or is on its way, is told as waiting and is no drift."""
    before: Desired = await read(partial(desired_state.desired, name=name))
    there = await network.list_all()
    unreadable = network.unreadable or ()
    desired: Desired = await read(partial(desired_state.desired, name=name))
    changed = {each.imsi for each in set(before.entries) ^ set(desired.entries)}
    waiting = desired.waiting | before.waiting | changed
    return drift.list_differences(
        replace(desired, waiting=waiting),
        in_wanted_form(there, desired.entries),
        names=network.keeps_names,
        unreadable=unreadable,
    )


def queue(tx: Connection, name: str, found: Sequence[DriftDifference], *, remove_unknown: bool, now: datetime) -> int:
    """Queue what differs, to be brought to the network by any running biller; give how much that is."""
    return desired_state.requeue(tx, name, drift.to_sync(found, remove_unknown=remove_unknown), now)
