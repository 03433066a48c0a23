"""Reports of data sessions: what a network access server (NAS) tells of them, and on which conditions they count."""

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
    """The operator's conditions: what an octet costs, how much of it is held, and how long a session may be silent."""

    octets_per_credit: int = 1
    quota_octets: int = 10_000_000
    silence: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Usage:
    """One report of a session.

    ``identities`` are the names under which the subscriber may be known, the best first. ``at`` is when the NAS made
    the report, by our clock; ``dated_at`` the same by its own, if it said so: only that tells an old report from a
    new one for certain.
    """

    nas: str
    session_id: str
    username: str
    status_type: AcctStatusType
    at: datetime
    octets_in: int = 0
    octets_out: int = 0
    dated_at: datetime | None = None
    identities: tuple[str, ...] = ()
    client: str = ""
    nas_address: str = ""
    framed_address: str = ""
    station: str = ""
    cause: str = ""
    conditions: Conditions = Conditions()

    @property
    def key(self) -> str:
        """Name what it is a report of, however long the names are: this NAS's session of this id and user."""
        return key_of(self.nas, self.session_id, self.username)

    @property
    def octets(self) -> int:
        """Both directions together."""
        return self.octets_in + self.octets_out


@dataclass(frozen=True, slots=True)
class NasRestart:
    """A NAS says that it began or ended accounting (Accounting-On, Accounting-Off): its sessions are over."""

    nas: str
    at: datetime
    cause: str
    dated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StaleSession:
    """Nobody has told of this session since before ``heard_before``."""

    key: str
    heard_before: datetime


Report = Usage | NasRestart | StaleSession


def key_of(*names: str) -> str:
    """Give a key of some names, each told apart from the next whatever is in them."""
    text = "".join(f"{len(name)}:{name}" for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARACTERS]
