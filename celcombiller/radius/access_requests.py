"""Access-Requests: who may begin a session, and for how much."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pyrad import packet as pyrad
from twisted.logger import Logger

from celcombiller.core.access import login_throttle
from celcombiller.core.data import session_queries
from celcombiller.core.errors import TooManyAttempts
from celcombiller.core.subscribers.directory import Directory
from celcombiller.radius import codec

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Radius, RadiusClient
    from celcombiller.core.data.session_queries import CreditStanding
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.radius.codec import Login
    from celcombiller.radius.throttled_log import ThrottledLog
    from celcombiller.runtime.password_hasher import Passwords

NOT_YOU = "Wrong user name or password"
"""The same for both: else it could be found out who is a subscriber."""
NO_PASSWORDS = "Only passwords (PAP) can be checked here"
DISABLED = "This account is disabled"
NO_CREDIT = "There is no data credit left"
TOO_MANY = "Too many logins failed; try again later"


class AccessRequests:
    """Answers Access-Requests."""

    _log = Logger()

    def __init__(
        self, settings: Radius, store: BatchWriter, reader: Reader, passwords: Passwords, complaints: ThrottledLog
    ) -> None:
        self._settings = settings
        self._store = store
        self._reader = reader
        self._passwords = passwords
        self._complaints = complaints

    async def __call__(self, packet: Any, client: RadiusClient, address: str) -> tuple[str, bytes]:
        """Return what is decided, and the answer. Raises `DiscardPacket`."""
        if packet.code == pyrad.StatusServer:
            return "STATUS", codec.alive(packet, accounting=False)
        login = codec.login_of(packet, client, address)
        identities = codec.identities_of(login.username, client.realm)
        standing: CreditStanding | None = await self._reader.read(partial(_standing, identities=identities))
        why = await self._why_not(login, client, standing)
        if standing is None or why:
            self._log.info(
                "{nas}: {user!r} may not use data: {why}", nas=login.nas, user=_shortened(login.username), why=why
            )
            return "REJECTED", codec.reject(packet, why)
        octets = standing.octets(self._settings.octets_per_credit)
        self._log.info(
            "{nas}: {user!r} may use {octets} octets", nas=login.nas, user=_shortened(login.username), octets=octets
        )
        settings = self._settings
        answer = codec.accept(
            packet,
            client,
            octets=octets,
            seconds=settings.session_seconds_max,
            interim_seconds=settings.interim_seconds,
        )
        return "ACCEPTED", answer

    async def _why_not(self, login: Login, client: RadiusClient, standing: CreditStanding | None) -> str:
        """Return why not, or nothing."""
        if client.passwords == "check":
            if login.password is None or login.method:
                # A hash is all that is known of a password, and what CHAP and its like prove needs the word itself.
                method = login.method or "a login without a password"
                why = f"{method} cannot be checked, as passwords are kept as hashes only: have it send PAP"
                self._complaints.warn(login.nas, "REJECTED", why)
                return NO_PASSWORDS
            try:
                is_he = await self._is_he(login, standing)
            except TooManyAttempts:
                return TOO_MANY
            if not is_he:
                return NOT_YOU
        if standing is None:
            return NOT_YOU
        if not standing.subscriber.enabled:
            return DISABLED
        return "" if standing.available > 0 else NO_CREDIT

    async def _is_he(self, login: Login, standing: CreditStanding | None) -> bool:
        """Check the password, off the reactor, as the API does: the same account has the same attempts in both."""
        name = login.username[:64] if standing is None else standing.subscriber.username
        whence = f"{login.nas} {login.station or name}"
        now = datetime.now(UTC)
        await self._store.transact(lambda tx: login_throttle.admit_attempt(tx, name, whence, now))
        hashed = None if standing is None else standing.password_hash
        is_he = await self._passwords.verify(hashed, login.password or "")
        if is_he:
            await self._store.transact(lambda tx: login_throttle.forget_failures(tx, name, whence))
        return is_he


def _standing(tx: Connection, identities: tuple[str, ...]) -> CreditStanding | None:
    return session_queries.find_credit_standing(tx, Directory.load(tx, identities), identities)


def _shortened(name: str) -> str:
    """Show the last four of a number, not all of it."""
    return f"…{name[-4:]}" if name.isdigit() else name
