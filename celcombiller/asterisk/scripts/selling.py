"""The scripts for the keys of a phone: ``sell``, ``transfer``, ``redeem`` (a voucher) and ``pin`` (a new one).

A seller enters the number, the amount and the PIN, hears the number, the amount and what will be left to sell, and one
last key sells. Whoever hangs up before it, or presses another key, has sold nothing. After it the sale goes on without
the caller. The id of a sale is made of the channel's uniqueid: it is made once, also when two billers are asked.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger

from celcombiller.asterisk import balance_prompts
from celcombiller.asterisk.agi.codec import AgiCommandRefused
from celcombiller.asterisk.agi.commands import arguments_of, ask
from celcombiller.asterisk.balance_prompts import Verb, Word
from celcombiller.asterisk.keypad import DIGITS, CallerGone, Keypad
from celcombiller.asterisk.scripts.channel import NAMESPACE, set_result, uniqueid_of
from celcombiller.core.errors import BillerError, UnknownVoucher, WrongPin
from celcombiller.core.text_commands.command_formats import Command, CommandKind
from celcombiller.core.text_commands.command_records import ASKED, DONE
from celcombiller.core.text_commands.phone_requests import Answered, PhoneRequest
from celcombiller.core.vouchers.voucher_codes import DIGITS as VOUCHER_DIGITS
from celcombiller.runtime.metrics.calls import GRANTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from celcombiller.asterisk.pending_updates import PendingUpdates
    from celcombiller.asterisk.server_identity import ServerIdentity
    from celcombiller.config.tables import Config
    from celcombiller.core.text_commands.conversation import Conversation
    from celcombiller.runtime.metrics import Metrics

_LOG = Logger(namespace=NAMESPACE)

NUMBER_DIGITS_MAX = 20
AMOUNT_DIGITS_MAX = 12
PIN_DIGITS_MAX = 8
CODE_DIGITS_MAX = 8
TRIES_MAX = 3
"""PINs, or codes of a voucher, that may be tried in one call."""

POINT = "*"
"""The key for the decimal sign of an amount."""

_AUTHENTICATED = "authenticated"


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who is at the keypad, and the id of their call."""

    account_code: str
    call: str
    is_trusted: bool


class KeypadScripts:
    """What callers do with their keys."""

    def __init__(
        self,
        config: Config,
        commands: Conversation,
        servers: ServerIdentity,
        updates: PendingUpdates,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._commands = commands
        self._servers = servers
        self._updates = updates
        self._metrics = metrics

    async def sell(self, agi: Any) -> None:
        """Sell by keypad."""
        await self._run(agi, CommandKind.SELL, self._sell)

    async def transfer(self, agi: Any) -> None:
        """Hand credit on by keypad; the code that comes by message confirms it in the same call, or later."""
        await self._run(agi, CommandKind.TRANSFER, self._transfer)

    async def redeem(self, agi: Any) -> None:
        """Redeem a voucher by keypad."""
        await self._run(agi, CommandKind.VOUCHER, self._redeem)

    async def change_pin(self, agi: Any) -> None:
        """Change the caller's PIN by keypad."""
        await self._run(agi, CommandKind.CHANGE_PIN, self._change_pin)

    async def _run(self, agi: Any, kind: CommandKind, conversation: Any) -> None:
        sounds, result = self._config.keypad, BillerError.code
        try:
            caller = await self._identify(agi)
            await agi.answer()
            keypad = Keypad(agi, sounds.key_seconds)
            try:
                answered: Answered = await conversation(keypad, caller)
                result = answered.result
            except BillerError as refusal:
                result = refusal.code
                await keypad.say(_sounds(sounds.refused))
            except TimeoutError:
                _LOG.error("No answer to a keypad in time; what was asked for goes on")
                await keypad.say(_sounds(sounds.refused))
        except (CallerGone, ConnectionClosed, AgiCommandRefused):
            _LOG.info("Channel {uniqueid!r}: the caller left the keypad", uniqueid=uniqueid_of(agi))
            result = ""
        except BillerError as refusal:
            result = refusal.code
        if result:
            _LOG.info("{kind} by keypad: {result}", kind=str(kind), result=result)
            await set_result(agi, GRANTED if result in (DONE, ASKED) else result)

    async def _identify(self, agi: Any) -> _Caller:
        """Return who calls. Only what Asterisk's own settings say counts, and not the number that the phone shows.

        That is the account code of the channel or ``payer=``; or, where the dialplan says that its phones have
        passwords, the name of their endpoint.
        """
        code, endpoint = await ask(agi, "${CHANNEL(accountcode)}", "${CHANNEL(endpoint)}")
        words = arguments_of(agi)
        payer = next((each.removeprefix("payer=") for each in words if each.startswith("payer=")), "")
        name = payer or code or (endpoint if _AUTHENTICATED in words else "")
        server = await self._servers.identify(agi)
        return _Caller(name or agi.variables.get("agi_callerid", ""), f"{server}:{uniqueid_of(agi)}", bool(name))

    # -- selling ------------------------------------------------------------------------------------------------------

    async def _sell(self, keypad: Keypad, caller: _Caller) -> Answered:
        sounds = self._config.keypad
        number = await keypad.read(_sounds(sounds.number), digits_max=NUMBER_DIGITS_MAX)
        amount = await self._read_amount(keypad) if number else None
        if number is None or amount is None:
            return await self._cancel(keypad)
        for _ in range(TRIES_MAX):
            pin = await keypad.read(_sounds(sounds.pin), digits_max=PIN_DIGITS_MAX)
            request = self._request(caller, CommandKind.SELL, {"pin": pin or "", "number": number, "amount": amount})
            try:
                plan, checked = await self._wait(self._commands.plan_sale(request, datetime.now(UTC)))
                break
            except WrongPin:
                await keypad.say(_sounds(sounds.wrong_pin))
        else:
            raise WrongPin("the PIN was wrong each time")
        key = await keypad.say(self._say_plan(plan.buyer.clid, plan.amount, plan.stock)) or await keypad.read_key()
        if key != sounds.last_key:
            return await self._cancel(keypad)
        answered = await self._serve(request, checked)
        if answered.result == ASKED:  # the same was sold a moment ago
            key = await keypad.read(_sounds(sounds.again), digits_max=1) or ""
            if key != sounds.last_key:
                return await self._cancel(keypad)
            again = self._request(caller, CommandKind.CONFIRM, {"code": answered.code}, number, amount)
            answered = await self._serve(again)
        if answered.result != DONE:
            await keypad.say(_sounds(sounds.refused))
            return answered
        await keypad.say(self._say_done(answered))
        return answered

    def _say_plan(self, number: str, amount: int, stock: int) -> Iterator[Word]:
        """Yield the number's digits, the amount, what is left to sell after it, and which key sells."""
        sounds = self._config.keypad
        yield from (*_sounds(sounds.you_entered), Word(Verb.DIGITS, number))
        yield from self._say_amount(amount, intro=sounds.amount_said)
        yield from self._say_amount(stock, intro=sounds.balance)
        yield from (*_sounds(sounds.confirm), Word(Verb.DIGITS, sounds.last_key))

    # -- handing on ---------------------------------------------------------------------------------------------------

    async def _transfer(self, keypad: Keypad, caller: _Caller) -> Answered:
        sounds = self._config.keypad
        number = await keypad.read(_sounds(sounds.number), digits_max=NUMBER_DIGITS_MAX)
        amount = await self._read_amount(keypad) if number else None
        if number is None or amount is None:
            return await self._cancel(keypad)
        request = self._request(caller, CommandKind.TRANSFER, {"number": number, "amount": amount})
        answered = await self._serve(request)
        if answered.result == ASKED:
            said = [
                *_sounds(sounds.you_entered),
                Word(Verb.DIGITS, number),
                *self._say_amount(answered.amount, intro=""),
            ]
            code = await keypad.read([*said, *_sounds(sounds.code)], digits_max=CODE_DIGITS_MAX)
            if code is None:
                return answered  # the code can still be sent as a message
            answered = await self._serve(
                self._request(caller, CommandKind.CONFIRM, {"code": code}, number, amount, code)
            )
        await keypad.say(_sounds(sounds.sold if answered.result == DONE else sounds.refused))
        return answered

    # -- vouchers and PINs --------------------------------------------------------------------------------------------

    async def _redeem(self, keypad: Keypad, caller: _Caller) -> Answered:
        sounds = self._config.keypad

        async def read(_place: int) -> PhoneRequest | None:
            code = await keypad.read(_sounds(sounds.voucher), digits_max=VOUCHER_DIGITS)
            return None if code is None else self._request(caller, CommandKind.VOUCHER, {"code": code})

        answered = await self._serve_tries(keypad, read, UnknownVoucher.code, sounds.wrong_voucher)
        if answered.result == DONE:
            await keypad.say(self._say_done(answered))
        return answered

    async def _change_pin(self, keypad: Keypad, caller: _Caller) -> Answered:
        sounds = self._config.keypad

        async def read(place: int) -> PhoneRequest | None:
            fields = {}
            for name, sound in (("old", sounds.pin), ("new", sounds.new_pin), ("again", sounds.new_pin_again)):
                pin = await keypad.read(_sounds(sound), digits_max=PIN_DIGITS_MAX)
                if pin is None:
                    return None
                fields[name] = pin
            return self._request(caller, CommandKind.CHANGE_PIN, fields, str(place))

        answered = await self._serve_tries(keypad, read, WrongPin.code, sounds.wrong_pin)
        if answered.result == DONE:
            await keypad.say(_sounds(sounds.pin_changed))
        return answered

    async def _serve_tries(
        self, keypad: Keypad, read: Callable[[int], Awaitable[PhoneRequest | None]], wrong: str, wrong_sound: str
    ) -> Answered:
        """Serve what the caller enters, and let them enter it again while the result is ``wrong``; say all but success.

        ``read`` returns the request of a try, by its place from 0, or ``None`` when the caller enters nothing.
        """
        for place in range(TRIES_MAX):
            request = await read(place)
            if request is None:
                return await self._cancel(keypad)
            answered = await self._serve(request)
            if answered.result == DONE:
                return answered
            if answered.result != wrong:
                break
            await keypad.say(_sounds(wrong_sound))
        await keypad.say(_sounds(self._config.keypad.refused))
        return answered

    # -- parts --------------------------------------------------------------------------------------------------------

    async def _read_amount(self, keypad: Keypad) -> str | None:
        words = _sounds(self._config.keypad.amount)
        amount = await keypad.read(words, digits_max=AMOUNT_DIGITS_MAX, allowed=DIGITS + POINT)
        return None if amount is None else amount.replace(POINT, ".")

    def _say_amount(self, amount: int, *, intro: str) -> Iterator[Word]:
        settings = self._config.balance
        return balance_prompts.balance(amount, settings.style, intro=intro, unit=settings.unit)

    def _say_done(self, answered: Answered) -> Iterator[Word]:
        """Yield that it is done, and the balance after it."""
        sounds = self._config.keypad
        yield from _sounds(sounds.sold)
        yield from self._say_amount(answered.balance, intro=sounds.balance)

    async def _cancel(self, keypad: Keypad) -> Answered:
        """Return the answer of a cancelled request, after the caller has heard that it is cancelled."""
        await keypad.say(_sounds(self._config.keypad.cancelled))
        return _CANCELLED

    def _request(self, caller: _Caller, kind: CommandKind, fields: Mapping[str, str], *words: str) -> PhoneRequest:
        """Return a request of this call: the same again has the same id."""
        said = words or [value for name, value in fields.items() if name != "pin"]
        return PhoneRequest(
            way="keypad",
            key="|".join((caller.call, kind.value, *said)),
            command=Command(kind, dict(fields)),
            account_code=caller.account_code,
            from_number="",
            is_trusted=caller.is_trusted,
            random=secrets.token_hex(16),
        )

    async def _serve(self, request: PhoneRequest, checked: Any = None) -> Answered:
        serving = self._commands.serve(request, datetime.now(UTC), checked)
        answered: Answered = await self._wait(serving)
        kind = request.command.kind
        self._metrics.messages.count_command("keypad", kind, answered.result, is_new=answered.is_new)
        return answered

    async def _wait(self, asked: Any) -> Any:
        """Return the answer, if it comes in time; what was asked for goes on all the same."""
        asking = Deferred.fromCoroutine(asked)
        try:
            return await self._updates.with_timeout(asking, self._config.calls.decision_seconds)
        except TimeoutError:
            asking.addErrback(lambda _late: None)
            raise


_CANCELLED = Answered("CANCELLED", "")
"""The caller ended it before the last key: nothing was done."""


def _sounds(*names: str) -> list[Word]:
    """Return the words of these sounds, without those that have no name."""
    return [Word(Verb.SOUND, each) for each in names if each]
