"""A data session and its reference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from celcombiller.core.data.accounting_reports import KEY_CHARACTERS, key_of
from celcombiller.core.model.calls import share_reference

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.core.subscribers.directory import Directory

ORIGIN = "data"
"""The origin of the transfers, and the first word of their references."""


HOLD_MARGIN = timedelta(minutes=15)
"""How much longer a hold is valid than its session may be silent. If one expires, no biller was running."""


REFERENCE_CHARACTERS = len(ORIGIN) + 1 + KEY_CHARACTERS


SPENT = "the credit is spent"


DISABLED = "the subscriber is disabled"


SUSPENDED = "the subscriber has not paid a fee"


GONE = "the subscriber is gone"
"""Why a session may not go on."""


BEGINNING_UNKNOWN = "its beginning was not told"
"""The note of a session whose Start has not come before its first report."""


class DataState(StrEnum):
    """A data session is open, then closed."""

    OPEN = "open"
    CLOSED = "closed"


class Closing(StrEnum):
    """What closed a session."""

    STOP = "stop"
    RESTART = "restart"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class DataSession:
    """A session as reported so far.

    ``generation`` counts the sessions of one key: a NAS uses its ids again, and for several users. ``holds`` counts
    its holds and charges; the last hold is the open one. ``disconnect`` says why the NAS must end it; empty: it need
    not. Of the newest report: ``reported_at`` is when it was made by our clock, ``dated_at`` by the NAS's clock,
    ``session_seconds`` the age of the session; ``packets_in`` and ``packets_out`` count its packets. ``began_at`` is
    the beginning by the NAS's clock. None: not reported.

    ``rate_detail`` is the rate of its tariff (JSON), ``shares`` are the accounts of the bundles that hold octets for it
    and how many, ``pieces`` what was used of each (`OctetUse`). None: it is priced by its total and
    ``octets_per_credit`` alone.
    """

    key: str
    generation: int
    nas: str
    session_id: str
    username: str
    subscriber_id: int
    account_id: int
    octets_per_credit: int
    started_at: datetime
    heard_at: datetime
    client: str = ""
    nas_address: str = ""
    framed_address: str = ""
    station: str = ""
    octets_in: int = 0
    octets_out: int = 0
    octets: int = 0
    charged: int = 0
    holds: int = 0
    state: DataState = DataState.OPEN
    dated_at: datetime | None = None
    began_at: datetime | None = None
    reported_at: datetime | None = None
    session_seconds: int | None = None
    packets_in: int | None = None
    packets_out: int | None = None
    ended_at: datetime | None = None
    closed_by: Closing | None = None
    cause: str = ""
    note: str = ""
    disconnect: str = ""
    disconnect_at: datetime | None = None
    disconnect_tries: int = 0
    disconnect_said: str = ""
    rate_detail: str | None = None
    tariff_version_id: int | None = None
    shares: tuple[tuple[int, int], ...] = ()
    pieces: str | None = None

    @property
    def reference(self) -> str:
        """The id of this session, with which the ids of its holds and charges begin."""
        return reference_of(self.key, self.generation)

    @property
    def hold_reference(self) -> str:
        """The id of its last hold, or of its last charge after it was closed."""
        return f"{self.reference}:{self.holds}"

    @property
    def hold_references(self) -> tuple[str, ...]:
        """The ids of its last holds: of the balance, then of each bundle."""
        whole = self.hold_reference
        return (whole, *(share_reference(account_id, whole) for account_id, _ in self.shares))


def reference_of(key: str, generation: int) -> str:
    """Return the reference of a session; all are of one length, so that SQL can cut it from a charge's reference."""
    return f"{ORIGIN}:{key_of(key, str(generation))}"


def find_payer(directory: Directory, identities: Iterable[str]) -> Subscriber | None:
    """Return who pays: the subscriber of the first name that is known, of those that a report or login may mean."""
    found = (directory.find_payer(word, word) for word in identities)
    return next((each for each in found if each is not None), None)
