"""What an SMSC sends to the biller: delivery receipts, and messages from phones of other networks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smpplib import consts
from twisted.logger import Logger

from celcombiller.core.errors import BillerError, StoreUnavailable, UnknownSubscriber
from celcombiller.smpp.connection import STATUS_OK
from celcombiller.smpp.deliver_sm import inbound_from_pdu
from celcombiller.smpp.receipts import parse_receipt

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from celcombiller.core.model.messages import MessageState
    from celcombiller.core.sms.charging import MessageResult
    from celcombiller.core.sms.inbound_message import InboundMessage

TEMPORARY_ERROR: int = consts.SMPP_ESME_RX_T_APPN
PERMANENT_ERROR: int = consts.SMPP_ESME_RX_P_APPN
INVALID_DESTINATION: int = consts.SMPP_ESME_RINVDSTADR

_RECEIPT, _MESSAGE_TYPE = 0x04, 0x3C


class Inbox:
    """Takes what an SMSC delivers, and returns the status of the answer (SMPP 3.4, 5.1.3).

    ``apply_receipt`` records a receipt (id, outcome, note) and returns ``None`` where no part has this id.
    ``accept_inbound`` queues a message for a phone; without it messages are refused.
    """

    _log = Logger()

    def __init__(
        self,
        apply_receipt: Callable[[str, MessageState, str, datetime], Awaitable[MessageResult | None]],
        accept_inbound: Callable[[InboundMessage, datetime], Awaitable[MessageResult]] | None = None,
    ) -> None:
        self._apply_receipt = apply_receipt
        self._accept_inbound = accept_inbound

    async def take(self, pdu: Any, *, is_submitting: bool) -> int:
        """Take a receipt or a message, and return the status of the answer once it is durable.

        ``is_submitting``: whether there are submissions whose ids are not recorded yet.
        """
        message_type = (pdu.esm_class or 0) & _MESSAGE_TYPE
        if message_type == _RECEIPT:
            return await self._take_receipt(pdu, is_submitting=is_submitting)
        if message_type == 0 and self._accept_inbound is not None:
            return await self._take_message(pdu, self._accept_inbound)
        self._log.warn("SMPP: a message that is no receipt is refused")
        return PERMANENT_ERROR

    async def _take_receipt(self, pdu: Any, *, is_submitting: bool) -> int:
        network_id, outcome, note = parse_receipt(pdu)
        if outcome is None:
            return STATUS_OK
        try:
            result = await self._apply_receipt(network_id, outcome, note, datetime.now(UTC))
        except StoreUnavailable as error:
            self._log.warn("SMPP: a receipt is asked for again: {error}", error=str(error))
            return TEMPORARY_ERROR
        if result is None and is_submitting:
            return TEMPORARY_ERROR  # the answer to its submission may not be recorded yet
        if result is None:
            self._log.info("SMPP: a receipt for a message that is not known here")
        return STATUS_OK

    async def _take_message(
        self, pdu: Any, accept_inbound: Callable[[InboundMessage, datetime], Awaitable[MessageResult]]
    ) -> int:
        """Queue a message from another network; a repeat gets the same answer again."""
        try:
            inbound = inbound_from_pdu(pdu)
            result = await accept_inbound(inbound, datetime.now(UTC))
        except StoreUnavailable as error:
            self._log.warn("SMPP: a message is asked for again: {error}", error=str(error))
            return TEMPORARY_ERROR
        except UnknownSubscriber:
            self._log.info("SMPP: a message to …{last} is refused: unknown number", last=inbound.to_number[-4:])
            return INVALID_DESTINATION
        except BillerError as error:
            self._log.info("SMPP: a message is refused: {reason}", reason=str(error))
            return PERMANENT_ERROR
        became = "queued" if result.first else "known already"
        self._log.info("SMPP: a message to …{last} is {became}", last=inbound.to_number[-4:], became=became)
        return STATUS_OK
