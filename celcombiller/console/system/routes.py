"""The pages of the system, each with who may see it."""

from __future__ import annotations

from celcombiller.console.page import form, page, serving_form, serving_page
from celcombiller.console.system import (
    broadcasts,
    cdr_differences,
    data_sessions,
    messages,
    networks,
    sessions,
    staff,
    state,
    tokens,
)
from celcombiller.http.authorization import ADMINISTRATORS, OWN_READ, OWN_WRITE, STAFF_READ, STAFF_WRITE
from celcombiller.http.route import ID

NETWORK = "/ui/networks/<name>"

MEMBER = "/ui/staff/<username>"

BROADCAST = f"/ui/broadcasts/{ID}"

SYSTEM_ROUTES = (
    page("/ui/messages", STAFF_READ, messages.show),
    page("/ui/messages/new", STAFF_WRITE, messages.show_new),
    form("/ui/messages", STAFF_WRITE, messages.send, shown_by=messages.show_new, needs_idempotency_key=True),
    page(f"/ui/messages/{ID}", STAFF_READ, messages.show_one),
    page("/ui/broadcasts", STAFF_READ, broadcasts.show),
    page("/ui/broadcasts/new", STAFF_WRITE, broadcasts.show_new),
    page("/ui/broadcasts/plan", STAFF_WRITE, broadcasts.show_plan, shown_by=broadcasts.show_new),
    form("/ui/broadcasts", STAFF_WRITE, broadcasts.send, shown_by=broadcasts.show_new, needs_idempotency_key=True),
    page(BROADCAST, STAFF_READ, broadcasts.show_one),
    form(f"{BROADCAST}/cancellation", STAFF_WRITE, broadcasts.cancel, shown_by=broadcasts.show_one),
    page("/ui/data-sessions", STAFF_READ, data_sessions.show),
    page(f"/ui/data-sessions/{ID}", STAFF_READ, data_sessions.show_one),
    page("/ui/cdr-differences", STAFF_READ, cdr_differences.show),
    page("/ui/networks", STAFF_READ, networks.show),
    page(NETWORK, STAFF_READ, networks.show_one),
    serving_page(f"{NETWORK}/diff", STAFF_READ, networks.compare, shown_by=networks.show_one),
    serving_page(f"{NETWORK}/sync", ADMINISTRATORS, networks.preview, shown_by=networks.show_one),
    serving_form(f"{NETWORK}/sync", ADMINISTRATORS, networks.synchronize, shown_by=networks.show_one),
    page("/ui/staff", STAFF_READ, staff.show),
    page("/ui/staff/new", ADMINISTRATORS, staff.show_new),
    form("/ui/staff/new", ADMINISTRATORS, staff.add, shown_by=staff.show_new, takes_password=True),
    page(MEMBER, ADMINISTRATORS, staff.show_one),
    form(f"{MEMBER}/level", ADMINISTRATORS, staff.set_level, shown_by=staff.show_one),
    form(f"{MEMBER}/second-factor/reset", ADMINISTRATORS, staff.reset_second_factor, shown_by=staff.show_one),
    page("/ui/tokens", ADMINISTRATORS, tokens.show),
    page("/ui/tokens/new", ADMINISTRATORS, tokens.show_new),
    form("/ui/tokens/new", ADMINISTRATORS, tokens.add, shown_by=tokens.show_new),
    form(f"/ui/tokens/{ID}/revoke", ADMINISTRATORS, tokens.revoke, shown_by=tokens.show),
    page("/ui/sessions", OWN_READ, sessions.show),
    form("/ui/sessions/<id>/end", OWN_WRITE, sessions.end, shown_by=sessions.show),
    serving_page("/ui/settings", ADMINISTRATORS, state.show_settings),
    page("/ui/audit", ADMINISTRATORS, state.show_audit),
    serving_form("/ui/audit", ADMINISTRATORS, state.run_audit, shown_by=state.show_audit),
    serving_page("/ui/doctor", ADMINISTRATORS, state.show_doctor),
)
