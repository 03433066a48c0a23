"""The pages about credit, each with who may see it."""

from __future__ import annotations

from celcombiller.console.credit import fees, groups, members, payments, schedules, vouchers
from celcombiller.console.page import form, page, serving_form
from celcombiller.http.authorization import ADMINISTRATORS, STAFF_READ, STAFF_WRITE
from celcombiller.http.route import ID

BATCH = f"/ui/vouchers/{ID}"
PAYMENT = f"/ui/payments/{ID}"
SCHEDULE = f"/ui/schedules/{ID}"
RUN = f"/ui/schedules/runs/{ID}"
MEMBER = f"{SCHEDULE}/members/<username>"
FEE = f"/ui/fees/{ID}"
GROUP = f"/ui/groups/{ID}"

CREDIT_ROUTES = (
    page("/ui/vouchers", STAFF_READ, vouchers.show),
    page("/ui/vouchers/new", ADMINISTRATORS, vouchers.show_new),
    page("/ui/vouchers/batches", ADMINISTRATORS, vouchers.show_new),
    serving_form("/ui/vouchers/batches", ADMINISTRATORS, vouchers.make, shown_by=vouchers.show_new),
    page("/ui/vouchers/find", STAFF_READ, vouchers.show_find),
    form("/ui/vouchers/find", STAFF_READ, vouchers.find, shown_by=vouchers.show_find),
    page("/ui/vouchers/redeemed", STAFF_READ, vouchers.show_redeemed),
    page(BATCH, STAFF_READ, vouchers.show_one),
    page(f"{BATCH}/activation", ADMINISTRATORS, vouchers.show_activation),
    page(f"{BATCH}/activation/plan", ADMINISTRATORS, vouchers.show_plan, shown_by=vouchers.show_activation),
    form(f"{BATCH}/activation", ADMINISTRATORS, vouchers.activate, shown_by=vouchers.show_activation),
    page(f"{BATCH}/revocation", ADMINISTRATORS, vouchers.show_revocation),
    form(f"{BATCH}/revocation", ADMINISTRATORS, vouchers.revoke, shown_by=vouchers.show_revocation),
    page("/ui/payments", STAFF_READ, payments.show),
    page(PAYMENT, STAFF_READ, payments.show_one),
    page(f"{PAYMENT}/assignment", STAFF_WRITE, payments.show_assignment, shown_by=payments.show_one),
    form(f"{PAYMENT}/assignment", STAFF_WRITE, payments.assign, shown_by=payments.show_one),
    page(f"{PAYMENT}/reversal", STAFF_WRITE, payments.show_one),
    form(f"{PAYMENT}/reversal", STAFF_WRITE, payments.reverse, shown_by=payments.show_one),
    page("/ui/schedules", STAFF_READ, schedules.show),
    page("/ui/schedules/new", STAFF_WRITE, schedules.show_new),
    form("/ui/schedules/new", STAFF_WRITE, schedules.add, shown_by=schedules.show_new),
    page(SCHEDULE, STAFF_READ, schedules.show_one),
    page(f"{SCHEDULE}/change", STAFF_WRITE, schedules.show_change),
    form(f"{SCHEDULE}/change", STAFF_WRITE, schedules.change, shown_by=schedules.show_change),
    form(f"{SCHEDULE}/delete", STAFF_WRITE, schedules.delete, shown_by=schedules.show_change),
    page(f"{SCHEDULE}/forecast", STAFF_READ, schedules.show_forecast),
    page(RUN, STAFF_READ, schedules.show_run),
    page(f"{RUN}/undo", STAFF_WRITE, schedules.show_run),
    form(f"{RUN}/undo", STAFF_WRITE, schedules.undo_run, shown_by=schedules.show_run),
    page(f"{SCHEDULE}/members", STAFF_READ, members.show),
    form(f"{SCHEDULE}/members", STAFF_WRITE, members.add, shown_by=members.show),
    page(MEMBER, STAFF_READ, members.show_one),
    form(MEMBER, STAFF_WRITE, members.change, shown_by=members.show_one),
    page(f"{MEMBER}/renewals", STAFF_WRITE, members.show_renewal),
    form(f"{MEMBER}/renewals", STAFF_WRITE, members.renew, shown_by=members.show_renewal),
    form(f"{MEMBER}/removal", STAFF_WRITE, members.remove, shown_by=members.show_one),
    page("/ui/fees", STAFF_READ, fees.show),
    page(FEE, STAFF_READ, fees.show_one),
    page(f"{FEE}/pay", STAFF_WRITE, fees.show_one),
    form(f"{FEE}/pay", STAFF_WRITE, fees.pay, shown_by=fees.show_one),
    page(f"{FEE}/waiver", STAFF_WRITE, fees.show_one),
    form(f"{FEE}/waiver", STAFF_WRITE, fees.waive, shown_by=fees.show_one),
    page("/ui/groups", STAFF_READ, groups.show),
    page("/ui/groups/new", ADMINISTRATORS, groups.show_new),
    form("/ui/groups/new", ADMINISTRATORS, groups.add, shown_by=groups.show_new),
    page(GROUP, STAFF_READ, groups.show_one),
    page(f"{GROUP}/change", ADMINISTRATORS, groups.show_change),
    form(f"{GROUP}/change", ADMINISTRATORS, groups.change, shown_by=groups.show_change),
    form(f"{GROUP}/delete", ADMINISTRATORS, groups.delete, shown_by=groups.show_change),
    form(f"{GROUP}/members", STAFF_WRITE, groups.add_member, shown_by=groups.show_one),
    form(f"{GROUP}/members/<username>/removal", STAFF_WRITE, groups.remove_member, shown_by=groups.show_one),
)
