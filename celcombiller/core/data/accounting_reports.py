"""Accounting reports of data sessions by a network access server (NAS), apart from the protocol that brings them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

KEY_CHARACTERS = 32


class AcctStatusType(StrEnum):
    """Which report of a session this is (RFC 2866, 5.1)."""

    START = "start"
    INTERIM = "interim"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The operator's conditions: the price of octets, how many are held, and how long a session may be silent."""

    octets_per_credit: int = 1
    quota_octets: int = 10_000_000
    silence: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Usage:
    """One report of a session.

    ``identities`` are the names under which the subscriber may be known, the best first. ``at`` is when the NAS made
    the report, by our clock (its arrival less the Acct-Delay-Time); ``dated_at`` the same by the NAS's clock, if it
    sent an Event-Timestamp. ``session_seconds`` is the age of the session (Acct-Session-Time), None where it was not
    sent. ``wraps``: the report has no Gigawords, so its totals may be those of a 32-bit counter that wrapped.
    ``packets_in`` and ``packets_out`` are counters of 32 bits too (RFC 2866, 5.8 and 5.9), None where they are missing.
    """

    nas: str
    session_id: str
    username: str
    status_type: AcctStatusType
    at: datetime
    octets_in: int = 0
    octets_out: int = 0
    dated_at: datetime | None = None
    session_seconds: int | None = None
    wraps: bool = False
    packets_in: int | None = None
    packets_out: int | None = None
    identities: tuple[str, ...] = ()
    client: str = ""
    nas_address: str = ""
    framed_address: str = ""
    station: str = ""
    cause: str = ""
    conditions: Conditions = Conditions()

    @property
    def key(self) -> str:
        """Return the key of the sessions with this id at this NAS, however long these names are."""
        return key_of(self.nas, self.session_id)

    @property
    def keys(self) -> tuple[str, str]:
        """Return ``key``, and the key that earlier versions gave the session, which included the user name."""
        return self.key, key_of(self.nas, self.session_id, self.username)

    @property
    def began_at(self) -> datetime | None:
        """Return when the session began, by the NAS's clock; None: the report does not say it."""
        if self.dated_at is None:
            return None
        if self.session_seconds is not None:
            return self.dated_at - timedelta(seconds=self.session_seconds)
        return self.dated_at if self.status_type is AcctStatusType.START else None

    @property
    def started_at(self) -> datetime:
        """Return when the session began, by our clock, as far as the report says it."""
        return self.at - timedelta(seconds=self.session_seconds or 0)

    @property
    def octets(self) -> int:
        """Return the octets of both directions."""
        return self.octets_in + self.octets_out


@dataclass(frozen=True, slots=True)
class NasRestart:
    """A NAS began or ended accounting (Accounting-On, Accounting-Off): its sessions are over."""

    nas: str
    at: datetime
    cause: str
    dated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StaleSession:
    """No report of this session has come since ``heard_before``."""

    key: str
    reference: str
    heard_before: datetime


Report = Usage | NasRestart | StaleSession


def key_of(*names: str) -> str:
    """Return a key of some names; different names give different keys, whatever characters they contain."""
    text = "".join(f"{len(name)}:{name}" for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARACTERS]
