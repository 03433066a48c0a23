"""Each decoder of bytes that others send: only its own errors leave it, and its time grows with its input, no faster.

This is the table of all of them. Who adds a decoder, or a regular expression that may meet what others send, adds a
row. `tests/support/foreign_input.py` has the inputs and the clock.
"""

import contextlib
import re
import sqlite3
import tempfile
from datetime import UTC, date, datetime
from hashlib import md5
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrad import packet as pyrad
from smpplib.smpp import make_pdu
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.test.requesthelper import DummyChannel

from celcombiller.asterisk import channel_variables, wire_text
from celcombiller.asterisk.agi import codec as agi_codec
from celcombiller.asterisk.agi import commands as agi_commands
from celcombiller.asterisk.agi import server as agi_server
from celcombiller.asterisk.ami import alive_signal, message_sender
from celcombiller.asterisk.ami import codec as ami_codec
from celcombiller.asterisk.scripts import call as call_script
from celcombiller.asterisk.scripts import call_origin, channel, sms
from celcombiller.asterisk.scripts import hangup as hangup_script
from celcombiller.cdr.columns import CdrColumns
from celcombiller.cdr.csv_file import CsvFile
from celcombiller.cdr.sqlite_file import SqliteFile
from celcombiller.cdr.staging import Staging
from celcombiller.config import loader
from celcombiller.config.dialling_rules import find_plan
from celcombiller.config.tables import RadiusClient, Rest, Smpp
from celcombiller.core.access import password_rules
from celcombiller.core.access.credentials import pins
from celcombiller.core.charging import request_keys
from celcombiller.core.errors import (
    BrokenRequest,
    ConfigError,
    Forbidden,
    InvalidValue,
    NetworkUnavailable,
    TooLarge,
    WrongMediaType,
)
from celcombiller.core.ledger.rows import check_line
from celcombiller.core.model import text
from celcombiller.core.model.routing import Trunk
from celcombiller.core.payments import payment_amounts, signatures
from celcombiller.core.provisioning.entries import ProvisioningEntry
from celcombiller.core.provisioning.network import check_digits
from celcombiller.core.rating.numbering import NumberingPlan, normalise
from celcombiller.core.routing.trunk_dial import make_trunk_dial
from celcombiller.core.schedules import schedule_records
from celcombiller.core.selling import amounts
from celcombiller.core.sms import encoding, network_ids
from celcombiller.core.subscribers import number_forms
from celcombiller.core.tariffs.files import cells as file_cells
from celcombiller.core.tariffs.files.cgrates_plan import read_plan
from celcombiller.core.tariffs.files.findings import Findings
from celcombiller.core.tariffs.files.presets import PRESETS
from celcombiller.core.tariffs.files.price_cells import FileTerms
from celcombiller.core.tariffs.files.tariff_file import read_tariff_file, write_tariff_file
from celcombiller.core.text_commands.command_formats import CommandFormat, CommandKind, parse_command
from celcombiller.http import decoding, origin, pagination, request_context
from celcombiller.http.transport import streaming
from celcombiller.http.transport.http_request import HttpRequest
from celcombiller.legacy_import import cell_values, convert_users, source_database
from celcombiller.legacy_import.conversion import ImportTerms, convert_original
from celcombiller.provisioning import openbts, osmocom_ctrl
from celcombiller.radius import codec as radius_codec
from celcombiller.rest.legacy import coercion, login, search
from celcombiller.rest.v1.selling import payments
from celcombiller.rest.v1.subscribers import NewSubscriber
from celcombiller.runtime import tls_trust
from celcombiller.smpp.connection import SmppConnection
from celcombiller.smpp.deliver_sm import inbound_from_pdu
from celcombiller.smpp.pdu import Pdu, read_pdu
from celcombiller.smpp.receipts import is_receipt, parse_receipt
from tests.asterisk.agi.test_codec import environment
from tests.asterisk.ami.test_codec import GREETING, hangup
from tests.support.fakes.nas import SECRET, access_request, report
from tests.support.foreign_input import (
    Decoder,
    find_growth,
    hostile_inputs,
    list_expressions,
    list_field_patterns,
    list_other_imports,
    pattern_decoder,
)
from tests.support.legacy_import.original_databases import ADMIN, original
from tests.support.properties import share

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def as_text(data):
    return data.decode("utf-8", "replace")


# -- Asterisk --------------------------------------------------------------------------------------------------------

AGI_ENVIRONMENT = environment(arguments=("stamp=1795387182-0",))


def agi_environment(data):
    """Decode what comes in two segments."""
    decoder = agi_codec.AgiDecoder()
    decoder.receive(data[:-1])
    decoder.receive(data[-1:])


def agi_reply(data):
    decoder = agi_codec.AgiDecoder()
    decoder.receive(AGI_ENVIRONMENT)
    decoder.expect_reply()
    decoder.receive(data)


def agi_values(data):
    text = as_text(data)
    for read in (agi_commands._integer, agi_commands._value, lambda text: agi_commands._played(text, 0)):
        with contextlib.suppress(agi_codec.AgiCommandRefused):
            read(text)


def agi_command(data):
    text = as_text(data)
    agi_server._LONG.match(text)
    agi_codec.command_text(text)
    agi_codec.command("SET VARIABLE", text, limit=2**20)


def ami_messages(data):
    decoder = ami_codec.AmiDecoder({"1"})
    for segment in (GREETING, data[:-1], data[-1:]):
        for message in decoder.receive(segment):
            if isinstance(message, ami_codec.AmiMessage):
                assert [message.event, message.response, message.action_id, message.answers]


def channel_values(data):
    text = as_text(data)
    channel_variables.instant(text)
    channel_variables.milliseconds(text)
    channel.shorten(text)


def script_arguments(data):
    text = as_text(data)
    for expression in (
        call_script._NUMBER,
        call_script._PLACE,
        call_origin._PAID,
        hangup_script._LET_GO,
        call_script._STAMP,
        sms._PAYER,
        sms._FROM,
        message_sender._ADDRESS,
    ):
        expression.fullmatch(text)


def ami_bytes(fields):
    return "".join(f"{key}: {value}\r\n" for key, value in [*fields, ("", "")][:-1]).encode() + b"\r\n"


ASTERISK = (
    Decoder(
        name="AGI environment",
        decode=agi_environment,
        errors=(agi_codec.AgiProtocolError,),
        seeds=(AGI_ENVIRONMENT, environment()),
        separators=(b"\n", b": ", b":", b"agi_arg_1: x\n"),
        expressions=("asterisk/agi/codec:_KNOWN", "asterisk/agi/codec:_A_KEY"),
    ),
    Decoder(
        name="AGI reply",
        decode=agi_reply,
        errors=(agi_codec.AgiProtocolError,),
        seeds=(b"200 result=1 (text)\n", b"520-Invalid\nusage\n520 End\n", b"HANGUP\n200 result=-1\n"),
        separators=(b"\n", b"(", b")", b"result= (", b"520-x\n", b"HANGUP\n"),
        expressions=("asterisk/agi/codec:_REPLY", "asterisk/agi/codec:_OPEN_RESULT"),
    ),
    Decoder(
        name="AGI values",
        decode=agi_values,
        seeds=(b"1 (text)", b"0 endpos=8000", b"-1"),
        separators=(b" ", b"(", b")", b"endpos="),
        expressions=(
            "asterisk/agi/commands:_PLAYED",
            "asterisk/agi/commands:_NUMBER",
        ),
    ),
    Decoder(
        name="AGI command",
        decode=agi_command,
        errors=(agi_codec.AgiCommandInvalid,),
        seeds=(b"SET VARIABLE", b'EXEC "DIAL" x', b"PJSIP/1001"),
        separators=(b"\\", b'"', b"A "),
        expressions=(
            *("asterisk/agi/codec:_VERB", "asterisk/agi/codec:_PLAIN_ARGUMENT", "asterisk/agi/codec:_CONTROL"),
            "asterisk/agi/server:_LONG",
        ),
    ),
    Decoder(
        name="channel variables",
        decode=channel_values,
        seeds=(b"1795387182.123456", b"12345"),
        hostile=(b"9" * 5000, "²".encode(), b"1." + b"9" * 5000),
        separators=(b".", b"0"),
        expressions=("asterisk/scripts/channel:shorten",),
    ),
    Decoder(
        name="script arguments",
        decode=script_arguments,
        seeds=(
            b'"Ana" <sip:2001@192.0.2.1>',
            b"payer=ana",
            b"stamp=abc",
            b"pjsip:2001",
            b"2001:2002:pbx1-1.0",
            b"2@phones",
        ),
        separators=(b'"', b"<", b"<sip:", b"<sip:a@", b'" <sips:1', b"@", b";", b"*"),
        expressions=(
            *(
                "asterisk/scripts/call:_STAMP",
                "asterisk/scripts/call:_NUMBER",
                "asterisk/scripts/call:_PLACE",
                "asterisk/scripts/call_origin:_PAID",
                "asterisk/scripts/hangup:_LET_GO",
                "asterisk/scripts/sms:_PAYER",
                "asterisk/scripts/sms:_FROM",
            ),
            "asterisk/ami/message_sender:_ADDRESS",
        ),
    ),
    Decoder(
        name="forms of a number",
        decode=lambda data: number_forms.forms_of(as_text(data)),
        seeds=(b"sip:+55-91 98000;phone-context=+55@192.0.2.1", b"IMSI724000000002001", b"tel:002001"),
        separators=(b"@", b";", b"-", b"phone-context=", b"phone-context=+1", b"sip:", b"IMSI"),
        expressions=tuple(
            f"core/subscribers/number_forms:{each}" for each in ("NUMBER", "_URI", "_CONTEXT", "_IMSI", "_BARE_IMSI")
        ),
    ),
    Decoder(
        name="AMI messages",
        decode=ami_messages,
        errors=(ami_codec.AmiProtocolError,),
        seeds=(ami_bytes(hangup()), b"Response: Success\r\nActionID: 1\r\nMessage: x\r\n\r\n"),
        separators=(b"\r\n", b"\n", b":", b": ", b"Event: x\r\n", b"Event: Hangup\r\n\r\n"),
        expressions=("asterisk/ami/codec:_KEY", "asterisk/ami/codec:_LINE_BREAK"),
    ),
    Decoder(
        name="Asterisk's bytes as text",
        decode=lambda data: wire_text.encode(wire_text.decode(data)),
        seeds=("PJSIP/josé-00000001".encode("latin-1"), "\uefe9".encode()),
        separators=(b"\xe9", "\uefe9".encode()),
        expressions=("asterisk/wire_text:_PRIVATE",),
    ),
    Decoder(
        name="address of a biller",
        decode=lambda data: alive_signal._AGI_URL.fullmatch(as_text(data)),
        seeds=(b"agi://127.0.0.1:4573/caller", b"agi://[::1]/"),
        separators=(b"]", b":", b":1", b"/", b"["),
        largest=4096,
        expressions=("asterisk/ami/alive_signal:_AGI_URL",),
    ),
    Decoder(
        name="AMI action",
        decode=lambda data: ami_codec.action("Getvar", [(as_text(data[:20]), as_text(data))], "1"),
        errors=(ami_codec.AmiActionInvalid,),
        seeds=(b"Variable", b"Channel"),
    ),
)

# -- RADIUS ----------------------------------------------------------------------------------------------------------

NAS = RadiusClient(name="nas1", address="127.0.0.1", secret=SECRET)


def signed(attributes, code):
    """Give a datagram with these attributes, signed: whoever knows the secret may send anything."""
    kind = pyrad.AcctPacket if code == pyrad.AccountingRequest else pyrad.AuthPacket
    head = bytes([code, 1]) + (20 + len(attributes)).to_bytes(2, "big")
    if kind is pyrad.AuthPacket:
        return head + bytes(16) + attributes
    return head + md5(head + bytes(16) + attributes + SECRET.encode()).digest() + attributes


def accounting(data):
    packet = radius_codec.read(signed(data[:4000], pyrad.AccountingRequest), NAS, pyrad.AccountingRequest)
    radius_codec.report_of(packet, NAS, "192.0.2.1", None, NOW)


def access(data):
    client = RadiusClient(name="nas1", address="127.0.0.1", secret=SECRET, message_authenticator="accept")
    packet = radius_codec.read(signed(data[:4000], pyrad.AccessRequest), client, pyrad.AccessRequest)
    radius_codec.identities_of(radius_codec.login_of(packet, client, "192.0.2.1").username, client.realm)


def disconnect_answer(data):
    request = pyrad.CoAPacket(code=pyrad.DisconnectRequest, id=1, secret=SECRET.encode(), dict=radius_codec.DICTIONARY)
    request.RequestPacket()
    radius_codec.answer_of(request, data)


START = report("Start", octets=5, Event_Timestamp=1795387182).RequestPacket()
ASK = access_request(signed=False).RequestPacket()

RADIUS = (
    Decoder(
        name="RADIUS datagram",
        decode=lambda data: radius_codec.read(data, NAS, pyrad.AccountingRequest),
        errors=(radius_codec.DiscardPacket,),
        seeds=(START, ASK),
        largest=4096,
    ),
    Decoder(
        name="RADIUS accounting",
        decode=accounting,
        errors=(radius_codec.DiscardPacket,),
        seeds=(START[20:],),
        separators=(b"\x01\x02", b"\x1a\x08\x00\x00\x00\x09\x01\x02", b"\x2c\x03a"),
        largest=4096,
    ),
    Decoder(
        name="RADIUS access",
        decode=access,
        errors=(radius_codec.DiscardPacket,),
        seeds=(ASK[20:],),
        separators=(b"\x01\x02", b"\x4f\x03a", b"\x02\x12" + bytes(16)),
        largest=4096,
    ),
    Decoder(name="RADIUS disconnect answer", decode=disconnect_answer, seeds=(START, ASK), largest=4096),
)

# -- SMPP ------------------------------------------------------------------------------------------------------------

NUMBERS = SimpleNamespace(next_sequence=lambda: 1)
DELIVERED = make_pdu(
    "deliver_sm", client=NUMBERS, source_addr="5599", destination_addr="1002", short_message=b"hello"
).generate()
RECEIPT = b"id:1A2B3C4D sub:001 dlvrd:001 submit date:2611010000 done date:2611010001 stat:DELIVRD err:000 text:hello"


class Transport(StringTransport):
    def abortConnection(self):
        pass


def smpp_connection(data):
    async def delivered(_pdu):
        return 0

    connection = SmppConnection(Clock(), Smpp(host="127.0.0.1", system_id="x", password="x"), delivered)
    connection.makeConnection(Transport())
    connection.dataReceived(data[:-1])
    connection.dataReceived(data[-1:])


def smpp_message(data):
    """Read a message of which ``data`` is the text, in each alphabet, with a header and without, also as a receipt."""
    for coding in (0, 1, 3, 6, 8, 0x11, 0xF0, 0xF5):
        for esm_class in (0, 0x40):
            message = Pdu(
                5,
                source_addr=data[:20],
                destination_addr=data[:20],
                esm_class=esm_class,
                data_coding=coding,
                short_message=data,
            )
            parse_receipt(message)
            with contextlib.suppress(InvalidValue):
                inbound_from_pdu(message)


def smpp_pdu(data):
    pdu = read_pdu(data.ljust(16, b"\0"))
    assert [pdu.command, pdu.reason]
    is_receipt(pdu)
    parse_receipt(pdu)
    inbound_from_pdu(pdu)


SMPP = (
    Decoder(
        name="SMPP connection",
        decode=smpp_connection,
        seeds=(DELIVERED, make_pdu("enquire_link", client=NUMBERS).generate()),
        separators=(b"\x00", b"\x00\x00\x00\x10" + bytes(12)),
    ),
    Decoder(
        name="SMPP deliver_sm",
        decode=smpp_pdu,
        errors=(InvalidValue,),
        seeds=(DELIVERED,),
        separators=(b"\x00", b"\x04\x24\x00\x01a"),
        largest=16_384,
    ),
    Decoder(
        name="SMPP text",
        decode=smpp_message,
        seeds=(RECEIPT, b"hello", b"\x05\x00\x03\x07\x02\x01part", "Привет".encode("utf-16-be")),
        separators=(
            b"\x1b",
            b"\x1be",
            b"\x00\x00",
            b"\xd8\x3d",
            b"id:",
            b"stat:",
            b" id:",
            b"id: ",
            b"message ",
            b"\n",
        ),
        largest=16_384,
        expressions=("smpp/receipts:_KEY", "smpp/deliver_sm:_SENDER", "core/sms/encoding:_UNPRINTABLE"),
    ),
    Decoder(
        name="id at an SMSC",
        decode=lambda data: network_ids.forms_of(network_ids.text_of_id(data)),
        seeds=(b"1A2B3C4D", b"0439041101"),
        hostile=(b"9" * 5000, "٣".encode()),
        expressions=("core/sms/network_ids:_DECIMAL", "core/sms/network_ids:_HEXADECIMAL"),
    ),
    Decoder(
        name="text to parts",
        decode=lambda data: encoding.split(encoding.printable(as_text(data)) + "x"),
        errors=(InvalidValue,),
        seeds=(b"hello", "Привет 😀".encode()),
        separators=("€".encode(), "😀".encode(), b"\x00"),
        expressions=("core/sms/encoding:_REFUSED",),
    ),
)

# -- radio networks --------------------------------------------------------------------------------------------------

NODE_MANAGER = b'{"code":200,"data":[{"name":"2001","imsi":"IMSI724000000002001","msisdn":"2001","ki":""}]}'
CTRL_REPLY = b"\x00\x2d\xee\x00GET_REPLY 1 subscriber.by-imsi-1.info imsi\t1"
CONSOLE = b"""show subscribers all\r
ID     MSISDN        IMSI              IMEI              NAM\r
-----  ------------  ----------------  ----------------  -----\r
1      2001          724000000002001    -------------    CSPS\r
2      none          724000000002002    490154203237518  CS\r
 Subscribers Shown: 2\r
OsmoHLR> """


def ctrl(data):
    decoder = osmocom_ctrl.CtrlDecoder()
    decoder.receive(data[:-1])
    decoder.receive(data[-1:])


def network_words(data):
    text = as_text(data)
    osmocom_ctrl.request(1, "GET", text, text)
    check_digits(ProvisioningEntry(text, text, text))


NETWORKS = (
    Decoder(
        name="NodeManager answer",
        decode=lambda data: openbts.read_list(openbts.decode_answer(data).data),
        errors=(NetworkUnavailable,),
        seeds=(NODE_MANAGER,),
        hostile=(
            b'{"code":200,"data":[{"imsi":"724000000002001","name":"Jos\xe9"},{"imsi":5},{},[],null]}',
            b'{"code":200,"data":[{"imsi":"a\tb","name":' + b"9" * 5000 + b"}]}",
            b'{"code":1e9999999999999999999,"data":[]}',
            *(b"[" * depth + NODE_MANAGER for depth in (50, 167, 500, 1000, 5000)),
            *(b'{"code":200,"data":' + b"[" * depth + b"]" * depth + b"}" for depth in (50, 500, 900, 1000, 5000)),
        ),
        separators=(b"{", b"[", b'"', b",", b'{"imsi":"x"},', b"\xe9"),
        expressions=("provisioning/openbts:_SPELLED",),
    ),
    Decoder(
        name="phones that a BTS has seen",
        decode=lambda data: openbts.read_seen(openbts.decode_answer(data)),
        errors=(NetworkUnavailable,),
        seeds=(b'{"code":200,"data":[{"IMSI":"724000000002001","ACCESSED":"3h"},{"IMSI":"","ACCESSED":""}]}',),
        hostile=(b'{"code":200,"data":[{"IMSI":724000000002001,"ACCESSED":"' + b"9" * 5000 + b'd"},{},[],null]}',),
        separators=(b"{", b"[", b'"', b",", b"9d", b"9h"),
        expressions=("core/provisioning/seen_phones:_AGE",),
    ),
    Decoder(
        name="OsmoHLR ages",
        decode=osmocom_ctrl.read_ages,
        errors=(),
        seeds=(b"3      none          724000000002002    -------------    CSPS   (2d4s ago)\r\n",),
        separators=(b"\r\n", b" ", b"(", b"9d", b" ago)", b"1 x 724000000002002 "),
        expressions=("provisioning/osmocom_ctrl:_SEEN",),
    ),
    Decoder(
        name="OsmoHLR CTRL",
        decode=ctrl,
        errors=(NetworkUnavailable,),
        seeds=(CTRL_REPLY, b"\x00\x0f\xee\x00ERROR 1 no such"),
        separators=(b"\x00", b"\x00\x00\xee", b"\x00\x01\xee\x01"),
    ),
    Decoder(
        name="OsmoHLR info",
        decode=lambda data: osmocom_ctrl.entry_of(as_text(data)),
        errors=(NetworkUnavailable,),
        seeds=(b"imsi\t724000000002001\nmsisdn\t2001\nnam\tcs+ps",),
        separators=(b"\n", b"\t", b"a\t\n"),
    ),
    Decoder(
        name="OsmoHLR list",
        decode=lambda data: (osmocom_ctrl.at_prompt(data), osmocom_ctrl.listed(data)),
        errors=(NetworkUnavailable,),
        seeds=(CONSOLE,),
        hostile=(b"x\nID MSISDN IMSI IMEI NAM\n Subscribers Shown: " + b"9" * 5000 + b"\n> ",),
        separators=(
            b"\r\n",
            b"-",
            b"1 ",
            b"> ",
            b"1      2001          724000000002001    ",
            b"\r\n\r\n Subscribers Shown: ",
        ),
        expressions=(
            *("provisioning/osmocom_ctrl:_PROMPT", "provisioning/osmocom_ctrl:_ROW"),
            *("provisioning/osmocom_ctrl:_TOTAL", "provisioning/osmocom_ctrl:_BEGINNING"),
        ),
    ),
    Decoder(
        name="words for a network",
        decode=network_words,
        errors=(InvalidValue, ValueError),
        seeds=(b"724000000002001", b"2001"),
        expressions=(
            *("provisioning/osmocom_ctrl:_VARIABLE", "provisioning/osmocom_ctrl:_VALUE"),
            *(
                "core/provisioning/network:_IMSI",
                "core/provisioning/network:_MSISDN",
                "core/provisioning/network:_NAME",
            ),
        ),
    ),
)

# -- HTTP ------------------------------------------------------------------------------------------------------------

REST = Rest(trusted_proxies=("192.168.1.1",), cors_origins=("https://console.example.org",))
SHAPES = {"id": search.Field(search.Shape.WHOLE), "clid": search.Field(search.Shape.DIGITS)}
SHAPES |= {"name": search.Field(search.Shape.TEXT), "date": search.Field(search.Shape.INSTANT)}


def http_request(**headers):
    made = HttpRequest(1024, DummyChannel(), False)
    made.method, made.uri, made.path = b"POST", b"/api/v1/me", b"/api/v1/me"
    made.client = SimpleNamespace(host="192.168.1.1")
    made.getClientAddress = lambda: made.client
    for name, value in headers.items():
        made.requestHeaders.addRawHeader(name.replace("_", "-").encode(), b" ".join(value.splitlines()))
    made.parseCookies()
    return made


def header(data):
    """Read a request whose every header is this."""
    names = ("x_forwarded_for", "x_forwarded_proto", "host", "cookie", "authorization", "idempotency_key")
    asked = http_request(**dict.fromkeys(names, data))
    request_context.make_request(asked, SimpleNamespace(rest=REST), {})
    request_context.read_bearer_secret(asked)


def page_origin(data):
    for name in ("origin", "referer"):
        with contextlib.suppress(Forbidden):
            origin.check_origin(http_request(**{name: data, "host": data}), REST)
    origin.allow_origin(http_request(origin=data), REST)


def cursor(data):
    text = as_text(data)
    for kind in (pagination.Place, pagination.NamedPlace, pagination.RowId):
        with contextlib.suppress(InvalidValue):
            pagination.decode_cursor(text, kind)


def subscriber(data):
    body = decoding.parse_body(data, "application/json")
    for read in (decoding.convert_fields, coercion.convert_leniently):
        with contextlib.suppress(InvalidValue):
            read(NewSubscriber, body)


def query_fields(data):
    found = decoding.parse_query(data)
    decoding.convert_fields(ListQuery, found, strict=False)


def searched(data):
    found = search.parse_search(as_text(data), SHAPES, NOW)
    for each in found.filters:
        if getattr(each, "operator", "") == "like":
            search._VARIES.search(each.value)


def shown_text(data):
    value = as_text(data)
    for escape in (text.escape_unprintable, text.escape_lines, text.escape_json):
        escape(value)
    check_line("note", value, 2**20)


class ListQuery(msgspec.Struct):
    limit: pagination.Limit = 50
    since: pagination.Since | None = None


SEARCH = b'{"filters":[{"or":[{"name":"id","op":"eq","val":1},{"name":"name","op":"like","val":"%a%"}]}],"limit":5}'
BODY = (
    b'{"username":"ana","name":"Ana","clid":"2001","imsi":"724000000002001","cpf":"1","level":1,"password":"abcdefgh"}'
)
EXPONENT = b'{"a":1e9999999999999999999}'


def payment_notice(data):
    """Check a notice whose body, time or signature somebody else wrote, and read it as if it were signed."""
    text = as_text(data)
    signatures.is_signed("a secret of the provider", text, data, text)
    signatures.is_signed("a secret of the provider", "1700000000", data, text)
    fields = decoding.convert_fields(payments.NewPayment, decoding.parse_body(data, None))
    if isinstance(fields.amount, str):
        payment_amounts.credits_of(fields.amount, 100)


PHONE_FORMATS = (
    CommandFormat(CommandKind.SELL, "777", "{pin}#{number}#{amount}"),
    CommandFormat(CommandKind.VOUCHER, "777", "card {code}"),
)


def phone_command(data):
    """Read what a phone sends to a service code: the command, its amount and its PIN."""
    said = as_text(data)
    command = parse_command(PHONE_FORMATS, "777", said)
    for value in (said, *command.fields.values()):
        pins.DIGITS.fullmatch(value)
        for money in (amounts.CREDITS, amounts.Money("BRL", 100)):
            with contextlib.suppress(InvalidValue):
                amounts.parse_amount(value, money)
    sms._DIGEST_USER.search(said)


PHONES = (
    Decoder(
        name="command of a phone",
        decode=phone_command,
        seeds=(b"1234#2001#50", b"card 212 560 253", b"1.234,50", b"BRL 5", b'Digest username="ana", realm="x"'),
        hostile=(b"9" * 5000, b"1,2.3" * 1000, "\u0663".encode() * 50, b"1" + b",000" * 400, b"-" * 5000),
        separators=(b"#", b" ", b".", b",", b"1,", b"000,", b"card ", b'username="', b"Digest ", b"'"),
        expressions=(
            *(f"core/selling/amounts:{each}" for each in ("_SHAPE", "_SIGNS", "_split", "parse_amount")),
            *(f"core/selling/amounts:_join_groups{each}" for each in ("", "#2")),
            *(f"core/text_commands/command_formats:{each}" for each in ("_CONFIRMATION", "_pattern")),
            "core/access/credentials/pins:DIGITS",
            "asterisk/scripts/sms:_DIGEST_USER",
        ),
    ),
)


HTTP = (
    Decoder(
        name="payment notice",
        decode=payment_notice,
        errors=(BrokenRequest, InvalidValue, WrongMediaType),
        seeds=(
            b'{"id": "TX-1", "to": "5591980000001", "amount": "12.50", "currency": "BRL"}',
            b'{"event": "reversal", "id": "TX-1", "note": "back", "paid_at": "2026-11-01T00:00:00Z"}',
        ),
        separators=(b'"', b",", b"0", b".", b'"amount": "1.5"'),
        expressions=(
            "core/payments/signatures:_TIME",
            "core/payments/signatures:_SIGNATURE",
            "core/payments/payment_amounts:_AMOUNT",
        ),
    ),
    Decoder(
        name="REST body",
        decode=subscriber,
        errors=(BrokenRequest, WrongMediaType, InvalidValue),
        seeds=(BODY,),
        hostile=(EXPONENT, b'{"a":-1E-9999999999999999999}', b'{"a":' + b"9" * 5000 + b"}", b'{"level":1e400}'),
        separators=(b"{", b"[", b'"', b"\\", b',"a":1', b'{"a":'),
    ),
    Decoder(
        name="REST q",
        decode=searched,
        errors=(BrokenRequest,),
        seeds=(SEARCH, b'{"filters":[{"name":"date","op":">","val":"2026-11-01T12:00:00"}]}'),
        hostile=(
            EXPONENT,
            b'{"limit":1e9999999999999999999}',
            b'{"offset":1e400}',
            b'{"filters":[{"name":[],"op":{}}]}',
        ),
        separators=(b"{", b"[", b'"', b"%", b'{"name":"id","op":"eq","val":1},'),
        expressions=("rest/legacy/search:_WHOLE", "rest/legacy/search:_VARIES"),
    ),
    Decoder(
        name="REST query",
        decode=query_fields,
        errors=(BrokenRequest, InvalidValue),
        seeds=(b"limit=10&since=2026-11-01T00:00:00Z", b"limit=%31"),
        separators=(b"&", b"=", b"%", b"%41", b"a=1&", b"+", b";"),
        expressions=("http/decoding:_WHOLE",),
    ),
    Decoder(
        name="REST cursor",
        decode=cursor,
        seeds=(b"WyIyMDI2LTExLTAxVDAwOjAwOjAwWiIsIDVd", b"NQ"),
        separators=(b"=", b"-", b"_", b"W1tb"),
    ),
    Decoder(
        name="login",
        decode=login._credentials,
        errors=(BrokenRequest, TooLarge),
        seeds=(b"username=ana&password=secret", b'{"username":"ana","password":"secret"}'),
        hostile=(EXPONENT,),
        separators=(b"&", b"=", b"%", b"{", b"a=1&", b"+"),
    ),
    Decoder(
        name="password",
        decode=lambda data: password_rules.check_password(as_text(data), ("ana", "Ana Maria", "2001")),
        errors=(InvalidValue,),
        seeds=(b"correct horse", b"01/02/1990ana", b"senha123!"),
        separators=(b"19", b"1990", b"!", b"ana", b"aa"),
        largest=1024,
        expressions=tuple(f"core/access/password_rules:{each}" for each in ("_DOUBLED", "_DATE", "_TAIL")),
    ),
    Decoder(
        name="HTTP headers",
        decode=header,
        seeds=(b"203.0.113.7, 192.0.2.1:51234", b"session=abc; other=x", b"https", b"Bearer cbt_abc", b"[::1]:80"),
        hostile=(b"[", b"http://[", b"::1]"),
        separators=(b",", b";", b"=", b"[", b":", b"/", b"@", b"; a=b", b", 1.1.1.1"),
        largest=16_384,
        expressions=("http/request_context:_HOP",),
    ),
    Decoder(
        name="origin of a page",
        decode=page_origin,
        seeds=(b"https://console.example.org", b"http://[::1]:8080/x"),
        hostile=(b"http://[", b"https://a:99999999", b"null"),
        separators=(b"/", b":", b"[", b"@", b"."),
        largest=16_384,
    ),
    Decoder(
        name="CSV",
        decode=lambda data: streaming.format_csv([[as_text(data), 1, None]]),
        seeds=(b"=1+2", b"+5591", b"a,b\n"),
        separators=(b'"', b",", b"\r\n", b"=", b"#"),
        expressions=("http/transport/streaming:_FORMULA", "http/transport/streaming:_NUMBER"),
    ),
    Decoder(
        name="text that is shown",
        decode=shown_text,
        errors=(InvalidValue,),
        seeds=(b"Ana", "a\u202eb".encode()),
        separators=(b"\x1b", b"\n", b"\n\t", "\u202e".encode(), b"\x00"),
        expressions=(
            *(f"core/model/text:{each}" for each in ("_UNPRINTABLE", "_UNPRINTABLE_IN_LINES", "_UNESCAPED_BY_JSON")),
            "core/ledger/rows:check_line",
        ),
    ),
    Decoder(
        name="actor of an audit row",
        decode=lambda data: request_keys._BY_TOKEN.fullmatch(as_text(data)),
        seeds=(b"ana (token 5)",),
        separators=(b" (token ", b" (token 1", b")"),
        expressions=("core/charging/request_keys:_BY_TOKEN",),
    ),
    Decoder(
        name="name of a schedule",
        decode=lambda data: schedule_records._NAME.fullmatch(as_text(data)),
        seeds=(b"gold",),
        expressions=("core/schedules/schedule_records:_NAME",),
    ),
)

# -- files -----------------------------------------------------------------------------------------------------------

FOLDER = tempfile.TemporaryDirectory(prefix="celcombiller-foreign-")
SETTINGS = b"""[calls]
decision_seconds = 3
[[asterisk]]
name = "pbx1"
host = "127.0.0.1"
username = "biller"
secret_file = "secret"
[database]
url = "sqlite:///ledger.sqlite"
"""


def kept(name, data):
    path = Path(FOLDER.name, name)
    path.write_bytes(data)
    return path


def settings_file(data):
    kept("secret", b"secret")
    loader.load(kept("celcombiller.toml", data), {})


def secret_file(data):
    kept("secret", data)
    loader.load(kept("celcombiller.toml", SETTINGS), {})


def environment_value(data):
    text = as_text(data)
    names = ("CALLS_DECISION_SECONDS", "REST_TRUSTED_PROXIES", "SMS_BALANCE_CODE", "CALLS_DIAL_OPTIONS", "AGI_ENDPOINT")
    for name in names:
        with contextlib.suppress(ConfigError):
            loader.load(None, {f"CELCOMBILLER_{name}": text}, Path(FOLDER.name, "empty"))


def sqlite_file(data):
    with source_database.open_original(kept("alph.db", data)) as old:
        convert_original(old, ImportTerms(ZoneInfo("America/Belem"), date(2026, 11, 1)), NOW, lambda items, *_: items)


def cell(data):
    for value in (data, as_text(data)):
        cell_values.read_text(value)
        cell_values.read_line(value, 200)
        cell_values.read_number(value)
        cell_values.read_whole_number(value)
        cell_values.read_instant(value, ZoneInfo("America/Belem"))
        convert_users._NOT_IN_USERNAMES.sub("-", cell_values.read_text(value))
        convert_users._BETWEEN_DIGITS.sub("", cell_values.read_text(value))


def original_file():
    path = Path(FOLDER.name, "seed.db")
    with sqlite3.connect(path) as connection:
        connection.execute("pragma page_size = 512")
    connection.close()
    original(
        path,
        users=[ADMIN, (3, 1, "Ana", "x", "123", "ana", "secret", "2001", "724000000002001", 30, 0)],
        voice_balance=[(1, 3, None, 30, "2016-10-01 12:00:00.000000", "web")],
        schedule=[(1, "gold", 5, 10, 1)],
        schedule_user=[(1, 3, 1, 2)],
    )
    return path.read_bytes()


ORIGINAL = original_file()

FILES = (
    Decoder(
        name="settings",
        decode=settings_file,
        errors=(ConfigError,),
        seeds=(SETTINGS,),
        hostile=(b"a = 1e400", b"a = " + b"9" * 5000, b"[database]\nurl = 1"),
        separators=(b"[", b'"', b"'", b"\\", b".", b"=", b"\n", b"#", b"{", b"a = 1\n"),
        largest=16_384,
        expressions=("config/error_messages:raise_config_error", "config/error_messages:raise_config_error#2"),
    ),
    Decoder(
        name="secret in a file",
        decode=secret_file,
        errors=(ConfigError,),
        seeds=(b"secret\n",),
        expressions=("config/loader:_read_secret",),
    ),
    Decoder(
        name="environment",
        decode=environment_value,
        seeds=(b"3", b"127.0.0.1", b"tcp:4573", b"L(3600000)g"),
        separators=(b",", b":", b"(", b")", b"a()"),
        largest=16_384,
        expressions=("config/loader:_from_text", "config/checks:_DIAL_OPTIONS"),
    ),
    Decoder(
        name="certificates",
        decode=tls_trust.certificates,
        errors=(ValueError,),
        seeds=(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",),
        separators=(b"-", b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"),
        expressions=("runtime/tls_trust:_PEM",),
    ),
    Decoder(
        name="original's file",
        decode=sqlite_file,
        errors=(InvalidValue,),
        seeds=(ORIGINAL,),
        hostile=(
            *(b"SQLite format 3\x00" + b"garbage" * 100, b"", b"\x00" * 5000),
            re.sub(b"create table", b"create txble", ORIGINAL.replace(b"users", b"us\xe4rs"), flags=re.IGNORECASE),
        ),
        largest=4096,
    ),
    Decoder(
        name="cell of an original",
        decode=cell,
        seeds=(b"2016-10-01 12:00:00", b"(91) 98000-0001", b"30.5"),
        hostile=(b"1e9999999999999999999", b"9" * 5000),
        separators=(b"(", b" ", b"\x00", b"-", b".", b"T"),
        expressions=(
            *("legacy_import/cell_values:_CONTROL", "legacy_import/convert_users:_NOT_IN_USERNAMES"),
            "legacy_import/convert_users:_BETWEEN_DIGITS",
        ),
    ),
)

TARIFF_FILES = (
    b"prefix;name;price;increment;window\n5511-5519, 5521;S\xe3o Paulo;1.234,50;30/6;mon-fri 08:00-18:00\n55;x;0,1;1;\n",
    b'dialprefix,"destination",rateinitial,startdate,endtime\n="5511",\'x,$ 0.70,2026-01-02 03:00:00,479\n',
    b"#Id,Prefix\nD,+49151\n#Id,ConnectFee,Rate,RateUnit,RateIncrement,GroupIntervalStart\nR,0,0.1,1m30s,60s,0s\n"
    b"#Id,DestinationId,RatesTag,RoundingMethod,RoundingDecimals,MaxCost,MaxCostStrategy\nL,D,R,*up,4,0,\n"
    b"#Tag,Years,Months,MonthDays,WeekDays,Time\nT,*any,*any,*any,1;2,08:00:00\n"
    b"#Id,DestinationRatesId,TimingTag,Weight\nP,L,T,10\n",
)


def tariff_file(data):
    terms = FileTerms(time_zone=ZoneInfo("America/Belem"), credits_per_unit=100)
    for preset in ("", *PRESETS):
        rates = read_tariff_file([data[:-1], data[-1:]], preset, terms, Findings())
        assert not rates.rows or "".join(write_tariff_file(rates.rows))
    read_plan([("", [data])], terms, Findings())


def tariff_cell(data):
    text = as_text(data)
    reads = (file_cells.read_prefixes, lambda cell: file_cells.AmountReader().read(cell, 1), file_cells.read_name)
    for read in (*reads, file_cells.read_whole_number, lambda cell: file_cells.read_time(cell, ZoneInfo("UTC"))):
        with contextlib.suppress(file_cells.CellError):
            read(text)


PRICE_LISTS = (
    Decoder(
        name="price list",
        decode=tariff_file,
        seeds=TARIFF_FILES,
        hostile=(b'"' * 70_000, b"prefix,price\n" + b"5" * 5000 + b"," + b"9" * 5000, b"prefix,price\n0-99999999999,1"),
        separators=(
            *(b"\n", b"\r", b",", b";", b'"', b'"\n', b"prefix,price\n", b"55,1\n", b"#", b"prefix,", b"5 ", b"x,y\n"),
            *(b"#Id,Prefix\n", b"D,1\n"),
        ),
        expressions=(
            *("core/tariffs/files/tariff_file:_BRACKETS", "core/tariffs/files/tariff_file:_LOOKS_LIKE_FORMULA"),
            *("core/tariffs/files/cgrates_plan:_DURATION", "core/tariffs/files/cgrates_plan:_CLOCK"),
            "core/rating/windows:_WINDOW",
        ),
    ),
    Decoder(
        name="cell of a price list",
        decode=tariff_cell,
        seeds=(b"5511-5519, 5521", b"1.234,50", b"R$ 0,70", b"2026-12-01T18:00:00Z", b'="5511"', b"5.51E+12", b"'=x"),
        hostile=(b"1" * 5000, b"0-" + b"9" * 20, "²".encode()),
        separators=(b"-", b" ", b",", b".", b"'", b"5-6 ", b"1.000", b"1 000", b"=", b"\xa0", b"+", b"5e"),
        expressions=tuple(
            f"core/tariffs/files/cells:{each}"
            for each in (
                *("_EXPONENT", "_BETWEEN_PREFIXES", "_RANGE", "_AROUND_DASH", "_WITHOUT_FRACTION", "_THOUSANDS"),
                *("_GROUPED", "_SPACE_IN_NUMBER", "_CURRENCY", "_UNPRINTABLE", "_FORMULA", "_DATE", "_PREFIX"),
                "_SHORT_CODE",
            )
        ),
    ),
)

PLANS = (
    NumberingPlan("55", international="00", trunk="0", area_code="11", local_digits_max=9),
    *filter(None, map(find_plan, ("BR", "MX", "US"))),
)
TRUNK = Trunk(1, "north", "PJSIP/{number}@north", "+", "00", "{number}", None, None, enabled=True)


def dialled_number(data):
    word = number_forms.plain_number(as_text(data))
    for plan in PLANS:
        number = normalise(plan, word)
        assert normalise(plan, number) == number
        way = make_trunk_dial(TRUNK, number, word)
        assert way is None or not set(way.dial) & set("&,| ")


NUMBERS = (
    Decoder(
        name="dialled number",
        decode=dialled_number,
        seeds=(b"011987654321", b"+5511987654321", b"0055", b"tel:+55-11;ext=1", b"*100#", b"IMSI724000000000001"),
        hostile=(b"0" * 5000, b"55" * 5000, b"5,60&PJSIP/x", "٣".encode() * 12),
        separators=(b"0", b"00", b"+", b"55", b"*", b"#", b"-", b"(", b",", b"&"),
        expressions=(
            *("core/rating/numbering:_DIGITS", "core/rating/numbering:_match", "core/rating/numbering:_expand"),
            *(f"core/rating/numbering:_expand#{number}" for number in (2, 3, 4)),
            *("core/routing/trunk_dial:DIALLED", "core/routing/trunk_dial:_NUMBER_PART"),
        ),
    ),
)

MASTER_CSV = (
    b'"","1001","1002","caller","""Ana"" <1001>","PJSIP/1001-0","PJSIP/1002-1","Dial","x, 30","2026-11-01 12:00:00",'
    b'"2026-11-01 12:00:05","2026-11-01 12:01:05",65,60,"ANSWERED","DOCUMENTATION","1793534400.0",""\n'
)
CDR_HEADER = b"calldate,src,dst,channel,dstchannel,lastapp,duration,billsec,disposition,uniqueid\n"


def cdr_file(data):
    """Read it whole, go on behind its end, and look for a channel in it."""
    for name, content in (("Master.csv", data), ("headed.csv", CDR_HEADER + data), ("more.csv", MASTER_CSV + data)):
        source = CsvFile(kept(name, content), ZoneInfo("America/New_York"))
        with contextlib.suppress(InvalidValue), Staging() as staging:
            for each in source.read({}, NOW).rows:
                if each.row is not None:
                    staging.add(each.row)
            assert list(staging.channels(100)) is not None
            list(source.read(source.find_end(), NOW, is_written=True).rows)
            source.find("1793534400.0", NOW)


def cdr_database(data):
    source = SqliteFile(kept("master.db", data), "cdr", ZoneInfo("UTC"))
    list(source.read({}, NOW).rows)
    source.find("1793534400.0", NOW)


def cdr_values(data):
    names = ("uniqueid", "src", "dst", "channel", "start", "answer", "end", "duration", "billsec", "disposition")
    columns = CdrColumns(names, ZoneInfo("America/New_York"), NOW)
    good = ("1793534400.0", "1001", "1002", "x", "2026-11-01 08:00:00", None, None, 65, 60, "ANSWERED")
    for place in range(len(names)):
        for value in (data, as_text(data), len(data), 1e308):
            with contextlib.suppress(InvalidValue):
                columns.read(1, (*good[:place], value, *good[place + 1 :]))


def cdr_sqlite():
    path = Path(FOLDER.name, "cdr.db")
    with sqlite3.connect(path) as connection:
        connection.execute("pragma page_size = 512")
        columns = "calldate, src, dst, channel, duration, billsec, disposition, uniqueid"
        connection.execute(f"create table cdr (AcctId integer primary key, {columns})")
        row = ("2026-11-01 12:00:00", "1001", "1002", "x", "65", "60", "ANSWERED", "1793534400.0")
        connection.execute(f"insert into cdr ({columns}) values (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.close()
    return path.read_bytes()


CDRS = (
    Decoder(
        name="file of CDRs",
        decode=cdr_file,
        seeds=(MASTER_CSV, CDR_HEADER, MASTER_CSV * 3),
        hostile=(b'"' * 70_000, b'"\n' * 1000, MASTER_CSV[:-1] + b"," * 5000, b"\x00" * 5000, b"\xff\xfe\n"),
        separators=(b"\n", b"\r", b",", b'"', b'"\n', b'"",', b'"a"b', b"-", b".0", MASTER_CSV[:60]),
    ),
    Decoder(
        name="database of CDRs",
        decode=cdr_database,
        errors=(InvalidValue,),
        seeds=(cdr_sqlite(),),
        hostile=(b"SQLite format 3\x00" + b"garbage" * 100, b""),
        largest=4096,
    ),
    Decoder(
        name="values of a CDR",
        decode=cdr_values,
        seeds=(b"1793534400.0", b"2026-11-01 12:00:05", b"60", b"ANSWERED", b"pbx1-1793534400.0"),
        hostile=(b"9" * 5000, b"99999999999.0", "\u0663".encode() * 10, b"0001-01-01", b"9999-12-31 23:59:59", b"nan"),
        separators=(b"-", b".", b":", b"1-", b"1.", b"\x00"),
        expressions=tuple(f"cdr/columns:{each}" for each in ("_UNIQUEID", "_SECONDS", "_EPOCH")),
    ),
)

DECODERS = (*ASTERISK, *RADIUS, *SMPP, *NETWORKS, *HTTP, *FILES, *PRICE_LISTS, *NUMBERS, *CDRS, *PHONES)

_OF_ADMINISTRATORS = "what administrators write; a body of the API has its form and its length checked before"

OWN_TEXT = {
    "core/access/credentials/second_factor:_SECRET": "a full match of one class of characters, 32 of them",
    "core/access/credentials/second_factor:_DIGITS": "a full match of six digits: linear in the text",
    "console/login:_OWN_ADDRESS": "a full match of one class of characters: linear in the text",
    "console/password:_WHERE": "a full match of one class of characters: linear in the text",
    "core/bundles/terms:_DESTINATION": _OF_ADMINISTRATORS,
    "core/rating/prefix_index:_OTHER": _OF_ADMINISTRATORS,
    "core/routing/trunk_dial:_CALLER_ID": _OF_ADMINISTRATORS,
    "core/routing/trunk_records:_NAME": _OF_ADMINISTRATORS,
    "core/selling/sellers:_CLASS": _OF_ADMINISTRATORS,
    "core/subscribers/fields:_PREFIX": _OF_ADMINISTRATORS,
    "core/subscribers/group_records:_NAME": _OF_ADMINISTRATORS,
    "core/tariffs/rate_checks:_NAME": _OF_ADMINISTRATORS,
    "core/tariffs/rate_checks:_PREFIX": _OF_ADMINISTRATORS,
    "core/tariffs/tariff_records:_CURRENCY": _OF_ADMINISTRATORS,
    "core/tariffs/tariff_records:_NAME": _OF_ADMINISTRATORS,
    "core/tariffs/versions:_NOTE": _OF_ADMINISTRATORS,
    "cli/charging/bundles:_parse_hours": "an argument of the operator's own command",
    "cli/charging/bundles:_parse_words": "an argument of the operator's own command",
    "cli/charging/tariffs:_INCREMENTS": "an argument of the operator's own command",
    "asterisk/agi/simulator:_WORD": "the command `call`, which plays Asterisk, reads what the biller sends",
    "asterisk/agi/simulator:answer": "the same",
    "asterisk/agi/simulator:answer#2": "the same",
    "asterisk/agi/simulator:_expand": "the same",
    "asterisk/agi/simulator:_dial": "the same",
    "asterisk/server_identity:_NO_NAME": "one character at a time, of a text that is in an environment",
    "cli/operations/backup:_OWN_NAME": "the names of files in the operator's own folder",
    "cli/operations/doctor:_INTERFACE": "the operator's own settings",
    "cli/operations/doctor:_TCP": "the operator's own settings",
    "core/text_commands/command_formats:_PLACEHOLDER": "the operator's own settings",
    "config/exposed_secrets:_PRIVATE_KEY": "the operator's own settings",
    "config/loader:_ENDPOINT_PATH": "the operator's own settings",
    "cli/operations/import_legacy:_SOURCE": "an argument of the operator's own command",
    "cli/parser:_INVALID_CHOICE": "a sentence of argparse",
    "http/openapi:_PARAMETER": "the paths of our routes",
    "http/openapi:_NOT_SO": "the patterns of our fields",
    "http/openapi:_END": "the patterns of our fields",
    "http/openapi:_CHARACTER": "the patterns of our fields",
    "runtime/database_url:_SECRET": "the names in the operator's own URL",
    "http/route:open_path": "the paths of our routes",
}
"""Regular expressions that never meet what others send, and why."""


def rows(flag):
    """Return the table; what is not mended yet must fail, so that its mark is taken off when it is mended."""
    broken = [pytest.mark.xfail(strict=True, reason="not mended yet")]
    return [pytest.param(each, id=each.name, marks=broken if getattr(each, flag) else []) for each in DECODERS]


@pytest.mark.parametrize("decoder", rows("fails"))
def test_seeds_and_known_hostile_input_are_survived(decoder):
    for seed in decoder.seeds:
        decoder.attempt(seed)
    for each in decoder.hostile:
        decoder.attempt(each)


@pytest.mark.parametrize("decoder", [each for each in DECODERS if not each.fails], ids=str)
@share(0.6)
@given(data=st.data())
def test_only_its_own_errors_leave_a_decoder(decoder, data):
    decoder.attempt(data.draw(hostile_inputs(decoder.seeds)))


@pytest.mark.slow
@pytest.mark.hypothesis  # so that it is tried with more by night
@pytest.mark.parametrize("decoder", rows("is_slow"))
def test_time_grows_no_faster_than_input(decoder):
    """Try long runs of everything that separates; about 6 s for all decoders."""
    assert find_growth(decoder) is None, "this kind of input, at this size, takes too long"


@pytest.mark.slow
@pytest.mark.hypothesis
def test_time_of_each_field_pattern_grows_no_faster():
    for name, pattern in list_field_patterns().items():
        assert find_growth(pattern_decoder(name, pattern)) is None, name


def test_the_clock_finds_what_is_too_slow():
    quadratic = Decoder(
        name="quadratic", decode=lambda data: [sum(data[each:]) for each in range(len(data))], seeds=(b"x",)
    )
    twice = re.compile(rb"(a|a)*b")
    exponential = Decoder(name="exponential", decode=twice.fullmatch, seeds=(b"x",))
    assert find_growth(quadratic) is not None
    assert find_growth(exponential) is not None


@pytest.mark.slow
def test_each_regular_expression_is_in_the_table():
    listed = {name for each in DECODERS for name in each.expressions} | OWN_TEXT.keys()
    new = list_expressions().keys() - listed
    assert not new, (
        f"new regular expressions: {sorted(new)}. Name each in `expressions` of the row of DECODERS in "
        f"tests/test_foreign_input.py that tries it with hostile input, or in OWN_TEXT with why it meets none."
    )
    gone = listed - list_expressions().keys()
    assert not gone, f"these regular expressions are gone: take them off the table of {__name__}: {sorted(gone)}"
    assert not list_other_imports(), "write `import re` and `re.compile(...)`, which this test can find"
