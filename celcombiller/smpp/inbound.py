"""What an SMSC sends to the biller: delivery receipts, and messages from phones of other networks."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from smpplib import consts
from twisted.logger import Logger

from celcombiller.core.errors import BillerError, StoreUnavailable, UnknownSubscriber
from celcombiller.core.sms.encoding import DefaultAlphabet
from celcombiller.core.sms.inbound_message import InboundPart
from celcombiller.smpp.deliver_sm import inbound_from_pdu
from celcombiller.smpp.pdu import STATUS_OK
from celcombiller.smpp.receipts import is_receipt, parse_receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.core.sms.inbound_message import InboundMessage
    from celcombiller.core.sms.receipt import DeliveryReceipt
    from celcombiller.smpp.pdu import Pdu

TEMPORARY_ERROR: int = consts.SMPP_ESME_RX_T_APPN
PERMANENT_ERROR: int = consts.SMPP_ESME_RX_P_APPN
INVALID_DESTINATION: int = consts.SMPP_ESME_RINVDSTADR

FAULTS_MAX = 5
"""How often a PDU that causes an unexpected error is asked for again; then it is refused."""

FAULTS_KEPT = 1000
"""PDUs whose faults are counted."""

_MESSAGE_TYPE, _RECEIPT, _INTERMEDIATE = 0x3C, 0x04, 0x20
"""Of the esm_class (SMPP 3.4, 5.2.12)."""


class Accepted(StrEnum):
    """What became of a message that was accepted."""

    QUEUED = "queued"
    KEPT = "kept"
    KNOWN = "known already"


class Inbox:
    """Takes what an SMSC delivers, and returns the status of the answer (SMPP 3.4, 5.1.3).

    ``apply_receipt`` records a receipt and returns ``None`` where it is of no part. ``accept_inbound`` queues a message
    for a phone, and keeps a part until all are there; without it messages are refused.
    """

    _log = Logger()

    def __init__(
        self,
        apply_receipt: Callable[[DeliveryReceipt, datetime], Awaitable[MessageResult | None]],
        accept_inbound: Callable[[InboundMessage | InboundPart, datetime], Awaitable[Accepted]] | None = None,
        default_alphabet: DefaultAlphabet = DefaultAlphabet.GSM,
    ) -> None:
        self._apply_receipt = apply_receipt
        self._accept_inbound = accept_inbound
        self._default_alphabet = default_alphabet
        self._faults: dict[tuple[bytes, ...], int] = {}

    async def take(self, pdu: Pdu, *, is_submitting: bool) -> int:
        """Take a receipt or a message, and return the status of the answer once it is durable.

        ``is_submitting``: whether there are submissions whose ids are not recorded yet.
        """
        try:
            return await self._take(pdu, is_submitting=is_submitting)
        except StoreUnavailable as error:
            self._log.warn("SMPP: a {command} is asked for again: {error}", command=pdu.command, error=str(error))
            return TEMPORARY_ERROR
        except Exception:  # noqa: BLE001  without an answer the SMSC would deliver nothing more
            return self._count_fault(pdu)

    async def _take(self, pdu: Pdu, *, is_submitting: bool) -> int:
        message_type = pdu.esm_class & _MESSAGE_TYPE
        if message_type == _RECEIPT or is_receipt(pdu):
            return await self._take_receipt(pdu, is_submitting=is_submitting)
        if message_type == _INTERMEDIATE:
            return STATUS_OK  # a receipt follows
        if message_type == 0 and self._accept_inbound is not None:
            return await self._take_message(pdu, self._accept_inbound)
        self._log.warn("SMPP: a message that is no receipt is refused")
        return PERMANENT_ERROR

    async def _take_receipt(self, pdu: Pdu, *, is_submitting: bool) -> int:
        receipt = parse_receipt(pdu, self._default_alphabet)
        if receipt.outcome is None:
            return STATUS_OK
        result = await self._apply_receipt(receipt, datetime.now(UTC))
        if result is None and is_submitting:
            return TEMPORARY_ERROR  # the answer to its submission may not be recorded yet
        if result is None:
            self._log.info("SMPP: a receipt for a message that is not known here: {note}", note=receipt.note)
        return STATUS_OK

    async def _take_message(
        self, pdu: Pdu, accept_inbound: Callable[[InboundMessage | InboundPart, datetime], Awaitable[Accepted]]
    ) -> int:
        """Queue a message from another network; a repeat gets the same answer again."""
        try:
            inbound = inbound_from_pdu(pdu, self._default_alphabet)
            accepted = await accept_inbound(inbound, datetime.now(UTC))
        except StoreUnavailable:
            raise
        except UnknownSubscriber:
            self._log.info("SMPP: a message to …{last} is refused: unknown number", last=inbound.to_number[-4:])
            return INVALID_DESTINATION
        except BillerError as error:
            self._log.info("SMPP: a message is refused: {reason}", reason=str(error))
            return PERMANENT_ERROR
        what = (
            f"part {inbound.number} of {inbound.total} of a message"
            if isinstance(inbound, InboundPart)
            else "a message"
        )
        self._log.info(
            "SMPP: {what} to …{last} is {became}", what=what, last=inbound.to_number[-4:], became=str(accepted)
        )
        return STATUS_OK

    def _count_fault(self, pdu: Pdu) -> int:
        """Log an unexpected error once for each PDU, and ask for the PDU again; but not for ever."""
        key = (pdu.source_addr, pdu.destination_addr, pdu.text, pdu.string("receipted_message_id"))
        count = self._faults[key] = self._faults.pop(key, 0) + 1
        if len(self._faults) > FAULTS_KEPT:
            del self._faults[next(iter(self._faults))]
        if count == 1:
            self._log.failure("SMPP: a {command} could not be taken; it is asked for again", command=pdu.command)
        if count < FAULTS_MAX:
            return TEMPORARY_ERROR
        self._log.error("SMPP: a {command} is refused after {count} attempts", command=pdu.command, count=count)
        return PERMANENT_ERROR
