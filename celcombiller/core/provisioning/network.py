"""The interface of a radio network, of whatever kind, and how its requests can fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from celcombiller.core.errors import BillerError, InvalidValue

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from celcombiller.core.provisioning.entries import ProvisioningEntry, UnreadableRow
    from celcombiller.core.provisioning.seen_phones import SeenPhone

_IMSI = re.compile(r"[0-9]{6,15}", re.ASCII)
_MSISDN = re.compile(r"[0-9]{1,15}", re.ASCII)
_NAME = re.compile(r"[0-9]{0,19}", re.ASCII)


class NetworkRefused(BillerError):
    """The network refused one entry, or accepted it without effect; other entries may succeed."""

    code = "NETWORK_REFUSED"


class NumberTaken(NetworkRefused):
    """Another IMSI has this number on the network, unexpectedly. The biller does not overwrite it."""

    code = "NUMBER_TAKEN"


class Network(Protocol):
    """A radio network. Each of its methods has a time limit and raises `NetworkUnavailable` past it.

    A list can contain an IMSI more than once if the network allows that, and a number can be missing. One row that
    cannot be read is left out, or has what could be read of it; it is in ``unreadable``.
    """

    keeps_names: bool
    """Whether it stores and returns the name of an entry."""

    unreadable: Sequence[UnreadableRow] | None
    """Rows of the last list that are not as they should be; ``None``: no list was read yet."""

    async def read(self, imsis: Collection[str], numbers: Collection[str]) -> list[ProvisioningEntry]:
        """Return all entries that have one of these IMSIs or one of these numbers."""

    async def list_all(self) -> list[ProvisioningEntry]:
        """Return all entries."""

    async def list_seen(self) -> list[SeenPhone]:
        """Return the phones that the network has seen, whoever registered them, as far as it can tell."""

    async def create(self, entry: ProvisioningEntry) -> None:
        """Create an entry; there is none of its IMSI."""

    async def change(self, was: ProvisioningEntry, entry: ProvisioningEntry) -> None:
        """Change the one entry of an IMSI from ``was`` to ``entry``."""

    async def free(self, entry: ProvisioningEntry) -> None:
        """Release the number of this entry for another IMSI; do nothing where two entries may share a number."""

    async def delete(self, imsi: str) -> None:
        """Remove all entries of an IMSI."""

    async def close(self) -> None:
        """Cancel pending requests and close every connection."""


def check_digits(entry: ProvisioningEntry) -> None:
    """Raise `InvalidValue` unless an entry has only digits: NodeManager pastes them unquoted into SQL."""
    check_imsi(entry.imsi)
    check_msisdn(entry.msisdn)
    _check("name", entry.name, _NAME, "digits")


def check_imsi(imsi: str) -> None:
    """Raise `InvalidValue` unless this is an IMSI."""
    _check("imsi", imsi, _IMSI, "6 to 15 digits")


def check_msisdn(msisdn: str) -> None:
    """Raise `InvalidValue` unless this is a number."""
    _check("msisdn", msisdn, _MSISDN, "1 to 15 digits")


def _check(field: str, value: str, shape: re.Pattern[str], allowed: str) -> None:
    if not shape.fullmatch(value):
        raise InvalidValue(f"{field} {value[:20]!r} is not sent to a network: it must be {allowed}", {field: allowed})


def is_imsi(text: str) -> bool:
    """Return whether a text from a network is an IMSI."""
    return _IMSI.fullmatch(text) is not None


def is_msisdn(text: str) -> bool:
    """Return whether a text from a network is a number."""
    return _MSISDN.fullmatch(text) is not None
