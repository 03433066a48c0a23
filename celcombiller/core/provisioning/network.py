"""What the biller asks of a radio network, whichever it is, and the two ways in which it can fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from celcombiller.core.errors import BillerError, InvalidValue

if TYPE_CHECKING:
    from collections.abc import Collection

    from celcombiller.core.provisioning.entries import ProvisioningEntry

_IMSI = re.compile(r"[0-9]{6,15}", re.ASCII)
_MSISDN = re.compile(r"[0-9]{1,15}", re.ASCII)
_NAME = re.compile(r"[0-9]{0,19}", re.ASCII)


class NetworkRefused(BillerError):
    """The network answered No to one entry, or said Yes and did not do it; others may go well."""

    code = "NETWORK_REFUSED"


class NumberTaken(NetworkRefused):
    """Another IMSI has this number on the network, and the biller does not know why; it overwrites nobody."""

    code = "NUMBER_TAKEN"


class Network(Protocol):
    """A radio network. Each of its methods has a time limit and raises `NetworkUnavailable` past it.

    An IMSI can stand in a list more than once where the network lets that happen, and a number can be missing.
    """

    keeps_names: bool
    """Whether it gives back the name of an entry."""

    async def read(self, imsis: Collection[str], numbers: Collection[str]) -> list[ProvisioningEntry]:
        """Give all entries that have one of these IMSIs or one of these numbers."""

    async def list_all(self) -> list[ProvisioningEntry]:
        """Give all entries."""

    async def create(self, entry: ProvisioningEntry) -> None:
        """Make an entry; there is none of its IMSI."""

    async def change(self, was: ProvisioningEntry, entry: ProvisioningEntry) -> None:
        """Make an entry, of which there is exactly one, what it should be."""

    async def free(self, entry: ProvisioningEntry) -> None:
        """Let another have the number of this entry, which will soon have its own; nothing, where two may have it."""

    async def delete(self, imsi: str) -> None:
        """Remove all entries of an IMSI."""

    async def close(self) -> None:
        """End what is going on, and every connection."""


def check_digits(entry: ProvisioningEntry) -> None:
    """Raise `InvalidValue` unless an entry has nothing but digits: a NodeManager joins them into SQL as they are."""
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
    """Tell whether a network's word is an IMSI."""
    return _IMSI.fullmatch(text) is not None


def is_msisdn(text: str) -> bool:
    """Tell whether a network's word is a number."""
    return _MSISDN.fullmatch(text) is not None
