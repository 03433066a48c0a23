"""Read messages that an SMSC delivers from phones of other networks (deliver_sm, data_sm).

Of a long message each part arrives as a PDU of its own. What is no text (pictures, settings of a phone, classes of
data) is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from smpplib.consts import OPTIONAL_PARAMS

from celcombiller.core.data.accounting_reports import key_of
from celcombiller.core.errors import InvalidValue
from celcombiller.core.sms.encoding import DefaultAlphabet, printable
from celcombiller.core.sms.inbound_message import InboundMessage, InboundPart
from celcombiller.core.subscribers.number_forms import NUMBER, plain_number
from celcombiller.smpp.user_data import find_place, read_payload, read_text

if TYPE_CHECKING:
    from celcombiller.smpp.pdu import Pdu

_SENDER = re.compile(r"[^A-Za-z0-9+*#]")
_SENDER_CHARACTERS_MAX = 20
_UNKNOWN = "unknown"

_OWN_IDS = ("receipted_message_id", "user_message_reference", "sar_msg_ref_num", "sar_segment_seqnum")
"""Where an SMSC may number its messages; SMPP 3.4 has no field of that for a deliver_sm."""


def inbound_from_pdu(pdu: Pdu, default_alphabet: DefaultAlphabet = DefaultAlphabet.GSM) -> InboundMessage | InboundPart:
    """Return the message, or the part of one. Raises `InvalidValue` when it is no text, or not all of it."""
    if pdu.is_cut:
        raise InvalidValue("it is shorter than it says")
    text = read_text(pdu, default_alphabet)
    ids = [pdu.parameters.get(OPTIONAL_PARAMS[name], b"").hex() for name in _OWN_IDS]
    recipient = plain_number(pdu.recipient)
    key = key_of(pdu.sender, pdu.recipient, str(pdu.data_coding), str(pdu.esm_class), pdu.text.hex(), *ids)
    from_number = _SENDER.sub("", plain_number(pdu.sender))[:_SENDER_CHARACTERS_MAX] or _UNKNOWN
    to_number = recipient if NUMBER.fullmatch(recipient) else ""
    place = find_place(pdu)
    if place is None:
        network_id = pdu.string("receipted_message_id").decode("ascii", "replace")
        return InboundMessage(key, from_number, to_number, printable(text), network_id)
    return InboundPart(
        group_key=key_of(pdu.sender, pdu.recipient, str(place.kind), str(place.reference)),
        number=place.number,
        total=place.total,
        key=key,
        from_number=from_number,
        to_number=to_number,
        data_coding=pdu.data_coding,
        payload=read_payload(pdu),
    )
