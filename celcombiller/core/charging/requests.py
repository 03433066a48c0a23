"""The credit-control requests and their answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueHolder
from celcombiller.core.charging.payer_memory import PayerMemory
from celcombiller.core.data.accounting_reports import Report
from celcombiller.core.data.session import DataSession
from celcombiller.core.errors import BillerError
from celcombiller.core.model.accounts import Kind, Transfer
from celcombiller.core.model.calls import (
    Call,
    CallGrant,
    CallReport,
    CallUpdate,
    RenewalReason,
    Settlement,
    Witness,
)
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.numbering import AS_DIALLED
from celcombiller.core.sms.charging import MessageOutcome, MessagePolicy, MessageResult, MessageSubmission

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from celcombiller.core.rating.numbering import NumberingPlan
    from celcombiller.core.rating.tariff import Tariff


@dataclass(frozen=True, slots=True)
class ChargingPolicy:
    """The operator's conditions, from the settings. ``external``: whether numbers outside can be called.

    ``tariff`` has the settings' own rates of calls; the ``catalogue`` has them beside those of the ledger.
    ``numbering`` is how numbers are dialled; they are recorded, priced and routed in their international form.
    ``time_zone`` is that of the days and months in which spending is limited. Who is suspended may call the numbers
    with the prefixes ``suspended_allowed`` only.
    """

    tariff: Tariff
    ring_seconds: int = 40
    max_call_seconds: int = 7200
    external: bool = False
    messages: MessagePolicy = field(default_factory=MessagePolicy)
    catalogue: CatalogueHolder = field(default_factory=lambda: CatalogueHolder(Catalogue()))
    time_zone: tzinfo = UTC
    numbering: NumberingPlan = AS_DIALLED
    payers: PayerMemory = field(default_factory=PayerMemory, compare=False)
    suspended_allowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Enter the settings' rates in the catalogue."""
        if not self.catalogue.current.settings:
            self.catalogue.current = replace(self.catalogue.current, settings={Service.VOICE: self.tariff})


@dataclass(frozen=True, slots=True)
class Initiate:
    """Authorize a call. ``authorization`` is an id that the AGI session made for this request.

    ``previous`` is the channel's report of an earlier Dial of its own, in case that leg is still open.
    ``slice_seconds``: hold the credit of a slice of about that length, to be renewed by `Update`; ``None``: of the
    whole call, as nothing could move its limit later. ``began_at``: when it began, of a call that is reported late; it
    is priced as then.
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
    slice_seconds: int | None = None
    began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """Record that AMI saw the callee of this channel answer."""

    server: str
    uniqueid: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Update:
    """Renew what an open call is granted, or limit it (RFC 8506, section 5.3).

    ``granted_seconds`` is the grant that the sender knows; where it is another by now, nothing changes.
    ``used_seconds`` is the talk so far. The new grant lasts ``slice_seconds`` from now, as far as credit allows. With
    ``at_most`` the grant is shortened to so many seconds from the answer: the limit of the channel has been already.
    """

    server: str
    uniqueid: str
    leg: int
    granted_seconds: int
    used_seconds: int
    answered_at: datetime | None = None
    slice_seconds: int = 0
    at_most: int | None = None
    reason: RenewalReason = RenewalReason.RENEWAL


@dataclass(frozen=True, slots=True)
class TakeTrunk:
    """Record by which trunk an open call is dialled next: the first of ``trunk_ids`` that can take it.

    ``failed``: the trunk by which it was dialled before. The answer is the call, with its ``trunk_id``; asked again,
    the same.
    """

    server: str
    uniqueid: str
    leg: int
    failed: int
    trunk_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Terminate:
    """Settle the call of this channel, as a witness reports its end.

    ``unauthorized_request`` is the authorization that got no answer in time, where the policy let the call go without
    it: its talk is charged whatever became of that request since. ``leg``: the report is of this leg only;
    ``expired``: no witness reported while the hold was valid. ``known``: the call as the sender knows it, so that the
    accounts and holds that it probably has are read together with it. ``limit_seconds``: the seconds of talk to which
    the call was limited without the ledger, where that is not what was granted.
    """

    server: str
    uniqueid: str
    witness: Witness
    ending: CallReport
    unauthorized_request: Initiate | None = None
    leg: int | None = None
    expired: bool = False
    known: Call | None = field(default=None, compare=False, repr=False)
    limit_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Credit:
    """A credit of ``value`` to one account, or a debit where it is negative, once for a ``reference``."""

    username: str
    kind: Kind
    value: int
    origin: str
    reference: str
    note: str = ""


Request = (
    Initiate | Update | CallAnswered | TakeTrunk | Terminate | Credit | MessageSubmission | MessageOutcome | Report
)


Outcome = CallGrant | CallUpdate | Call | Settlement | Transfer | MessageResult | DataSession | list[DataSession] | None


Result = Outcome | BillerError
