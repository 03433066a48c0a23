"""The steps that take one IMSI on a network from its actual to its desired state: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.core.provisioning.network import NumberTaken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from celcombiller.core.provisioning.work_queue import ProvisioningTask


class Verb(StrEnum):
    """An operation on an entry."""

    CREATE = "create"
    CHANGE = "change"
    FREE = "free"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on an IMSI: from the entry as it is (``was``) to the entry as it should be (``entry``)."""

    verb: Verb
    imsi: str
    was: ProvisioningEntry | None = None
    entry: ProvisioningEntry | None = None


def plan_steps(due: ProvisioningTask, actual: Sequence[ProvisioningEntry], movable: Collection[str]) -> list[Step]:
    """Return the steps that bring one IMSI to its desired state; none when it is there already.

    ``actual``: the entries that have its IMSI or its number. ``movable``: IMSIs whose entries are queued for a change,
    so their number can be taken from them. Raises `NumberTaken` when any other IMSI has the number.
    """
    own = [each for each in actual if each.imsi == due.imsi]
    wanted = due.entry
    if wanted is None:
        return [Step(Verb.DELETE, due.imsi)] if own else []
    if own == [wanted]:
        return []
    holders = [each for each in actual if each.imsi != due.imsi and each.msisdn == wanted.msisdn]
    for each in holders:
        if each.imsi not in movable:
            raise NumberTaken(f"the network has given the number to IMSI {each.imsi}")
    freed = [Step(Verb.FREE, each.imsi, was=each) for each in holders]
    if not own:
        return [*freed, Step(Verb.CREATE, due.imsi, entry=wanted)]
    if len(own) == 1:
        return [*freed, Step(Verb.CHANGE, due.imsi, was=own[0], entry=wanted)]
    return [*freed, Step(Verb.DELETE, due.imsi), Step(Verb.CREATE, due.imsi, entry=wanted)]


def apply_step(actual: Iterable[ProvisioningEntry], step: Step) -> list[ProvisioningEntry]:
    """Return the entries of the network after the step."""
    rest = [each for each in actual if each.imsi != step.imsi]
    if step.entry is not None:
        return [*rest, step.entry]
    if step.verb is Verb.FREE and step.was is not None:
        return [*rest, ProvisioningEntry(step.was.imsi, "", step.was.name)]
    return rest
