"""Every route of the API, in one table: its address, who may use it, what it takes and gives."""

from __future__ import annotations

from celcombiller.rest import health, scrape, sessions, subscribers, tokens
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
    Route(method="GET", path="/healthz", who=ANYBODY, serve=health.healthz, free=health.is_free, answer=health.Alive),
    Route(method="GET", path="/readyz", who=ANYBODY, serve=health.readyz, free=health.is_free, answer=health.Ready),
    Route(method="GET", path="/metrics", who=STAFF_READ, serve=scrape.metrics, free=scrape.is_free),
)

_TODAY = (
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
    ),
    Route(method="GET", path=SUBSCRIBER, who=OWN_READ, do=subscribers.show, answer=subscribers.SubscriberShown),
    Route(
        method="PATCH",
        path=SUBSCRIBER,
        who=OWN_WRITE,
        do=subscribers.change,
        body=subscribers.SubscriberChange,
        answer=subscribers.SubscriberShown,
    ),
    Route(method="DELETE", path=SUBSCRIBER, who=STAFF_WRITE, do=subscribers.delete, status=204),
    Route(method="GET", path=f"{V1}/tokens", who=ADMINISTRATORS, do=tokens.list_all, answer=tokens.TokenList),
    Route(
        method="POST",
        path=f"{V1}/tokens",
        who=ADMINISTRATORS,
        do=tokens.add,
        body=tokens.NewToken,
        answer=tokens.TokenMade,
        status=201,
    ),
    Route(method="GET", path=f"{V1}/tokens/{ID}", who=ADMINISTRATORS, do=tokens.show, answer=tokens.TokenShown),
    Route(method="DELETE", path=f"{V1}/tokens/{ID}", who=ADMINISTRATORS, do=tokens.revoke, status=204),
)

_ORIGINAL = (
    Route(method="POST", path="/login", who=ANYBODY, serve=sessions.log_in, style=Style.ORIGINAL),
    Route(method="GET", path="/logout", who=ANYBODY, serve=sessions.log_out, style=Style.ORIGINAL),
)

ROUTES = (*_HEALTH, *_TODAY, *_ORIGINAL)
