"""Vouchers redeemed: once, by who may, when they may, and every credit of them in the ledger."""

from datetime import UTC, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.core.access import login_throttle
from celcombiller.core.access.actor import Actor
from celcombiller.core.audit.report import audit
from celcombiller.core.bundles import bundle_records, offers
from celcombiller.core.bundles.terms import BundleTerms
from celcombiller.core.errors import (
    AlreadyTaken,
    BalanceTooHigh,
    Forbidden,
    InsufficientBalance,
    InvalidValue,
    NotFound,
    SellerDisabled,
    SubscriberDisabled,
    TooManyAttempts,
    TransferConflict,
    UnknownSeller,
    UnknownSubscriber,
    UnknownVoucher,
    VoucherExpired,
    VoucherNotActive,
    VoucherRedeemed,
    VoucherRevoked,
)
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.ledger.rows import AMOUNT_MAX
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.vouchers import VoucherState
from celcombiller.core.schema import tables
from celcombiller.core.selling import sales, sellers
from celcombiller.core.selling.selling_terms import SellingTerms
from celcombiller.core.subscribers import subscriber_records
from celcombiller.core.vouchers import voucher_batches
from celcombiller.core.vouchers.redemption import RedemptionTry, redeem, redeem_all
from celcombiller.core.vouchers.voucher_codes import format_code
from tests.support import databases, vouchers
from tests.support.databases import NOW
from tests.support.vouchers import OPERATOR, codes_of

DAY = timedelta(days=1)
OTHER_CODE = codes_of(9, 1)[0]


@pytest.fixture
def tx():
    engine = databases.sqlite(fill=databases.three_subscribers)
    with engine.begin() as connection:
        yield connection
        assert audit(connection).differences == []
    engine.dispose()


def balance(tx, subscriber_id=1, kind=Kind.VOICE):
    return balances(tx, subscriber_id)[kind].posted


def count(tx, table):
    return tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def states(tx, batch, now=NOW):
    return [str(each.state) for each in voucher_batches.list_cards(tx, batch, now, limit=10)]


@pytest.mark.parametrize("kind", Kind)
def test_voucher_gives_credit_of_its_kind(tx, kind):
    batch, codes = vouchers.batch(tx, kind=kind, value=70)
    outcome = redeem(tx, 1, format_code(codes[1]), now=NOW + DAY)
    assert (outcome.batch, outcome.serial, outcome.at, outcome.is_new) == (batch, 2, NOW + DAY, True)
    assert balance(tx, kind=kind) == 70
    assert states(tx, batch) == ["active", "redeemed", "active"]


def test_same_subscriber_gets_same_answer_again(tx):
    batch, codes = vouchers.batch(tx)
    first = redeem(tx, 1, codes[0], now=NOW)
    voucher_batches.revoke(tx, OPERATOR, batch.id, now=NOW)
    subscriber_records.enable(tx, "u1001", enabled=False, now=NOW)
    again = redeem(tx, 1, f" {codes[0]} ", now=NOW + DAY)
    assert (first.is_new, again.is_new) == (True, False)
    assert (again.at, again.serial, balance(tx)) == (NOW, 1, 50)


def test_other_subscriber_is_refused(tx):
    _, codes = vouchers.batch(tx)
    redeem(tx, 1, codes[0], now=NOW)
    assert isinstance(redeem(tx, 2, codes[0], now=NOW), VoucherRedeemed)
    assert (balance(tx, 1), balance(tx, 2)) == (50, 0)


def test_many_tries_share_a_transaction(tx):
    _, codes = vouchers.batch(tx, cards=5)
    _, texts = vouchers.batch(tx, "texts", seed=2, kind=Kind.SMS, value=3)
    typed = [(1, codes[0]), (2, codes[0]), (1, codes[1]), (1, codes[0]), (2, texts[0]), (3, "?"), (2, codes[4])]
    outcomes = redeem_all(tx, [RedemptionTry(*each) for each in typed], NOW)
    assert [getattr(each, "is_new", type(each)) for each in outcomes] == [
        *(True, VoucherRedeemed, True, False, True, UnknownVoucher, True)
    ]
    assert (balance(tx, 1), balance(tx, 2), balance(tx, 2, Kind.SMS)) == (100, 50, 3)


def test_card_works_only_while_active(tx):
    batch, codes = vouchers.batch(tx, active=False, valid_until=NOW + DAY)
    assert isinstance(redeem(tx, 1, codes[0], now=NOW), VoucherNotActive)
    voucher_batches.activate(tx, OPERATOR, batch.id, 2, 3, now=NOW)
    voucher_batches.revoke(tx, OPERATOR, batch.id, 3, 3, now=NOW)
    assert isinstance(redeem(tx, 1, codes[0], now=NOW), VoucherNotActive)
    assert isinstance(redeem(tx, 1, codes[2], now=NOW), VoucherRevoked)
    assert isinstance(redeem(tx, 1, codes[1], now=NOW + DAY), VoucherExpired)
    assert isinstance(redeem(tx, 2, OTHER_CODE, now=NOW), UnknownVoucher)
    assert states(tx, batch) == ["made", "active", "revoked"]
    assert states(tx, batch, NOW + DAY) == ["expired", "expired", "revoked"]
    assert balance(tx) == 0
    assert redeem(tx, 1, codes[1], now=NOW + DAY - timedelta(microseconds=1)).serial == 2


def test_disabled_and_deleted_subscribers_are_refused(tx):
    _, codes = vouchers.batch(tx)
    subscriber_records.enable(tx, "u1001", enabled=False, now=NOW)
    subscriber_records.delete(tx, "u1002", NOW)
    assert isinstance(redeem(tx, 1, codes[0], now=NOW), SubscriberDisabled)
    assert isinstance(redeem(tx, 2, codes[0], now=NOW), UnknownSubscriber)
    assert redeem(tx, 3, codes[0], now=NOW).is_new


def test_full_balance_keeps_the_card(tx):
    batch, codes = vouchers.batch(tx, value=AMOUNT_MAX)
    redeem(tx, 1, codes[0], now=NOW)
    assert isinstance(redeem(tx, 1, codes[1], now=NOW), BalanceTooHigh)
    assert states(tx, batch) == ["redeemed", "active", "active"]


def test_credit_of_card_stays_valid_for_its_days(tx):
    _, codes = vouchers.batch(tx, credit_days=30)
    redeem(tx, 1, codes[0], today=NOW.date() - DAY, now=NOW)
    kept = sa.select(tables.credit_validity.c.valid_until)
    assert tx.execute(kept).scalar_one() == NOW.date() + 29 * DAY


def test_clock_set_back_makes_no_wait(tx):
    _, codes = vouchers.batch(tx)
    redeem(tx, 1, OTHER_CODE, now=NOW + DAY)
    assert redeem(tx, 1, codes[0], now=NOW).is_new


def test_voucher_of_offer_gives_its_bundle(tx):
    terms = BundleTerms("talk week", BundleKind.SECONDS, 1000, call_seconds_max=300)
    offer = offers.add(tx, terms, price=90, valid_hours=168, renews=True, now=NOW)
    batch, codes = vouchers.batch(tx, offer=offer)
    offers.change(tx, offer.id, {"amount": 5, "enabled": False, "call_seconds_max": 9})  # the cards are printed already
    assert redeem(tx, 1, codes[0], now=NOW).is_new
    assert not redeem(tx, 1, codes[0], now=NOW + DAY).is_new
    (bundle,) = bundle_records.list_of(tx, 1)
    assert (bundle.name, bundle.posted, bundle.valid_until) == ("talk week", 1000, NOW + 7 * DAY)
    assert (bundle.renews, bundle.offer_id, bundle.call_seconds_max, balance(tx)) == (False, offer.id, 300, 0)
    assert states(tx, batch)[0] == "redeemed"


# -- tries -----------------------------------------------------------------------------------------------------------


def test_wrong_codes_must_wait_longer_and_longer(tx):
    _, codes = vouchers.batch(tx)
    wrong = [redeem(tx, 1, OTHER_CODE, address="192.0.2.1", now=NOW) for _ in range(7)]
    assert [type(each) for each in wrong] == [UnknownVoucher] * 5 + [TooManyAttempts] * 2
    assert isinstance(redeem(tx, 1, codes[0], address="192.0.2.1", now=NOW), TooManyAttempts)
    assert redeem(tx, 2, codes[1], address="192.0.2.1", now=NOW).is_new  # another subscriber goes on
    assert redeem(tx, 1, codes[0], address="192.0.2.1", now=NOW + timedelta(seconds=3)).is_new
    assert isinstance(redeem(tx, 1, OTHER_CODE, address="192.0.2.1", now=NOW + timedelta(seconds=3)), UnknownVoucher)


def test_tries_of_one_group_count_at_once(tx):
    tries = [RedemptionTry(1, OTHER_CODE)] * 20
    outcomes = redeem_all(tx, tries, NOW)
    assert [type(each) for each in outcomes] == [UnknownVoucher] * 5 + [TooManyAttempts] * 15


def test_address_is_limited_over_all_subscribers(tx):
    for number in range(60):
        redeem(tx, 1 + number % 2, OTHER_CODE, address="2001:db8::1", now=NOW)
    attempt = tables.login_attempt
    of_address = attempt.c.who == "address:voucher:2001:db8::/64"
    assert tx.execute(sa.select(attempt.c.failures).where(of_address)).scalar_one() == 10
    tx.execute(sa.update(attempt).where(of_address).values(failures=25))
    assert isinstance(redeem(tx, 3, OTHER_CODE, address="2001:db8::2", now=NOW), TooManyAttempts)
    assert isinstance(redeem(tx, 3, OTHER_CODE, address="2001:db8:1::2", now=NOW), UnknownVoucher)


def test_staff_tries_have_no_limit_and_a_trail(tx):
    batch, codes = vouchers.batch(tx)
    for _ in range(30):
        assert isinstance(redeem(tx, 1, OTHER_CODE, actor=OPERATOR, now=NOW), UnknownVoucher)
    assert redeem(tx, 1, codes[0], actor=OPERATOR, now=NOW).is_new
    row = tx.execute(sa.select(tables.trail).where(tables.trail.c.action == "redeem voucher")).one()
    assert (row.subject, row.after) == ("subscriber:u1001", f'{{"batch_id":{batch.id},"serial":1}}')


def test_no_code_is_kept_anywhere(tx):
    _, codes = vouchers.batch(tx)
    redeem(tx, 1, codes[0], actor=OPERATOR, now=NOW)
    redeem(tx, 2, codes[0], now=NOW)
    for table in tables.metadata.tables.values():
        text = str(tx.execute(sa.select(table)).all())
        assert not any(code in text or format_code(code) in text for code in codes), table.name
    assert codes[0] not in repr(RedemptionTry(1, codes[0]))


# -- batches ---------------------------------------------------------------------------------------------------------


def test_unfinished_batch_is_of_no_use(tx):
    batch, codes = vouchers.begin(tx), codes_of(1, 3)
    voucher_batches.add_cards(tx, batch.id, 1, codes[:2])
    with pytest.raises(InvalidValue, match="has 2 of 3"):
        voucher_batches.complete(tx, OPERATOR, batch.id, now=NOW)
    for use in (voucher_batches.activate, voucher_batches.revoke):
        with pytest.raises(NotFound):
            use(tx, OPERATOR, batch.id, now=NOW)
    assert voucher_batches.list_all(tx, limit=10) == []
    assert isinstance(redeem(tx, 1, codes[0], now=NOW), UnknownVoucher)
    assert vouchers.batch(tx, seed=2)[0].cards == 3  # its name and its id are free


def test_unfinished_batches_are_discarded_after_a_day(tx):
    kept, _ = vouchers.batch(tx, "kept")
    left = vouchers.begin(tx, "left", cards=5)
    voucher_batches.add_cards(tx, left.id, 1, codes_of(2, 5))
    assert not voucher_batches.discard_unfinished(tx, NOW + DAY)
    rounds = 0
    while voucher_batches.discard_unfinished(tx, NOW + DAY + timedelta(seconds=1), limit=2):
        rounds += 1
    assert rounds == 3
    assert (count(tx, tables.voucher), count(tx, tables.voucher_batch)) == (3, 1)
    assert voucher_batches.find(tx, kept.id) == kept
    with pytest.raises(NotFound, match="discarded"):
        voucher_batches.complete(tx, OPERATOR, left.id, now=NOW)


def test_same_cards_again_change_nothing(tx):
    batch, codes = vouchers.begin(tx), codes_of(1, 3)
    for _ in range(2):
        voucher_batches.add_cards(tx, batch.id, 1, codes)
        voucher_batches.complete(tx, OPERATOR, batch.id, now=NOW)
    assert count(tx, tables.voucher) == 3


def test_complete_batch_is_not_made_again(tx):
    vouchers.batch(tx, reference="id:a")
    with pytest.raises(TransferConflict, match="codes were shown"):
        vouchers.begin(tx, "other", reference="id:a")
    with pytest.raises(AlreadyTaken):
        vouchers.begin(tx, reference="id:b")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "7"},
        {"name": " x"},
        {"name": ""},
        {"cards": 0},
        {"cards": 1_000_001},
        {"value": 0},
        {"value": AMOUNT_MAX + 1},
        {"value": None},
        {"credit_days": 0},
        {"valid_until": NOW},
        {"note": "a\nb"},
    ],
)
def test_wrong_orders_are_refused(tx, wrong):
    with pytest.raises(InvalidValue):
        vouchers.begin(tx, **{"name": "x", "kind": Kind.VOICE, "value": 1} | wrong)
    assert count(tx, tables.voucher_batch) == 0


def test_only_administrators_make_and_change_batches(tx):
    batch, _ = vouchers.batch(tx)
    staff = Actor("s", "192.0.2.1", manages=frozenset())
    for change in (
        lambda: voucher_batches.begin(
            tx, staff, voucher_batches.VoucherOrder(name="x", cards=1, kind=Kind.SMS, value=1), reference="x", now=NOW
        ),
        lambda: voucher_batches.activate(tx, staff, batch.id, now=NOW),
        lambda: voucher_batches.revoke(tx, staff, batch.id, now=NOW),
    ):
        with pytest.raises(Forbidden):
            change()


def test_cards_are_activated_once(tx):
    batch, _ = vouchers.batch(tx, cards=10, active=False)
    first, is_new = voucher_batches.activate(tx, OPERATOR, batch.id, 3, 5, now=NOW)
    again, is_new_again = voucher_batches.activate(tx, OPERATOR, batch.id, 3, 5, now=NOW + DAY)
    assert (is_new, is_new_again, again) == (True, False, first)
    with pytest.raises(InvalidValue, match="the cards 4 to 5 are active already"):
        voucher_batches.activate(tx, OPERATOR, batch.id, 4, 9, now=NOW)
    with pytest.raises(InvalidValue, match="card 3 is active already"):
        voucher_batches.activate(tx, OPERATOR, batch.id, 1, 3, now=NOW)
    voucher_batches.revoke(tx, OPERATOR, batch.id, 8, 10, now=NOW)
    with pytest.raises(InvalidValue, match="the cards 8 to 9 are revoked already"):
        voucher_batches.activate(tx, OPERATOR, batch.id, 8, 9, now=NOW)
    for first_serial, last_serial in ((0, 2), (2, 1), (1, 11)):
        with pytest.raises(InvalidValue, match="must be a whole number"):
            voucher_batches.activate(tx, OPERATOR, batch.id, first_serial, last_serial, now=NOW)
    _, is_new = voucher_batches.revoke(tx, OPERATOR, batch.id, 9, 10, now=NOW)
    assert not is_new


def test_states_are_counted_over_all_ranges(tx):
    batch, codes = vouchers.batch(tx, cards=10, active=False, valid_until=NOW + DAY)
    voucher_batches.activate(tx, OPERATOR, batch.id, 2, 6, now=NOW)
    voucher_batches.activate(tx, OPERATOR, batch.id, 7, 8, now=NOW)
    for code in codes[3:7]:
        redeem(tx, 1, code, now=NOW)
    voucher_batches.revoke(tx, OPERATOR, batch.id, 6, 9, now=NOW)
    for now in (NOW, NOW + DAY):
        expected = {state: states(tx, batch, now).count(state) for state in VoucherState}
        assert voucher_batches.count_states(tx, batch, now) == expected
    assert voucher_batches.count_states(tx, batch, NOW)[VoucherState.REDEEMED] == 4


def test_seller_pays_when_cards_are_activated(tx):
    batch, codes = vouchers.batch(tx, cards=10, active=False)
    sellers.add(tx, OPERATOR, "u1002", terms={"day_limit": 700, "credit_line": 50}, zone=UTC, now=NOW)
    sales.refill(tx, SellingTerms(), OPERATOR, "u1002", 850, key="1", origin="voice", now=NOW)
    sold = {"seller": "u1002", "price": 400}
    first, _ = voucher_batches.activate(tx, OPERATOR, batch.id, 1, 5, **sold, now=NOW)
    again, is_new = voucher_batches.activate(tx, OPERATOR, batch.id, 1, 5, **sold, now=NOW)
    assert (again, is_new, first.seller_id) == (first, False, 2)
    for now in (NOW, NOW + DAY):  # more than a day's limit, then more than all
        with pytest.raises(InsufficientBalance):
            voucher_batches.activate(tx, OPERATOR, batch.id, 6, 10, seller="u1002", price=501, now=now)
    with pytest.raises(UnknownSeller):
        voucher_batches.activate(tx, OPERATOR, batch.id, 6, 10, seller="u1003", now=NOW)
    sellers.change(tx, OPERATOR, "u1002", {"enabled": False}, zone=UTC, now=NOW)
    with pytest.raises(SellerDisabled):
        voucher_batches.activate(tx, OPERATOR, batch.id, 6, 10, seller="u1002", now=NOW)
    assert states(tx, batch)[4:6] == ["active", "made"]
    assert redeem(tx, 3, codes[4], now=NOW).is_new
    assert sellers.find(tx, 2).posted == 450


def test_card_is_found_by_its_code(tx):
    _, codes = vouchers.batch(tx)
    redeem(tx, 2, codes[1], now=NOW + DAY)
    found = voucher_batches.find_by_code(tx, format_code(codes[1]), NOW)
    assert (found.serial, found.state, found.redeemed_by, found.redeemed_at) == (2, "redeemed", "u1002", NOW + DAY)
    with pytest.raises(UnknownVoucher):
        voucher_batches.find_by_code(tx, OTHER_CODE, NOW)


def test_realms_of_tries_are_apart(tx):
    for _ in range(8):
        redeem(tx, 1, OTHER_CODE, address="192.0.2.1", now=NOW)
    assert login_throttle.find_standing(tx, "1", "192.0.2.1", NOW).wait_seconds == 0


@pytest.mark.parametrize(
    ("break_it", "law"),
    [
        ("update transfer set amount = 49 where origin = 'voucher'", "a redeemed voucher has its transfer"),
        ("update voucher_redemption set subscriber_id = 2", "a redeemed voucher has its transfer"),
        ("delete from voucher_redemption", "a transfer of a voucher has its redemption"),
        ("delete from transfer where origin = 'voucher'", "a redeemed voucher has its transfer"),
        ("delete from voucher_range", "a redeemed voucher was active"),
        ("delete from voucher where serial = 3", "a batch of vouchers has all its cards"),
        ("update voucher_range set price = 5, seller_id = 2", "a seller pays for the cards that they got"),
        ("update transfer set origin = 'vouchers'", "a payment for cards has its cards"),
        ("update voucher_batch set valid_until = '2020-01-01 00:00:00'", "a redeemed voucher was active"),
    ],
)
def test_audit_finds_each_broken_law(break_it, law):
    engine = databases.sqlite(fill=databases.three_subscribers)
    with engine.begin() as tx:
        _, codes = vouchers.batch(tx)
        redeem(tx, 1, codes[0], now=NOW)
        assert audit(tx).differences == []
        tx.exec_driver_sql(break_it)
        assert law in [each.law for each in audit(tx).differences]
    engine.dispose()
