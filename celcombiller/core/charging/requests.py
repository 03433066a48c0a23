"""The credit-control requests and their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celcombiller.core.data.accounting_reports import Report
from celcombiller.core.data.session import DataSession
from celcombiller.core.errors import (
    BillerError,
)
from celcombiller.core.model.accounts import Kind, Transfer
from celcombiller.core.model.calls import Call, CallGrant, CallReport, Settlement, Witness
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy, MessageResult, MessageSubmission

if TYPE_CHECKING:
    from datetime import datetime

    from celcombiller.core.rating import Tariff


@dataclass(frozen=True, slots=True)
class ChargingPolicy:
    """The operator's conditions, from the settings: the price list, the longest call, whether others can be called."""

    tariff: Tariff
    ring_seconds: int = 40
    max_call_seconds: int = 7200
    external: bool = False
    messages: MessagePolicy = field(default_factory=MessagePolicy)


@dataclass(frozen=True, slots=True)
class Initiate:
    """May this call go, and for how long? ``authorization`` is an id the asking session made for this question.

    ``previous`` is what the channel says of an earlier Dial of its own, should that leg still be open.
    """

    server: str
    uniqueid: str
    authorization: str
    channel: str
    account_code: str
    caller_number: str
    called_number: str
    answered_early: bool
    previous: CallReport


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """AMI says that the callee of this channel answered."""

    server: str
    uniqueid: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Terminate:
    """A witness says how the call of this channel ended.

    ``unauthorized_request`` is the question that the ledger did not answer, when the policy let the call go without it.
    ``leg`` names one leg where the witness means that one only; ``expired``: no witness came in the hold's validity.
    """

    server: str
    uniqueid: str
    witness: Witness
    ending: CallReport
    unauthorized_request: Initiate | None = None
    leg: int | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Credit:
    """Give (or, negative, take) ``value`` credits of one kind, once for a ``reference``."""

    username: str
    kind: Kind
    value: int
    origin: str
    reference: str
    note: str = ""


Request = Initiate | CallAnswered | Terminate | Credit | MessageSubmission | MessageOutcome | Report


Outcome = CallGrant | Call | Settlement | Transfer | MessageResult | DataSession | list[DataSession] | None


Result = Outcome | BillerError
