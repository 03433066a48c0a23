"""The values the biller speaks of, frozen and built valid.

Amounts are whole credits (``int``). Times are aware UTC ``datetime``; talk is whole milliseconds. What a word means
is fixed once, here; nothing in this module knows a database, Asterisk or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date, datetime


class Kind(StrEnum):
    """What a credit buys: by default one voice credit is one second, one data credit one byte, one sms credit a part.

    Sms credit pays for text messages only where the operator says so; else they are paid in voice credit.
    """

    VOICE = "voice"
    DATA = "data"
    SMS = "sms"


class Level(IntEnum):
    """Who a subscriber is to the operator, with the numbers of the original program."""

    ADMINISTRATOR = 0
    SUBSCRIBER = 1
    COLLABORATOR = 2


class HoldState(StrEnum):
    """A hold is open, then exactly once one of the others."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class CallState(StrEnum):
    """A call is open, then settled (answered and charged), released (not answered) or expired (nobody ever told)."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class Witness(StrEnum):
    """A source that tells of a call's end."""

    AGI = "agi"
    REDUCER = "reducer"
    AMI = "ami"
    SWEEP = "sweep"


class ScheduleKind(IntEnum):
    """Which pots a schedule fills, with the numbers of the original program, which had no sms."""

    VOICE = 1
    DATA = 2
    BOTH = 3
    SMS = 4

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of credit that it gives; both get the same value."""
        return {1: (Kind.VOICE,), 2: (Kind.DATA,), 3: (Kind.VOICE, Kind.DATA), 4: (Kind.SMS,)}[self]


class Recurrence(StrEnum):
    """How the due dates of a schedule follow one another."""

    MONTHLY = "monthly"
    WEEKLY = "weekly"
    DAYS = "days"
    ONCE = "once"


class CatchUp(StrEnum):
    """Which due dates are made good that passed while no biller ran."""

    ALL = "all"
    LAST = "last"
    NONE = "none"


class RunState(StrEnum):
    """A due date of a schedule is being credited, or was, or was passed over as a whole."""

    OPEN = "open"
    DONE = "done"
    SKIPPED = "skipped"


class CreditOutcome(StrEnum):
    """What a due date brought one member: its credit, nothing because he is disabled, or nothing because of a fault."""

    CREDITED = "credited"
    PASSED = "passed"
    FAILED = "failed"


class Route(StrEnum):
    """By which way a text message leaves: Asterisk's MessageSend, or SMPP to a message centre; none: it cannot."""

    NONE = "none"
    ASTERISK = "asterisk"
    SMPP = "smpp"


class MessageState(StrEnum):
    """Where a text message is; only the first two are open, with its credit held.

    Queued: the biller is to send it. Sending: Asterisk does, for a phone, and its script tells. Then accepted (by the
    network: charged), refused (not charged) or expired (nobody ever told: not charged). Of an accepted one a receipt
    may tell that it was delivered, or that it failed: then its charge is given back.
    """

    QUEUED = "queued"
    SENDING = "sending"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"

    @property
    def is_open(self) -> bool:
        """Whether what becomes of it is still to be told."""
        return self in (MessageState.QUEUED, MessageState.SENDING)


class MessageOrigin(StrEnum):
    """Whose message it is: a phone's (of one elsewhere, if nobody pays), the API's, or a notice of the biller's own."""

    PHONE = "phone"
    API = "api"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Who holds the service. Identity numbers are text: leading zeros count."""

    id: int
    username: str
    name: str
    clid: str
    imsi: str
    cpf: str | None
    address: str
    level: Level
    enabled: bool


@dataclass(frozen=True, slots=True)
class Account:
    """One pot of one kind of credit. A system account (no subscriber) stores no balance: its total is summed."""

    id: int
    kind: Kind
    subscriber_id: int | None
    posted: int
    held: int
    floor: int

    @property
    def available(self) -> int:
        """Credits that may still be held or taken, down to the floor."""
        return self.posted - self.held - self.floor

    @property
    def is_system(self) -> bool:
        """Whether this is the other side of the movements, not a subscriber's pot."""
        return self.subscriber_id is None


@dataclass(frozen=True, slots=True)
class Transfer:
    """An immutable movement of ``amount`` credits out of the debit account into the credit account.

    ``reference`` is the id its sender made. The two ``posted`` values are the balances after it, ``None`` for a
    system account. ``note`` says why, where a reason is owed (an overrun, a correction).
    """

    reference: str
    debit_account_id: int
    credit_account_id: int
    amount: int
    origin: str
    at: datetime
    debit_posted: int | None
    credit_posted: int | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Credit set aside for one call, under the call's reference."""

    reference: str
    account_id: int
    amount: int
    state: HoldState
    opened_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of talking to numbers that begin with ``prefix``.

    ``price`` credits for each started ``increment_seconds``, and ``connect_fee`` credits once at the answer.
    """

    prefix: str = ""
    name: str = ""
    connect_fee: int = 0
    price: int = 1
    increment_seconds: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """One billed leg; its row is its CDR from authorization to settlement.

    ``uniqueid`` is Asterisk's; ``leg`` counts the dials of one channel (a dialplan may try a second number).
    ``authorization`` is the id the asking session made, so that the same question gets the same answer.
    ``answered_early``: the caller's channel was up before the Dial, so ANSWEREDTIME_MS holds the ringing too.
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

    @property
    def reference(self) -> str:
        """The id under which this call's hold, transfer and testimonies stand."""
        return f"call:{self.server}:{self.uniqueid}:{self.leg}"


@dataclass(frozen=True, slots=True)
class Ending:
    """What one witness says of a call's end.

    ``talk_ms`` is Asterisk's ANSWEREDTIME_MS (``None``: it did not say), ``answered_at`` the stamp our subroutine
    set at the callee's answer, ``at`` when the talk was over, all by Asterisk's clock. ``outcome`` is DIALSTATUS
    or the word that stands for it. ``note`` says what is not proved, where something is not.
    """

    answered: bool
    at: datetime
    talk_ms: int | None = None
    answered_at: datetime | None = None
    outcome: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the network may use: the seconds of talk, for which call, and to whom to dial (``None``: off-net)."""

    call: Call
    subscriber: Subscriber
    callee: Subscriber | None
    seconds: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """The answer to every witness: the call as it was closed, and whether this witness was the first to tell."""

    call: Call
    first: bool
    difference_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A group's credit: ``value`` of a kind to each member on each due date from ``first_on`` on.

    ``day`` is of the month (1 to 31) or of the week (1 is Monday), ``interval_days`` the step of `Recurrence.DAYS`.
    ``count`` is how many runs a new member gets. What was due up to ``done_until`` has been decided.
    """

    id: int
    name: str
    kind: ScheduleKind
    value: int
    recurrence: Recurrence
    day: int | None
    interval_days: int | None
    first_on: date
    count: int
    time_zone: str
    catch_up: CatchUp
    enabled: bool
    done_until: date
    created_at: datetime
    deleted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """A subscriber in a schedule, with the runs he has left; he gets what is due from ``joined_on`` on."""

    id: int
    schedule_id: int
    subscriber_id: int
    count: int
    joined_on: date
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """A membership that was renewed: how many months were bought, and when."""

    id: int
    membership_id: int
    at: datetime
    months: int


@dataclass(frozen=True, slots=True)
class Run:
    """One due date of one schedule: what each member gets, fixed when it began, and how far it is.

    Members are credited in the order in which they joined; all up to ``last_membership_id`` have had their turn.
    """

    id: int
    schedule_id: int
    due_on: date
    kind: ScheduleKind
    value: int
    state: RunState
    opened_at: datetime
    closed_at: datetime | None = None
    last_membership_id: int = 0
    credited: int = 0
    passed: int = 0
    failed: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One text message, from authorization to its receipt. ``subscriber_id`` pays; ``None``: it is free.

    ``reference`` is the id its sender made, under which its hold and its transfer stand too. ``text`` is there only
    while the biller has yet to send it; ``digest`` is what is left to know the same message by.
    """

    reference: str
    origin: MessageOrigin
    subscriber_id: int | None
    account_id: int | None
    from_number: str
    to_number: str
    callee_id: int | None
    route: Route
    text: str | None
    digest: str
    encoding: str
    parts: int
    price: int
    state: MessageState
    queued_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    note: str = ""

    @property
    def cost(self) -> int:
        """What it costs who pays, once it is accepted."""
        return 0 if self.account_id is None else self.price * self.parts
