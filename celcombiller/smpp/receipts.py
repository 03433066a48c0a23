"""Read delivery receipts, as SMSCs of many makes write them.

The parameters ``receipted_message_id`` and ``message_state`` count before the text (SMPP 3.4, 5.3.2.12 and 5.3.2.35).
The text is by appendix B, which leaves its form to each SMSC.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from celcombiller.core.errors import InvalidValue
from celcombiller.core.model.messages import MessageState
from celcombiller.core.sms.encoding import DefaultAlphabet
from celcombiller.core.sms.network_ids import ID_CHARACTERS_MAX, text_of_id
from celcombiller.core.sms.receipt import DeliveryReceipt
from celcombiller.smpp.user_data import HAS_HEADER, decode_gsm, decoder_of, without_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celcombiller.smpp.pdu import Pdu

TEXT_BYTES_MAX = 1024
"""Of a text that is read; a receipt of appendix B has about 120."""

_DELIVERED, _FAILED = MessageState.DELIVERED, MessageState.FAILED
_BY_NUMBER = {2: _DELIVERED, 3: _FAILED, 4: _FAILED, 5: _FAILED, 8: _FAILED, 9: _FAILED}
"""The values of message_state that are the end (5.2.28; 9, skipped, is of SMPP 5.0)."""

_BY_LETTERS = (
    *((letters, _FAILED) for letters in ("DELE", "UNDEL", "UNDLV", "NOTDEL", "NONDEL", "NOT_DEL", "NON_DEL")),
    *((letters, _FAILED) for letters in ("EXP", "REJ", "FAIL", "CANC", "SKIP", "ERR", "ABORT")),
    *((letters, _DELIVERED) for letters in ("DEL", "DLV", "DLIV")),
)
"""The first letters of states that are the end: appendix B shortens the words, and not all SMSCs as it does."""

_KEY = re.compile(
    r"(?<![^\s,;|])((?:(?:msg|message)[ _]?)?id|sub|dlvrd|submit[ _]?date|done[ _]?date|stat(?:e|us)?|err(?:or)?|text)"
    r"\s{0,9}[:=]",
    re.ASCII | re.IGNORECASE,
)
_TRIMMED = " \t\r\n\0,;|\"'"


def parse_receipt(pdu: Pdu, default_alphabet: DefaultAlphabet = DefaultAlphabet.GSM) -> DeliveryReceipt:
    """Return what a receipt says; one that says nothing has no ids and no outcome."""
    ids = [text_of_id(pdu.string("receipted_message_id"))]
    words: dict[str, str] = {}
    for text in _readings(pdu, default_alphabet):
        found = _fields(text)
        ids.append(found.get("id", ""))
        words = words or found
        if "stat" in found and found.get("id", "").isalnum():
            break  # the same letters and digits are in each alphabet
    number = pdu.number("message_state")
    stated = words.get("stat", "")
    outcome = _BY_NUMBER.get(number or 0) or _outcome_of(stated)
    return DeliveryReceipt(
        network_ids=tuple(dict.fromkeys(filter(None, ids))),
        outcome=outcome,
        note=_note_of(stated if stated or number is None else f"message state {number}", ids, words),
        numbers=frozenset(filter(None, (pdu.sender, pdu.recipient))),
    )


def is_receipt(pdu: Pdu) -> bool:
    """Return whether a PDU is a receipt although its esm_class does not say so: a phone cannot add these parameters."""
    return bool(pdu.string("receipted_message_id")) and pdu.number("message_state") is not None


def _readings(pdu: Pdu, default_alphabet: DefaultAlphabet) -> Iterator[str]:
    """Yield the text by each alphabet that it may be in: data_coding is often that of the message, or wrong."""
    data = pdu.text
    with suppress(InvalidValue):
        data = without_header(data) if pdu.esm_class & HAS_HEADER else data
    data = data[:TEXT_BYTES_MAX]
    with suppress(InvalidValue):
        yield decoder_of(pdu.data_coding, default_alphabet)(data)
    yield data.decode("latin-1")
    yield decode_gsm(data)
    yield data.decode("utf-16-be", "replace")
    yield data.decode("utf-16-le", "replace")
    yield decode_gsm(_septets(data))


def _septets(data: bytes) -> bytes:
    """Return packed septets, one a byte (TS 23.038, 6.1.2.1)."""
    bits = int.from_bytes(data, "little")
    return bytes((bits >> (7 * each)) & 0x7F for each in range(len(data) * 8 // 7))


def _fields(text: str) -> dict[str, str]:
    """Return the first value of each key. What follows ``text:`` is the sender's, and says nothing."""
    found: dict[str, str] = {}
    keys = list(_KEY.finditer(text))
    ends = [*(key.start() for key in keys), len(text)][1:]
    for key, end in zip(keys, ends, strict=True):
        name = _name_of(key[1])
        if name == "text":
            break
        value = text[key.end() : end].strip(_TRIMMED)
        if value and name != "done":  # a time may have two words
            value = value.split(None, 1)[0].strip(_TRIMMED)
        if value:
            found.setdefault(name, value[:ID_CHARACTERS_MAX])
    return found


def _name_of(key: str) -> str:
    key = key.lower()
    if key.endswith("id"):
        return "id"
    return next((each for each in ("stat", "err", "done", "submit") if key.startswith(each)), key)


def _outcome_of(stated: str) -> MessageState | None:
    if stated.isascii() and stated.isdigit():
        return _BY_NUMBER.get(int(stated[:4]))
    letters = stated.upper()
    return next((outcome for first, outcome in _BY_LETTERS if letters.startswith(first)), None)


def _note_of(stated: str, ids: list[str], words: dict[str, str]) -> str:
    """Return what an operator should know of it, printable. The id and the time tell a repeat from a new receipt."""
    said = {"id": next(filter(None, ids), ""), "err": words.get("err", ""), "done": words.get("done", "")}
    more = ", ".join(f"{name} {value}" for name, value in said.items() if value)
    note = f"receipt: {stated or 'no state'}" + (f" ({more})" if more else "")
    return "".join(each if each.isprintable() else "?" for each in note)
