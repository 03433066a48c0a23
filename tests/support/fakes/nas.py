"""A NAS for the tests: sends RADIUS requests, keeps what is answered, and hears Disconnect-Requests."""

import hashlib

from pyrad import packet as pyrad
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from celcombiller.radius.codec import DICTIONARY

SECRET = "a long secret"


def access_request(username="ana", password="correct horse", *, secret=SECRET, signed=True, **attributes):
    packet = pyrad.AuthPacket(code=pyrad.AccessRequest, secret=secret.encode(), dict=DICTIONARY)
    packet.authenticator = packet.CreateAuthenticator()
    packet.AddAttribute("User-Name", username)
    if password is not None:
        packet.AddAttribute("User-Password", packet.PwCrypt(password))
    for name, value in attributes.items():
        packet.AddAttribute(name.replace("_", "-"), value)
    if signed:
        packet.add_message_authenticator()
    return packet


def report(status, session_id="A1", username="ana", *, secret=SECRET, octets=None, **attributes):
    packet = pyrad.AcctPacket(secret=secret.encode(), dict=DICTIONARY)
    said = {"Acct-Status-Type": status, "Acct-Session-Id": session_id, "User-Name": username, "NAS-Identifier": "nas1"}
    if octets is not None:
        said |= {"Acct-Input-Octets": octets % 2**32, "Acct-Input-Gigawords": octets // 2**32}
    for name, value in (said | {name.replace("_", "-"): value for name, value in attributes.items()}).items():
        if value != "":
            packet.AddAttribute(name, value)
    return packet


class Nas(DatagramProtocol):
    """``answers`` says what to do with each Disconnect-Request: a code and an Error-Cause, or None to be silent."""

    def __init__(self):
        self.port = reactor.listenUDP(0, self, "127.0.0.1")
        self.number = self.port.getHost().port
        self.heard = []
        self.disconnects = []
        self.answers = []
        self.raw = []
        self._waiting = []

    def send(self, packet, port):
        """Send a request, encoded once, so that the same again is the same."""
        if not hasattr(packet, "sent"):
            packet.sent = packet.RequestPacket()
        self.transport.write(packet.sent, ("127.0.0.1", port))

    async def ask(self, packet, port, seconds=60.0):
        """Send a request and give its answer, proved; None if there is none."""
        self.send(packet, port)
        datagram = await self.hear(seconds)
        if datagram is None:
            return None
        answer = packet.CreateReply(packet=datagram)
        assert packet.VerifyReply(answer, datagram, enforce_ma=packet.code == pyrad.AccessRequest)
        return answer

    async def hear(self, seconds):
        """Give the next datagram that is no Disconnect-Request."""
        if not self.heard:
            waiting = Deferred()
            self._waiting.append(waiting)
            call = reactor.callLater(seconds, waiting.callback, None)
            await waiting
            if call.active():
                call.cancel()
        return self.heard.pop(0) if self.heard else None

    async def until(self, condition, seconds=60.0):
        for _ in range(int(seconds / 0.02)):
            if condition():
                return
            await deferLater(reactor, 0.02, lambda: None)
        raise AssertionError("it did not come")

    def datagramReceived(self, datagram, addr):
        if datagram[0] != pyrad.DisconnectRequest:
            self.heard.append(datagram)
            if self._waiting:
                waiting = self._waiting.pop()
                if not waiting.called:
                    waiting.callback(None)
            return
        packet = pyrad.CoAPacket(packet=datagram, secret=SECRET.encode(), dict=DICTIONARY)
        assert packet.VerifyCoARequest()
        self.raw.append(datagram)
        self.disconnects.append(packet)
        code, cause = (self.answers.pop(0) if self.answers else None) or (None, None)
        if code is None:
            return
        reply = packet.CreateReply()
        reply.code = code
        if cause is not None:
            reply.AddAttribute("Error-Cause", cause)
        self.transport.write(reply.ReplyPacket(), addr)

    async def close(self):
        await self.port.stopListening()


class FakeTransport:
    def __init__(self):
        self.sent = []

    def write(self, datagram, addr):
        self.sent.append(datagram)


def damage(datagram, place, value, cut):
    """Damage a datagram: another octet somewhere, or its end cut off."""
    damaged = bytearray(datagram)
    damaged[place % len(damaged)] = value
    return bytes(damaged[: len(damaged) - cut % len(damaged)])


VALID = {
    pyrad.AccessRequest: access_request().RequestPacket(),
    pyrad.AccountingRequest: report("Interim-Update", octets=2**40).RequestPacket(),
}


def signed_datagram(code, pairs, more=b""):
    """Make a datagram of any attributes that is signed rightly, as a NAS with a fault would."""
    body = b"".join(bytes((number, len(value) + 2)) + value for number, value in pairs) + more
    head = bytes((code, 7)) + (20 + len(body)).to_bytes(2, "big")
    proof = hashlib.md5(head + bytes(16) + body + SECRET.encode()).digest()
    return head + proof + body
