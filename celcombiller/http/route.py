"""Routes: address, access rule, types of the request and of the answer, and handler.

A handler is a plain function of an open transaction and a checked request; it returns the answer. So it is tested
without HTTP, it runs in one thread, and what it writes is one transaction together with its audit trail.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from celcombiller.core.catalogue.catalogue import Catalogue
from celcombiller.core.charging import request_keys
from celcombiller.core.errors import BillerError, NotAuthenticated, NotFound, PasswordNeeded

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config
    from celcombiller.core.access.actor import Actor
    from celcombiller.core.access.changes.subscriber_changes import NewPassword
    from celcombiller.core.access.principal import Principal
    from celcombiller.http.authorization import AccessRule
    from celcombiller.http.transport.http_request import HttpRequest

ID_MAX = 2**53 - 1


ID = "<row:id>"
"""The number of a row, in the address of a route."""


ALWAYS_SERVED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Addresses that are served even when too many requests are in work: those by which operators see it."""


class ResponseStyle(Enum):
    """The form of a route's errors, and the layout of its JSON."""

    TODAY = "problem documents"
    ORIGINAL = "as the original program"
    PAGE = "pages of the console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One checked request. ``who`` is the principal; it is ``None`` only on routes without an access rule.

    ``body`` and ``query`` have the types that the route names; without a type they are a ``dict`` as received.
    ``password`` is the new password of the body, hashed, with the old one checked. ``key`` is the Idempotency-Key.
    ``secrets`` are the cookies that may be a browser session, ``secret`` is the one that is; ``bearer`` is the secret
    of a token. ``rule`` is the access rule of the route. ``local``: a program on this machine sent it, not through a
    proxy. ``provider``: who signed it, on routes that ask for a signature. ``catalogue`` is the one in use.
    ``languages`` is the header Accept-Language. ``refused`` is set where a page is shown once more because a form was
    refused; then ``form`` has the values of its fields.
    """

    config: Config
    who: Principal | None
    path: Mapping[str, Any]
    query: Any
    body: Any
    now: datetime
    address: str
    base_url: str
    url: str
    key: str | None = None
    fresh: str = field(default_factory=lambda: uuid.uuid4().hex)
    password: NewPassword | None = None
    secrets: tuple[str, ...] = ()
    secret: str | None = None
    bearer: str | None = None
    rule: AccessRule | None = None
    local: bool = False
    provider: str = ""
    languages: str = ""
    form: Mapping[str, str] = field(default_factory=dict)
    refused: BillerError | None = None
    catalogue: Catalogue = field(default_factory=Catalogue)

    def find_reference(self, tx: Connection) -> str:
        """Return the reference of what this request makes: by the client's key, else by an id that retries keep."""
        return f"id:{self.fresh}" if self.key is None else request_keys.find_reference(tx, self.actor, self.key)

    @property
    def actor(self) -> Actor:
        """The principal as the author of a change."""
        actor = self.principal.acting_from(self.address)
        return replace(actor, asked_from=self.config.rest.large_credit) if self.needs_password else actor

    @property
    def needs_password(self) -> bool:
        """Whether a session of staff must give its password again before an export or a large credit."""
        minutes, who = self.config.rest.password_minutes, self.principal
        return minutes > 0 and who.is_staff and not who.gave_password(self.now - timedelta(minutes=minutes))

    def check_export(self) -> None:
        """Raise `PasswordNeeded` if the password must be given again before data of many people are downloaded."""
        if self.needs_password:
            raise PasswordNeeded("this is the data of many people: give your password again")

    @property
    def principal(self) -> Principal:
        """The principal. Raises `NotAuthenticated` if there is none."""
        if self.who is None:
            raise NotAuthenticated("log in (POST /login) or send a token (Authorization: Bearer …)")
        return self.who

    @property
    def only_subscriber_id(self) -> int | None:
        """The only subscriber whose records the principal may see; ``None``: those of all."""
        return None if self.principal.is_staff else self.principal.subscriber_id

    def check_own(self, subscriber_id: int) -> None:
        """Raise `NotFound` if the principal may not see the records of this subscriber."""
        if self.only_subscriber_id not in (None, subscriber_id):
            raise NotFound("there is no such thing, or it is not yours")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer with a status or headers.

    A body that is a ``str`` is sent as plain text, one that is ``bytes`` as it is, any other as JSON.
    """

    body: object = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[["Connection", Request], object]


Served = Callable[[Any, "HttpRequest", Request], Awaitable[Response | None]]


Refuses = Callable[[Any, "HttpRequest", "Route", Request, BillerError], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """One route.

    ``do`` runs on an open transaction, which may write unless the method is GET. ``serve`` is for work of several
    transactions, such as a login or a streamed download; it gets the API, Twisted's request and the checked request.
    ``free`` decides by the request alone whether such a route needs no login; then it works without the database.
    ``refusals`` are the errors of this route only, without those of every route (broken JSON, no login).
    ``verify`` checks the signature of a request, before anything else of it is looked at, and returns the request with
    who signed it; then no cookie and no token counts. ``body_is_optional``: without a body the handler gets ``None``.
    ``any_type``: the body is JSON, whatever its Content-Type. ``takes_upload``: it is CSV, which may be long; `serve`
    takes it from Twisted's request, and ``upload_example`` is what OpenAPI shows. ``only_asks``: the route changes
    nothing, though its method is not GET. ``example`` is a body that OpenAPI shows. ``operation`` describes a route of
    the original program in OpenAPI, where else it is not. ``immutable_reason``: why nothing at this address can be
    changed. ``takes_form``: the body is the form of a page, and the handler gets a ``dict`` of its fields; the field
    ``idempotency_key`` counts as the header of that name. ``refuse`` makes the answer to an error, as a page.
    """

    method: str
    path: str
    who: AccessRule | None
    do: Handler | None = None
    serve: Served | None = None
    free: Callable[[Any, HttpRequest, Request], bool] | None = None
    verify: Callable[[Any, HttpRequest, Request, bytes], Request] | None = None
    query: type | None = None
    body: type | None = None
    body_is_optional: bool = False
    takes_body: bool = False
    takes_form: bool = False
    refuse: Refuses | None = None
    any_type: bool = False
    only_asks: bool = False
    takes_upload: bool = False
    upload_example: str = ""
    takes_password: bool = False
    immutable_reason: str = ""
    needs_idempotency_key: bool = False
    example: Mapping[str, Any] | None = field(default=None)
    operation: Mapping[str, Any] | None = field(default=None)
    answer: Any = None
    answer_type: str = "application/json"
    status: int = 200
    other_answers: Mapping[int, Any] = field(default_factory=dict)
    refusals: tuple[type[BillerError], ...] = ()
    summary: str = ""
    style: ResponseStyle = ResponseStyle.TODAY

    @property
    def name(self) -> str:
        """The name of the route, unique in the table."""
        return f"{self.method} {self.path}"

    @property
    def reads(self) -> bool:
        """Whether the route changes nothing."""
        return self.method == "GET" or self.only_asks

    @property
    def open_path(self) -> str:
        """The address as OpenAPI writes it: ``/api/v1/calls/{id}``."""
        return re.sub(r"<(?:[^:<>]+:)?([a-z_]+)>", r"{\1}", self.path)
