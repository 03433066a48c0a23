"""Charge recorded calls again by another version of a tariff: the difference is a transfer that names the call.

Nothing recorded is changed. A call is charged again by a version at most once. What its bundles gave stays given: only
the part that the balance pays is priced again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.errors import NoRate
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import ACCOUNT_KINDS, Kind
from celcombiller.core.model.calls import RERATING, CallState
from celcombiller.core.rating.bill import Pot, make_bill
from celcombiller.core.rating.pricing import charged_ms, seconds_of
from celcombiller.core.schema import tables
from celcombiller.core.voice.call_records import call_from_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.calls import Call
    from celcombiller.core.model.tariffs import Rate
    from celcombiller.core.rating.tariff import Tariff

CHUNK_CALLS = 500
"""Calls of one transaction: calls that are dialled meanwhile wait for it."""

_call, _rerating, _transfer = tables.call, tables.rerating, tables.transfer


@dataclass(frozen=True, slots=True)
class NewPrices:
    """The version of a tariff by which calls are priced again."""

    version_id: int
    tariff: str
    version: int
    rates: Tariff


@dataclass(frozen=True, slots=True)
class Rerated:
    """A call, what it was charged so far, and what it costs by the new prices; ``None``: they have none for it.

    ``known``: it was charged by this version before.
    """

    id: int
    call: Call
    charged: int
    price: int | None
    known: bool

    @property
    def difference(self) -> int:
        """The credits that the subscriber owes beyond what was charged; negative: that they get back."""
        return 0 if self.price is None or self.known else self.price - self.charged


def list_rerated(
    tx: Connection,
    new: NewPrices,
    *,
    since: datetime,
    until: datetime,
    after_id: int = 0,
    subscriber_ids: Iterable[int] | None = None,
) -> list[Rerated]:
    """Return up to `CHUNK_CALLS` settled calls of this time with their new prices, in the order of their ids.

    ``subscriber_ids``: the calls of these subscribers only.
    """
    which = _settled(since, until, subscriber_ids)
    rows = tx.execute(
        sa.select(_call).where(which, _call.c.id > after_id).order_by(_call.c.id).limit(CHUNK_CALLS)
    ).all()
    calls = [(row.id, call_from_row(row)) for row in rows]
    shares = _shares(tx, [call for _, call in calls])
    charged = _recharged(tx, [call for _, call in calls], new.version_id)
    return [
        Rerated(number, call, (call.cost or 0) + before, _new_price(call, new.rates, shares), known)
        for number, call in calls
        for before, known in (charged.get(call.reference, (0, False)),)
    ]


def count_calls(
    tx: Connection, *, since: datetime, until: datetime, subscriber_ids: Iterable[int] | None = None
) -> int:
    """Return how many calls `list_rerated` would list in all."""
    counted = sa.select(sa.func.count()).select_from(_call).where(_settled(since, until, subscriber_ids))
    return int(tx.execute(counted).scalar_one())


def charge_again(tx: Connection, new: NewPrices, rerated: Sequence[Rerated], now: datetime) -> int:
    """Post the differences of these calls, each once, and return how many. They are read again under locks."""
    book = Book()
    owed = [each for each in rerated if each.difference]
    book.load(tx, {each.call.account_id for each in owed})
    book.load_transfers(tx, [reference_of(new.version_id, each.call) for each in owed])
    charged = _recharged(tx, [each.call for each in owed], new.version_id)
    made: list[dict[str, Any]] = []
    for each in owed:
        before, known = charged.get(each.call.reference, (0, False))
        difference = (each.price or 0) - (each.call.cost or 0) - before
        if known or each.price is None or difference == 0:
            continue
        _post(book, new, each, difference, now)
        facts = {"call_reference": each.call.reference, "version_id": new.version_id, "at": now}
        made.append(facts | {"price": each.price, "difference": difference})
    book.save(tx)
    if made:
        tx.execute(sa.insert(_rerating), made)
    return len(made)


def reference_of(version_id: int, call: Call) -> str:
    """Return the id of the transfer by which a call is charged again by a version."""
    return f"{RERATING}:{version_id}:{call.reference}"


def price_again(call: Call, rate: Rate, pots: Sequence[Pot]) -> int:
    """Return what the balance pays for a settled call by another rate, where bundles gave these amounts."""
    talk_ms = charged_ms(call.talk_ms or 0, call.granted_seconds)
    return make_bill(rate, seconds_of(talk_ms), call.answered_at or call.started_at, pots).balance_amount


def _settled(since: datetime, until: datetime, subscriber_ids: Iterable[int] | None) -> sa.ColumnElement[bool]:
    which = [_call.c.state == CallState.SETTLED, _call.c.started_at >= since, _call.c.started_at < until]
    if subscriber_ids is not None:
        which.append(_call.c.subscriber_id.in_(list(subscriber_ids)))
    return sa.and_(*which)


def _post(book: Book, new: NewPrices, each: Rerated, difference: int, now: datetime) -> None:
    operator_id, call = tables.OPERATOR_ACCOUNT_IDS[Kind.VOICE], each.call
    debit, credit = (call.account_id, operator_id) if difference > 0 else (operator_id, call.account_id)
    book.post(
        reference_of(new.version_id, call),
        debit,
        credit,
        abs(difference),
        origin=RERATING,
        now=now,
        note=f"{call.reference} costs {each.price} by version {new.version} of {new.tariff}",
        beyond_floor=True,
    )


def _new_price(call: Call, rates: Tariff, shares: Mapping[str, Any]) -> int | None:
    try:
        rate = rates.rate_for(call.to_number, call.started_at, on_net=call.callee_id is not None)
    except NoRate:
        return None
    return price_again(call, rate, [shares[name] for name in call.hold_references[1:] if name in shares])


def _shares(tx: Connection, calls: Sequence[Call]) -> dict[str, Pot]:
    """Return by reference what each bundle gave to these calls."""
    references = [name for call in calls for name in call.hold_references[1:]]
    if not references:
        return {}
    account = tables.account
    rows = tx.execute(
        sa.select(_transfer.c.reference, _transfer.c.amount, account.c.id, account.c.kind)
        .join(account, account.c.id == _transfer.c.debit_account_id)
        .where(_transfer.c.reference.in_(references))
    )
    return {row.reference: Pot(row.id, ACCOUNT_KINDS[row.kind], row.amount) for row in rows}


def _recharged(tx: Connection, calls: Sequence[Call], version_id: int) -> dict[str, tuple[int, bool]]:
    """Return by call what it was charged again, and whether by this version already."""
    found: dict[str, tuple[int, bool]] = {}
    wanted = _rerating.c.call_reference.in_([call.reference for call in calls])
    for row in tx.execute(sa.select(_rerating).where(wanted)):
        before, known = found.get(row.call_reference, (0, False))
        found[row.call_reference] = (before + row.difference, known or row.version_id == version_id)
    return found
