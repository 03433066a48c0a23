"""Differences between the biller and a network: pure functions on two lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celcombiller.core.provisioning.desired_state import Desired
    from celcombiller.core.provisioning.entries import ProvisioningEntry, UnreadableRow


class Drift(StrEnum):
    """How an IMSI differs."""

    MISSING = "missing"
    """In the biller, and not on the network."""
    UNKNOWN = "unknown"
    """On the network, and never put there by the biller."""
    LEFT = "left"
    """On the network, but deleted or disabled in the biller."""
    DIFFERENT = "different"
    """In both, with another number or name, or twice on the network."""
    TAKEN = "taken"
    """In the biller with a number that the network has given to an IMSI which should not have it."""
    UNREADABLE = "unreadable"
    """A row of the network's list that is not as it should be."""


@dataclass(frozen=True, slots=True)
class DriftDifference:
    """One IMSI that differs. ``waiting``: an update is queued; ``holder``: the IMSI that has its number."""

    drift: Drift
    imsi: str
    wanted: ProvisioningEntry | None
    found: tuple[ProvisioningEntry, ...]
    waiting: bool
    holder: str | None = None
    row: str | None = None
    """The text of a row that cannot be read."""


def list_differences(
    desired: Desired,
    actual: Sequence[ProvisioningEntry],
    *,
    names: bool,
    unreadable: Sequence[UnreadableRow] = (),
) -> list[DriftDifference]:
    """Return what differs between desired and actual entries, by IMSI, and then the rows that cannot be read.

    ``names``: whether the network keeps names.
    """
    wanted = {each.imsi: each for each in desired.entries}
    found: dict[str, list[ProvisioningEntry]] = {}
    for each in actual:
        found.setdefault(each.imsi, []).append(each)
    holders = {each.msisdn: each.imsi for each in actual if not _is_right(each, wanted.get(each.imsi))}
    result = []
    for imsi in sorted(wanted.keys() | found.keys()):
        want, have = wanted.get(imsi), tuple(found.get(imsi, ()))
        if want is None:
            drift = Drift.LEFT if imsi in desired.gone else Drift.UNKNOWN
        elif len(have) == 1 and have[0].msisdn == want.msisdn and (not names or have[0].name == want.name):
            continue
        else:
            drift = Drift.DIFFERENT if have else Drift.MISSING
        holder = None if want is None else holders.get(want.msisdn)
        if holder not in (None, imsi):
            drift = Drift.TAKEN
        else:
            holder = None
        result.append(DriftDifference(drift, imsi, want, have, imsi in desired.waiting, holder))
    bad = (DriftDifference(Drift.UNREADABLE, each.imsi, None, (), waiting=False, row=each.text) for each in unreadable)
    return [*result, *bad]


def count(found: Sequence[DriftDifference]) -> dict[str, int]:
    """Return the number of differences of each kind, zeros included."""
    counts = Counter(each.drift for each in found)
    return {drift.value: counts[drift] for drift in Drift}


def to_sync(found: Sequence[DriftDifference], *, remove_unknown: bool) -> list[str]:
    """Return the IMSIs to queue so that the network matches the biller.

    IMSIs that others put on the network stay, unless ``remove_unknown`` is set. Rows that cannot be read stay.
    """
    stay = {Drift.UNREADABLE} if remove_unknown else {Drift.UNREADABLE, Drift.UNKNOWN}
    return [each.imsi for each in found if each.drift not in stay]


def _is_right(entry: ProvisioningEntry, wanted: ProvisioningEntry | None) -> bool:
    return wanted is not None and entry.msisdn == wanted.msisdn
