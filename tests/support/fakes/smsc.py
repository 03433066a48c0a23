"""An SMSC of the tests' own: SMPP's server side, over smpplib's PDUs. It does as it is told, faults too."""

import struct

from smpplib import consts
from smpplib.smpp import make_pdu, parse_pdu
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol


def raw_pdu(command_id, sequence=1, body=b"", status=0):
    """Return the bytes of a PDU with any body."""
    return struct.pack(">LLLL", 16 + len(body), command_id, status, sequence) + body


def parameter(tag, value):
    """Return the bytes of an optional parameter."""
    return struct.pack(">HH", tag, len(value)) + value


def named(name, value):
    """Return the bytes of an optional parameter that has a name."""
    return parameter(consts.OPTIONAL_PARAMS[name], value)


class MessageCentre(Factory):
    """``statuses`` are the answers to the next submissions: a status, or what to do in place of an answer.

    Bytes there are the body of an answer of success. ``refused`` are bind commands and the status of their refusal. With
    ``unbinds`` it ends each session at once.
    ``ids`` are the ids of the next messages. ``context`` is Twisted's of a certificate; without one there is no TLS.
    """

    noisy = False
    SILENT, CUT, CUT_AFTER = "silent", "cut", "cut after it was taken"

    def __init__(self, context=None):
        self.statuses = []
        self.nacks = []
        self.submitted = []
        self.bound = []
        self.connections = []
        self.tried = 0
        self.binds = []
        self.heard = b""
        self.lets_in = True
        self.unbinds = False
        self.ids = []
        self.refused = {}
        self._next_id = 0
        self._answers = {}
        self._port = self._listen(0, context)
        self.port = self._port.getHost().port

    def _listen(self, port, context):
        if context is None:
            return reactor.listenTCP(port, self, interface="127.0.0.1")
        return reactor.listenSSL(port, self, context, interface="127.0.0.1")

    async def change(self, context):
        """Listen with another certificate."""
        await self._port.stopListening()
        self._port = self._listen(self.port, context)

    def buildProtocol(self, _address):
        return _Connection(self)

    def texts(self):
        """Give what was submitted, each with its header of parts, decoded."""
        return [(bytes(each.destination_addr).decode(), each.short_message) for each in self.submitted]

    def next_id(self):
        if self.ids:
            return self.ids.pop(0)
        self._next_id += 1
        return f"m{self._next_id:x}"

    async def receipt(self, network_id, state, *, text=True, **more):
        """Send a receipt; gives the status of the answer."""
        said = (
            f"id:{network_id} sub:001 dlvrd:001 submit date:2611241200 done date:2611241201 stat:{state} err:000 text:x"
        )
        facts = {"esm_class": 4, "source_addr": "2001", "destination_addr": "1"}
        facts |= {"short_message": said.encode()} if text else {}
        return await self.deliver(**facts | more)

    async def deliver(self, command="deliver_sm", parameters=b"", **facts):
        """Send a deliver_sm or a data_sm, with raw optional parameters; gives the status of the answer."""
        connection = next(each for each in self.connections if each.command in ("bind_transceiver", "bind_receiver"))
        made = make_pdu(command, client=connection, **facts)
        pdu = made.generate() + parameters
        answer = connection.waiting[made.sequence] = Deferred()
        connection.transport.write(struct.pack(">L", len(pdu)) + pdu[4:])
        answered = await answer
        assert answered.command == f"{command}_resp"
        return answered.status

    def send(self, raw):
        """Send bytes."""
        self.connections[-1].transport.write(raw)

    async def stop(self):
        for each in list(self.connections):
            each.transport.abortConnection()
        await self._port.stopListening()


class _Connection(Protocol):
    def __init__(self, centre):
        self.centre, self.sequence, self.rest, self.waiting, self.command = centre, 0, b"", {}, ""

    def next_sequence(self):
        self.sequence += 1
        return self.sequence

    def connectionMade(self):
        self.centre.connections.append(self)
        self.centre.tried += 1

    def connectionLost(self, _reason):
        self.centre.connections.remove(self)

    def dataReceived(self, data):
        self.rest += data
        self.centre.heard += data
        while len(self.rest) >= 4 and len(self.rest) >= (length := int.from_bytes(self.rest[:4], "big")):
            pdu, self.rest = (
                parse_pdu(self.rest[:length], client=self, allow_unknown_opt_params=True),
                self.rest[length:],
            )
            self.take(pdu)

    def take(self, pdu):
        if pdu.command == "generic_nack":
            self.centre.nacks.append((pdu.sequence, pdu.status))
        elif pdu.command in ("deliver_sm_resp", "data_sm_resp"):
            self.waiting.pop(pdu.sequence).callback(pdu)
        elif pdu.command.startswith("bind_"):
            self.bind(pdu)
        elif pdu.command == "submit_sm":
            self.submit(pdu)
        elif pdu.command == "enquire_link":
            self.answer(pdu, "enquire_link_resp", consts.SMPP_ESME_ROK)

    def bind(self, pdu):
        self.command = pdu.command
        self.centre.binds.append(pdu.command)
        refused = consts.SMPP_ESME_ROK if self.centre.lets_in else consts.SMPP_ESME_RBINDFAIL
        status = self.centre.refused.get(pdu.command, refused)
        if status == MessageCentre.CUT:
            self.transport.loseConnection()
        elif status == consts.SMPP_ESME_RINVCMDID:
            self.transport.write(raw_pdu(0x80000000, pdu.sequence, status=status))
        else:
            self.centre.bound.append((bytes(pdu.system_id), bytes(pdu.password)))
            self.answer(pdu, f"{pdu.command}_resp", status, system_id="centre")
            if self.centre.unbinds:
                self.transport.write(raw_pdu(6))

    def submit(self, pdu):
        assert self.command != "bind_receiver"
        status = self.centre.statuses.pop(0) if self.centre.statuses else consts.SMPP_ESME_ROK
        if isinstance(status, bytes):
            self.centre.submitted.append(pdu)
            self.transport.write(raw_pdu(0x80000004, pdu.sequence, status))
            return
        if status == MessageCentre.CUT:
            self.transport.abortConnection()
            return
        if status in (consts.SMPP_ESME_ROK, MessageCentre.CUT_AFTER, MessageCentre.SILENT):
            self.centre.submitted.append(pdu)
        if status == MessageCentre.CUT_AFTER:
            self.transport.abortConnection()
        elif status == consts.SMPP_ESME_ROK:
            self.answer(pdu, "submit_sm_resp", status, message_id=self.centre.next_id())
        elif status != MessageCentre.SILENT:
            self.answer(pdu, "submit_sm_resp", status)

    def answer(self, pdu, command, status, **facts):
        made = make_pdu(command, client=self, status=status, **facts)
        made.sequence = pdu.sequence
        self.transport.write(made.generate())
