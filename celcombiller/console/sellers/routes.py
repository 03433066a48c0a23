"""The pages of sellers, each with who may see it."""

from __future__ import annotations

from celcombiller.console.page import form, page
from celcombiller.console.sellers import sell
from celcombiller.http.authorization import OWN_READ, OWN_WRITE

RECEIPT = "/ui/receipts/<receipt>"

SELLER_ROUTES = (
    page("/ui/sell", OWN_READ, sell.show),
    page("/ui/sell/plan", OWN_READ, sell.show_plan, shown_by=sell.show),
    page("/ui/sell/sales", OWN_READ, sell.show),
    form("/ui/sell/sales", OWN_WRITE, sell.sell, shown_by=sell.show, needs_idempotency_key=True),
    page("/ui/sell/receipts", OWN_READ, sell.show_receipts),
    page("/ui/sell/vouchers", OWN_READ, sell.show_vouchers),
    page("/ui/sell/settlement", OWN_READ, sell.show_settlement),
    page(RECEIPT, OWN_READ, sell.show_receipt),
    form(f"{RECEIPT}/undo", OWN_WRITE, sell.undo, shown_by=sell.show_receipt),
)
