"""A call: its rate, grant, reports and settlement."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from celcombiller.core.model.routing import TrunkDial
from celcombiller.core.model.subscribers import Subscriber
from celcombiller.core.model.tariffs import Rate


class CallState(StrEnum):
    """A call is open, then settled (answered and charged), released (not answered) or expired (never reported)."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class Witness(StrEnum):
    """A source that reports a call's end."""

    AGI = "agi"
    REDUCER = "reducer"
    AMI = "ami"
    SWEEP = "sweep"
    CDR = "cdr"


class RenewalReason(StrEnum):
    """Why the grant of an open call changed: its slice ended, credit came, another call shares it, a limit fell."""

    RENEWAL = "renewal"
    CREDIT = "credit"
    SHARING = "sharing"
    LIMIT = "limit"


class CallEnd(StrEnum):
    """Why an open call may not go on."""

    DISABLED = "disabled"
    DELETED = "deleted"
    BARRED = "barred"
    SUSPENDED = "suspended"


class Call(msgspec.Struct, frozen=True):
    """One billed leg; its row is its CDR from authorization to settlement.

    ``uniqueid`` is Asterisk's; ``leg`` counts the dials of one channel (a dialplan may try a second number).
    ``authorization`` is the id that the AGI session made, so that the same request gets the same answer.
    ``answered_early``: the caller's channel was up before the Dial, so ANSWEREDTIME_MS includes the ringing.
    ``tariff_version_id``: the version of the tariff whose rate it is; ``None``: the settings' own. ``bundles``: the
    accounts of the bundles that it takes from, in their order, before the balance. ``cost`` is what the balance pays.
    ``granted_seconds``: how long it may talk, counted from the answer; of a call in slices, the end of the present one.
    ``group_id``: the subscriber's group when it began. ``trunk_id``: the trunk that it goes by, or went by last;
    ``trunks_tried`` those before that one. ``trunk_rate`` is what that trunk's provider charges, ``trunk_cost`` what
    the talk cost the operator by it. ``dialled``: what Asterisk sent of who calls and of the number, as the text of
    `dialled_numbers`; ``None``: just what the call has.
    """

    server: str
    uniqueid: str
    leg: int
    authorization: str
    channel: str
    subscriber_id: int
    account_id: int
    from_number: str
    to_number: str
    callee_id: int | None
    rate: Rate
    granted_seconds: int
    answered_early: bool
    started_at: datetime
    state: CallState = CallState.OPEN
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    talk_ms: int | None = None
    cost: int | None = None
    witness: Witness | None = None
    outcome: str = ""
    note: str = ""
    tariff_version_id: int | None = None
    bundles: tuple[int, ...] = ()
    group_id: int | None = None
    trunk_id: int | None = None
    trunks_tried: tuple[int, ...] = ()
    trunk_rate: Rate | None = None
    trunk_cost: int | None = None
    dialled: str | None = None

    @property
    def margin(self) -> int | None:
        """What is left to the operator of what the balance paid; ``None``: what the trunk costs is not known."""
        return None if self.cost is None or self.trunk_cost is None else self.cost - self.trunk_cost

    @property
    def reference(self) -> str:
        """The id of this call's hold, transfer and witness reports."""
        return f"call:{self.server}:{self.uniqueid}:{self.leg}"

    @property
    def hold_references(self) -> tuple[str, ...]:
        """The ids of its holds: of the balance, then of each bundle."""
        return (self.reference, *(share_reference(each, self.reference) for each in self.bundles))


BY_CDR = "by the CDR of "
"""The beginning of the note of a report that a CDR made: then follows where the record stands."""

RERATING = "rerate"
"""The origin of what a call was charged again by another tariff, and the first word of its id."""

SHARE = "share"
"""The first word of the id of what a bundle pays."""


def share_reference(account_id: int, reference: str) -> str:
    """Return the id of the hold and of the charge of a bundle's part in a use, which has the ``reference``."""
    return f"{SHARE}:{account_id}:{reference}"


class CallReport(msgspec.Struct, frozen=True):
    """What one witness reports of a call's end.

    ``talk_ms`` is Asterisk's ANSWEREDTIME_MS (``None``: not reported), ``answered_at`` the stamp that our subroutine
    set at the callee's answer, ``at`` the end of the talk, all by Asterisk's clock. ``outcome`` is DIALSTATUS or the
    word that stands for it. ``note`` says what is not proved. ``lasted_ms`` is how long the Dial lasted, ringing
    included, by a clock that cannot be set: the upper limit where the other times are doubtful. ``ahead`` is by how
    much Asterisk's clock is ahead of the biller's, as the witness found it; 0: by what a message takes, or unknown.
    """

    answered: bool
    at: datetime
    talk_ms: int | None = None
    answered_at: datetime | None = None
    outcome: str = ""
    note: str = ""
    lasted_ms: int | None = None
    ahead: timedelta = timedelta()

    @property
    def at_biller(self) -> datetime:
        """The end of the talk by the biller's clock."""
        return self.at - self.ahead


class CallGrant(msgspec.Struct, frozen=True):
    """What the network may use: ``seconds`` of talk, for a call, to a ``callee`` (``None``: off-net).

    ``trunks``: how an off-net call is dialled, one after the other until one succeeds; the first is recorded as the
    call's. None: it has no route.
    """

    call: Call
    subscriber: Subscriber
    callee: Subscriber | None
    seconds: int
    expires_at: datetime
    trunks: tuple[TrunkDial, ...] = ()


class CallUpdate(msgspec.Struct, frozen=True):
    """The answer to an update: the call with its present grant.

    ``is_final``: no more can be granted now (RFC 8506, Final-Unit-Indication), or the call is over. ``end``: why it
    must be hung up now. ``at_most``: its grant is longer than it may be by now; shorten its channel to so many seconds
    from the answer, then the grant.
    """

    call: Call
    is_final: bool = False
    end: CallEnd | None = None
    at_most: int | None = None


class CallRenewal(msgspec.Struct, frozen=True):
    """A change of what an open call is granted: in seconds since the answer, and in credits held on the balance."""

    reference: str
    at: datetime
    reason: RenewalReason
    seconds_before: int
    seconds_after: int
    held_before: int
    held_after: int
    note: str = ""


class Settlement(msgspec.Struct, frozen=True):
    """The answer to every witness: the call as it was closed, and whether this witness was the first to report.

    ``trunk``: the name of the trunk that it went by last; empty: none.
    """

    call: Call
    first: bool
    difference_ms: int | None = None
    trunk: str = ""
