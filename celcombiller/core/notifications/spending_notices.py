"""Messages to subscribers who have spent a share of what they may in a day or a month: one for each limit and period.

The row of an account says what was spent, so no state is needed: the id of a message is made of the account and of the
day or month, and a message is queued once for its id.
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
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.charging import MessagePolicy

NOTICES_PER_TRANSACTION_MAX = 25
"""Most notices that one transaction writes, so that a call request waits for no more."""

_account, _message, _subscriber = tables.account, tables.message, tables.subscriber


@dataclass(frozen=True, slots=True)
class SpendingRules:
    """The share of a limit at which a notice is sent, in percent (0: never), and its text."""

    share: int = 0
    text: str = BUILT_IN_TEXTS["notices.spending_text"]
    style: BalanceStyle = field(default_factory=BalanceStyle)


def queue(tx: Connection, rules: SpendingRules, policy: MessagePolicy, today: date, now: datetime) -> list[str]:
    """Queue the notices that are due, at most `NOTICES_PER_TRANSACTION_MAX`; return why some could not be.

    ``today`` is the operator's day. Who spent the share shortly before midnight gets the notice after it.
    """
    failures = []
    for period, length in (("day", 10), ("month", 7)):
        for row in tx.execute(_due(rules, period, length, today)):
            kind = Kind(row.kind)
            spent, limit = (partial(format_balance, each, kind, rules.style) for each in (row.spent, row.limit))
            text = policy.write(rules.text, row.language, spent=spent, limit=limit)
            try:
                messages.submit(tx, policy, reference=row.reference, to_number=row.clid, text=text, now=now)
            except BillerError as refusal:
                failures.append(f"{row.reference}: {refusal}")
    return failures


def _due(rules: SpendingRules, period: str, length: int, today: date) -> sa.Select[Any]:
    """Return the accounts that have spent the share in a period and had no notice; a date is ``length`` characters."""
    spent, limit = _account.c[f"spent_{period}"], _account.c[f"{period}_limit"]
    span = sa.func.substr(sa.cast(_account.c.spent_on, sa.Text), 1, length)
    reference = sa.literal("spending:") + sa.cast(_account.c.id, sa.Text) + ":" + span
    said = sa.select(_message.c.id).where(_message.c.reference == sa.literal(messages.reference_of("")) + reference)
    return (
        sa.select(
            _account.c.kind,
            spent.label("spent"),
            limit.label("limit"),
            reference.label("reference"),
            _subscriber.c.clid,
            _subscriber.c.language,
        )
        .join(_subscriber, _subscriber.c.id == _account.c.subscriber_id)
        .where(
            sa.or_(_account.c.day_limit.is_not(None), _account.c.month_limit.is_not(None)),
            _account.c.spent_on >= today - timedelta(days=1),
            _account.c.kind.in_(Kind),
            limit > 0,
            spent * 100 >= limit * rules.share,
            said.scalar_subquery().is_(None),
            _subscriber.c.enabled,
            NOT_DELETED,
        )
        .order_by(_account.c.id)
        .limit(NOTICES_PER_TRANSACTION_MAX)
    )
