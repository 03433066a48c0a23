"""RADIUS on the wire: datagrams of any sender to values, and answers to datagrams.

pyrad knows the format. A datagram that cannot be used raises `DiscardPacket`, which gives the reason.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrad import packet as pyrad
from pyrad.dictionary import Dictionary

from celcombiller.core.data.accounting_reports import AcctStatusType, NasRestart, Usage
from celcombiller.core.ledger.rows import AMOUNT_MAX

if TYPE_CHECKING:
    from celcombiller.config.tables import RadiusClient
    from celcombiller.core.data.accounting_reports import Conditions
    from celcombiller.core.data.session import DataSession

DICTIONARY = Dictionary(str(Path(__file__).with_name("dictionary")))

LENGTH_MAX = 4096
"""The longest packet (RFC 2865, 3)."""

HEADER = 20
GIGAWORD = 2**32
MAC_DIGITS = 12
CONTEXT_NOT_FOUND = 503
"""The Error-Cause of a NAS that has no such session (RFC 5176, 3.5)."""

DELAY_MAX = timedelta(days=7)
"""No NAS keeps a report for longer."""

CLOCK_WRONG = timedelta(days=1)
"""A date that differs more from ours is ignored: after its boot a NAS may think that it is 1970."""

_EAP_MESSAGE, _MESSAGE_AUTHENTICATOR = 79, 80
_SEPARATORS = str.maketrans("", "", ":-.")
_NAMES = "User-Name, 3GPP-IMSI or Calling-Station-Id"
_REPORTS = {"Start": AcctStatusType.START, "Stop": AcctStatusType.STOP, "Interim-Update": AcctStatusType.INTERIM}
_RESTARTS = ("Accounting-On", "Accounting-Off")
_VOLUME = {
    "mikrotik": ("Mikrotik-Total-Limit", "Mikrotik-Total-Limit-Gigawords"),
    "chillispot": ("ChilliSpot-Max-Total-Octets", "ChilliSpot-Max-Total-Gigawords"),
}
_OTHER_METHODS = {
    "CHAP": "CHAP-Password",
    "EAP": "EAP-Message",
    "MS-CHAP": "MS-CHAP-Response",
    "MS-CHAPv2": "MS-CHAP2-Response",
}


class DiscardPacket(Exception):
    """A datagram that is not answered: ``result`` is its label in the metrics, the sentence is for the log."""

    def __init__(self, result: str, sentence: str) -> None:
        super().__init__(sentence)
        self.result = result


@dataclass(frozen=True, slots=True)
class Login:
    """A decoded Access-Request. ``method`` names the way to prove an identity where it is not a plain password."""

    nas: str
    username: str
    password: str | None
    method: str
    station: str
    identities: tuple[str, ...]


def read(datagram: bytes, client: RadiusClient, code: int) -> Any:
    """Return a decoded request of this code, or a Status-Server; raise `DiscardPacket` unless this client signed it."""
    if not HEADER <= len(datagram) <= LENGTH_MAX:
        raise DiscardPacket("MALFORMED", f"{len(datagram)} octets are no packet")
    try:
        packet = _decoded(datagram, client.secret.encode(), code)
        is_authentic = _is_authentic(packet)
    except DiscardPacket:
        raise
    except Exception as error:  # noqa: BLE001  a library's decoder of what anybody may send
        raise DiscardPacket("MALFORMED", f"it cannot be read: {type(error).__name__}: {error}") from None
    if not is_authentic:
        raise DiscardPacket("WRONG_SECRET", "it was made with another secret, or changed on its way")
    needs = packet.code == pyrad.StatusServer or _EAP_MESSAGE in packet
    needs = needs or (packet.code == pyrad.AccessRequest and client.message_authenticator == "require")
    if needs and not packet.message_authenticator:
        raise DiscardPacket(
            "UNSIGNED", "it has no Message-Authenticator, without which it may be forged (message_authenticator)"
        )
    return packet


def _decoded(datagram: bytes, secret: bytes, code: int) -> Any:
    said, _, length = struct.unpack("!BBH", datagram[:4])
    if said not in (code, pyrad.StatusServer):
        raise DiscardPacket("MALFORMED", f"the code {said} is no request that this port takes")
    if not HEADER <= length <= len(datagram):
        raise DiscardPacket("MALFORMED", f"it says that it has {length} octets and has {len(datagram)}")
    place = HEADER
    while place < length:
        size = datagram[place + 1] if place + 1 < length else 0
        if size < 2 or place + size > length:  # noqa: PLR2004  an attribute's own header
            raise DiscardPacket("MALFORMED", "an attribute ends beyond its packet")
        place += size
    kind = pyrad.AcctPacket if code == pyrad.AccountingRequest else pyrad.AuthPacket
    return kind(packet=datagram, secret=secret, dict=DICTIONARY)


def _is_authentic(packet: Any) -> bool:
    """Return whether the sender knows the secret; of an unsigned Access-Request that cannot be seen."""
    if packet.message_authenticator:
        if len(packet[_MESSAGE_AUTHENTICATOR]) != 1:
            raise DiscardPacket("MALFORMED", "it has more than one Message-Authenticator")
        if not packet.verify_message_authenticator():
            return False
    return packet.code != pyrad.AccountingRequest or bool(packet.VerifyAcctRequest())


# -- requests --------------------------------------------------------------------------------------------------------


def login_of(packet: Any, client: RadiusClient, address: str) -> Login:
    """Read an Access-Request. Raises `DiscardPacket`."""
    identities = _identities(packet, client)
    if not identities:
        raise DiscardPacket("MALFORMED", f"an Access-Request without {_NAMES}")
    method = next((name for name, attribute in _OTHER_METHODS.items() if attribute in packet), "")
    password = None
    hidden = packet.get(2)
    if hidden:
        if len(hidden[0]) % 16 or not 16 <= len(hidden[0]) <= 128:  # noqa: PLR2004  RFC 2865, 5.2
            raise DiscardPacket("MALFORMED", "a User-Password of a length that there is not")
        password = packet.PwDecrypt(hidden[0])
    return Login(
        nas=_nas(packet, client, address),
        username=_text(packet, "User-Name") or identities[0],
        password=password,
        method=method,
        station=_text(packet, "Calling-Station-Id"),
        identities=identities,
    )


def report_of(
    packet: Any, client: RadiusClient, address: str, conditions: Conditions, now: datetime
) -> Usage | NasRestart | None:
    """Read an Accounting-Request; None where it is about nothing that is charged. Raises `DiscardPacket`."""
    status = _name(packet, "Acct-Status-Type")
    if not status:
        raise DiscardPacket("MALFORMED", "a report without an Acct-Status-Type")
    nas = _nas(packet, client, address)
    at = now - min(timedelta(seconds=_number(packet, "Acct-Delay-Time") or 0), DELAY_MAX)
    dated_at: datetime | None = datetime.fromtimestamp(_number(packet, "Event-Timestamp") or 0, UTC)
    if dated_at is not None and abs(dated_at - at) > CLOCK_WRONG:
        dated_at = None
    if status in _RESTARTS:
        return NasRestart(nas, at, status, dated_at)
    if status not in _REPORTS:
        return None
    session_id, identities = _text(packet, "Acct-Session-Id"), _identities(packet, client)
    if not session_id:
        raise DiscardPacket("MALFORMED", "a report without an Acct-Session-Id")
    octets_in, octets_out = (_octets(packet, direction) for direction in ("Input", "Output"))
    return Usage(
        nas=nas,
        session_id=session_id,
        username=_text(packet, "User-Name") or next(iter(identities), ""),
        status_type=_REPORTS[status],
        at=at,
        octets_in=octets_in,
        octets_out=octets_out,
        dated_at=dated_at,
        session_seconds=_number(packet, "Acct-Session-Time"),
        wraps=all(_number(packet, f"Acct-{direction}-Gigawords") is None for direction in ("Input", "Output")),
        packets_in=_number(packet, "Acct-Input-Packets"),
        packets_out=_number(packet, "Acct-Output-Packets"),
        identities=identities,
        client=client.name,
        nas_address=address,
        framed_address=_address(packet, "Framed-IP-Address"),
        station=_text(packet, "Calling-Station-Id"),
        cause=_name(packet, "Acct-Terminate-Cause"),
        conditions=conditions,
    )


def _identities(packet: Any, client: RadiusClient) -> tuple[str, ...]:
    """Return the names under which the user of a packet may be known here, the best first.

    These are the User-Name, then the IMSI of a GGSN, then the number or MAC address that the user calls from.
    """
    imsi = "".join(filter(str.isdecimal, _text(packet, "3GPP-IMSI")))
    said = identities_of(_text(packet, "User-Name"), client.realm)
    station = _text(packet, "Calling-Station-Id")
    words = (*said, f"IMSI{imsi}" if imsi else "", station, *_mac_forms(station))
    return tuple(dict.fromkeys(filter(None, words)))


def identities_of(username: str, realm: str) -> tuple[str, ...]:
    """Return the names under which a User-Name may be known here, the best first: as it is, then without its realm.

    Each may be a username, a MAC address in any form, a number, or an IMSI. The user name of EAP-SIM and EAP-AKA is a
    digit and the IMSI, in a realm of 3gppnetwork.org (3GPP TS 23.003, 14.3 and 19.3).
    """
    names, (user, _, domain) = [username], username.rpartition("@")
    if realm == "strip":
        names += [user, username.partition("\\")[2]]
    if domain.lower().endswith("3gppnetwork.org"):
        names.append(user[1:])
    return tuple(word for name in names if name for word in (name, f"IMSI{name}", *_mac_forms(name)))


def _mac_forms(word: str) -> tuple[str, ...]:
    """Return the usual ways to write a MAC address, if a word is one; 12 digits alone may be a number."""
    digits = word.translate(_SEPARATORS)
    if len(digits) != MAC_DIGITS or word.isdecimal() or not set(digits.lower()) <= set("0123456789abcdef"):
        return ()
    return tuple(
        sign.join(each[place : place + size] for place in range(0, MAC_DIGITS, size))
        for each in (digits.lower(), digits.upper())
        for sign, size in (("", MAC_DIGITS), (":", 2), ("-", 2), (".", 4))
    )


def _nas(packet: Any, client: RadiusClient, address: str) -> str:
    """Return the name of the NAS: one client may be a network or a proxy with several."""
    said = (
        _text(packet, "NAS-Identifier")
        or _address(packet, "NAS-IP-Address")
        or _address(packet, "NAS-IPv6-Address")
        or address
    )
    return f"{client.name}/{said}"


def _raw(packet: Any, name: str) -> bytes | None:
    """Return the first value of an attribute as it came, or None."""
    attribute = DICTIONARY.attributes[name]
    vendor = DICTIONARY.vendors.GetForward(attribute.vendor) if attribute.vendor else None
    found = packet.get((vendor, attribute.code) if vendor else attribute.code)
    return bytes(found[0]) if found else None


def _text(packet: Any, name: str) -> str:
    """Return a text that any database stores and any log shows: unprintable characters are escaped."""
    text = (_raw(packet, name) or b"").decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _number(packet: Any, name: str) -> int | None:
    """Return a number of 4 octets (RFC 2865, 5); None where it is missing or of another length: the rest counts."""
    raw = _raw(packet, name)
    return None if raw is None or len(raw) != 4 else int.from_bytes(raw, "big")  # noqa: PLR2004


def _octets(packet: Any, direction: str) -> int:
    """Return the octets of a direction; 0 where there are more than a session can have used."""
    high, low = _number(packet, f"Acct-{direction}-Gigawords"), _number(packet, f"Acct-{direction}-Octets")
    octets = (high or 0) * GIGAWORD + (low or 0)
    return octets if octets <= AMOUNT_MAX // 2 else 0


def _name(packet: Any, name: str) -> str:
    """Return the name of a number, or the number where it has none."""
    number = _number(packet, name)
    if number is None:
        return ""
    values = DICTIONARY.attributes[name].values
    raw = number.to_bytes(4, "big")
    return str(values.GetBackward(raw)) if values.HasBackward(raw) else str(number)


def _address(packet: Any, name: str) -> str:
    raw = _raw(packet, name)
    if raw is None:
        return ""
    return str(ipaddress.ip_address(raw)) if len(raw) in (4, 16) else ""


# -- answers ---------------------------------------------------------------------------------------------------------


def accept(packet: Any, client: RadiusClient, *, octets: int, seconds: int, interim_seconds: int) -> bytes:
    """Return an Access-Accept for this many octets and seconds; 0 seconds set no limit."""
    reply = packet.CreateReply()
    reply.code = pyrad.AccessAccept
    for name, value in (("Session-Timeout", seconds), ("Acct-Interim-Interval", interim_seconds)):
        if value:
            reply.AddAttribute(name, value)
    if client.volume != "none":
        low, high = _VOLUME[client.volume]
        octets = min(octets, GIGAWORD**2 - 1)
        reply.AddAttribute(low, octets % GIGAWORD)
        reply.AddAttribute(high, octets // GIGAWORD)
    return _signed(reply)


def reject(packet: Any, why: str) -> bytes:
    """Return an Access-Reject with this reason."""
    reply = packet.CreateReply()
    reply.code = pyrad.AccessReject
    reply.AddAttribute("Reply-Message", why)
    return _signed(reply)


def alive(packet: Any, *, accounting: bool) -> bytes:
    """Return the answer to a Status-Server (RFC 5997)."""
    reply = packet.CreateReply()
    reply.code = pyrad.AccountingResponse if accounting else pyrad.AccessAccept
    return _signed(reply)


def accounted(packet: Any) -> bytes:
    """Return an Accounting-Response."""
    answer: bytes = packet.CreateReply().ReplyPacket()
    return answer


def _signed(reply: Any) -> bytes:
    """Sign with a Message-Authenticator as the first attribute: otherwise an answer can be forged (CVE-2024-3596)."""
    reply.add_message_authenticator()
    answer: bytes = reply.ReplyPacket()
    return answer


# -- Disconnect-Requests ---------------------------------------------------------------------------------------------


def disconnect_of(session: DataSession, client: RadiusClient, number: int, now: datetime) -> Any:
    """Return a Disconnect-Request of a session; its `RequestPacket` makes the datagram."""
    packet = pyrad.CoAPacket(code=pyrad.DisconnectRequest, id=number, secret=client.secret.encode(), dict=DICTIONARY)
    packet.AddAttribute("User-Name", session.username)
    packet.AddAttribute("Acct-Session-Id", session.session_id)
    if session.framed_address and ":" not in session.framed_address:
        packet.AddAttribute("Framed-IP-Address", session.framed_address)
    if session.station:
        packet.AddAttribute("Calling-Station-Id", session.station)
    packet.AddAttribute("Event-Timestamp", int(now.timestamp()))
    return packet


def answer_of(asked: Any, datagram: bytes) -> str | None:
    """Return the answer to a Disconnect-Request: ``ACK``, or ``NAK`` and its Error-Cause; None: it is no answer."""
    try:
        reply = asked.CreateReply(packet=datagram)
        if not asked.VerifyReply(reply, datagram):
            return None
        if reply.code == pyrad.DisconnectACK:
            return "ACK"
        if reply.code == pyrad.DisconnectNAK:
            return f"NAK {_number(reply, 'Error-Cause') or ''}".strip()
    except Exception:  # noqa: BLE001  a library's decoder of what anybody may send
        return None
    return None
