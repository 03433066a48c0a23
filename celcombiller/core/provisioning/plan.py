"""From what a network knows and what it should know of one IMSI to the steps between: pure, no network here."""

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
    """What can be done to an entry."""

    CREATE = "create"
    CHANGE = "change"
    FREE = "free"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: to the entry as it is now (``was``), to have it as it should be (``entry``)."""

    verb: Verb
    imsi: str
    was: ProvisioningEntry | None = None
    entry: ProvisioningEntry | None = None


def steps(due: ProvisioningTask, there: Sequence[ProvisioningEntry], movable: Collection[str]) -> list[Step]:
    """Give the steps that bring one IMSI where it should be; none, when it is there.

    ``there`` is all that has its IMSI or its number. ``movable`` are the IMSIs whose entries wait to be something else,
    so that a number can be taken from them. Raises `NumberTaken` when anybody else has it.
    """
    mine = [each for each in there if each.imsi == due.imsi]
    wanted = due.entry
    if wanted is None:
        return [Step(Verb.DELETE, due.imsi)] if mine else []
    if mine == [wanted]:
        return []
    holders = [each for each in there if each.imsi != due.imsi and each.msisdn == wanted.msisdn]
    for each in holders:
        if each.imsi not in movable:
            raise NumberTaken(f"the network has given the number to IMSI {each.imsi}")
    freed = [Step(Verb.FREE, each.imsi, was=each) for each in holders]
    if not mine:
        return [*freed, Step(Verb.CREATE, due.imsi, entry=wanted)]
    if len(mine) == 1:
        return [*freed, Step(Verb.CHANGE, due.imsi, was=mine[0], entry=wanted)]
    return [*freed, Step(Verb.DELETE, due.imsi), Step(Verb.CREATE, due.imsi, entry=wanted)]


def after(there: Iterable[ProvisioningEntry], step: Step) -> list[ProvisioningEntry]:
    """Give what the network knows once the step is done."""
    rest = [each for each in there if each.imsi != step.imsi]
    if step.entry is not None:
        return [*rest, step.entry]
    if step.verb is Verb.FREE and step.was is not None:
        return [*rest, ProvisioningEntry(step.was.imsi, "", step.was.name)]
    return rest
