"""What is not the same in the biller and on a network: pure, on two lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celcombiller.core.provisioning.desired_state import Desired
    from celcombiller.core.provisioning.entries import ProvisioningEntry


class Drift(StrEnum):
    """How an IMSI differs."""

    MISSING = "missing"
    """In the biller, and not on the network."""
    UNKNOWN = "unknown"
    """On the network, and nobody the biller ever put there."""
    LEFT = "left"
    """On the network, and gone from the biller (or disabled there)."""
    DIFFERENT = "different"
    """On both, with another number or name, or twice on the network."""
    TAKEN = "taken"
    """In the biller with a number that the network has given to an IMSI which should not have it."""


@dataclass(frozen=True, slots=True)
class DriftDifference:
    """One IMSI that differs. ``waiting``: it is queued, so the biller is at it; ``holder``: who has its number."""

    drift: Drift
    imsi: str
    wanted: ProvisioningEntry | None
    found: tuple[ProvisioningEntry, ...]
    waiting: bool
    holder: str | None = None


def differences(desired: Desired, there: Sequence[ProvisioningEntry], *, names: bool) -> list[DriftDifference]:
    """Compare what a network should know with what it does, by IMSI. ``names``: whether it keeps those."""
    wanted = {each.imsi: each for each in desired.entries}
    found: dict[str, list[ProvisioningEntry]] = {}
    for each in there:
        found.setdefault(each.imsi, []).append(each)
    holders = {each.msisdn: each.imsi for each in there if not _is_right(each, wanted.get(each.imsi))}
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
    return result


def count(found: Sequence[DriftDifference]) -> dict[str, int]:
    """Count them by kind, all kinds."""
    counts = Counter(each.drift for each in found)
    return {drift.value: counts[drift] for drift in Drift}


def to_sync(found: Sequence[DriftDifference], *, remove_unknown: bool) -> list[str]:
    """Give the IMSIs to queue so that the network becomes as the biller says.

    Who is on the network by another's hand stays, unless ``remove_unknown`` says he too is to go.
    """
    return [each.imsi for each in found if each.drift is not Drift.UNKNOWN or remove_unknown]


def _is_right(entry: ProvisioningEntry, wanted: ProvisioningEntry | None) -> bool:
    return wanted is not None and entry.msisdn == wanted.msisdn
