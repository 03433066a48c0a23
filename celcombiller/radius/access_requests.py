"""Access-Requests: who may begin a session, and how many octets they may use."""

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
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.core.data.session_queries import CreditStanding
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.radius.codec import Login
    from celcombiller.radius.throttled_log import ThrottledLog
    from celcombiller.runtime.credentials.password_hasher import Passwords

WRONG_LOGIN = "Wrong user name or password"
"""One answer for both: otherwise a stranger could learn who is a subscriber."""
NO_PASSWORDS = "Only passwords (PAP) can be checked here: set the client to PAP"
DISABLED = "This account is disabled: ask the operator"
SUSPENDED = "A fee is unpaid: top up first"
NO_CREDIT = "There is no data credit left: buy credit"
TOO_MANY = "Too many logins failed; try again later"


class AccessRequests:
    """Answers Access-Requests."""

    _log = Logger()

    def __init__(
        self,
        settings: Radius,
        store: BatchWriter,
        reader: Reader,
        passwords: Passwords,
        catalogue: CatalogueHolder,
        warnings: ThrottledLog,
    ) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._store = store
        self._reader = reader
        self._passwords = passwords
        self._warnings = warnings

    async def __call__(self, packet: Any, client: RadiusClient, address: str) -> tuple[str, bytes]:
        """Return the result and the answer. Raises `DiscardPacket`."""
        if packet.code == pyrad.StatusServer:
            return "STATUS", codec.alive(packet, accounting=False)
        login = codec.login_of(packet, client, address)
        look = partial(_standing, identities=login.identities, catalogue=self._catalogue)
        checked: CreditStanding | None = await self._reader.read(look)
        reason = await self._login_refusal(login, client, checked)
        # The check took a while: it counts only for the same password of the same subscriber.
        standing: CreditStanding | None = await self._reader.read(look)
        reason = reason or _refusal_now(checked, standing)
        if standing is None or reason:
            self._log.info(
                "{nas}: {user!r} may not use data: {why}", nas=login.nas, user=_shortened(login.username), why=reason
            )
            return "REJECTED", codec.reject(packet, reason)
        octets = standing.octets(self._settings.octets_per_credit, datetime.now(UTC))
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

    async def _login_refusal(self, login: Login, client: RadiusClient, standing: CreditStanding | None) -> str:
        """Return why the login is refused; empty: it is right."""
        if client.passwords == "check":
            if login.password is None or login.method:
                # Only hashes of passwords are stored, and CHAP, MS-CHAP and EAP need the password itself.
                method = login.method or "a login without a password"
                why = f"{method} cannot be checked, as passwords are kept as hashes only: have it send PAP"
                self._warnings.warn(login.nas, "REJECTED", why)
                return NO_PASSWORDS
            try:
                is_right = await self._check_password(login, standing)
            except TooManyAttempts:
                return TOO_MANY
            if not is_right:
                return WRONG_LOGIN
        return "" if standing is not None else WRONG_LOGIN

    async def _check_password(self, login: Login, standing: CreditStanding | None) -> bool:
        """Return whether the password is right. Failures here keep no one from the API, nor those there from here.

        Raises `TooManyAttempts`.
        """
        name = login.username[:64] if standing is None else standing.subscriber.username
        origin = f"{login.nas} {login.station or name}"
        now = datetime.now(UTC)
        await self._store.transact(
            lambda tx: login_throttle.admit_attempt(tx, name, origin, now, login_throttle.RADIUS)
        )
        hashed = None if standing is None else standing.password_hash
        is_right = await self._passwords.verify(hashed, login.password or "", "RADIUS")
        if is_right:
            await self._store.transact(
                lambda tx: login_throttle.forget_failures(tx, name, origin, now, login_throttle.RADIUS)
            )
        return is_right


def _refusal_now(checked: CreditStanding | None, standing: CreditStanding | None) -> str:
    """Return why the user is refused after the check of their login; empty: they are accepted."""
    if checked is None or standing is None:
        return WRONG_LOGIN
    if (checked.subscriber.id, checked.password_hash) != (standing.subscriber.id, standing.password_hash):
        return WRONG_LOGIN
    if not standing.subscriber.enabled:
        return DISABLED
    if standing.subscriber.suspended:
        return SUSPENDED
    return "" if standing.available > 0 or standing.bundled_octets else NO_CREDIT


def _standing(tx: Connection, identities: tuple[str, ...], catalogue: CatalogueHolder) -> CreditStanding | None:
    directory, now = Directory.load(tx, identities), datetime.now(UTC)
    return session_queries.find_credit_standing(tx, directory, identities, catalogue.current, now)


def _shortened(name: str) -> str:
    """Return a name for the log: of a number only the last four digits."""
    return f"…{name[-4:]}" if name.isdigit() else name
