"""Telephones in this process, many at once: each move of a call is one method, and each keeps its own record of times.

They speak just the SIP that chan_pjsip needs (RFC 3261, 3515, 3891), and send silence as RTP where audio has to flow.
"""

import contextlib
import re
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from itertools import count

from tests.system.lab.waiting import until

RTP_SECONDS = 0.02
_number = count(1)


@dataclass
class Leg:
    """One dialog of a phone, and when it was answered and ended."""

    phone: "Phone"
    call_id: str
    local: str
    remote: str
    target: str
    route: str = ""
    """The Via, From, To and so on of the INVITE, to be answered with."""
    began_at: float = field(default_factory=time.time)
    answered_at: float = 0.0
    ended_at: float = 0.0
    status: int = 0
    """The last status of an INVITE that was sent; of one that came, the last that was sent back."""
    referred: int = 0
    """The status that the peer gave to a REFER."""
    cseq: int = 1
    media: tuple[str, int] | None = None
    invite: str = ""

    @property
    def talk(self) -> float:
        """Seconds from the answer to the end, or to now."""
        return (self.ended_at or time.time()) - self.answered_at if self.answered_at else 0.0

    def until_answered(self, seconds: float = 20) -> "Leg":
        until(lambda: self.answered_at or self.ended_at, f"{self} is answered", seconds=seconds, every=0.01)
        assert self.answered_at, f"{self} was refused with {self.status}"
        return self

    def until_ended(self, seconds: float = 40) -> "Leg":
        until(lambda: self.ended_at, f"{self} has ended", seconds=seconds, every=0.01)
        return self

    def hang_up(self) -> None:
        """End the call, whatever its state."""
        if self.ended_at:
            return
        if self.answered_at:
            self.phone.ask(self, "BYE")
        elif not self.invite.startswith("in"):
            self.phone.ask(self, "CANCEL")
        self.ended_at = self.ended_at or time.time()

    def refer(self, to: str, *, replaces: "Leg | None" = None, until_taken: bool = True) -> None:
        """Send the other side to a number: a blind transfer, or with ``replaces`` an attended one."""
        uri = f"sip:{to}@127.0.0.1"
        if replaces is not None:
            tags = f"{replaces.call_id};to-tag={_tag(replaces.remote)};from-tag={_tag(replaces.local)}"
            uri += "?Replaces=" + tags.replace(";", "%3B").replace("=", "%3D").replace("@", "%40")
        self.phone.ask(self, "REFER", f"Refer-To: <{uri}>\r\nReferred-By: <sip:{self.phone.number}@127.0.0.1>\r\n")
        if until_taken:
            until(lambda: self.referred, f"{self} is transferred", every=0.01)
            assert self.referred == 202, f"{self}: the transfer was refused with {self.referred}"

    def __repr__(self) -> str:
        return f"<leg of {self.phone.number}: {self.remote}>"


class Phone:
    """A phone of one number at a port of its own."""

    def __init__(
        self, exchange: "Exchange", number: int, port: int, *, does: str = "answers", ring: float = 0.1
    ) -> None:
        self.exchange, self.number, self.port = exchange, number, port
        self.does, self.ring = does, ring
        self.forward_to = ""
        self.legs: list[Leg] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.media.bind(("127.0.0.1", 0))
        self._responses: dict[str, str] = {}
        self._acks: dict[str, str] = {}
        self.messages: list[str] = []

    def call(self, number: object) -> Leg:
        """Call a number, and go on."""
        leg = self._leg(f"{next(_number)}.{self.port}@phones", f"<sip:{self.number}@127.0.0.1>;tag={next(_number)}")
        leg.remote = f"<sip:{number}@127.0.0.1>"
        leg.target = f"sip:{number}@127.0.0.1:{self.exchange.sip_port}"
        self._send(self._request(leg, "INVITE", body=self._sdp()))
        return leg

    def incoming(self, place: int = 0, seconds: float = 20) -> Leg:
        """Wait for a call to this phone; the first, or another."""
        came = until(
            lambda: [leg for leg in self.legs if leg.invite.startswith("in")][place:],
            f"{self.number} is called",
            seconds=seconds,
            every=0.01,
        )
        return came[0]

    def ask(self, leg: Leg, method: str, more: str = "") -> None:
        """Send a request in a dialog."""
        if method != "CANCEL":
            leg.cseq += 1
        self._send(self._request(leg, method, more))

    def answer(self, leg: Leg) -> None:
        """Answer a call that rings."""
        leg.status = 200
        self._respond(leg.route, "200 OK", leg.local, self._sdp())

    def _leg(self, call_id: str, local: str) -> Leg:
        leg = Leg(self, call_id, local, "", "")
        self.legs.append(leg)
        return leg

    def _sdp(self) -> str:
        port = self.media.getsockname()[1]
        lines = ("v=0", "o=p 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0")
        return "\r\n".join((*lines, f"m=audio {port} RTP/AVP 0", "a=rtpmap:0 PCMU/8000", ""))

    def _request(self, leg: Leg, method: str, more: str = "", body: str = "") -> str:
        branch = f"z9hG4bK{leg.call_id.partition('@')[0]}.{leg.cseq}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{method} {leg.target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch}{'' if method in ('INVITE', 'CANCEL') else method}\r\n"
            f"From: {leg.local}\r\nTo: {leg.remote}\r\nCall-ID: {leg.call_id}\r\nCSeq: {leg.cseq} {method}\r\n"
            f"Contact: <sip:{self.number}@127.0.0.1:{self.port}>\r\nMax-Forwards: 70\r\n{more}{kind}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )

    def _send(self, text: str) -> None:
        self.messages.append(f">>> {time.time():.3f}\n{text}")
        with contextlib.suppress(OSError):
            self.socket.sendto(text.encode(), ("127.0.0.1", self.exchange.sip_port))

    def receive(self) -> None:
        """Take one message."""
        text = self.socket.recv(65535).decode(errors="replace")
        self.messages.append(f"<<< {time.time():.3f}\n{text}")
        if text.startswith("SIP/2.0 "):
            self._take_response(text)
        else:
            self._take_request(text)

    def _take_response(self, text: str) -> None:
        leg = next((each for each in self.legs if each.call_id == _header(text, "Call-ID")), None)
        if leg is None:
            return
        status, method = int(text[8:11]), _header(text, "CSeq").split()[1]
        if method == "REFER":
            leg.referred = status
        if method != "INVITE" or status < 180:
            return
        leg.status = status
        if 180 <= status < 200:
            return
        first = not leg.answered_at and not leg.ended_at
        leg.remote = _header(text, "To")
        if status >= 300:
            leg.ended_at = leg.ended_at or time.time()
        else:
            leg.answered_at = leg.answered_at or time.time()
            leg.target = re.search(r"<(.*?)>", _header(text, "Contact"))[1]
            leg.media = _media(text)
        cseq = _header(text, "CSeq").split()[0]
        ack = self._request(leg, "ACK").replace(f"CSeq: {leg.cseq} ACK", f"CSeq: {cseq} ACK")
        if status >= 300:
            ack = re.sub(r"Via: .*", f"Via: {_header(text, 'Via')}", ack, count=1).replace("branchACK", "branch")
        self._send(ack)
        if first and status < 300 and leg.ended_at:  # it was given up while it was answered
            self.ask(leg, "BYE")

    def _take_request(self, text: str) -> None:
        method, call_id = text.split(" ", 1)[0], _header(text, "Call-ID")
        leg = next((each for each in self.legs if each.call_id == call_id), None)
        if method == "ACK":
            if leg is not None and leg.status == 200:
                leg.answered_at = leg.answered_at or time.time()
            return
        key = f"{_header(text, 'Via')} {method}"
        if key in self._responses:
            self._send(self._responses[key])
            return
        if method == "INVITE" and leg is None:
            self._take_call(text, call_id)
            return
        if method == "CANCEL" and leg is not None:
            leg.ended_at = leg.ended_at or time.time()
            self._respond(text, "200 OK", leg.local)
            self._respond(leg.route, "487 Request Terminated", leg.local)
            return
        if method == "BYE" and leg is not None:
            leg.ended_at = leg.ended_at or time.time()
        self._respond(
            text, "200 OK", leg.local if leg else _header(text, "To"), self._sdp() if method == "INVITE" else ""
        )

    def _take_call(self, text: str, call_id: str) -> None:
        leg = self._leg(call_id, f"{_header(text, 'To')};tag={next(_number)}")
        leg.remote, leg.route, leg.invite = _header(text, "From"), text, "in"
        leg.target = re.search(r"<(.*?)>", _header(text, "Contact"))[1]
        leg.media = _media(text)
        if self.forward_to:
            self._respond(text, "302 Moved", leg.local, contact=f"<sip:{self.forward_to}@127.0.0.1>")
            leg.ended_at = time.time()
        elif self.does == "busy":
            self._respond(text, "486 Busy", leg.local)
            leg.ended_at = time.time()
        else:
            leg.status = 180
            self._respond(text, "180 Ringing", leg.local)
            if self.does == "answers":
                self.exchange.later(self.ring, lambda: leg.ended_at or self.answer(leg))

    def _respond(self, request: str, status: str, local: str, body: str = "", contact: str = "") -> None:
        vias = "".join(f"Via: {via.strip()}\r\n" for via in re.findall(r"^Via:(.*)\r", request, re.MULTILINE))
        kind = "Content-Type: application/sdp\r\n" if body else ""
        contact = contact or f"<sip:{self.number}@127.0.0.1:{self.port}>"
        response = (
            f"SIP/2.0 {status}\r\n{vias}From: {_header(request, 'From')}\r\nTo: {local}\r\n"
            f"Call-ID: {_header(request, 'Call-ID')}\r\nCSeq: {_header(request, 'CSeq')}\r\n"
            f"Contact: {contact}\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self._responses[f"{_header(request, 'Via')} {request.split(' ', 1)[0]}"] = response
        self._send(response)


class Exchange:
    """All phones of a test, served by one thread; `speak` makes audio flow."""

    def __init__(self, sip_port: int) -> None:
        self.sip_port = sip_port
        self._phones: list[Phone] = []
        self._selector = selectors.DefaultSelector()
        self._later: list[tuple[float, object]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._speaking: list[Phone] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def phone(self, number: int, port: int, *, speaks: bool = False, **how: object) -> Phone:
        made = Phone(self, number, port, **how)
        self._phones.append(made)
        self._selector.register(made.socket, selectors.EVENT_READ, made)
        if speaks:
            self._speaking.append(made)
        return made

    def later(self, seconds: float, what: object) -> None:
        with self._lock:
            self._later.append((time.time() + seconds, what))

    def hang_up_all(self) -> None:
        for phone in self._phones:
            for leg in list(phone.legs):
                leg.hang_up()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(5)
        for phone in self._phones:
            phone.socket.close()
            phone.media.close()

    def _serve(self) -> None:
        sequence = 0
        while not self._over.is_set():
            for key, _ in self._selector.select(RTP_SECONDS):
                key.data.receive()
            with self._lock:
                due = [what for at, what in self._later if at <= time.time()]
                self._later = [each for each in self._later if each[0] > time.time()]
            for what in due:
                what()
            sequence += 1
            self._speak(sequence)

    def _speak(self, sequence: int) -> None:
        header = b"\x80\x00" + (sequence & 0xFFFF).to_bytes(2) + (sequence * 160 & 0xFFFFFFFF).to_bytes(4) + b"phon"
        for phone in self._speaking:
            for leg in phone.legs:
                if leg.media and leg.answered_at and not leg.ended_at:
                    with contextlib.suppress(OSError):
                        phone.media.sendto(header + b"\xff" * 160, leg.media)


def _header(text: str, name: str) -> str:
    found = re.search(rf"^{name}:(.*)\r", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _tag(party: str) -> str:
    found = re.search(r";tag=([^;>]+)", party)
    return found[1] if found else ""


def _media(text: str) -> tuple[str, int] | None:
    found = re.search(r"^m=audio (\d+)", text, re.MULTILINE)
    return ("127.0.0.1", int(found[1])) if found else None
