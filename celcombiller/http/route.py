"""What a route is: its address, who may use it, what it takes and gives, and what it does.

A handler is a plain function on an open transaction: it gets what was asked, checked, and gives the answer. So it can
be tried without HTTP, runs whole in one thread, and what it writes is one transaction with its trail.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from celcombiller.core.access import audit_trail
from celcombiller.core.errors import BillerError, Forbidden, NotAuthenticated, NotFound
from celcombiller.core.model.subscribers import Level

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from celcombiller.config.tables import Config
    from celcombiller.core.access.principal import Principal
    from celcombiller.core.model.subscribers import Subscriber
    from celcombiller.http.authorization import AccessRule
    from celcombiller.http.http_request import HttpRequest

ID_MAX = 2**53 - 1


ID = "<row:id>"
"""A row's number in an address."""


OWN_FIELDS = {"name", "address", "password"}
"""What those who do not administer may change of themselves."""


class ResponseStyle(Enum):
    """How a route tells errors and lays out its JSON."""

    TODAY = "problem documents"
    ORIGINAL = "as the original program"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, checked. ``who`` is ``None`` only on routes that anybody may use.

    ``body`` and ``query`` are of the types that the route names; without a type they are as they came (``dict``).
    ``password_hash`` stands for the body's ``password``, which no handler needs to see.
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
    password_hash: str | None = None
    secret: str | None = None
    local: bool = False

    @property
    def reference(self) -> str:
        """Return the id under which this request moves credit: its sender's, else one made before any transaction."""
        return f"id:{self.key or self.fresh}"

    @property
    def actor(self) -> audit_trail.Actor:
        """Return who changes something, for the trail."""
        return audit_trail.Actor(self.principal.audit_name, self.address)

    @property
    def principal(self) -> Principal:
        """Return who asks, on a route that not anybody may use."""
        if self.who is None:
            raise NotAuthenticated("log in (POST /login) or send a token (Authorization: Bearer …)")
        return self.who

    @property
    def only_subscriber_id(self) -> int | None:
        """Return the only subscriber whose things may be shown; ``None``: all."""
        return None if self.principal.is_staff else self.principal.subscriber_id

    def check_own(self, subscriber_id: int) -> None:
        """Raise `NotFound` for a thing of somebody else's, unless it is the asker's business."""
        if self.only_subscriber_id not in (None, subscriber_id):
            raise NotFound("there is no such thing, or it is not yours")

    def check_manages(self, *levels: Level) -> None:
        """Raise `Forbidden` unless the asker may make, change and credit subscribers of these levels.

        A token of an administrator without the scope ``admin`` manages what a collaborator manages: a password that it
        set for one of the staff would open a session, which has all scopes.
        """
        if self.principal.administers:
            return
        if not self.principal.is_staff or set(levels) != {Level.SUBSCRIBER}:
            raise Forbidden("only an administrator, not narrowed by scopes, manages administrators and collaborators")

    def check_changes(self, subscriber: Subscriber, fields: Collection[str], level: Level) -> None:
        """Raise `Forbidden` unless the asker may change these fields of a subscriber who then has this ``level``.

        Neither does a token without the scope ``admin`` set its owner's password.
        """
        if self.principal.subscriber_id != subscriber.id:
            self.check_manages(subscriber.level, level)
            return
        if not self.principal.administers and set(fields) - OWN_FIELDS:
            raise Forbidden(f"of oneself one may change {', '.join(sorted(OWN_FIELDS))}")
        if not self.principal.is_unnarrowed and "password" in fields:
            raise Forbidden("one's own password is changed with a session or the scope admin")


@dataclass(frozen=True, slots=True)
class Response:
    """What a handler gives when a value alone does not say it all. A text is sent as it is, all else as JSON."""

    body: Any = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[["Connection", Request], object]


Served = Callable[[Any, "HttpRequest", Request], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the table of routes.

    ``do`` runs on an open transaction (that writes, unless the method is GET); ``serve`` is for what is more than
    one transaction (a login, a streamed download): it gets the API, the request and what was asked. Such a route may
    be ``free`` to who is told by the request alone: then the database is not asked who he is, so it may be away.
    ``refusals`` are those of the route's own; what every route can refuse (a body that is no JSON, somebody unknown)
    is not named. ``any_type``: the body is JSON whatever its Content-Type says. ``only_asks``: it changes nothing,
    though it is no GET. ``immutable_reason``: why nothing here can be changed.
    """

    method: str
    path: str
    who: AccessRule | None
    do: Handler | None = None
    serve: Served | None = None
    free: Callable[[Any, HttpRequest, Request], bool] | None = None
    query: type | None = None
    body: type | None = None
    takes_body: bool = False
    any_type: bool = False
    only_asks: bool = False
    takes_password: bool = False
    immutable_reason: str = ""
    needs_idempotency_key: bool = False
    answer: Any = None
    answer_type: str = "application/json"
    status: int = 200
    other_answers: Mapping[int, Any] = field(default_factory=dict, compare=False)
    refusals: tuple[type[BillerError], ...] = ()
    summary: str = ""
    style: ResponseStyle = ResponseStyle.TODAY

    @property
    def name(self) -> str:
        """Return its name, once in the table."""
        return f"{self.method} {self.path}"

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.method == "GET" or self.only_asks

    @property
    def open_path(self) -> str:
        """Return its address as OpenAPI writes it: ``/api/v1/calls/{id}``."""
        return re.sub(r"<(?:[^:<>]+:)?([a-z_]+)>", r"{\1}", self.path)
