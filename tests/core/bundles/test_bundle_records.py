"""Bundles given, bought, renewed and ended: once for a reference, and every credit of them in the ledger."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import bundle_records, expiry, offers
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.errors import (
    AlreadyTaken,
    InsufficientBalance,
    InvalidValue,
    NotFound,
    SubscriberDisabled,
    TransferConflict,
    UnknownSubscriber,
)
from celcombiller.core.ledger import reversals
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.book import Book
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from tests.support import databases
from tests.support.databases import NOW

HOUR = timedelta(hours=1)
DAY = 24 * HOUR
TERMS = BundleTerms("hour", BundleKind.SECONDS, 3600)


def ends_of(tx):
    return tx.execute(sa.select(tables.transfer).where(tables.transfer.c.reference.like("end:%"))).all()


def give(tx, reference="id:1", now=NOW, subscriber_id=1, terms=TERMS, **more):
    more = {"valid_hours": 24} | more
    bundle, is_new = bundle_records.give(tx, subscriber_id, terms, reference=reference, now=now, **more)
    return bundle if is_new else None


def end_due(tx, now, limit=10):
    return expiry.end_expired(tx, expiry.due_ends(tx, now, limit=limit), now)


def credit(tx, amount, subscriber_id=1):
    account = balances(tx, subscriber_id)[Kind.VOICE]
    book = Book()
    book.load(tx, [account.id])
    book.post(f"c{amount}{subscriber_id}", 1, account.id, amount, origin="web", now=NOW)
    book.save(tx)


def hold(tx, bundle, amount, reference="use:1", now=NOW):
    book = Book()
    book.load(tx, [bundle.account_id])
    book.hold(reference, bundle.account_id, amount, now=now, expires_at=now + DAY)
    book.save(tx)


def settle(tx, bundle, amount, reference="use:1", now=NOW):
    book = Book()
    book.load(tx, [bundle.account_id], [reference])
    book.settle(reference, amount, origin="call", now=now)
    book.save(tx)


def offer(tx, **more):
    facts = {"price": 100, "valid_hours": 24} | more
    return offers.add(tx, facts.pop("terms", TERMS), now=NOW, **facts)


@pytest.fixture
def tx(engine):
    with engine.begin() as opened:
        yield opened
        report = audit(opened)
        assert report.ok, report.differences


def test_a_bundle_is_filled_by_one_transfer(tx):
    made = give(tx, note="a present")
    assert (made.posted, made.held, made.amount, made.kind) == (3600, 0, 3600, BundleKind.SECONDS)
    assert (made.valid_from, made.valid_until, made.ended_at) == (NOW, NOW + DAY, None)
    (transfer,) = tx.execute(sa.select(tables.transfer)).all()
    assert (transfer.reference, transfer.debit_account_id, transfer.credit_account_id) == ("id:1", -1, made.account_id)
    assert (transfer.amount, transfer.origin, transfer.note) == (3600, "bundle", "a present")
    assert bundle_records.list_of(tx, 1) == [made]


def test_a_reference_gives_one_bundle(tx):
    made = give(tx)
    again, is_new = bundle_records.give(tx, 1, TERMS, valid_hours=24, reference="id:1", now=NOW + HOUR)
    assert (again, is_new) == (made, False)
    assert len(bundle_records.list_of(tx, 1)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"subscriber_id": 2},
        {"valid_hours": 25},
        {"terms": replace(TERMS, amount=1)},
        {"terms": replace(TERMS, destinations=("55",))},
        {"terms": replace(TERMS, priority=1)},
    ],
)
def test_a_reference_with_other_content_conflicts(tx, other):
    give(tx)
    with pytest.raises(TransferConflict):
        give(tx, **other)


def test_the_reference_of_a_credit_conflicts(tx):
    credit(tx, 5)
    with pytest.raises(TransferConflict):
        give(tx, "c51")
    assert bundle_records.list_of(tx, 1) == []


def test_bundles_of_a_kind_are_numbered(tx):
    for number in range(3):
        give(tx, f"id:{number}")
    give(tx, "id:sms", terms=BundleTerms("sms", BundleKind.MESSAGES, 5))
    pots = tx.execute(sa.select(tables.account.c.kind, tables.account.c.pot).where(tables.account.c.pot > 0))
    assert sorted(map(tuple, pots)) == [("messages", 1), ("seconds", 1), ("seconds", 2), ("seconds", 3)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": 2**53},
        {"name": ""},
        {"name": " a"},
        {"name": "12"},
        {"name": "a\nb"},
        {"name": "x" * 65},
        {"services": ("sms",)},
        {"services": ("fax",)},
        {"destinations": ("off-net",)},
        {"destinations": ("+",)},
        {"priority": 1001},
        {"kind": BundleKind.OCTETS, "destinations": ("55",)},
    ],
)
def test_wrong_terms_are_refused(tx, wrong):
    with pytest.raises(InvalidValue):
        give(tx, terms=replace(TERMS, **wrong))
    assert tx.execute(sa.select(sa.func.count()).select_from(tables.bundle)).scalar_one() == 0


@pytest.mark.parametrize("more", [{"valid_hours": 0}, {"valid_hours": 10**6}, {"valid_from": NOW - 2 * DAY}])
def test_a_wrong_validity_is_refused(tx, more):
    with pytest.raises(InvalidValue):
        give(tx, **more)


def test_terms_are_stored_in_one_form(tx):
    made = give(tx, terms=replace(TERMS, destinations=("+55", "on-net", "55"), services=("voice", "voice")))
    assert (made.destinations, made.services) == (("55", "on-net"), ("voice",))


def test_a_deleted_subscriber_gets_nothing(tx):
    subscriber_records.delete(tx, "u1003", NOW)
    with pytest.raises(UnknownSubscriber):
        give(tx, subscriber_id=3)


# -- ending ----------------------------------------------------------------------------------------------------------


def test_ending_takes_back_what_is_left(tx):
    made = give(tx)
    hold(tx, made, 100)
    settle(tx, made, 60)
    ended = bundle_records.end(tx, made.account_id, note="wrong person", now=NOW + HOUR)
    assert (ended.posted, ended.ended_at, ended.amount) == (0, NOW + HOUR, 3600)
    (back,) = ends_of(tx)
    assert (back.amount, back.credit_account_id, back.origin, back.note) == (3540, -1, "bundle", "wrong person")
    assert bundle_records.end(tx, made.account_id, now=NOW + DAY) == ended
    assert len(ends_of(tx)) == 1


def test_an_empty_bundle_ends_without_transfer(tx):
    made = give(tx)
    hold(tx, made, 3600)
    settle(tx, made, 3600)
    assert bundle_records.end(tx, made.account_id, now=NOW).ended_at == NOW
    assert ends_of(tx) == []


def test_ending_waits_for_open_holds(tx):
    made = give(tx)
    hold(tx, made, 100)
    ending = bundle_records.end(tx, made.account_id, now=NOW + HOUR)
    assert (ending.ended_at, ending.valid_until, ending.posted) == (None, NOW + HOUR, 3600)
    assert end_due(tx, NOW + HOUR, limit=10) == 0
    settle(tx, made, 40)
    assert end_due(tx, NOW + HOUR, limit=10) == 1
    assert [each.amount for each in ends_of(tx)] == [3560]


def test_expiry_is_at_its_moment_and_once(tx):
    made = give(tx)
    assert end_due(tx, NOW + DAY - timedelta(microseconds=1), limit=10) == 0
    assert end_due(tx, NOW + DAY, limit=10) == 1
    assert end_due(tx, NOW + 2 * DAY, limit=10) == 0
    (back,) = ends_of(tx)
    assert (back.reference, back.amount, back.origin) == ("end:id:1", 3600, "expiry")
    assert bundle_records.find(tx, made.account_id).ended_at == NOW + DAY


def test_expiry_takes_the_oldest_first(tx):
    for number in range(5):
        give(tx, f"id:{number}", valid_hours=number + 1)
    assert end_due(tx, NOW + 3 * HOUR, limit=2) == 2
    assert [each.reference for each in bundle_records.list_of(tx, 1)] == ["id:2", "id:3", "id:4"]


def test_a_bundle_can_begin_later(tx):
    made = give(tx, valid_from=NOW + DAY)
    assert (made.valid_from, made.valid_until) == (NOW + DAY, NOW + 2 * DAY)


# -- offers ----------------------------------------------------------------------------------------------------------


def test_an_offer_is_paid_from_voice(tx):
    credit(tx, 250)
    bought, is_new = bundle_records.buy(tx, 1, offer(tx), reference="id:b", today=NOW.date(), now=NOW)
    assert (is_new, bought.posted, bought.name, bought.renews) == (True, 3600, "hour", False)
    assert balances(tx, 1)[Kind.VOICE].posted == 150
    rows = tx.execute(sa.select(tables.transfer).order_by(tables.transfer.c.id)).all()[1:]
    assert [(each.reference, each.amount, each.origin) for each in rows] == [
        ("price:id:b", 100, "offer"),
        ("id:b", 3600, "offer"),
    ]
    assert bundle_records.buy(tx, 1, offers.find(tx, 1), reference="id:b", today=NOW.date(), now=NOW) == (bought, False)
    assert balances(tx, 1)[Kind.VOICE].posted == 150


def test_too_little_available_buys_nothing(tx):
    credit(tx, 99)
    with pytest.raises(InsufficientBalance, match="costs 100, 99 available"):
        bundle_records.buy(tx, 1, offer(tx), reference="id:b", today=NOW.date(), now=NOW)
    assert balances(tx, 1)[Kind.VOICE].posted == 99
    assert bundle_records.list_of(tx, 1) == []


def test_a_credit_limit_pays_for_an_offer(tx):
    account = balances(tx, 1)[Kind.VOICE]
    tx.execute(sa.update(tables.account).where(tables.account.c.id == account.id).values(floor=-100))
    bundle_records.buy(tx, 1, offer(tx), reference="id:b", today=NOW.date(), now=NOW)
    assert balances(tx, 1)[Kind.VOICE].posted == -100


def test_an_offer_counts_as_spending(tx):
    credit(tx, 250)
    account = balances(tx, 1)[Kind.VOICE]
    limited = sa.update(tables.account).where(tables.account.c.id == account.id).values(day_limit=150)
    tx.execute(limited)
    bundle_records.buy(tx, 1, offer(tx), reference="id:b", today=NOW.date(), now=NOW)
    with pytest.raises(InsufficientBalance, match="costs 100, 50 available"):
        bundle_records.buy(tx, 1, offers.find(tx, 1), reference="id:c", today=NOW.date(), now=NOW)
    tomorrow = (NOW + DAY).date()
    bundle_records.buy(tx, 1, offers.find(tx, 1), reference="id:d", today=tomorrow, now=NOW + DAY)
    spent = sa.select(tables.account.c.spent_day, tables.account.c.spent_month)
    assert tuple(tx.execute(spent.where(tables.account.c.id == account.id)).one()) == (100, 200)


def test_only_who_may_use_it_buys(tx):
    credit(tx, 250)
    subscriber_records.enable(tx, "u1001", NOW, enabled=False)
    with pytest.raises(SubscriberDisabled):
        bundle_records.buy(tx, 1, offer(tx), reference="id:b", today=NOW.date(), now=NOW)


def test_a_free_offer_costs_nothing(tx):
    bundle_records.buy(tx, 1, offer(tx, price=0), reference="id:b", today=NOW.date(), now=NOW)
    assert tx.execute(sa.select(sa.func.count()).select_from(tables.transfer)).scalar_one() == 1


def test_an_offer_is_changed_for_later_bundles(tx):
    made = offer(tx)
    changed = offers.change(tx, made.id, {"amount": 60, "price": 0, "destinations": ("+55",), "enabled": False})
    assert (changed.amount, changed.destinations, changed.enabled) == (60, ("55",), False)
    assert offers.find(tx, made.id) == changed == offers.resolve(tx, "hour") == offers.resolve(tx, str(made.id))
    with pytest.raises(InvalidValue, match="not for sale"):
        bundle_records.buy(tx, 1, changed, reference="id:b", today=NOW.date(), now=NOW)
    for wrong in ({"kind": "octets"}, {"price": -1}, {"valid_hours": 0}, {"amount": 0}, {"name": "7"}):
        with pytest.raises(InvalidValue):
            offers.change(tx, made.id, wrong)


def test_names_of_offers_are_unique_until_deleted(tx):
    made = offer(tx)
    other = offer(tx, terms=replace(TERMS, name="day"))
    with pytest.raises(AlreadyTaken):
        offer(tx)
    with pytest.raises(AlreadyTaken):
        offers.change(tx, other.id, {"name": "hour"})
    offers.delete(tx, made.id, NOW)
    with pytest.raises(NotFound):
        offers.find(tx, made.id)
    assert offer(tx).id != made.id


def test_changes_of_offers_count_as_catalogues(tx):
    number = sa.select(tables.catalogue_change.c.number)
    seen = [tx.execute(number).scalar_one()]
    made = offer(tx)
    for work in (
        lambda: offers.change(tx, made.id, {"price": 5}),
        lambda: offers.change(tx, made.id, {"price": 5}),
        lambda: offers.delete(tx, made.id, NOW),
    ):
        seen.append(tx.execute(number).scalar_one())
        work()
    seen.append(tx.execute(number).scalar_one())
    assert [each - seen[0] for each in seen] == [0, 1, 2, 2, 3]


# -- renewal ---------------------------------------------------------------------------------------------------------


def renew(tx, bundle, now):
    return expiry.renew(tx, bundle.account_id, today=now.date(), now=now)


def bought(tx, amount=1000, **more):
    credit(tx, amount)
    made, _ = bundle_records.buy(tx, 1, offer(tx, renews=True, **more), reference="id:b", today=NOW.date(), now=NOW)
    return made


def test_a_renewal_follows_its_bundle(tx):
    first = bought(tx)
    assert expiry.due_renewals(tx, NOW + DAY - HOUR, limit=10) == []
    assert expiry.due_renewals(tx, NOW + DAY, limit=10) == [first.account_id]
    assert end_due(tx, NOW + DAY, limit=10) == 0
    done = renew(tx, first, NOW + DAY + HOUR)
    assert (done.renewed.valid_from, done.renewed.valid_until) == (NOW + DAY, NOW + 2 * DAY)
    assert (done.renewed.reference, done.renewed.renews) == (f"renewal:{first.account_id}", True)
    assert renew(tx, first, NOW + DAY + HOUR) is None
    assert end_due(tx, NOW + DAY + HOUR, limit=10) == 1
    assert balances(tx, 1)[Kind.VOICE].posted == 800
    assert [each.account_id for each in bundle_records.list_of(tx, 1)] == [done.renewed.account_id]


def test_a_late_renewal_begins_when_bought(tx):
    first = bought(tx)
    done = renew(tx, first, NOW + 10 * DAY)
    assert done.renewed.valid_from == NOW + 10 * DAY


def refuse_by_price(tx, first):
    offers.change(tx, first.offer_id, {"price": 901})
    return 1000


def refuse_by_sale(tx, first):
    offers.change(tx, first.offer_id, {"enabled": False})
    return 1000


def refuse_by_deletion(tx, first):
    offers.delete(tx, first.offer_id, NOW)
    return 1000


def refuse_by_disabling(tx, first):
    subscriber_records.enable(tx, "u1001", NOW, enabled=False)
    return 1000


def refuse_by_leaving(tx, first):
    subscriber_records.delete(tx, "u1001", NOW)
    return 1000


@pytest.mark.parametrize(
    ("refuse", "reason"),
    [
        (refuse_by_price, "costs 901, 900 available"),
        (refuse_by_sale, "not for sale"),
        (refuse_by_deletion, "no offer"),
        (refuse_by_disabling, "may not use"),
        (refuse_by_leaving, "no subscriber"),
    ],
)
def test_a_renewal_refused_is_decided_once(tx, refuse, reason):
    first = bought(tx)
    refuse(tx, first)
    done = renew(tx, first, NOW + DAY)
    assert (done.renewed, reason in done.reason) == (None, True), done.reason
    assert expiry.due_renewals(tx, NOW + DAY, limit=10) == []
    assert renew(tx, first, NOW + DAY) is None
    assert end_due(tx, NOW + DAY, limit=10) == 1
    assert balances(tx, 1)[Kind.VOICE].posted == 900


def test_a_renewal_can_be_taken_back(tx):
    first = bought(tx)
    assert bundle_records.set_renewal(tx, first.account_id, renews=False).renews is False
    assert expiry.due_renewals(tx, NOW + DAY, limit=10) == []
    with pytest.raises(InvalidValue):
        bundle_records.set_renewal(tx, give(tx).account_id, renews=True)


def test_bundles_are_listed_newest_first(tx):
    made = [give(tx, f"id:{n}", subscriber_id=1 + n % 2) for n in range(4)]
    bundle_records.end(tx, made[0].account_id, now=NOW)
    ids = [each.account_id for each in made]

    def listed(**which):
        return [(name, each.account_id) for name, each in bundle_records.list_all(tx, limit=10, **which)]

    assert listed() == [("u1002", ids[3]), ("u1001", ids[2]), ("u1002", ids[1]), ("u1001", ids[0])]
    assert listed(subscriber_id=1, ended=False) == [("u1001", ids[2])]
    assert listed(ended=True) == [("u1001", ids[0])]
    assert listed(before_id=ids[1]) == [("u1001", ids[0])]


# -- reversals ---------------------------------------------------------------------------------------------------------


def test_a_gift_is_reversed_while_unspent(tx):
    made = give(tx)
    reversals.reverse(tx, "id:1", note="a mistake", now=NOW)
    assert bundle_records.find(tx, made.account_id).posted == 0
    bundle_records.end(tx, made.account_id, now=NOW)


def test_an_ended_bundle_gets_nothing_back(tx):
    made = give(tx)
    hold(tx, made, 60)
    settle(tx, made, 60)
    bundle_records.end(tx, made.account_id, now=NOW)
    for reference in ("use:1", "end:id:1"):
        with pytest.raises(TransferConflict, match="has ended"):
            reversals.reverse(tx, reference, note="a mistake", now=NOW)


# -- the audit -------------------------------------------------------------------------------------------------------


def spoil_owner(tx, bundle):
    return sa.update(tables.bundle).values(subscriber_id=2)


def spoil_end(tx, bundle):
    return sa.update(tables.bundle).values(ended_at=NOW)


def spoil_filling(tx, bundle):
    return sa.update(tables.bundle).values(reference="another")


def spoil_payment(tx, bundle):
    return sa.update(tables.bundle).values(offer_id=None)


def spoil_taking_back(tx, bundle):
    bundle_records.end(tx, bundle.account_id, now=NOW)
    return sa.update(tables.bundle).values(ended_at=NOW + HOUR)


@pytest.mark.parametrize(
    ("spoil", "law"),
    [
        (spoil_owner, "a bundle's account is of its subscriber"),
        (spoil_end, "a bundle that has ended is empty"),
        (spoil_filling, "a bundle is filled by its transfer"),
        (spoil_payment, "who pays for an offer gets a bundle of it"),
        (spoil_taking_back, "what is taken back is of a bundle that ended"),
    ],
)
def test_the_audit_finds_a_spoilt_bundle(engine, spoil, law):
    with engine.begin() as tx:
        tx.execute(spoil(tx, bought(tx)))
        assert law in {each.law for each in audit(tx).differences}


# -- plans -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "index"),
    [
        (lambda tx: expiry.due_ends(tx, NOW, limit=5), "ix_bundle_due"),
        (lambda tx: expiry.due_renewals(tx, NOW, limit=5), "ix_bundle_due"),
        (lambda tx: bundle_records.list_all(tx, subscriber_id=1, limit=5), "ix_bundle_subscriber_id_account_id"),
        (lambda tx: bundle_records.list_of(tx, 1), "ix_bundle_living"),
    ],
)
def test_lists_of_bundles_use_an_index(tmp_path, work, index):
    engine = databases.sqlite(tmp_path / "plans.sqlite", databases.three_subscribers)
    asked = []
    sa.event.listen(engine, "before_cursor_execute", lambda *words: asked.append((words[2], words[3])))
    with engine.begin() as tx:
        work(tx)
        text, values = next(each for each in asked if "bundle" in each[0])
        plan = [row[-1] for row in tx.exec_driver_sql(f"explain query plan {text}", values)]
    engine.dispose()
    assert any(index in line for line in plan), plan
