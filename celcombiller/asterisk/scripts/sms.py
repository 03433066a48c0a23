"""Text messages through Asterisk: the script ``sms`` for those that phones send, and MessageSend over AMI for ours.

Asterisk runs all messages one after the other on one channel, ``Message/ast_msg_queue``, whose uniqueid is always the
same: so a session makes an id of its own for its message. What a phone wrote, line ends too, is read as Base64.

MessageSend says that a message was sent to the phone's or trunk's address, not that somebody there took it (measured
with 22.10): that much is what is charged here. It fails where the address is not known, and then nothing is.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  Twisted's own name
from twisted.logger import Logger

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.agi.codec import AgiProtocolError
from celcombiller.asterisk.agi.commands import arguments_of, ask, set_variable
from celcombiller.asterisk.ami.message_sender import NO_ADDRESS, address_of
from celcombiller.core.charging.messages import reference_of
from celcombiller.core.errors import BillerError, InvalidValue, UnknownSubscriber
from celcombiller.core.model.messages import MessageOrigin, MessageState
from celcombiller.core.notifications import balance_enquiry
from celcombiller.core.sms.charging import MessageOutcome, MessageSubmission
from celcombiller.core.subscribers.number_forms import plain_number
from celcombiller.core.text_commands.command_formats import parse_command
from celcombiller.core.text_commands.command_records import ASKED, DONE
from celcombiller.core.text_commands.phone_requests import PhoneRequest
from celcombiller.runtime.log.charging import log_message_outcome
from celcombiller.runtime.metrics.calls import GRANTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from celcombiller.asterisk.pending_updates import PendingUpdates
    from celcombiller.config.tables import Config
    from celcombiller.core.model.messages import Message
    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.core.text_commands.conversation import Conversation
    from celcombiller.database.batch_writer import BatchWriter
    from celcombiller.runtime.metrics import Metrics

T = TypeVar("T")

_LOG = Logger(namespace="celcombiller.asterisk.sms_script.SmsScript")
"""Operators filter by this name."""


_FROM = re.compile(
    r'(?:"[^"<>\\]*" ?|[^"<>\\]*)<sips?:([A-Za-z0-9+*#_.-]{1,64}(?:;[A-Za-z0-9+*#_.=;-]{0,64})?)@[^<>"@\s]+>'
)


_PAYER = re.compile(r"payer=([\x21-\x7e]{1,64})")


_HEADERS = ("Call-ID", "CSeq", "Date", "Authorization")

_DIGEST_USER = re.compile(r'^Digest\b.*?\busername="([^"\\]{1,64})"', re.IGNORECASE | re.DOTALL)

_AUTHENTICATED = "authenticated"
"""The argument of ``sms`` by which the dialplan says that Asterisk asks the phones of this context for a password."""

_NO_HEADERS = base64.b64encode(b"|").decode()


def _decode_header(answer: str) -> str:
    try:
        return base64.b64decode(answer, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _parse_date(text: str) -> datetime | None:
    """Return the time of a header ``Date`` (RFC 3261, 20.17); ``None``: it has none that can be read."""
    try:
        found = parsedate_to_datetime(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class SmsScript:
    """The script ``sms``: asks the ledger whether a phone's message may go, sends it, and records what became of it."""

    def __init__(
        self,
        config: Config,
        store: BatchWriter,
        updates: PendingUpdates,
        metrics: Metrics,
        commands: Conversation | None = None,
    ) -> None:
        self._config = config
        self._charge: Callable[[MessageSubmission | MessageOutcome], Deferred[MessageResult]] = store.charge
        self._transact = store.transact
        self._updates = updates
        self._metrics = metrics
        self._commands = commands

    async def __call__(self, agi: Any) -> None:
        """Authorize, send, charge."""
        try:
            request = await self._read_message(agi)
            number = plain_number(request.to_number)
            if self._commands is not None and number in self._config.text_commands.service_codes:
                await self._serve_command(agi, self._commands, number, request)
                return
            if number == self._config.sms.balance_code:
                result = await self._answer_enquiry(agi, request)
            else:
                result = await self._authorize(request)
        except TimeoutError:
            _LOG.error("No decision on a message in time: refused")
            await set_variable(agi, channel_variables.RESULT, BillerError.code)
            return
        except BillerError as refusal:
            if isinstance(refusal, AgiProtocolError):
                raise
            _LOG.info("Refused a message: {code}, {reason}", code=refusal.code, reason=str(refusal))
            await set_variable(agi, channel_variables.RESULT, refusal.code)
            return
        # Before it goes: a second biller, asked because this one died, must not send it again.
        await set_variable(agi, channel_variables.RESULT, GRANTED)
        message = result.message
        if message.state is MessageState.SENDING:
            await self._send(agi, message, address_of(self._config, message, result.callee))

    async def _read_message(self, agi: Any) -> MessageSubmission:
        """Read the message. Who pays is the dialplan's ``payer=…``, else who the phone says it is."""
        answers = await ask(agi, "${BASE64_ENCODE(${MESSAGE(from)})}", "${BASE64_ENCODE(${MESSAGE(body)})}")
        try:
            sender, text = (base64.b64decode(each, validate=True).decode() for each in answers)
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidValue("the message is no UTF-8 text") from None
        payer = next(filter(None, map(_PAYER.fullmatch, arguments_of(agi))), None)
        found = _FROM.fullmatch(sender)
        if payer is None and found is None:
            raise UnknownSubscriber("the message does not name its sender in one clear word")
        return MessageSubmission(
            reference=reference_of(secrets.token_hex(16)),
            origin=MessageOrigin.PHONE,
            account_code="" if payer is None else payer[1],
            caller_number="" if found is None or payer is not None else found[1],
            to_number=agi.variables["agi_extension"],
            text=text,
            direct=True,
        )

    async def _answer_enquiry(self, agi: Any, request: MessageSubmission) -> MessageResult:
        """Queue the answer to a balance enquiry. A repeat, known by its SIP headers, gets no second answer."""
        (headers,) = await ask(agi, "${BASE64_ENCODE(${MESSAGE_DATA(Call-ID)}|${MESSAGE_DATA(CSeq)})}")
        work = partial(
            balance_enquiry.answer,
            terms=self._config.message_policy,
            wording=self._config.wording,
            asked=request.reference if headers in ("", _NO_HEADERS) else headers,
            account_code=request.account_code,
            caller_number=request.caller_number,
            now=datetime.now(UTC),
        )
        result: MessageResult = await self._wait(self._transact(work))
        _LOG.info("Balance of …{last} asked for by message: answered", last=result.message.to_number[-4:])
        return result

    async def _serve_command(self, agi: Any, commands: Conversation, number: str, message: MessageSubmission) -> None:
        """Do what a message to a service code asks for. Its text is in no log: it may have a PIN."""
        answers = await ask(agi, *(f"${{BASE64_ENCODE(${{MESSAGE_DATA({name})}})}}" for name in _HEADERS))
        call_id, sequence, date, authorization = (_decode_header(each) for each in answers)
        request = PhoneRequest(
            way="asterisk",
            key=f"{call_id}|{sequence}" if call_id else message.reference,
            has_key=bool(call_id),
            command=parse_command(commands.rules.formats, number, message.text),
            account_code=message.account_code,
            from_number=message.caller_number,
            is_trusted=message.account_code != "" or self._is_authenticated(agi, message.caller_number, authorization),
            service_code=number,
            sent_at=_parse_date(date),
            random=secrets.token_hex(16),
        )
        answered = await self._wait(Deferred.fromCoroutine(commands.serve(request, datetime.now(UTC))))
        kind, sender = request.command.kind, (message.account_code or message.caller_number)[-4:]
        self._metrics.messages.count_command("asterisk", kind, answered.result, is_new=answered.is_new)
        _LOG.info("Command {kind} of …{sender}: {result}", kind=str(kind), sender=sender, result=answered.result)
        is_granted = answered.result in (DONE, ASKED)
        await set_variable(agi, channel_variables.RESULT, GRANTED if is_granted else answered.result)

    @staticmethod
    def _is_authenticated(agi: Any, number: str, authorization: str) -> bool:
        """Return whether the phones of the dialplan have passwords, and the message came with that of its sender.

        A message without credentials is from an endpoint that Asterisk knows by its address (RFC 3261, 22).
        """
        user = _DIGEST_USER.search(authorization)
        return _AUTHENTICATED in arguments_of(agi) and user is not None and user[1] == number.partition(";")[0]

    async def _wait(self, asked: Deferred[T]) -> T:
        """Return the answer, if it comes in time; what was asked goes on all the same."""
        try:
            answered: T = await self._updates.with_timeout(asked, self._config.calls.decision_seconds)
        except TimeoutError:
            asked.addErrback(lambda _refusal: None)
            raise
        return answered

    async def _authorize(self, request: MessageSubmission) -> MessageResult:
        asked = self._charge(request)
        try:
            result: MessageResult = await self._updates.with_timeout(asked, self._config.calls.decision_seconds)
        except TimeoutError:
            asked.addCallbacks(self._give_back, lambda _refusal: None)
            raise
        return result

    def _give_back(self, result: MessageResult) -> None:
        self._submit_outcome(
            MessageOutcome(result.message.reference, MessageState.REFUSED, "decided too late to be sent")
        )

    async def _send(self, agi: Any, message: Message, address: str | None) -> None:
        """Send it by the channel it came on, and charge it if Asterisk says that it went."""
        status = NO_ADDRESS
        if address is not None:
            await agi.execute("MESSAGESEND", f"{address},{message.from_number}")
            (status,) = await ask(agi, "${MESSAGE_SEND_STATUS}")
        if status == "SUCCESS":
            outcome = MessageOutcome(message.reference, MessageState.ACCEPTED)
        else:
            outcome = MessageOutcome(message.reference, MessageState.REFUSED, f"MessageSend: {status[:64]}")
        recorded = self._submit_outcome(outcome)
        with suppress(TimeoutError):  # it goes on without the channel
            await self._updates.with_timeout(recorded, self._config.calls.decision_seconds)
        if outcome.outcome is MessageState.REFUSED:
            await set_variable(agi, channel_variables.RESULT, BillerError.code)

    def _submit_outcome(self, outcome: MessageOutcome) -> Deferred[None]:
        return self._updates.submit(partial(self._record, outcome), f"The end of message {outcome.reference}")

    def _record(self, outcome: MessageOutcome) -> Deferred[None]:
        return self._charge(outcome).addCallback(partial(log_message_outcome, _LOG, self._metrics))
