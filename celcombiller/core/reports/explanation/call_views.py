"""The explanation of a call as data: what programs read, and what the words are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.model.accounts import HoldState
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.reports.call_price import PricePieceView
from celcombiller.core.reports.explanation.tariff_choice import TariffChoice

Time = Annotated[datetime, Meta(tz=True, description="RFC 3339, UTC")]


class PricesView(msgspec.Struct, kw_only=True):
    """The prices of the call's rate at some times."""

    window: Annotated[str, Meta(description="times of the week; empty: all others")]
    connect_fee: Annotated[int, Meta(description="credits, once")]
    minimum_charge: Annotated[int, Meta(description="credits: the least that an answered call costs")]
    grace: Annotated[int, Meta(description="seconds: a call of no more costs nothing")]
    text: Annotated[str, Meta(description="the price in words")]


class MovementView(msgspec.Struct, kw_only=True):
    """A transfer of the call: its charge to the balance or to a bundle, a rerating's difference, or a reversal."""

    reference: Annotated[str, Meta(description="its id in the ledger")]
    at: Time
    payer: Annotated[str, Meta(description="`balance`, or the name of the bundle")]
    unit: Annotated[str, Meta(description="what is counted: credits, or seconds of a bundle")]
    amount: Annotated[int, Meta(description="credits, or seconds of a bundle, taken; negative: given back")]
    before: Annotated[int, Meta(description="credits, or seconds, that were there before")]
    after: Annotated[int, Meta(description="credits, or seconds, that were there after")]
    note: str


class HoldPartView(msgspec.Struct, kw_only=True):
    """What was set aside on the balance or on a bundle for the call; it is the last amount, after all renewals."""

    payer: Annotated[str, Meta(description="`balance`, or the name of the bundle")]
    unit: Annotated[str, Meta(description="what is counted: credits, or seconds of a bundle")]
    amount: Annotated[int, Meta(description="credits, or seconds of a bundle")]
    state: HoldState
    opened_at: Time
    expires_at: Time
    ended_at: Time | None


class RenewalView(msgspec.Struct, kw_only=True):
    """A change of what the call was granted while it was open."""

    at: Time
    reason: Annotated[
        str,
        Meta(
            description="renewal (its part of the credit was used up), credit (more came), sharing (another call of the"
            " same balance), limit (it may talk less)"
        ),
    ]
    seconds_before: Annotated[int, Meta(description="seconds of talk that were granted")]
    seconds_after: Annotated[int, Meta(description="seconds of talk that are granted since")]
    held_before: Annotated[int, Meta(description="credits that were held on the balance")]
    held_after: Annotated[int, Meta(description="credits that are held since")]
    note: str


class OrderView(msgspec.Struct, kw_only=True):
    """What an operator wanted of the call while it was live."""

    kind: Annotated[str, Meta(description="hangup or say")]
    reason: Annotated[str, Meta(description="the operator's words")]
    actor: Annotated[str, Meta(description="who; shown to staff")]
    made_at: Time
    done_at: Time | None
    result: str


class TriedTrunkView(msgspec.Struct, kw_only=True):
    """A trunk that the call was dialled by, in order; the last one is the one that it went by."""

    name: str
    failed: Annotated[bool, Meta(description="whether the next one was tried after it")]
    cost: Annotated[int, Meta(description="credits that its provider charges; null: none, or not known")] | None
    margin: Annotated[int, Meta(description="credits: what the balance paid less the cost")] | None


class ReratingView(msgspec.Struct, kw_only=True):
    """A time when the call was charged again by another version of a tariff."""

    at: Time
    tariff: str
    version: Annotated[int, Meta(description="the number of the version in its tariff")]
    price: Annotated[int, Meta(description="credits that it costs by this version")]
    difference: Annotated[int, Meta(description="credits that were charged besides; negative: given back")]


class WitnessView(msgspec.Struct, kw_only=True):
    """What one witness reported of the call's end."""

    witness: Witness
    at: Time
    answered: bool
    talk_ms: Annotated[int, Meta(description="milliseconds of talk, by its report")] | None
    outcome: str
    difference_ms: Annotated[int, Meta(description="milliseconds more than were charged for; null: first")] | None
    discrepancy: Annotated[bool, Meta(description="whether it differs by more than a second")]
    note: str


class CallExplanation(msgspec.Struct, kw_only=True):
    """Why a call cost what it cost: all that went into its charge, and whether it adds up."""

    id: Annotated[int, Meta(description="the number of its row")]
    reference: Annotated[str, Meta(description="the id of its hold and of its charge in the ledger")]
    text: Annotated[str, Meta(description="the whole in plain words, to be read to a customer")] = ""
    state: CallState
    username: Annotated[str, Meta(description="the subscriber who pays")]
    name: Annotated[str, Meta(description="the subscriber's name")]
    from_number: Annotated[str, Meta(description="the subscriber's number")]
    to_number: Annotated[str, Meta(description="the number as it was priced")]
    dialled: Annotated[str, Meta(description="the number as it was dialled")]
    caller_number: Annotated[str, Meta(description="the caller's number as Asterisk sent it")]
    account_code: Annotated[str, Meta(description="the account code as Asterisk sent it; it says who pays")]
    on_net: Annotated[bool, Meta(description="whether it is a subscriber's")]
    server: Annotated[str, Meta(description="the Asterisk server")]
    uniqueid: Annotated[str, Meta(description="Asterisk's id of the caller's channel")]
    channel: Annotated[str, Meta(description="the caller's channel")]
    leg: Annotated[int, Meta(description="which dial of that channel, counted from 0")]
    tariff: TariffChoice
    prefix: Annotated[str, Meta(description="the prefix of the rate")]
    destination: Annotated[str, Meta(description="the destination of the rate")]
    prices: Annotated[list[PricesView], Meta(description="the prices of the rate, by time of the week")]
    started_at: Annotated[datetime, Meta(tz=True, description="when it was authorized (RFC 3339, UTC)")]
    answered_at: Annotated[datetime, Meta(tz=True, description="when the callee answered (RFC 3339, UTC)")] | None
    ended_at: Annotated[datetime, Meta(tz=True, description="when the talk was over (RFC 3339, UTC)")] | None
    outcome: Annotated[str, Meta(description="Asterisk's DIALSTATUS, or the word that stands for it")]
    witness: Annotated[Witness, Meta(description="who reported its end first")] | None
    granted_seconds: Annotated[int, Meta(description="seconds of talk that it was granted at last")]
    talk_ms: Annotated[int, Meta(description="milliseconds of talk")] | None
    charged_seconds: Annotated[int, Meta(description="seconds that were priced; null: it was not charged")] | None
    pieces: Annotated[
        list[PricePieceView],
        Meta(description="of a settled call, the parts of its price: their credits sum to `price`"),
    ]
    price: Annotated[int, Meta(description="credits that the balance and bundles of money paid, by the pieces")]
    paid_by_bundles: Annotated[int, Meta(description="credits of it that bundles of money paid")]
    cost: Annotated[int, Meta(description="credits of it that the balance paid; null: the call is open")] | None
    money: Annotated[str, Meta(description="the cost in the money of the tariff; empty: it has none")]
    charged: Annotated[int, Meta(description="credits that the balance paid in all: with reratings and reversals")]
    balance_at_start: Annotated[int, Meta(description="credits on the balance when the call began")]
    movements: Annotated[list[MovementView], Meta(description="its transfers, with the balances around them")]
    holds: Annotated[list[HoldPartView], Meta(description="what was set aside for it")]
    renewals: list[RenewalView]
    orders: list[OrderView]
    trunks: Annotated[list[TriedTrunkView], Meta(description="the trunks that were tried; shown to staff")]
    reratings: list[ReratingView]
    witnesses: list[WitnessView]
    remarks: Annotated[list[str], Meta(description="what was rounded, limited, or is not certain, and why")]
    note: Annotated[str, Meta(description="what the biller noted beside the charge")]
    adds_up: Annotated[bool, Meta(description="whether the parts sum to what was charged, as `audit` proves it")]
    differences: Annotated[list[str], Meta(description="where it does not add up")]
