"""The API on the reactor: each request is read, checked and answered by its route, in one transaction.

The routes say what each of them does. Here is what all have in common: who asks, the limits, and that every error
becomes an answer that gives the reason.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from cachetools import TTLCache
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter

from celcombiller.core.access import login_throttle, sessions, tokens
from celcombiller.core.access.changes.subscriber_changes import NewPassword
from celcombiller.core.access.password_rules import check_password
from celcombiller.core.errors import (
    BillerError,
    BrokenRequest,
    Forbidden,
    NotFound,
    Overloaded,
    TooLarge,
    WrongMethod,
)
from celcombiller.core.subscribers import subscriber_records
from celcombiller.http.authorization import check_access
from celcombiller.http.credential_limit import CredentialLimit
from celcombiller.http.decoding import NUL, convert_fields, merge_field_lists, parse_body, parse_form, parse_query
from celcombiller.http.origin import check_origin
from celcombiller.http.problem_details import status_of
from celcombiller.http.request_context import find_client_address, make_request
from celcombiller.http.responses import encode_refusal, encode_response, set_retry_time
from celcombiller.http.route import Request, Response, ResponseStyle, Route
from celcombiller.runtime.credentials.password_hash import OldPassword, Password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Connection
    from twisted.python.failure import Failure

    from celcombiller.asterisk.ami.link import AmiLink
    from celcombiller.asterisk.live_control.control import LiveControl
    from celcombiller.asterisk.outage.control import OutageControl
    from celcombiller.config.settings_in_force import SettingOrigins
    from celcombiller.config.tables import Config
    from celcombiller.core.access.principal import Principal
    from celcombiller.core.catalogue.catalogue import CatalogueHolder
    from celcombiller.core.provisioning.network import Network
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.http.transport.event_stream import EventFeed
    from celcombiller.http.transport.http_request import HttpRequest
    from celcombiller.runtime.credentials.password_hasher import Passwords
    from celcombiller.runtime.log.peer_lines import PeerLines
    from celcombiller.runtime.metrics import Metrics

T = TypeVar("T")

KEY_LENGTH_MAX = 200
FORM_FIELDS_MAX = 500
"""A form of a page may choose among the rows of a list."""


@dataclass(slots=True)
class ReceivedPage:
    """What is known of a browser's request for a page where its connection is not: it has no body."""

    uri: bytes
    is_of_subscriber: bool = False
    is_upload = is_crowded = too_large = False

    def getHeader(self, _name: str) -> None:
        """Return nothing: a page depends on no header that is not in the request."""


class PageMaker(Protocol):
    """Makes pages elsewhere than in this process."""

    async def make(self, route: Route, request: Request, uri: bytes) -> Response | None:
        """Return the page at an address; ``None``: it has to be made here."""


class Api:
    """All routes, on one Klein app."""

    _log = Logger()

    def __init__(
        self,
        config: Config,
        store: BatchWriter,
        reader: Reader,
        passwords: Passwords,
        monitors: Mapping[str, AmiLink],
        metrics: Metrics,
        routes: Sequence[Route],
        radio: Mapping[str, Network],
        lines: PeerLines,
        catalogue: CatalogueHolder,
        control: LiveControl,
        outage: OutageControl,
        origins: SettingOrigins,
        pages: PageMaker | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.reader = reader
        self.passwords = passwords
        self.monitors = monitors
        self.metrics = metrics
        self.routes = routes
        self.radio = radio
        self.lines = lines
        self.catalogue = catalogue
        self.feeds: dict[str, EventFeed[Any, Any]] = {}
        self._credentials = CredentialLimit(
            time.monotonic,
            config.rest.unknown_credentials_max,
            lambda: metrics.rest.count_limit("unknown_credentials_max"),
        )
        self.wrong_signatures: TTLCache[str, int] = TTLCache(10_000, 60.0, timer=time.monotonic)
        self.control = control
        self.outage = outage
        self.origins = origins
        self.pages = pages
        self.is_auditing = False
        self.app: Klein = _make_app(tuple(routes)).__get__(self, Api)

    # -- one request ------------------------------------------------------------------------------------------------

    async def serve(self, route: Route, http_request: HttpRequest, path: Mapping[str, Any]) -> bytes:
        """Answer a request of this route, whose address has these parts; count it, and return the body."""
        answer = await self._serve(route, http_request, path)
        self.metrics.rest.count(f"{route.method} {route.open_path}", http_request.code)
        return answer

    async def _serve(self, route: Route, http_request: HttpRequest, path: Mapping[str, Any]) -> bytes:
        try:
            response = await self._answer(route, http_request, path)
        except BillerError as error:
            return await self._refuse(route, http_request, path, error)
        except CancelledError:  # the client disconnected; the work is done all the same, or never begun
            raise
        except Exception:  # noqa: BLE001  a fault of the program: the log has all of it, the client the fact
            if self.lines.admits(find_client_address(http_request, self.config.rest)):
                self._log.failure("{route} failed", route=route.name)
            fault = BillerError("the biller made a mistake; its log says which")
            return await self._refuse(route, http_request, path, fault)
        if response is None:
            return b""  # the handler has written it already, piece by piece
        return encode_response(http_request, route, response)

    async def _refuse(
        self, route: Route, http_request: HttpRequest, path: Mapping[str, Any], error: BillerError
    ) -> bytes:
        if route.refuse is None:
            return encode_refusal(http_request, error, route.style)
        set_retry_time(http_request, error)
        request = replace(make_request(http_request, self.config, path), catalogue=self.catalogue.current)
        return encode_response(http_request, route, await route.refuse(self, http_request, route, request, error))

    async def _answer(self, route: Route, http_request: HttpRequest, path: Mapping[str, Any]) -> Response | None:
        check_origin(http_request, self.config.rest)
        request = replace(
            make_request(http_request, self.config, path), rule=route.who, catalogue=self.catalogue.current
        )
        if not request.secrets and request.bearer is None and route.free is None:
            # Who shows nothing needs no look into the database to be refused.
            check_access(None, route.who, request.path, loopback=_trusts(request))
        if route.who is not None and not self._credentials.is_known(request):
            self._credentials.admit()
            # Forged ones are refused beside the thread that charges calls.
            who = await self.reader.read(lambda tx: _find_principal(tx, request)[0])
            if who is not None:
                self._credentials.remember(request)
            check_access(who, route.who, request.path, loopback=_trusts(request))
        # The body is read here: Twisted closes it when the client disconnects, even while a thread reads it.
        raw = http_request.body
        if route.verify is not None:
            request = route.verify(self, http_request, request, raw)
        if route.takes_password or "password" in getattr(route.body, "__struct_fields__", ()):
            admitted = await self.reader.read(lambda tx: _admit(tx, route, http_request, raw, request))
            password = await self._prepare_password(admitted)
            request = replace(request, password=password, now=datetime.now(UTC))
        if route.serve is not None:
            if route.who is None:
                return await route.serve(self, http_request, _admit(None, route, http_request, raw, request))
            if route.free is not None and route.free(self, http_request, request):
                return await route.serve(self, http_request, request)
            admitted = await self.reader.read(lambda tx: _admit(tx, route, http_request, raw, request))
            return await route.serve(self, http_request, admitted)
        return await self._do(route, http_request, raw, request)

    async def _do(self, route: Route, http_request: HttpRequest, raw: bytes, request: Request) -> Response:
        """Answer in one transaction, or by a page that is made in another process."""
        if self.pages is not None and route.style is ResponseStyle.PAGE and route.reads and not http_request.too_large:
            made = await self.pages.make(route, request, http_request.uri)
            self.metrics.rest.count_page(by_process=made is not None)
            if made is not None:
                return made
        through = self.reader.read if route.reads else self.store.transact
        return await through(lambda tx: answer_in(tx, route, http_request, raw, request))

    async def _prepare_password(self, request: Request) -> NewPassword | None:
        """Return the new password of a body with its hash, and with its old password checked; ``None``: it has none.

        Each hash takes a while. So the route is admitted again in its transaction, and the old password compared.
        """
        text = _text_of(request.body, "password", Password)
        if text is None:
            return None
        check_password(text)
        old = _text_of(request.body, "old_password", OldPassword)
        own = request.path.get("username", request.principal.username) == request.principal.username
        replaces = await self.check_old_password(request, old) if own and old is not None else None
        revoke_tokens = _field_of(request.body, "revoke_tokens") is True
        return NewPassword(
            text, await self.passwords.hash(text, request.principal.username), replaces, revoke_tokens=revoke_tokens
        )

    async def check_old_password(self, request: Request, old: str) -> str | None:
        """Return the hash that the principal's old password has; ``None``: they have no password.

        A wrong one counts as a failed login. Raises `Forbidden` and `TooManyAttempts`.
        """
        who, address, now = request.principal, request.address, request.now
        await self.store.transact(lambda tx: login_throttle.admit_attempt(tx, who.username, address, now))
        hashed = await self.reader.read(lambda tx: subscriber_records.find_password(tx, who.subscriber_id))
        if hashed is not None and not await self.passwords.verify_own(hashed, old, who.username):
            raise Forbidden("old_password is not the password")
        await self.store.transact(lambda tx: login_throttle.forget_failures(tx, who.username, address, now))
        return hashed

    async def transact(self, request: Request, work: Callable[[Connection, Request], T]) -> T:
        """Do ``work`` in a transaction, on the request as it is admitted there: for routes that have waited before.

        The principal may have been logged out, disabled, deleted or set to another level meanwhile, or the token
        revoked. Raises `NotAuthenticated` and `Forbidden` then.
        """
        return await self.store.transact(lambda tx: work(tx, self.readmit(tx, request)))

    def readmit(self, tx: Connection, request: Request) -> Request:
        """Return an admitted request with its principal as they are now. Raises `NotAuthenticated` and `Forbidden`."""
        now = datetime.now(UTC)
        who, secret = _find_principal(tx, replace(request, now=now))
        check_access(who, request.rule, request.path)
        return replace(request, who=who, secret=secret, now=now)

    def stop(self) -> None:
        """End what has no end of its own: the streams of events."""
        for each in self.feeds.values():
            each.stop()

    # -- addresses without a route ----------------------------------------------------------------------------------

    def refuse_address(self, request: Any, failure: Failure) -> bytes:
        """Answer for an address or a method that no route has. Klein names the parameters."""
        http_request: HttpRequest = request
        reason = failure.value
        error: BillerError = NotFound("there is nothing at this address")
        if isinstance(reason, MethodNotAllowed):
            allowed = ", ".join(sorted(reason.valid_methods or ()))
            http_request.setHeader(b"Allow", allowed.encode())
            known = f"this address knows {allowed}"
            why = self._immutable_reason(http_request)
            error = WrongMethod(f"{known}: {why}" if why else known)
        return self.refuse(http_request, error)

    def refuse(self, http_request: HttpRequest, error: BillerError) -> bytes:
        """Return the body of a refusal that no route makes, in the style of the address."""
        self.metrics.rest.count("none", status_of(error))
        style = ResponseStyle.ORIGINAL
        if http_request.path.startswith((b"/api/v1/", b"/healthz", b"/readyz", b"/metrics")):
            style = ResponseStyle.TODAY
        elif http_request.path.startswith(b"/ui/"):
            style = ResponseStyle.PAGE
        return encode_refusal(http_request, error, style)

    def _immutable_reason(self, http_request: HttpRequest) -> str:
        """Return why nothing at this address can be changed, if its route says so."""
        try:
            endpoint, _ = self.app.url_map.bind("").match(_path_of(http_request), method="GET")
        except HTTPException:
            return ""
        return next((each.immutable_reason for each in self.routes if each.name == endpoint), "")

    def allowed_methods(self, http_request: HttpRequest) -> list[str]:
        """Return the methods of an address; none if no route has it."""
        return sorted(self.app.url_map.bind("").allowed_methods(_path_of(http_request)))


def _path_of(http_request: HttpRequest) -> str:
    return http_request.path.decode("utf-8", "replace")


def answer_in(
    tx: Connection, route: Route, received: HttpRequest | ReceivedPage, raw: bytes, request: Request
) -> Response:
    """Admit a request in this transaction, and return what its route answers. Raises a `BillerError`."""
    if route.do is None:
        raise NotFound("nothing is done here")
    result = route.do(tx, _admit(tx, route, received, raw, request))
    return result if isinstance(result, Response) else Response(result)


def _admit(
    tx: Connection | None, route: Route, received: HttpRequest | ReceivedPage, raw: bytes, request: Request
) -> Request:
    """Return the request with its principal, and with query and body checked.

    Access is checked first: who may not use the route learns nothing of what is wrong with their request. Without
    a transaction there is no principal, so that ``/healthz`` answers while the database is away.
    """
    who, secret = (None, None) if tx is None else _find_principal(tx, request)
    received.is_of_subscriber = who is not None and not who.is_staff
    check_access(who, route.who, request.path, loopback=_trusts(request))
    if any(NUL in each for each in request.path.values() if isinstance(each, str)):
        raise NotFound("there is no such thing")
    if route.takes_upload and received.is_crowded:
        raise Overloaded("other files are being uploaded: send it again in a minute")
    if received.too_large and received.is_upload:
        raise TooLarge(f"a file has at most {request.config.rest.upload_mib_max} MiB (rest.upload_mib_max)")
    if received.too_large:
        raise TooLarge(f"a body has at most {request.config.rest.body_kib_max} KiB (rest.body_kib_max)")
    query: Any = parse_query(received.uri.partition(b"?")[2])
    if route.query is not None or route.style is ResponseStyle.TODAY:
        query = convert_fields(route.query or _NoQuery, query, strict=False)
    body: Any = None
    if route.takes_form:
        body = parse_form(raw, FORM_FIELDS_MAX)
        request = replace(request, key=body.pop("idempotency_key", request.key))
    elif (route.body is not None or route.takes_body) and not (route.body_is_optional and not raw):
        content_type = None if route.any_type else received.getHeader("content-type") or ""
        body = parse_body(raw, content_type)
        if route.body is not None:
            body = convert_fields(route.body, body)
    _check_key(request.key, needed=route.needs_idempotency_key)
    return replace(request, who=who, secret=secret, query=query, body=body)


def _trusts(request: Request) -> bool:
    """Return whether the settings trust the program that sent this, because it runs on this machine."""
    return request.local and request.config.rest.balance_checks == "loopback"


def _find_principal(tx: Connection, request: Request) -> tuple[Principal | None, str | None]:
    """Return the principal of a request and, if a browser's session tells it, the secret of that session."""
    if request.bearer is not None:
        return tokens.by_token(tx, request.bearer, request.now), None
    for secret in request.secrets:
        who = sessions.by_session(tx, secret, request.now)
        if who is not None:
            return who, secret
    return None, None


def _field_of(body: object, name: str) -> object:
    return merge_field_lists(body).get(name) if isinstance(body, dict) else getattr(body, name, None)


def _text_of(body: object, name: str, kind: Any) -> str | None:
    """Return a password of a body if it can be one; the route refuses any other, before it is hashed."""
    try:
        text: str = msgspec.convert(_field_of(body, name), kind)
    except msgspec.ValidationError:
        return None
    return text


class _RowNumber(BaseConverter):
    """The number of a row in an address. Werkzeug's own would take the digits of any script, and thousands of them."""

    regex = "[0-9]{1,16}"

    def to_python(self, value: str) -> int:
        """Return the number."""
        return int(value)


@cache
def _make_app(routes: tuple[Route, ...]) -> Klein:
    """Return an app of these routes, to be bound to the `Api` that answers.

    To compile the addresses takes a third of a second: a process that serves twice, as tests do, compiles them once.
    """
    app = Klein()
    app.url_map.converters["row"] = _RowNumber
    for route in routes:
        _mount(app, route)
    app.handle_errors(HTTPException)(Api.refuse_address)
    return app


def _mount(app: Klein, route: Route) -> None:
    async def serve(api: Api, http_request: HttpRequest, **path: Any) -> bytes:
        return await api.serve(route, http_request, path)

    app.route(route.path, methods=[route.method], endpoint=route.name)(serve)


class _NoQuery(msgspec.Struct):
    """A query without fields."""


def _check_key(key: str | None, *, needed: bool) -> None:
    if key is None and needed:
        raise BrokenRequest("Idempotency-Key is missing: an id of your own for this, the same when you send it again")
    if key is not None and not (0 < len(key) <= KEY_LENGTH_MAX and key.isascii() and key.isprintable()):
        raise BrokenRequest(f"Idempotency-Key has 1 to {KEY_LENGTH_MAX} printable ASCII characters")
