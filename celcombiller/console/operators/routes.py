"""The pages of operators, each with who may see it."""

from __future__ import annotations

from celcombiller.console.operators import (
    calls,
    live,
    reports,
    sellers,
    start,
    subscriber,
    subscriber_files,
    subscribers,
    trail,
    transfers,
)
from celcombiller.console.page import form, page, serving_form, serving_page
from celcombiller.http.authorization import ADMINISTRATORS, OWN_READ, STAFF_READ, STAFF_WRITE
from celcombiller.http.route import ID

SUBSCRIBER = "/ui/subscribers/<username>"
ACCOUNT = f"{SUBSCRIBER}/accounts/<any(voice,data,sms):kind>/change"

TICKED = "/ui/subscribers/ticked/<any(enable,disable):action>"

SELLER = "/ui/sellers/<username>"

OPERATOR_ROUTES = (
    page("/ui/sellers", STAFF_READ, sellers.show),
    page("/ui/sellers/new", ADMINISTRATORS, sellers.show_new),
    form("/ui/sellers/new", ADMINISTRATORS, sellers.add, shown_by=sellers.show_new),
    page(SELLER, STAFF_READ, sellers.show_one),
    form(SELLER, ADMINISTRATORS, sellers.change, shown_by=sellers.show_one),
    page(f"{SELLER}/refills/plan", STAFF_WRITE, sellers.show_refill_plan, shown_by=sellers.show_one),
    page(f"{SELLER}/refills", STAFF_WRITE, sellers.show_one),
    form(f"{SELLER}/refills", STAFF_WRITE, sellers.refill, shown_by=sellers.show_one, needs_idempotency_key=True),
    page("/ui/calls", STAFF_READ, calls.show),
    page(f"/ui/calls/{ID}", STAFF_READ, calls.show_one),
    page("/ui/live", STAFF_READ, live.show),
    serving_form(f"/ui/live/{ID}/hangup", STAFF_WRITE, live.hang_up, shown_by=live.show),
    page("/ui/reports", STAFF_READ, reports.show_first),
    page("/ui/reports/days", STAFF_READ, reports.show_days),
    page("/ui/reports/sellers", STAFF_READ, reports.show_sellers),
    page("/ui/reports/destinations", STAFF_READ, reports.show_destinations),
    page("/ui/reports/trunks", STAFF_READ, reports.show_trunks),
    page("/ui/start", STAFF_READ, start.show),
    page("/ui/subscribers", STAFF_READ, subscribers.show),
    page("/ui/subscribers/new", STAFF_WRITE, subscribers.show_new),
    form("/ui/subscribers/new", STAFF_WRITE, subscribers.add, shown_by=subscribers.show_new, takes_password=True),
    serving_page("/ui/subscribers/new/seen", STAFF_READ, subscribers.show_seen),
    page("/ui/subscribers/new/import", STAFF_WRITE, subscriber_files.show),
    serving_form(
        "/ui/subscribers/new/import", STAFF_WRITE, subscriber_files.import_file, shown_by=subscriber_files.show
    ),
    page(TICKED, STAFF_WRITE, subscribers.show_ticked, shown_by=subscribers.show),
    form(TICKED, STAFF_WRITE, subscribers.change_ticked, shown_by=subscribers.show),
    page(SUBSCRIBER, STAFF_READ, subscriber.show),
    page(f"{SUBSCRIBER}/statement", STAFF_READ, subscriber.show_statement),
    page(f"{SUBSCRIBER}/schedules", STAFF_READ, subscriber.show_schedules),
    page(f"{SUBSCRIBER}/change", STAFF_WRITE, subscriber.show_change),
    form(f"{SUBSCRIBER}/change", STAFF_WRITE, subscriber.change, shown_by=subscriber.show_change, takes_password=True),
    page(ACCOUNT, ADMINISTRATORS, subscriber.show_account),
    form(ACCOUNT, ADMINISTRATORS, subscriber.change_account, shown_by=subscriber.show_account),
    page(f"{SUBSCRIBER}/delete", STAFF_WRITE, subscriber.show_delete),
    form(f"{SUBSCRIBER}/delete", STAFF_WRITE, subscriber.delete, shown_by=subscriber.show_delete),
    page(f"/ui/transfers/{ID}", OWN_READ, transfers.show),
    page(f"/ui/transfers/{ID}/reversal", STAFF_WRITE, transfers.show),
    form(f"/ui/transfers/{ID}/reversal", STAFF_WRITE, transfers.reverse, shown_by=transfers.show),
    page("/ui/trail", ADMINISTRATORS, trail.show),
    page(f"{SUBSCRIBER}/credit", STAFF_WRITE, subscriber.show_credit),
    page(f"{SUBSCRIBER}/credit/plan", STAFF_WRITE, subscriber.show_credit_plan, shown_by=subscriber.show_credit),
    page(f"{SUBSCRIBER}/transfers", STAFF_WRITE, subscriber.show_credit),
    form(
        f"{SUBSCRIBER}/transfers",
        STAFF_WRITE,
        subscriber.credit,
        shown_by=subscriber.show_credit,
        needs_idempotency_key=True,
    ),
)
