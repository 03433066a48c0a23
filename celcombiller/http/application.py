"""The API on the reactor: reads a request, asks the database in one hop who it is and what he wants, answers.

What each route does is said elsewhere; here is what all have in common: who asks, where from, the sizes, the headers,
and that every error is an answer that says why.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.web import http
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter

from celcombiller.core.access import sessions, tokens
from celcombiller.core.errors import (
    BillerError,
    BrokenRequest,
    Forbidden,
    NotFound,
    TooLarge,
    TooManyAttempts,
    WrongMethod,
)
from celcombiller.http.authorization import check_may
from celcombiller.http.decoding import NUL, body_of, checked, merge_field_lists, query_of
from celcombiller.http.problem_details import PROBLEM_TYPE, message, problem, status_of
from celcombiller.http.route import Request, Response, ResponseStyle, Route
from celcombiller.runtime.password_hash import Password

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from celcombiller.asterisk.call_monitor import CallMonitor
    from celcombiller.config.tables import Config
    from celcombiller.core.access.principal import Principal
    from celcombiller.core.provisioning.network import Network
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.database.reader import Reader
    from celcombiller.runtime.metrics import Metrics
    from celcombiller.runtime.password_hasher import Passwords

JSON_TYPE = "application/json"


TEXT_TYPE = "text/plain; charset=utf-8"


COOKIE = b"session"


SAFE = {b"GET", b"HEAD", b"OPTIONS"}


_HEADER_SAFE = "".join(map(chr, range(0x20, 0x7F)))


KEY_LENGTH_MAX = 200


class Api:
    """All routes, on one Klein app."""

    _log = Logger()

    def __init__(
        self,
        config: Config,
        store: BatchWriter,
        reader: Reader,
        passwords: Passwords,
        monitors: Mapping[str, CallMonitor],
        metrics: Metrics,
        routes: Sequence[Route],
        radio: Mapping[str, Network],
    ) -> None:
        self.config = config
        self.store = store
        self.reader = reader
        self.passwords = passwords
        self.monitors = monitors
        self.metrics = metrics
        self.routes = routes
        self.radio = radio
        self.app = Klein()
        self.app.url_map.converters["row"] = _RowNumber
        for route in routes:
            self._mount(route)
        self.app.handle_errors(HTTPException)(self._no_route)

    def _mount(self, route: Route) -> None:
        async def served(request: Any, **path: Any) -> bytes:
            answer = await self._serve(route, request, path)
            self.metrics.requested(f"{route.method} {route.open_path}", request.code)
            return answer

        self.app.route(route.path, methods=[route.method], endpoint=route.name)(served)

    # -- one request ------------------------------------------------------------------------------------------------

    async def _serve(self, route: Route, request: Any, path: dict[str, Any]) -> bytes:
        try:
            answer = await self._answer(route, request, path)
        except BillerError as error:
            return self._refuse(request, error, route.style)
        except CancelledError:  # the client went away; what he asked for is done all the same, or not begun
            raise
        except Exception:  # noqa: BLE001  a bug is ours: logged whole, and told as such
            self._log.failure("{route} failed", route=route.name)
            return self._refuse(request, BillerError("the biller made a mistake; its log says which"), route.style)
        if answer is None:
            return b""  # served already, piece by piece
        request.setResponseCode(answer.status or route.status)
        for name, value in answer.headers.items():
            request.setHeader(name.encode(), quote(value, safe=_HEADER_SAFE).encode())
        return _encoded(request, answer.body, route.style)

    async def _answer(self, route: Route, request: Any, path: dict[str, Any]) -> Response | None:
        self._check_origin(request)
        asked = self._asked(request, path)
        raw = request.content.getvalue()  # here: it is closed under the other threads when the client goes away
        if route.takes_password or "password" in getattr(route.body, "__struct_fields__", ()):
            admitted = await self.reader.read(lambda tx: self._admitted(tx, route, request, raw, asked))
            password = _password_of(admitted.body)
            if password is not None:
                asked = replace(asked, password_hash=await self.passwords.hash(password))
        if route.serve is not None:
            if route.who is None:
                return await route.serve(self, request, self._admitted(None, route, request, raw, asked))
            if route.free is not None and route.free(self, request, asked):
                return await route.serve(self, request, asked)
            admitted = await self.reader.read(lambda tx: self._admitted(tx, route, request, raw, asked))
            return await route.serve(self, request, admitted)
        through = self.reader.read if route.reads else self.store.transact
        return await through(lambda tx: self._done(tx, route, request, raw, asked))

    # -- in a database's thread -------------------------------------------------------------------------------------

    def _done(self, tx: Connection, route: Route, request: Any, raw: bytes, asked: Request) -> Response:
        if route.do is None:
            raise NotFound("nothing is done here")
        result = route.do(tx, self._admitted(tx, route, request, raw, asked))
        return result if isinstance(result, Response) else Response(result)

    def _admitted(self, tx: Connection | None, route: Route, request: Any, raw: bytes, asked: Request) -> Request:
        """Return who asks, and check that he may, before anything of what he says is looked at.

        Without a transaction nobody looks who asks: the process is alive though its database is away.
        """
        who = None if tx is None else self._principal(tx, request, asked.now)
        check_may(who, route.who, asked.path, loopback=asked.local and self.config.rest.balance_checks == "loopback")
        if any(NUL in each for each in asked.path.values() if isinstance(each, str)):
            raise NotFound("there is no such thing")
        _check_key(asked.key, needed=route.needs_idempotency_key)
        if request.too_large:
            raise TooLarge(f"a body has at most {self.config.rest.body_kib_max} KiB (rest.body_kib_max)")
        query: Any = query_of(request.uri.partition(b"?")[2])
        if route.query is not None or route.style is ResponseStyle.TODAY:
            query = checked(route.query or _NoQuery, query, strict=False)
        body: Any = None
        if route.body is not None or route.takes_body:
            content_type = None if route.any_type else request.getHeader("content-type") or ""
            body = body_of(raw, content_type)
            if route.body is not None:
                body = checked(route.body, body)
        return replace(asked, who=who, query=query, body=body)

    @staticmethod
    def _principal(tx: Connection, request: Any, now: datetime) -> Principal | None:
        bearer = _bearer(request)
        if bearer is not None:
            return tokens.by_token(tx, bearer, now)
        secret = session_secret(request)
        return None if secret is None else sessions.by_session(tx, secret, now)

    # -- where it comes from ----------------------------------------------------------------------------------------

    def _asked(self, request: Any, path: dict[str, Any]) -> Request:
        base_url = self.base_url(request)
        return Request(
            config=self.config,
            who=None,
            path=path,
            query=None,
            body=None,
            now=datetime.now(UTC),
            address=self.address(request),
            base_url=base_url,
            url=base_url + request.uri.decode("ascii", "replace"),
            key=request.getHeader("idempotency-key"),
            secret=session_secret(request),
            local=self._is_local(request),
        )

    def address(self, request: Any) -> str:
        """Return the client's address: the connection's, or what a trusted proxy says it is."""
        address = str(getattr(request.getClientAddress(), "host", "unix"))
        said = request.getHeader("x-forwarded-for") or ""
        for hop in reversed([each.strip() for each in said.split(",") if each.strip()]):
            if address not in self.config.rest.trusted_proxies:
                break
            try:
                address = str(ipaddress.ip_address(hop))
            except ValueError:
                break
        return address

    def is_secure(self, request: Any) -> bool:
        """Return whether the client came over TLS, to us or to a trusted proxy."""
        peer = getattr(request.getClientAddress(), "host", "unix")
        by_proxy = peer in self.config.rest.trusted_proxies and request.getHeader("x-forwarded-proto") == "https"
        return bool(request.isSecure() or by_proxy)

    def base_url(self, request: Any) -> str:
        """Return scheme and host as the client wrote them."""
        scheme = "https" if self.is_secure(request) else "http"
        return f"{scheme}://{request.getHeader('host') or 'localhost'}"

    def _is_local(self, request: Any) -> bool:
        """Return whether a program of this machine asks, itself and not through a proxy or a page of another host."""
        peer = getattr(request.getClientAddress(), "host", "")
        try:
            named = urlsplit(self.base_url(request)).hostname in ("localhost", "127.0.0.1", "::1")
            near = ipaddress.ip_address(peer).is_loopback
        except ValueError:
            return False
        return near and named and not request.getHeader("x-forwarded-for") and not request.getHeader("origin")

    def _check_origin(self, request: Any) -> None:
        """Refuse a write that another site's page makes with the browser's cookie (or a login it makes for him).

        Browsers say where a request comes from; programs such as curl say nothing, and no page can imitate that.
        """
        if request.method in SAFE or _bearer(request) is not None:
            return
        origin = request.getHeader("origin")
        if origin is None and request.getHeader("referer"):
            origin = _origin_of(request.getHeader("referer"))
        if origin is None:
            foreign = request.getHeader("sec-fetch-site") not in (None, "same-origin", "none")
        else:
            foreign = origin != self.base_url(request) and origin not in self.config.rest.cors_origins
        if foreign:
            raise Forbidden("a page of another site may not do this (rest.cors_origins)")

    # -- refusals ---------------------------------------------------------------------------------------------------

    def _refuse(self, request: Any, error: BillerError, style: ResponseStyle) -> bytes:
        if isinstance(error, TooManyAttempts):
            request.setHeader(b"Retry-After", str(error.retry_seconds).encode())
        status: int
        body: Any
        if style is ResponseStyle.ORIGINAL:
            status, body = message(error)
            content_type = JSON_TYPE
        else:
            status, body, content_type = status_of(error), problem(error), PROBLEM_TYPE
        if status == http.UNAUTHORIZED:
            request.setHeader(b"WWW-Authenticate", b'Bearer realm="celcombiller"')
        request.setResponseCode(status)
        return _encoded(request, body, style, content_type)

    def _no_route(self, request: Any, failure: Any) -> bytes:
        """Answer for an address or a method that is in no row of the table."""
        reason = failure.value
        error: BillerError = NotFound("there is nothing at this address")
        if isinstance(reason, MethodNotAllowed):
            allowed = sorted(reason.valid_methods or ())
            request.setHeader(b"Allow", ", ".join(allowed).encode())
            known = f"this address knows {', '.join(allowed)}"
            fixed = self._fixed(request)
            error = WrongMethod(f"{known}: {fixed}" if fixed else known)
        return self.refuse(request, error)

    def refuse(self, request: Any, error: BillerError) -> bytes:
        """Answer what no route could answer, in the style of the address."""
        self.metrics.requested("none", status_of(error))
        today = request.path.startswith((b"/api/v1/", b"/healthz", b"/readyz", b"/metrics"))
        return self._refuse(request, error, ResponseStyle.TODAY if today else ResponseStyle.ORIGINAL)

    def _fixed(self, request: Any) -> str:
        """Return why what is at this address cannot be changed, if its route knows."""
        try:
            path = request.path.decode("utf-8", "replace")
            endpoint, _ = self.app.url_map.bind("").match(path, method="GET")
        except HTTPException:
            return ""
        return next((each.immutable_reason for each in self.routes if each.name == endpoint), "")

    def allowed_methods(self, request: Any) -> list[str]:
        """Return the methods of an address; none: there is nothing."""
        path = request.path.decode("utf-8", "replace")
        return sorted(self.app.url_map.bind("").allowed_methods(path))


def _password_of(body: Any) -> str | None:
    """Return the password of a body that could be one; any other is the route's to refuse, before it is hashed."""
    said = merge_field_lists(body).get("password") if isinstance(body, dict) else getattr(body, "password", None)
    try:
        return msgspec.convert(said, Password)
    except msgspec.ValidationError:
        return None


class _RowNumber(BaseConverter):
    """The number of a row in an address; Werkzeug's own would take any script's digits, and thousands of them."""

    regex = "[0-9]{1,16}"

    def to_python(self, value: str) -> int:
        """Return the number."""
        return int(value)


class _NoQuery(msgspec.Struct):
    """A query without fields."""


def _origin_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def _check_key(key: str | None, *, needed: bool) -> None:
    if key is None and needed:
        raise BrokenRequest("Idempotency-Key is missing: an id of your own for this, the same when you send it again")
    if key is not None and not (0 < len(key) <= KEY_LENGTH_MAX and key.isascii() and key.isprintable()):
        raise BrokenRequest(f"Idempotency-Key has 1 to {KEY_LENGTH_MAX} printable ASCII characters")


def session_secret(request: Any) -> str | None:
    """Return the cookie of a session."""
    cookie = request.getCookie(COOKIE)
    return None if not cookie else cookie.decode("ascii", "replace")


def _bearer(request: Any) -> str | None:
    kind, _, secret = (request.getHeader("authorization") or "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else None


def _encoded(request: Any, body: Any, style: ResponseStyle, content_type: str = JSON_TYPE) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        encoded, content_type = body.encode(), TEXT_TYPE
    else:
        encoded = msgspec.json.encode(body)
        if style is ResponseStyle.ORIGINAL:
            encoded = msgspec.json.format(encoded, indent=2) + b"\n"
    request.setHeader(b"Content-Type", content_type.encode())
    request.setHeader(b"Content-Length", str(len(encoded)).encode())
    return encoded
