"""The pages of subscribers, each with who may see it."""

from __future__ import annotations

from celcombiller.console.page import form, page, serving_form
from celcombiller.console.subscribers import own, top_up
from celcombiller.http.authorization import OWN_READ, OWN_WRITE
from celcombiller.http.route import ID

SUBSCRIBER_ROUTES = (
    page("/ui/me", OWN_READ, own.show),
    page("/ui/me/statement", OWN_READ, own.show_statement),
    page("/ui/me/calls", OWN_READ, own.show_calls),
    page(f"/ui/me/calls/{ID}", OWN_READ, own.show_call),
    page("/ui/me/messages", OWN_READ, own.show_messages),
    page("/ui/me/data", OWN_READ, own.show_data),
    page("/ui/me/plans", OWN_READ, top_up.show_plans),
    page(f"/ui/me/plans/{ID}", OWN_READ, top_up.show_plan),
    page("/ui/me/vouchers", OWN_READ, top_up.show_plans),
    serving_form("/ui/me/vouchers", OWN_WRITE, top_up.redeem, shown_by=top_up.show_plans),
    page("/ui/me/bundles", OWN_READ, top_up.show_plans),
    form("/ui/me/bundles", OWN_WRITE, top_up.buy, shown_by=top_up.show_plans, needs_idempotency_key=True),
    form(f"/ui/me/fees/{ID}/pay", OWN_WRITE, top_up.pay_fee, shown_by=top_up.show_plans),
    page("/ui/me/transfer", OWN_READ, top_up.show_transfer),
    page("/ui/me/transfer/plan", OWN_READ, top_up.show_transfer_plan, shown_by=top_up.show_transfer),
    page("/ui/me/credit-transfers", OWN_READ, top_up.show_transfer),
    form(
        "/ui/me/credit-transfers",
        OWN_WRITE,
        top_up.transfer,
        shown_by=top_up.show_transfer,
        needs_idempotency_key=True,
    ),
    serving_form(f"/ui/me/credit-transfers/{ID}/confirm", OWN_WRITE, top_up.confirm, shown_by=top_up.show_transfer),
    page("/ui/me/language", OWN_READ, top_up.show_password),
    form("/ui/me/language", OWN_WRITE, top_up.set_language, shown_by=top_up.show_password),
    page("/ui/me/password", OWN_READ, top_up.show_password),
    form("/ui/me/password", OWN_WRITE, top_up.set_password, shown_by=top_up.show_password, takes_password=True),
)
