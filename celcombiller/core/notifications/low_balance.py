"""Low-balance notices: find the movements that took a balance to a threshold, and queue one message for each, once.

A transfer keeps the balance after it, so that a threshold was crossed is a property of one row, whoever wrote it:
``after <= threshold < after + amount``. A balance can cross again only when it has risen above in between, so a
credit arms the notice again without anybody remembering it. The transfers are therefore read behind a bookmark,
beside the path of calls, which pays nothing for it; and what is found, the messages and the bookmark's next place are
one transaction, guarded by where the bookmark was: of two nodes that found the same, one writes it.

Ids are given out when a row is written, and on PostgreSQL the rows of a transaction may be seen after younger ones of
another. So the bookmark passes no id before everybody is done who was writing transfers when that id was seen:
PostgreSQL has a transaction hold a lock on the table from before its first id until after its commit is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError
from celcombiller.core.ledger import balance_format
from celcombiller.core.ledger.balance_format import BalanceStyle
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers.subscriber_records import NOT_DELETED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.sms.charging import MessagePolicy

BOOKMARK = "notices"

STRETCH_MAX = 20_000
"""So many ids are looked through by one statement at most."""

TOGETHER_MAX = 25
"""So many notices are written by one transaction at most: a call that asks meanwhile waits for no more."""

OLD = timedelta(hours=24)
"""What happened longer ago is told nobody any more: notices were off, or it is the history of another biller."""

_account, _transfer, _subscriber = tables.account, tables.transfer, tables.subscriber
_notice, _bookmark = tables.notice, tables.bookmark


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """Whom to tell what: at which thresholds of a kind of balance, and in which words."""

    thresholds: tuple[int, ...] = ()
    kind: Kind = Kind.VOICE
    text: str = "Your balance is {balance}."
    style: BalanceStyle = field(default_factory=BalanceStyle)

    def written(self, crossing: Crossing) -> str:
        """Give the words of a notice."""
        balance, threshold = (
            balance_format.format_balance(value, self.kind, self.style)
            for value in (crossing.posted, crossing.threshold)
        )
        return self.text.format(balance=balance, credits=crossing.posted, threshold=threshold)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A transfer that took a balance from above to a threshold or below; of several thresholds the lowest."""

    transfer_id: int
    account_id: int
    threshold: int
    posted: int
    to_number: str


@dataclass(frozen=True, slots=True)
class Watermark:
    """The last transfer seen, and who was writing transfers then: until they are done, older ones may turn up."""

    last_id: int
    writers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Found:
    """The crossings among the transfers after one id and up to another."""

    after_id: int
    until_id: int
    crossings: Sequence[Crossing]


@dataclass(frozen=True, slots=True)
class NoticeResult:
    """What became of a crossing: the message's reference, or why there is none."""

    crossing: Crossing
    reference: str | None
    note: str = ""


# -- looking: these only read ----------------------------------------------------------------------------------------


def read_until(tx: Connection) -> int | None:
    """Give the id up to which transfers have been looked at; ``None``: it was never begun."""
    return tx.execute(sa.select(_bookmark.c.transfer_id).where(_bookmark.c.name == BOOKMARK)).scalar()


def find_watermark(tx: Connection) -> Watermark:
    """Look how far transfers go, and then who is writing some."""
    last_id = tx.execute(sa.select(sa.func.coalesce(sa.func.max(_transfer.c.id), 0))).scalar_one()
    return Watermark(int(last_id), _writers(tx))


def is_complete(tx: Connection, seen: Watermark) -> bool:
    """Tell whether all transfers up to a horizon are there that will ever be; then it is so for whoever looks next."""
    return not (seen.writers and seen.writers & _writers(tx))


def _writers(tx: Connection) -> frozenset[str]:
    """Name the transactions that may have written transfers and are not done. SQLite has one writer, never two."""
    if tx.dialect.name == "sqlite":
        return frozenset()
    return frozenset(tx.execute(_WRITERS).scalars())


# A virtual transaction's number (backend and its own count) is never used again for another.
_WRITERS = sa.text(
    "select distinct virtualtransaction from pg_locks where locktype = 'relation' and granted"
    " and mode = 'RowExclusiveLock' and relation = 'transfer'::regclass"
    " and database = (select oid from pg_database where datname = current_database())"
)


def find(tx: Connection, rules: NoticeRules, after_id: int, last_id: int, now: datetime) -> Found:
    """Find the crossings after one id, not beyond another, and no more of them than one transaction should write."""
    until_id = min(last_id, after_id + STRETCH_MAX)
    rows = tx.execute(crossings_statement(rules, after_id, until_id, now)).all()
    if len(rows) == TOGETHER_MAX:
        until_id = rows[-1].id
    return Found(after_id, until_id, [Crossing(*row) for row in rows])


def crossings_statement(rules: NoticeRules, after_id: int, until_id: int, now: datetime) -> sa.Select[Any]:
    """Ask for them: those who may be told, and not of what is long past."""
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
        .limit(TOGETHER_MAX)
    )


# -- writing: one transaction each -----------------------------------------------------------------------------------


def begin(tx: Connection, last_id: int) -> None:
    """Put the bookmark here, if there is none: what was before notices were switched on is told nobody."""
    if read_until(tx) is None:
        tx.execute(sa.insert(_bookmark).values(name=BOOKMARK, transfer_id=last_id))


def queue(
    tx: Connection, rules: NoticeRules, terms: MessagePolicy, found: Found, now: datetime
) -> Collection[NoticeResult] | None:
    """Queue a notice for each crossing and move the bookmark; ``None``: another node has done it, all is as it was."""
    here = sa.and_(_bookmark.c.name == BOOKMARK, _bookmark.c.transfer_id == found.after_id)
    if tx.execute(sa.update(_bookmark).where(here).values(transfer_id=found.until_id)).rowcount != 1:
        return None
    noticed = [_noticed(tx, rules, terms, each, now) for each in found.crossings]
    if noticed:
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
                for each in noticed
            ],
        )
    return noticed


def _noticed(
    tx: Connection, rules: NoticeRules, terms: MessagePolicy, crossing: Crossing, now: datetime
) -> NoticeResult:
    """Queue one; a message that cannot be is recorded with the reason, and keeps nobody else from his."""
    try:
        posting = messages.submit(
            tx,
            terms,
            reference=f"notice:{crossing.transfer_id}",
            to_number=crossing.to_number,
            text=rules.written(crossing),
            now=now,
        )
    except BillerError as refusal:
        return NoticeResult(crossing, None, str(refusal))
    return NoticeResult(crossing, posting.message.reference)
