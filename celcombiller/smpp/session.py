"""The bound connections to one SMSC: a transceiver, or a transmitter and a receiver where it knows no transceivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smpplib import consts
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ConnectionDone

from celcombiller.smpp.connection import BindRefused, SmppConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

TRANSCEIVER, PAIR = ("bind_transceiver",), ("bind_transmitter", "bind_receiver")
"""The ways to bind; SMPP 3.3 knows only the second."""

_FINAL = frozenset({consts.SMPP_ESME_RINVPASWD, consts.SMPP_ESME_RINVSYSID, consts.SMPP_ESME_RALYBND})
"""Refusals that another bind command does not change."""


class SmscSession:
    """Connections that begin and end together. ``connect`` makes one that is not bound yet."""

    def __init__(self, connect: Callable[[], Awaitable[SmppConnection]]) -> None:
        self._connect = connect
        self._connections: list[SmppConnection] = []

    @property
    def submitter(self) -> SmppConnection:
        """The connection that takes submissions."""
        return self._connections[0]

    @property
    def over(self) -> Deferred[Any]:
        """Fires when all connections are over."""
        return DeferredList([each.over for each in self._connections])

    async def open(self, ways: Sequence[Sequence[str]]) -> Sequence[str]:
        """Bind in the first of these ways that the SMSC accepts, and return it.

        Raises the refusal of the first way, or what prevented the connection.
        """
        refusal: BindRefused | ConnectionDone | None = None
        for way in ways:
            try:
                for command in way:
                    await self._bind(command)
            except (BindRefused, ConnectionDone) as error:
                self.close()
                self._connections.clear()
                refusal = refusal or error
                if isinstance(error, BindRefused) and error.status in _FINAL:
                    break
            else:
                for each in self._connections:
                    each.over.addCallback(lambda _: self.close())
                return way
        raise refusal or ConnectionDone()

    async def _bind(self, command: str) -> None:
        connection = await self._connect()
        self._connections.append(connection)
        await connection.bind(command)

    def close(self) -> None:
        """Close in order what is open."""
        for each in self._connections:
            each.close()

    def drop(self, why: str) -> None:
        """Abort at once what is open."""
        for each in self._connections:
            each.drop(why)
