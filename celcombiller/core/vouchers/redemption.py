"""Redeem vouchers: each once, over any number of nodes, with tries limited. On an open transaction.

The key of the row that says who redeemed a card is the card. So of two nodes that redeem it at once, one finds the row
when it tries again. A refusal is returned and not raised: its transaction has counted the try, and must be committed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from celcombiller.core.access import audit_trail, login_throttle
from celcombiller.core.bundles import bundle_records
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.errors import (
    BillerError,
    SubscriberDisabled,
    TooManyAttempts,
    UnknownSubscriber,
    UnknownVoucher,
    VoucherExpired,
    VoucherNotActive,
    VoucherRedeemed,
    VoucherRevoked,
)
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.vouchers import Redemption, VoucherBatch, VoucherState, reference_of
from celcombiller.core.schema import bulk, driver, tables
from celcombiller.core.validity.end_dates import keep_valid_until
from celcombiller.core.vouchers.voucher_batches import batch_from_row
from celcombiller.core.vouchers.voucher_codes import hash_code, parse_code

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor

REDEEMED = "voucher"
"""The origin of the transfer of a redemption."""

REFUSED_CODES = (UnknownVoucher, VoucherNotActive, VoucherRevoked, VoucherExpired, VoucherRedeemed)
"""The refusals that count as a failed try: of each, the code is to blame."""


@dataclass(frozen=True, slots=True)
class RedemptionTry:
    """A code as a subscriber typed it, and from where: an IP address; none: their own phone.

    ``actor``: who redeems it for them, for the audit trail; their tries have no limit. ``today`` is the operator's day,
    from which the validity of the credit counts; without it that of UTC.
    """

    subscriber_id: int
    typed: str = field(repr=False)
    address: str = ""
    actor: Actor | None = None
    today: date | None = None

    @property
    def who(self) -> tuple[str, str]:
        """The account and the address for which tries are counted."""
        account = str(self.subscriber_id)
        return account, self.address or f"phone of {account}"


def redeem(
    tx: Connection,
    subscriber_id: int,
    typed: str,
    *,
    address: str = "",
    actor: Actor | None = None,
    today: date | None = None,
    now: datetime,
) -> Redemption | BillerError:
    """Redeem the card of a code for a subscriber; return what they got, or the refusal, after which to commit as well.

    The same subscriber with the same code gets the first answer. Refusals are `UnknownSubscriber`,
    `SubscriberDisabled`, `TooManyAttempts`, `BalanceTooHigh` and those of `REFUSED_CODES`.
    """
    return redeem_all(tx, [RedemptionTry(subscriber_id, typed, address, actor, today)], now)[0]


def redeem_all(tx: Connection, tries: Sequence[RedemptionTry], now: datetime) -> list[Redemption | BillerError]:
    """Do these tries, one after the other, in a few statements for all; return what `redeem` does for each."""
    till = _Till.load(tx, tries, now)
    outcomes = [till.serve(each) for each in tries]
    till.save()
    return outcomes


@dataclass(frozen=True, slots=True)
class _Card:
    """A card that a code names, and who redeemed it, and when."""

    batch_id: int
    serial: int
    owner_id: int | None
    redeemed_at: datetime | None


@dataclass(slots=True)
class _Till:
    """What the tries of one transaction need, and what is to be written for them."""

    tx: Connection
    now: datetime
    cards: dict[str, _Card]
    batches: dict[int, VoucherBatch]
    states: dict[str, set[str]]
    enabled: dict[int, bool]
    account_ids: dict[tuple[int, str], int]
    standings: dict[tuple[str, str], login_throttle.Standing]
    book: Book = field(default_factory=Book)
    successes: set[tuple[str, str]] = field(default_factory=set)
    redemptions: list[Redemption] = field(default_factory=list)
    gifts: list[bundle_records.Gift] = field(default_factory=list)

    @classmethod
    def load(cls, tx: Connection, tries: Sequence[RedemptionTry], now: datetime) -> _Till:
        """Read what the tries name, and lock it: the batches first, so that no card is revoked meanwhile."""
        hashes = sorted({each for each in map(_hash_typed, tries) if each is not None})
        cards, people = bulk.read(
            tx, _CARDS.with_values(hashes), _PEOPLE.with_values(sorted({each.subscriber_id for each in tries}))
        )
        found = {
            code_hash: _Card(batch_id, serial, owner_id, driver.parse_timestamp(at))
            for code_hash, batch_id, serial, owner_id, at in cards
        }
        batches = _lock_batches(tx, {each.batch_id for each in found.values()})
        (ranges,) = bulk.read(tx, _STATES.with_values(sorted(found)))
        states: dict[str, set[str]] = {each: set() for each in found}
        for code_hash, state in ranges:
            states[code_hash].add(state)
        accounts = {(subscriber_id, kind): account_id for subscriber_id, _, kind, account_id in people}
        till = cls(
            tx,
            now,
            cards=found,
            batches=batches,
            states=states,
            enabled={subscriber_id: bool(enabled) for subscriber_id, enabled, _, _ in people},
            account_ids=accounts,
            standings=login_throttle.find_standings(
                tx, {each.who for each in tries if each.actor is None}, now, login_throttle.VOUCHER
            ),
        )
        kinds = {str(each.kind) for each in batches.values()}
        with_bundle = {each for each, card in found.items() if getattr(batches.get(card.batch_id), "offer_id", None)}
        bundle_records.lock_subscribers(
            tx, {each.subscriber_id for each in tries if _hash_typed(each) in with_bundle} & till.enabled.keys()
        )
        till.book.load(tx, [account_id for (_, kind), account_id in accounts.items() if kind in kinds])
        return till

    def serve(self, each: RedemptionTry) -> Redemption | BillerError:
        """Do one try: return what was redeemed, or the refusal."""
        if each.actor is not None:
            try:
                redemption = self._redeem(each)
            except BillerError as refusal:
                return refusal
            if redemption.is_new:
                self._record(each.actor, redemption)
            return redemption
        standing = self._standing(each.who)
        if standing.wait_seconds > 0:
            return TooManyAttempts("too many codes were wrong: wait before the next", standing.wait_seconds)
        try:
            redemption = self._redeem(each)
        except BillerError as refusal:
            if isinstance(refusal, REFUSED_CODES):
                login_throttle.count_failure(self.tx, *each.who, self.now, login_throttle.VOUCHER)
                self.standings.clear()
            return refusal
        if standing.has_failed:
            login_throttle.forget_failures(self.tx, *each.who, self.now, login_throttle.VOUCHER)
            self.standings.clear()
        else:
            self.successes.add(each.who)
        return redemption

    def _standing(self, who: tuple[str, str]) -> login_throttle.Standing:
        """Return how tries stand: as they were read, unless one of this transaction has changed that."""
        known = self.standings.get(who)
        if known is None:
            known = login_throttle.find_standing(self.tx, *who, self.now, login_throttle.VOUCHER)
            self.standings[who] = known
        return known

    def _redeem(self, each: RedemptionTry) -> Redemption:
        code_hash = hash_code(parse_code(each.typed))
        if each.subscriber_id not in self.enabled:
            raise UnknownSubscriber(f"no subscriber has the id {each.subscriber_id}")
        card = self.cards.get(code_hash)
        batch = None if card is None else self.batches.get(card.batch_id)
        if card is None or batch is None:
            raise UnknownVoucher("no voucher has this code")
        if card.redeemed_at is not None:
            if card.owner_id != each.subscriber_id:
                raise VoucherRedeemed("the voucher is redeemed already")
            return Redemption(batch, card.serial, each.subscriber_id, card.redeemed_at, is_new=False)
        _check_usable(batch, self.states[code_hash], self.now)
        if not self.enabled[each.subscriber_id]:
            raise SubscriberDisabled("the subscriber may not use the service")
        self._give(batch, card.serial, each)
        self.cards[code_hash] = _Card(batch.id, card.serial, each.subscriber_id, self.now)
        made = Redemption(batch, card.serial, each.subscriber_id, self.now, is_new=True)
        self.redemptions.append(made)
        return made

    def _give(self, batch: VoucherBatch, serial: int, each: RedemptionTry) -> None:
        subscriber_id = each.subscriber_id
        reference = reference_of(batch.id, serial)
        if isinstance(batch.kind, Kind):
            operator_id = tables.OPERATOR_ACCOUNT_IDS[batch.kind]
            account_id = self.account_ids[subscriber_id, batch.kind]
            self.book.post(
                reference, operator_id, account_id, batch.value, origin=REDEEMED, now=self.now, note=batch.name
            )
            if batch.credit_days is not None:
                until = (each.today or self.now.date()) + timedelta(days=batch.credit_days)
                keep_valid_until(self.tx, account_id, until, self.now)
            return
        assert batch.offer_id is not None
        assert batch.valid_hours is not None
        terms = _terms_of(batch, batch.kind)
        self.gifts.append(
            bundle_records.Gift(subscriber_id, terms, batch.offer_id, batch.valid_hours, reference, batch.name)
        )

    def _record(self, actor: Actor, redemption: Redemption) -> None:
        username = tables.subscriber.c.username
        who = sa.select(username).where(tables.subscriber.c.id == redemption.subscriber_id)
        subject = f"subscriber:{self.tx.execute(who).scalar_one()}"
        after = {"batch_id": redemption.batch.id, "serial": redemption.serial}
        audit_trail.record(self.tx, actor, "redeem voucher", subject, after=after, now=self.now)

    def save(self) -> None:
        """Write what was redeemed."""
        redeemed = sorted((each.batch.id, each.serial, each.subscriber_id, each.at) for each in self.redemptions)
        bulk.write(self.tx, [*self.book.changes(), (_REDEEM, redeemed)])
        bundle_records.give_many(self.tx, self.gifts, origin=REDEEMED, now=self.now)
        if self.successes:
            login_throttle.note_successes(self.tx, self.successes, self.now, login_throttle.VOUCHER)


_CARDS = bulk.BulkQuery(
    "v.code_hash, v.batch_id, v.serial, r.subscriber_id, r.at",
    "from voucher v left join voucher_redemption r on r.batch_id = v.batch_id and r.serial = v.serial"
    " where v.code_hash {among}",
    of=tables.voucher.c.code_hash,
)

_STATES = bulk.BulkQuery(
    "v.code_hash, r.state",
    "from voucher v join voucher_range r"
    " on r.batch_id = v.batch_id and r.first_serial <= v.serial and r.last_serial >= v.serial"
    " where v.code_hash {among}",
    of=tables.voucher.c.code_hash,
)

_PEOPLE = bulk.BulkQuery(
    "s.id, s.enabled, a.kind, a.id",
    "from subscriber s join account a on a.subscriber_id = s.id and a.pot = 0"
    " where s.deleted_at is null and a.kind in ('voice', 'data', 'sms') and s.id {among}",
    of=tables.subscriber.c.id,
)

_REDEEM = bulk.insert(tables.voucher_redemption, ("batch_id", "serial", "subscriber_id", "at"))


def _hash_typed(each: RedemptionTry) -> str | None:
    try:
        return hash_code(parse_code(each.typed))
    except UnknownVoucher:
        return None


def _lock_batches(tx: Connection, batch_ids: Collection[int]) -> dict[int, VoucherBatch]:
    """Return the complete ones of these batches; whoever changes what is revoked waits until the transaction ends."""
    if not batch_ids:
        return {}
    batch = tables.voucher_batch
    which = (batch.c.id.in_(batch_ids), batch.c.completed_at.is_not(None))
    rows = sa.select(batch).where(*which).order_by(batch.c.id).with_for_update(read=True, key_share=True)
    return {row.id: batch_from_row(row) for row in tx.execute(rows)}


def _check_usable(batch: VoucherBatch, states: set[str], now: datetime) -> None:
    if VoucherState.REVOKED in states:
        raise VoucherRevoked("the voucher is revoked")
    if VoucherState.ACTIVE not in states:
        raise VoucherNotActive("the voucher is not active yet")
    if batch.is_over(now):
        raise VoucherExpired("the voucher could be redeemed until an earlier day")


def _terms_of(batch: VoucherBatch, kind: BundleKind) -> BundleTerms:
    terms = (batch.bundle_name, kind, batch.value, batch.services, batch.destinations, batch.priority)
    return BundleTerms(*terms, call_seconds_max=batch.call_seconds_max)
