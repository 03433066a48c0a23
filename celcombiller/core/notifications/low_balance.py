"""Low-balance notices: find the movements that took a balance to a threshold, and queue one message for each, once.

A transfer stores the balance after it, so whether it crossed a threshold can be seen from its row alone:
``after <= threshold < after + amount``. A balance can cross again only after it has risen above the threshold, so a
credit re-arms the notice and no state is needed. Transfers are therefore read from a bookmark on, at no cost to the
path of calls. Notices, messages and the new bookmark are written in one transaction, which does nothing if the bookmark
has moved: of two nodes that find the same crossings, one writes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError
from celcombiller.core.languages.built_in_texts import BUILT_IN_TEXTS
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.ledger.bookmarks import move_bookmark
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.charging import MessagePolicy

BOOKMARK = "notices"

IDS_PER_SCAN_MAX = 20_000
"""Most ids that one statement scans."""

NOTICES_PER_TRANSACTION_MAX = 25
"""Most notices that one transaction writes, so that a call request waits for no more."""

OLD = timedelta(hours=24)
"""Older crossings get no notice: notices were off, or the history was imported from another biller."""

_account, _transfer, _subscriber = tables.account, tables.transfer, tables.subscriber
_notice = tables.notice


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """When to send a notice and with which text: thresholds of one kind of balance."""

    thresholds: tuple[int, ...] = ()
    kind: Kind = Kind.VOICE
    text: str = BUILT_IN_TEXTS["notices.text"]
    style: BalanceStyle = field(default_factory=BalanceStyle)

    def write(self, crossing: Crossing, terms: MessagePolicy) -> str:
        """Return the text of a notice."""
        balance, threshold = (
            partial(format_balance, value, self.kind, self.style) for value in (crossing.posted, crossing.threshold)
        )
        posted = crossing.posted
        return terms.write(self.text, crossing.language, balance=balance, credits=posted, threshold=threshold)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A transfer that took a balance from above a threshold to it or below; of several thresholds, the lowest."""

    transfer_id: int
    account_id: int
    threshold: int
    posted: int
    to_number: str
    language: str


@dataclass(frozen=True, slots=True)
class Found:
    """The crossings among the transfers after one id and up to another."""

    after_id: int
    until_id: int
    crossings: Sequence[Crossing]


@dataclass(frozen=True, slots=True)
class NoticeResult:
    """The result of a crossing: the message's reference, or why there is none."""

    crossing: Crossing
    reference: str | None
    note: str = ""


# -- reading ---------------------------------------------------------------------------------------------------------


def find(tx: Connection, rules: NoticeRules, after_id: int, last_id: int, now: datetime) -> Found:
    """Return the crossings after one id up to another, at most as many as one transaction should write."""
    until_id = min(last_id, after_id + IDS_PER_SCAN_MAX)
    rows = tx.execute(crossings_statement(rules, after_id, until_id, now)).all()
    if len(rows) == NOTICES_PER_TRANSACTION_MAX:
        until_id = rows[-1].id
    return Found(after_id, until_id, [Crossing(*row) for row in rows])


def crossings_statement(rules: NoticeRules, after_id: int, until_id: int, now: datetime) -> sa.Select[Any]:
    """Return the query for crossings of subscribers who may get a notice, without those older than `OLD`."""
    after, before = _transfer.c.debit_posted, _transfer.c.debit_posted + _transfer.c.amount
    crossed = [(sa.and_(after <= each, before > each), each) for each in sorted(rules.thresholds)]
    threshold = sa.case(*((condition, sa.literal(each, sa.BigInteger)) for condition, each in crossed))
    return (
        sa.select(
            _transfer.c.id,
            _transfer.c.debit_account_id,
            threshold.label("threshold"),
            _transfer.c.debit_posted,
            _subscriber.c.clid,
            _subscriber.c.language,
        )
        .join(_account, _account.c.id == _transfer.c.debit_account_id)
        .join(_subscriber, _subscriber.c.id == _account.c.subscriber_id)
        .where(
            _transfer.c.id > after_id,
            _transfer.c.id <= until_id,
            sa.or_(*(condition for condition, _ in crossed)),
            _transfer.c.at > now - OLD,
            _account.c.kind == rules.kind.value,
            NOT_DELETED,
            _subscriber.c.enabled,
        )
        .order_by(_transfer.c.id)
        .limit(NOTICES_PER_TRANSACTION_MAX)
    )


# -- writing, one transaction each -----------------------------------------------------------------------------------


def queue(
    tx: Connection, rules: NoticeRules, terms: MessagePolicy, found: Found, now: datetime
) -> Collection[NoticeResult] | None:
    """Queue a notice for each crossing and move the bookmark; return None if another node has moved it first."""
    if not move_bookmark(tx, BOOKMARK, after_id=found.after_id, until_id=found.until_id):
        return None
    results = [_queue_notice(tx, rules, terms, each, now) for each in found.crossings]
    if results:
        tx.execute(
            sa.insert(_notice),
            [
                {
                    "transfer_id": each.crossing.transfer_id,
                    "account_id": each.crossing.account_id,
                    "threshold": each.crossing.threshold,
                    "at": now,
                    "reference": each.reference,
                    "note": each.note,
                }
                for each in results
            ],
        )
    return results


def _queue_notice(
    tx: Connection, rules: NoticeRules, terms: MessagePolicy, crossing: Crossing, now: datetime
) -> NoticeResult:
    """Queue one notice; one that cannot be queued is recorded with the reason and does not block the others."""
    try:
        submitted = messages.submit(
            tx,
            terms,
            reference=f"notice:{crossing.transfer_id}",
            to_number=crossing.to_number,
            text=rules.write(crossing, terms),
            now=now,
        )
    except BillerError as refusal:
        return NoticeResult(crossing, None, str(refusal))
    return NoticeResult(crossing, submitted.message.reference)
