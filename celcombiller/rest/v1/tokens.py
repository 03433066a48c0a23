"""``/api/v1/tokens``: keys for programs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from celcombiller.core.access import tokens
from celcombiller.core.access.principal import Scope
from celcombiller.core.errors import InvalidValue
from celcombiller.core.reports.views import make_view
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.route import Response
from celcombiller.runtime.credentials.token_secrets import make_token_secret

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from celcombiller.core.access.tokens import NewToken
    from celcombiller.http.route import Request


class TokenView(msgspec.Struct, kw_only=True):
    """A token, without its secret."""

    id: Annotated[int, Meta(description="the number of its row; it never changes")]
    name: Annotated[str, Meta(description="what it is for")]
    username: Annotated[str, Meta(description="its owner; it may do no more than they may")]
    scopes: Annotated[list[Scope], Meta(description="what it may be used for")]
    created_at: Annotated[datetime, Meta(tz=True, description="when it was made (RFC 3339, UTC)")]
    expires_at: Annotated[datetime, Meta(tz=True, description="until when it holds (RFC 3339, UTC)")] | None
    revoked_at: Annotated[datetime, Meta(tz=True, description="since when it is invalid (RFC 3339, UTC)")] | None


class TokenMade(msgspec.Struct, kw_only=True):
    """A new token. Its secret cannot be shown again."""

    token: TokenView
    secret: Annotated[str, Meta(description="send it as `Authorization: Bearer …`")]


class TokenList(msgspec.Struct, kw_only=True):
    """All tokens, with those that are revoked."""

    items: list[TokenView]


def list_all(tx: Connection, _request: Request) -> TokenList:
    """List tokens."""
    return TokenList(items=[make_view(TokenView, each) for each in tokens.tokens(tx)])


def add(tx: Connection, request: Request) -> Response:
    """Make a token."""
    body: NewToken = request.body
    expires_at = body.expires_at
    if expires_at is not None and expires_at <= request.now:
        raise InvalidValue("expires_at: must be a time to come", {"expires_at": "must be a time to come"})
    owner = subscriber_records.find(tx, body.username or request.principal.username)
    secret = make_token_secret()
    made = tokens.make_token(
        tx, request.actor, secret, owner.id, name=body.name, scopes=body.scopes, expires_at=expires_at, now=request.now
    )
    return Response(
        TokenMade(token=make_view(TokenView, made), secret=secret), headers={"Location": f"{request.url}/{made.id}"}
    )


def show(tx: Connection, request: Request) -> TokenView:
    """Show one token."""
    return make_view(TokenView, tokens.token(tx, request.path["id"]))


def revoke(tx: Connection, request: Request) -> Response:
    """Revoke a token; it stays in the list."""
    tokens.revoke_token(tx, request.actor, request.path["id"], request.now)
    return Response()
