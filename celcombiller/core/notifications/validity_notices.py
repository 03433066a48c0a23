"""Messages to subscribers whose credit will end soon: one for each last day."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.schedules.due_dates import local_date
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED
from celcombiller.core.validity.end_dates import read_terms
from celcombiller.core.validity.validity_terms import last_day, topped_up_before

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.model.accounts import Kind
    from celcombiller.core.sms.charging import MessagePolicy
    from celcombiller.core.validity.validity_terms import ValidityTerms

NOTICES_PER_TRANSACTION_MAX = 25
"""Most notices that one transaction writes, so that a call request waits for no more."""

_account, _subscriber, _validity = tables.account, tables.subscriber, tables.credit_validity


def queue(
    tx: Connection, terms: ValidityTerms, kind: Kind, style: BalanceStyle, policy: MessagePolicy, now: datetime
) -> dict[str, str]:
    """Queue the notices that are due, at most `NOTICES_PER_TRANSACTION_MAX`: return each one's id, and why not.

    Who is disabled or deleted gets none, nor who has nothing left.
    """
    its = read_terms(tx).get(kind)
    if its is None or terms.notice_days == 0:
        return {}
    today = local_date(now, terms.zone)
    until = today + timedelta(days=terms.notice_days)
    before = topped_up_before(until + timedelta(days=1), its.days, terms.zone)
    if before is None or its.since >= before:
        return {}
    query = (
        sa.select(_validity, _account.c.posted, _subscriber.c.clid, _subscriber.c.language)
        .join(_account, _account.c.id == _validity.c.account_id)
        .join(_subscriber, _subscriber.c.id == _account.c.subscriber_id)
        .where(
            _validity.c.kind == kind.value,
            _validity.c.ended_at.is_(None),
            _validity.c.warned_at.is_(None),
            _validity.c.topped_up_at < before,
            sa.or_(_validity.c.valid_until.is_(None), _validity.c.valid_until <= until),
            _account.c.posted > 0,
            _subscriber.c.enabled,
            NOT_DELETED,
        )
        .order_by(_validity.c.topped_up_at, _validity.c.account_id)
        .limit(NOTICES_PER_TRANSACTION_MAX)
        .with_for_update(of=_validity, skip_locked=True)
    )
    done = {}
    for row in tx.execute(query).all():
        day = last_day(its, row.topped_up_at, row.valid_until, terms.zone)
        reference = f"credit-validity:{row.account_id}:{day}"
        balance = partial(format_balance, row.posted, kind, style)
        text = policy.write(terms.notice_text, row.language, balance=balance, credits=row.posted, date=day)
        done[reference] = ""
        try:
            if day >= today:
                messages.submit(tx, policy, reference=reference, to_number=row.clid, text=text, now=now)
        except BillerError as refusal:
            done[reference] = str(refusal)
        tx.execute(sa.update(_validity).where(_validity.c.account_id == row.account_id).values(warned_at=now))
    return done
