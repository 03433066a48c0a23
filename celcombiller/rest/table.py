"""Every route of the API, in one table: its address, who may use it, what it takes and gives."""

from __future__ import annotations

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
from celcombiller.rest.routes import (
    ADMINISTRATORS,
    ANYBODY,
    ID,
    OWN_READ,
    OWN_WRITE,
    STAFF_READ,
    STAFF_WRITE,
    Route,
    Style,
)

V1 = "/api/v1"
SUBSCRIBER = f"{V1}/subscribers/<username>"

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

_ORIGINAL = (
    Route(method="POST", path="/login", who=ANYBODY, serve=sessions.log_in, style=Style.ORIGINAL),
    Route(method="GET", path="/logout", who=ANYBODY, serve=sessions.log_out, style=Style.ORIGINAL),
)

ROUTES = (*_HEALTH, *_TODAY, *_ORIGINAL)
