"""Ask all radio networks for the phones that they have seen, and keep those that no subscriber has."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults

from celcombiller.core.errors import NetworkUnavailable
from celcombiller.core.provisioning.seen_phones import SeenPhone, list_unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sqlalchemy.engine import Connection

    from celcombiller.core.provisioning.network import Network


@dataclass(slots=True)
class UnknownPhones:
    """The phones, and why networks could not say theirs."""

    phones: list[SeenPhone] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


async def find_unknown(
    networks: Mapping[str, Network], read: Callable[[Callable[[Connection], Any]], Awaitable[Any]], limit: int
) -> UnknownPhones:
    """Return the phones that no subscriber has, last seen first. A network that does not answer keeps none waiting."""
    found, seen = UnknownPhones(), []

    async def ask(name: str, network: Network) -> None:
        try:
            seen.extend([replace(each, network=name) for each in await network.list_seen()])
        except NetworkUnavailable as error:
            found.failures[name] = str(error)

    await gatherResults([Deferred.fromCoroutine(ask(*each)) for each in networks.items()], consumeErrors=True)
    found.phones = await read(partial(list_unknown, seen=seen, limit=limit))
    return found
