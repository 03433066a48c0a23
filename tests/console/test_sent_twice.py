"""Each form that moves credit has a test that sends it twice; a new form must say whether it moves any."""

from celcombiller.console.routes import CONSOLE_ROUTES
from tests.console import test_credit, test_operators, test_selling, test_top_up
from tests.console.credit import test_payments, test_schedules, test_vouchers
from tests.console.pricing import test_bundles
from tests.console.system import test_broadcasts, test_traffic

SENT_TWICE = {
    "/ui/broadcasts": test_broadcasts.test_the_second_look_sends_once,
    "/ui/bundles": test_bundles.test_bundle_is_given_once_after_a_look,
    "/ui/bundles/<row:id>/end": test_bundles.test_bundle_ends_once_for_a_reason,
    "/ui/fees/<row:id>/pay": test_schedules.test_fee_is_taken_once,
    "/ui/fees/<row:id>/waiver": test_schedules.test_waived_fee_is_not_owed,
    "/ui/me/bundles": test_top_up.test_plan_is_bought_once_per_form,
    "/ui/me/credit-transfers": test_top_up.asked,
    "/ui/me/credit-transfers/<row:id>/confirm": test_top_up.test_right_code_hands_credit_on_once,
    "/ui/me/fees/<row:id>/pay": test_top_up.test_fee_is_paid_once,
    "/ui/me/vouchers": test_top_up.test_voucher_is_redeemed_once,
    "/ui/messages": test_traffic.test_one_form_sends_one_message,
    "/ui/payments/<row:id>/assignment": test_payments.test_waiting_payment_is_assigned_once,
    "/ui/payments/<row:id>/reversal": test_payments.test_payment_is_reversed_for_a_reason_once,
    "/ui/receipts/<receipt>/undo": test_selling.test_undo_gives_stock_back_once,
    "/ui/schedules/<row:id>/members/<username>/renewals": test_schedules.test_members_join_renew_once_and_leave,
    "/ui/schedules/runs/<row:id>/undo": test_schedules.test_fee_is_taken_once,
    "/ui/sell/sales": test_selling.test_double_tap_sells_once_and_shows_receipt,
    "/ui/sellers/<username>/refills": test_selling.seller,
    "/ui/subscribers/<username>/transfers": test_credit.test_form_sent_twice_credits_once,
    "/ui/transfers/<row:id>/reversal": test_operators.test_reversal_needs_a_reason_and_happens_once,
    "/ui/vouchers/<row:id>/activation": test_vouchers.test_seller_pays_once_and_sees_vouchers,
    "/ui/vouchers/<row:id>/revocation": test_vouchers.test_revoked_voucher_gives_nothing,
    "/ui/vouchers/batches": test_vouchers.test_codes_are_shown_once,
}
"""Each form that moves credit, or is done once for its key, and what sends it twice."""
ENDS_OF_OTHERS = {"new", "change", "delete", "members", "removal", "import", "versions", "withdrawal", "find"} | {
    *("login", "code", "phone", "logout", "language", "password", "<any(enable,disable):action>"),
    *("cancellation", "hangup", "sync", "level", "reset", "revoke", "end", "audit", "<username>"),
}
"""The last parts of the addresses of forms that move no credit."""


def test_each_form_moving_credit_is_sent_twice():
    posts = {each.path for each in CONSOLE_ROUTES if each.method == "POST"}
    keyed = {each.path for each in CONSOLE_ROUTES if each.needs_idempotency_key}
    assert keyed <= SENT_TWICE.keys() <= posts
    others = posts - SENT_TWICE.keys()
    assert {each for each in others if each.rpartition("/")[2] not in ENDS_OF_OTHERS} == set()
