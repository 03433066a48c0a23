"""Every route of the API, in one table: its address, who may use it, what it takes and gives."""

from __future__ import annotations

from functools import partial

from celcombiller.errors import (
    AlreadyTaken,
    InsufficientBalance,
    InvalidValue,
    LastAdministrator,
    NotFound,
    TooManyAttempts,
    TransferConflict,
    UnknownSubscriber,
)
from celcombiller.rest import accounts, calls, health, me, openapi, sessions, subscribers, tokens, trail, transfers
from celcombiller.rest.download import CSV_TYPE
from celcombiller.rest.original import moves, plain, users
from celcombiller.rest.routes import (
    ADMINISTRATORS,
    ANYBODY,
    ID,
    NETWORK,
    OWN_READ,
    OWN_WRITE,
    STAFF_READ,
    STAFF_WRITE,
    Route,
    Style,
)

V1 = "/api/v1"
SUBSCRIBER = f"{V1}/subscribers/<username>"
USER = "/api/users/<username>"
VOICE, DATA = "/api/voice_balance", "/api/data_balance"

_HEALTH = (
    Route(method="GET", path="/healthz", who=ANYBODY, serve=health.healthz, answer=health.Alive),
    Route(
        method="GET",
        path="/readyz",
        who=ANYBODY,
        serve=health.readyz,
        answer=health.Ready,
        other_answers={503: health.Ready},
    ),
)

_TODAY = (
    Route(method="GET", path=openapi.PATH, who=ANYBODY, serve=openapi.describe),
    Route(
        method="GET",
        path=f"{V1}/subscribers",
        who=STAFF_READ,
        do=subscribers.list_all,
        query=subscribers.SubscriberQuery,
        answer=subscribers.SubscriberPage,
    ),
    Route(
        method="POST",
        path=f"{V1}/subscribers",
        who=STAFF_WRITE,
        do=subscribers.add,
        body=subscribers.NewSubscriber,
        answer=subscribers.SubscriberShown,
        status=201,
        refusals=(AlreadyTaken, TooManyAttempts),
    ),
    Route(
        method="GET",
        path=SUBSCRIBER,
        who=OWN_READ,
        do=subscribers.show,
        answer=subscribers.SubscriberShown,
        refusals=(UnknownSubscriber,),
    ),
    Route(
        method="PATCH",
        path=SUBSCRIBER,
        who=OWN_WRITE,
        do=subscribers.change,
        body=subscribers.SubscriberChange,
        answer=subscribers.SubscriberShown,
        refusals=(UnknownSubscriber, AlreadyTaken, LastAdministrator, TooManyAttempts),
    ),
    Route(
        method="DELETE",
        path=SUBSCRIBER,
        who=STAFF_WRITE,
        do=subscribers.delete,
        status=204,
        refusals=(UnknownSubscriber, LastAdministrator),
    ),
    Route(
        method="GET",
        path=f"{SUBSCRIBER}/accounts",
        who=OWN_READ,
        do=accounts.list_of,
        answer=accounts.AccountList,
        refusals=(UnknownSubscriber,),
    ),
    Route(
        method="PATCH",
        path=f"{SUBSCRIBER}/accounts/<any(voice,data):kind>",
        who=ADMINISTRATORS,
        do=accounts.change,
        body=accounts.AccountChange,
        answer=accounts.AccountShown,
        refusals=(UnknownSubscriber,),
    ),
    Route(
        method="GET",
        path=f"{SUBSCRIBER}/statement",
        who=OWN_READ,
        do=accounts.statement,
        query=accounts.StatementQuery,
        answer=transfers.TransferPage,
        refusals=(UnknownSubscriber,),
    ),
    Route(
        method="GET",
        path=f"{V1}/transfers",
        who=STAFF_READ,
        do=transfers.list_all,
        query=transfers.TransferQuery,
        answer=transfers.TransferPage,
    ),
    Route(
        method="POST",
        path=f"{V1}/transfers",
        who=STAFF_WRITE,
        do=transfers.add,
        body=transfers.NewTransfer,
        keyed=True,
        answer=transfers.TransferShown,
        status=201,
        refusals=(UnknownSubscriber, InsufficientBalance, TransferConflict),
    ),
    Route(method="GET", path=f"{V1}/transfers/{ID}", who=OWN_READ, do=transfers.show, answer=transfers.TransferShown),
    Route(
        method="POST",
        path=f"{V1}/transfers/{ID}/reversal",
        who=STAFF_WRITE,
        do=transfers.reverse,
        body=transfers.Reversal,
        answer=transfers.TransferShown,
        status=201,
        refusals=(InsufficientBalance, TransferConflict),
    ),
    Route(
        method="GET",
        path=f"{V1}/holds",
        who=OWN_READ,
        do=accounts.holds,
        query=accounts.HoldQuery,
        answer=accounts.HoldPage,
        refusals=(NotFound, UnknownSubscriber),
    ),
    Route(
        method="GET",
        path=f"{V1}/calls",
        who=OWN_READ,
        do=calls.list_all,
        query=calls.CallQuery,
        answer=calls.CallPage,
        refusals=(NotFound, UnknownSubscriber),
    ),
    Route(
        method="GET",
        path=f"{V1}/calls.csv",
        who=OWN_READ,
        serve=calls.download,
        query=calls.CallFilter,
        answer=str,
        answer_type=CSV_TYPE,
        refusals=(NotFound, UnknownSubscriber),
    ),
    Route(method="GET", path=f"{V1}/calls/{ID}", who=OWN_READ, do=calls.show, answer=calls.CallWhole),
    Route(method="GET", path=f"{V1}/rates", who=OWN_READ, do=me.rates, answer=me.RateList),
    Route(method="GET", path=f"{V1}/me", who=OWN_READ, do=me.me, answer=me.Me),
    Route(
        method="GET",
        path=f"{V1}/sessions",
        who=OWN_READ,
        do=me.sessions,
        query=me.SessionQuery,
        answer=me.SessionPage,
        refusals=(NotFound, UnknownSubscriber),
    ),
    Route(method="DELETE", path=f"{V1}/sessions/<id>", who=OWN_WRITE, do=me.revoke, status=204),
    Route(method="GET", path=f"{V1}/tokens", who=ADMINISTRATORS, do=tokens.list_all, answer=tokens.TokenList),
    Route(
        method="POST",
        path=f"{V1}/tokens",
        who=ADMINISTRATORS,
        do=tokens.add,
        body=tokens.NewToken,
        answer=tokens.TokenMade,
        status=201,
        refusals=(UnknownSubscriber, InvalidValue),
    ),
    Route(method="GET", path=f"{V1}/tokens/{ID}", who=ADMINISTRATORS, do=tokens.show, answer=tokens.TokenShown),
    Route(method="DELETE", path=f"{V1}/tokens/{ID}", who=ADMINISTRATORS, do=tokens.revoke, status=204),
    Route(
        method="GET",
        path=f"{V1}/trail",
        who=ADMINISTRATORS,
        do=trail.list_all,
        query=trail.TrailQuery,
        answer=trail.TrailPage,
    ),
)

_original = partial(Route, style=Style.ORIGINAL)
_taking = partial(_original, takes_body=True)
_balance = partial(_taking, who=NETWORK, any_type=True, only_asks=True)
_movement = partial(_taking, method="POST", who=STAFF_WRITE, status=201)

_ORIGINAL = (
    _original(method="POST", path="/login", who=ANYBODY, serve=sessions.log_in),
    _original(method="GET", path="/logout", who=ANYBODY, serve=sessions.log_out),
    _original(method="GET", path="/", who=OWN_READ, do=plain.name),
    _original(method="POST", path="/", who=OWN_READ, do=plain.name, only_asks=True),
    _original(method="GET", path="/test", who=OWN_READ, do=plain.test),
    _original(method="GET", path="/check", who=OWN_READ, do=plain.name),
    _original(method="GET", path="/checkadm", who=OWN_READ, do=plain.user),
    _original(method="POST", path="/sms", who=OWN_WRITE, do=plain.sms, only_asks=True),
    _balance(method="GET", path="/check_voice_balance", do=plain.voice_balance),
    _balance(method="POST", path="/check_voice_balance", do=plain.voice_balance),
    _balance(method="GET", path="/check_data_balance", do=plain.data_balance),
    _balance(method="POST", path="/check_data_balance", do=plain.data_balance),
    _original(method="GET", path="/api/users", who=OWN_READ, do=users.list_all),
    _taking(method="POST", path="/api/users", who=STAFF_WRITE, do=users.add, takes_password=True, status=201),
    _taking(method="PATCH", path="/api/users", who=STAFF_WRITE, do=users.change_many, takes_password=True),
    _taking(method="PUT", path="/api/users", who=STAFF_WRITE, do=users.change_many, takes_password=True),
    _original(method="GET", path=USER, who=OWN_READ, do=users.show),
    _taking(method="PATCH", path=USER, who=OWN_WRITE, do=users.change, takes_password=True),
    _original(method="DELETE", path=USER, who=STAFF_WRITE, do=users.delete),
    _original(method="GET", path=VOICE, who=OWN_READ, do=moves.list_voice, fixed=moves.FIXED),
    _movement(path=VOICE, do=moves.add_voice),
    _original(method="GET", path=f"{VOICE}/{ID}", who=OWN_READ, do=moves.show_voice, fixed=moves.FIXED),
    _original(method="GET", path=DATA, who=OWN_READ, do=moves.list_data, fixed=moves.FIXED),
    _movement(path=DATA, do=moves.add_data),
    _original(method="GET", path=f"{DATA}/{ID}", who=OWN_READ, do=moves.show_data, fixed=moves.FIXED),
)

ROUTES = (*_HEALTH, *_TODAY, *_ORIGINAL)
