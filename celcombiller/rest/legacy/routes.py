"""The routes of the original program."""

from __future__ import annotations

from functools import partial

from celcombiller.http.authorization import (
    ANYBODY,
    NETWORK,
    OWN_READ,
    OWN_WRITE,
    STAFF_WRITE,
)
from celcombiller.http.route import ID, ResponseStyle, Route
from celcombiller.rest.legacy import balances, login, plain_text, sms, users
from celcombiller.rest.legacy import memberships as legacy_memberships
from celcombiller.rest.legacy import schedules as legacy_schedules

USER = "/api/users/<username>"


VOICE, DATA = "/api/voice_balance", "/api/data_balance"


BY_ID, BY_NAME, MEMBERS = "/api/schedule", "/api/schedules", "/api/schedule_user"


CONTRACTS, INPUTS = "/api/schedule_contract", "/api/schedule_input"


_original = partial(Route, style=ResponseStyle.ORIGINAL)


_taking = partial(_original, takes_body=True)


_balance = partial(_taking, who=NETWORK, any_type=True, only_asks=True)


_movement = partial(_taking, method="POST", who=STAFF_WRITE, status=201)


LEGACY_ROUTES = (
    _original(method="POST", path="/login", who=ANYBODY, serve=login.log_in, operation=login.LOG_IN),
    _original(method="GET", path="/logout", who=ANYBODY, serve=login.log_out, operation=login.LOG_OUT),
    _original(method="GET", path="/", who=OWN_READ, do=plain_text.name),
    _original(method="POST", path="/", who=OWN_READ, do=plain_text.name, only_asks=True),
    _original(method="GET", path="/test", who=OWN_READ, do=plain_text.test),
    _original(method="GET", path="/check", who=OWN_READ, do=plain_text.name),
    _original(method="GET", path="/checkadm", who=OWN_READ, do=plain_text.user),
    _taking(method="POST", path="/sms", who=OWN_WRITE, do=sms.send),
    _balance(method="GET", path="/check_voice_balance", do=plain_text.voice_balance),
    _balance(method="POST", path="/check_voice_balance", do=plain_text.voice_balance),
    _balance(method="GET", path="/check_data_balance", do=plain_text.data_balance),
    _balance(method="POST", path="/check_data_balance", do=plain_text.data_balance),
    _original(method="GET", path="/api/users", who=OWN_READ, do=users.list_all),
    _taking(method="POST", path="/api/users", who=STAFF_WRITE, do=users.add, takes_password=True, status=201),
    _taking(method="PATCH", path="/api/users", who=STAFF_WRITE, serve=users.change_many, takes_password=True),
    _taking(method="PUT", path="/api/users", who=STAFF_WRITE, serve=users.change_many, takes_password=True),
    _original(method="GET", path=USER, who=OWN_READ, do=users.show),
    _taking(method="PATCH", path=USER, who=OWN_WRITE, do=users.change, takes_password=True),
    _original(method="DELETE", path=USER, who=STAFF_WRITE, do=users.delete),
    _original(method="GET", path=VOICE, who=OWN_READ, do=balances.list_voice, immutable_reason=balances.FIXED),
    _movement(path=VOICE, do=balances.add_voice),
    _original(
        method="GET", path=f"{VOICE}/{ID}", who=OWN_READ, do=balances.show_voice, immutable_reason=balances.FIXED
    ),
    _original(method="GET", path=DATA, who=OWN_READ, do=balances.list_data, immutable_reason=balances.FIXED),
    _movement(path=DATA, do=balances.add_data),
    _original(method="GET", path=f"{DATA}/{ID}", who=OWN_READ, do=balances.show_data, immutable_reason=balances.FIXED),
    _original(method="GET", path=BY_ID, who=OWN_READ, do=legacy_schedules.list_by_id),
    _taking(method="POST", path=BY_ID, who=STAFF_WRITE, do=legacy_schedules.add_by_id, status=201),
    _original(method="GET", path=f"{BY_ID}/{ID}", who=OWN_READ, do=legacy_schedules.show_by_id),
    _taking(method="PATCH", path=f"{BY_ID}/{ID}", who=STAFF_WRITE, do=legacy_schedules.change_by_id),
    _original(method="DELETE", path=f"{BY_ID}/{ID}", who=STAFF_WRITE, do=legacy_schedules.delete_by_id),
    _original(method="GET", path=BY_NAME, who=OWN_READ, do=legacy_schedules.list_by_name),
    _taking(method="POST", path=BY_NAME, who=STAFF_WRITE, do=legacy_schedules.add_by_name, status=201),
    _original(method="GET", path=f"{BY_NAME}/<name>", who=OWN_READ, do=legacy_schedules.show_by_name),
    _taking(method="PATCH", path=f"{BY_NAME}/<name>", who=STAFF_WRITE, do=legacy_schedules.change_by_name),
    _original(method="DELETE", path=f"{BY_NAME}/<name>", who=STAFF_WRITE, do=legacy_schedules.delete_by_name),
    _original(method="GET", path=MEMBERS, who=OWN_READ, do=legacy_memberships.list_all),
    _taking(method="POST", path=MEMBERS, who=STAFF_WRITE, do=legacy_memberships.add, status=201),
    _taking(method="PATCH", path=MEMBERS, who=STAFF_WRITE, do=legacy_memberships.renew),
    _taking(method="PUT", path=MEMBERS, who=STAFF_WRITE, do=legacy_memberships.renew),
    _original(method="GET", path=f"{MEMBERS}/{ID}", who=OWN_READ, do=legacy_memberships.show),
    _taking(method="PATCH", path=f"{MEMBERS}/{ID}", who=STAFF_WRITE, do=legacy_memberships.change),
    _original(method="DELETE", path=f"{MEMBERS}/{ID}", who=STAFF_WRITE, do=legacy_memberships.delete),
    _original(
        method="GET",
        path=CONTRACTS,
        who=OWN_READ,
        do=legacy_memberships.list_contracts,
        immutable_reason=legacy_memberships.FIXED,
    ),
    _original(
        method="GET",
        path=f"{CONTRACTS}/{ID}",
        who=OWN_READ,
        do=legacy_memberships.show_contract,
        immutable_reason=legacy_memberships.FIXED,
    ),
    _original(
        method="GET",
        path=INPUTS,
        who=OWN_READ,
        do=legacy_memberships.list_inputs,
        immutable_reason=legacy_memberships.FIXED,
    ),
    _original(
        method="GET",
        path=f"{INPUTS}/{ID}",
        who=OWN_READ,
        do=legacy_memberships.show_input,
        immutable_reason=legacy_memberships.FIXED,
    ),
)
