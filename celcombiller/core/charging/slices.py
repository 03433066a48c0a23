"""Slices: how much of its credit a call holds at a time, and how the calls of one account share it. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zlib import crc32

from celcombiller.core.rating.bill import Pot, make_grant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from celcombiller.core.charging.requests import ChargingPolicy
    from celcombiller.core.ledger.book import Book
    from celcombiller.core.model.calls import Call
    from celcombiller.core.model.tariffs import Rate
    from celcombiller.core.rating.bill import Bill

HOLD_MARGIN = timedelta(minutes=10)
"""How long a hold stays open after the last moment its call can be alive, so that a late witness still finds it."""

LEAST_SHARE_SECONDS = 10
"""Calls that share an account get at least so many seconds more each, while there is credit: shares would become ever
smaller, and ever more work."""


def first_slice(reference: str, slice_seconds: int) -> int:
    """Return the seconds of a call's first slice: half of ``slice_seconds`` at least, by the hash of its reference.

    So calls that began together are not renewed together.
    """
    return slice_seconds - crc32(reference.encode()) % (slice_seconds // 2 + 1)


def make_slice(
    rate: Rate,
    pots: Sequence[Pot],
    at: datetime,
    most: int,
    wait_seconds: int,
    *,
    spendable: int,
    held: int = 0,
    cost_max: int | None = None,
    sharers: int = 1,
    granted: int = 0,
) -> tuple[int, Bill]:
    """Return the seconds from the answer on that a call is granted, at most ``most``, and who has to pay how much.

    Of the balance it has ``held`` credits already and ``granted`` seconds; ``spendable`` are those that no call holds.
    It gets the part of one of ``sharers`` of them, but `LEAST_SHARE_SECONDS` more at least; ``cost_max`` limits what it
    costs the balance in all. The other arguments are those of `make_grant`.
    """

    def grant(part: int, seconds: int) -> tuple[int, Bill]:
        credit = held + part
        return make_grant(rate, pots, credit if cost_max is None else min(credit, cost_max), at, seconds, wait_seconds)

    seconds, bill = grant(spendable // sharers if spendable > 0 else spendable, most)
    least = min(most, granted + LEAST_SHARE_SECONDS)
    if sharers > 1 and seconds < least:
        alone, bill_alone = grant(spendable, least)
        if alone > seconds:
            return alone, bill_alone
    return seconds, bill


def held_pots(book: Book, call: Call) -> list[Pot]:
    """Return the bundles that an open call takes from, each with what it holds."""
    return [
        Pot(account_id, book.accounts[account_id].kind, book.holds[reference].amount)
        for account_id, reference in zip(call.bundles, call.hold_references[1:], strict=True)
    ]


def valid_until(policy: ChargingPolicy, call: Call, seconds: int) -> datetime:
    """Return how long the holds of an open call are valid that is granted so many ``seconds``."""
    latest_answer = call.answered_at or call.started_at + timedelta(seconds=policy.ring_seconds)
    return latest_answer + timedelta(seconds=seconds) + HOLD_MARGIN
