"""Changes of bundles and offers by an author, who must be allowed to, with their rows of the audit trail.

Staff give, end and buy bundles for those they manage; a subscriber buys for themselves and decides whether a bundle is
bought again. Offers are the administrator's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail
from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.errors import Forbidden
from celcombiller.core.ledger.rows import check_line
from celcombiller.core.subscribers import subscriber_records

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy.engine import Connection

    from celcombiller.core.access.actor import Actor
    from celcombiller.core.bundles.terms import BundleTerms
    from celcombiller.core.model.bundles import Bundle, Offer
    from celcombiller.core.model.subscribers import Subscriber

NOTE_CHARACTERS_MAX = 500

GIVE, BUY = "give bundle", "buy offer"
"""The actions in the audit trail that fill a bundle."""


def give(
    tx: Connection,
    actor: Actor,
    username: str,
    terms: BundleTerms,
    *,
    valid_hours: int,
    valid_from: datetime | None = None,
    reference: str,
    note: str = "",
    now: datetime,
) -> tuple[Bundle, bool]:
    """Give a subscriber a bundle. Return it, and whether this request made it.

    Raises as `bundle_records.give` does, `UnknownSubscriber` and `Forbidden`.
    """
    who = subscriber_records.find(tx, username)
    actor.check_manages(who.level)
    check_line("note", note, NOTE_CHARACTERS_MAX)
    bundle, is_new = bundle_records.give(
        tx, who.id, terms, valid_hours=valid_hours, valid_from=valid_from, reference=reference, note=note, now=now
    )
    if is_new:
        audit_trail.record(tx, actor, GIVE, f"subscriber:{who.username}", after=bundle, now=now)
    return bundle, is_new


def plan_gift(
    tx: Connection,
    actor: Actor,
    username: str,
    terms: BundleTerms,
    *,
    valid_hours: int,
    valid_from: datetime | None = None,
    note: str = "",
    now: datetime,
) -> tuple[Subscriber, BundleTerms, datetime, datetime]:
    """Return who would get a bundle, its terms, its begin and its end. Raises as `give` does, and writes nothing."""
    who = subscriber_records.find(tx, username)
    actor.check_manages(who.level)
    check_line("note", note, NOTE_CHARACTERS_MAX)
    return who, *bundle_records.plan_gift(terms, valid_hours=valid_hours, valid_from=valid_from, now=now)


def buy(
    tx: Connection,
    actor: Actor,
    username: str,
    offer: Offer,
    *,
    renews: bool | None = None,
    reference: str,
    today: date,
    now: datetime,
) -> tuple[Bundle, bool]:
    """Buy an offer for a subscriber, who may do so themselves. Return the bundle, and whether this request made it.

    Raises as `bundle_records.buy` does, `UnknownSubscriber` and `Forbidden`.
    """
    who = subscriber_records.find(tx, username)
    _check_own(actor, who)
    bundle, is_new = bundle_records.buy(tx, who.id, offer, reference=reference, renews=renews, today=today, now=now)
    if is_new:
        audit_trail.record(tx, actor, BUY, f"subscriber:{who.username}", after=bundle, now=now)
    return bundle, is_new


def set_renewal(tx: Connection, actor: Actor, account_id: int, *, renews: bool, now: datetime) -> Bundle:
    """Set whether a bundle is bought again at its end. Raises as `bundle_records.set_renewal`, and `Forbidden`."""
    was = bundle_records.find(tx, account_id)
    who = subscriber_records.find_by_id(tx, was.subscriber_id)
    _check_own(actor, who)
    is_ = bundle_records.set_renewal(tx, account_id, renews=renews)
    if is_.renews != was.renews:
        audit_trail.record(tx, actor, "change bundle", f"subscriber:{who.username}", before=was, after=is_, now=now)
    return is_


def end(tx: Connection, actor: Actor, account_id: int, *, note: str = "", now: datetime) -> Bundle:
    """End a bundle before its time. Raises `NotFound`, `InvalidValue` and `Forbidden`."""
    check_line("note", note, NOTE_CHARACTERS_MAX)
    was = bundle_records.find(tx, account_id)
    who = subscriber_records.find_by_id(tx, was.subscriber_id)
    actor.check_manages(who.level)
    is_ = bundle_records.end(tx, account_id, note=note, now=now)
    if is_ != was:
        audit_trail.record(tx, actor, "end bundle", f"subscriber:{who.username}", before=was, after=is_, now=now)
    return is_


def add_offer(tx: Connection, actor: Actor, terms: BundleTerms, *, now: datetime, **others: Any) -> Offer:
    """Create an offer. Raises as `offers.add` does, and `Forbidden`."""
    actor.check_administers()
    made = offers.add(tx, terms, now=now, **others)
    audit_trail.record(tx, actor, "add", f"offer:{made.id}", after=made, now=now)
    return made


def change_offer(tx: Connection, actor: Actor, offer_id: int, changes: dict[str, Any], now: datetime) -> Offer:
    """Change an offer, for the bundles that are bought from now on. Raises as `offers.change`, and `Forbidden`."""
    actor.check_administers()
    was = offers.find(tx, offer_id)
    is_ = offers.change(tx, offer_id, changes)
    if is_ != was:
        audit_trail.record(tx, actor, "change", f"offer:{offer_id}", before=was, after=is_, now=now)
    return is_


def delete_offer(tx: Connection, actor: Actor, offer_id: int, now: datetime) -> Offer:
    """Delete an offer. Raises as `offers.delete` does, and `Forbidden`."""
    actor.check_administers()
    was = offers.delete(tx, offer_id, now)
    audit_trail.record(tx, actor, "delete", f"offer:{offer_id}", before=was, now=now)
    return was


def _check_own(actor: Actor, who: Subscriber) -> None:
    """Raise `Forbidden` unless the author is this subscriber, or manages them."""
    if actor.subscriber_id != who.id:
        try:
            actor.check_manages(who.level)
        except Forbidden:
            raise Forbidden("a subscriber buys for themselves only") from None
