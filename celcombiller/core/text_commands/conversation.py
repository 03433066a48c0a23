"""A request from a phone from its message to its answer: transactions, and between them the check of a PIN."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from celcombiller.core.access.credentials.pins import NewPin
from celcombiller.core.text_commands import phone_requests
from celcombiller.core.text_commands.phone_requests import Answered, CheckedPin, PinTry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime
    from typing import Protocol

    from sqlalchemy.engine import Connection

    from celcombiller.core.selling.sales import SalePlan
    from celcombiller.core.text_commands.command_rules import CommandRules
    from celcombiller.core.text_commands.phone_requests import PhoneRequest

    T = TypeVar("T")

    class Transact(Protocol):
        """Does work in a transaction."""

        def __call__(self, work: Callable[[Connection], T]) -> Awaitable[T]:
            """Do it."""

    class PinHashes(Protocol):
        """Hashes and checks off the reactor's thread."""

        async def verify(self, hashed: str | None, password: str, source: str = "") -> bool:
            """Return whether this is what was hashed."""

        async def hash(self, password: str, principal: str = "") -> str:
            """Return the hash."""


class Conversation:
    """Serves the requests of phones."""

    def __init__(self, rules: CommandRules, transact: Transact, hashes: PinHashes) -> None:
        self.rules = rules
        self._transact = transact
        self._hashes = hashes

    async def serve(self, request: PhoneRequest, now: datetime, pin: CheckedPin | None = None) -> Answered:
        """Do what a phone asks for, once, and queue the answer. Raises as `phone_requests.answer` does.

        The try of a PIN is counted and committed before its hash is checked, so that tries at once all count. ``pin``
        is what `plan_sale` found.
        """
        work = partial(phone_requests.answer, rules=self.rules, request=request, now=now)
        answered = await self._transact(partial(work, pin=pin))
        if isinstance(answered, PinTry):
            checked = await self._check(answered, request)
            answered = await self._transact(partial(work, pin=checked))
        assert isinstance(answered, Answered)
        return answered

    async def plan_sale(self, request: PhoneRequest, now: datetime) -> tuple[SalePlan, CheckedPin]:
        """Return what a sale would do, for a question before it is made, and its PIN, which was right.

        Raises `WrongPin`, `TooManyAttempts`, and as `sales.plan_sale` does.
        """
        rules = self.rules
        tried = await self._transact(partial(phone_requests.try_pin, request=request, now=now))
        checked = await self._check(tried, request)
        work = partial(phone_requests.plan_sale, rules=rules, request=request, now=now, pin=checked)
        return await self._transact(work), checked

    async def _check(self, tried: PinTry, request: PhoneRequest) -> CheckedPin:
        check, new = tried.check, None
        is_right = await self._hashes.verify(check.pin_hash, tried.pin, request.source)
        if is_right and tried.new:
            hashed = await self._hashes.hash(tried.new, check.username)
            new = NewPin(tried.new, hashed, replaces_pin=check.pin_hash)
        return CheckedPin(check, is_right, new)
