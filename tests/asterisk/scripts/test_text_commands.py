"""Commands in phones' messages: who may give them, by what the message and the dialplan say, and what a log keeps."""

import base64
import re

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from celcombiller.asterisk.pending_updates import PendingUpdates
from celcombiller.asterisk.scripts import sms
from celcombiller.asterisk.scripts.sms import SmsScript
from celcombiller.config.tables import Asterisk, Config, Sms, TextCommands
from celcombiller.core.audit.report import audit
from celcombiller.core.text_commands.conversation import Conversation
from celcombiller.database.transaction import transact
from celcombiller.runtime.metrics import Metrics
from tests.support import databases
from tests.support.selling.phones import PIN, PlainHashes, set_pin
from tests.support.selling.sellers import add_seller, stock_of

CONFIG = Config(
    sms=Sms(on_net_route="asterisk"),
    asterisk=(Asterisk(name="pbx1", host="h", username="x", secret="x"),),
    text_commands=TextCommands(sell_code="777"),
)
DIGEST = 'Digest username="1001", realm="asterisk", nonce="n", uri="sip:h", response="r", algorithm=MD5'
OTHERS = DIGEST.replace("1001", "1002")
BY_PASSWORD = {"argument": "authenticated", "authorization": DIGEST}


class Session:
    """Asterisk's side of one session of the script."""

    def __init__(self, text, sender="<sip:1001@h>", argument=None, call_id="c1", sequence="1 MESSAGE", **headers):
        self.variables = {"agi_extension": "777", "agi_uniqueid": "1.0"}
        if argument is not None:
            self.variables["agi_arg_1"] = argument
        self.values = {"MESSAGE(from)": sender, "MESSAGE(body)": text, "MESSAGE_DATA(Call-ID)": call_id}
        self.values["MESSAGE_DATA(CSeq)"] = sequence
        self.values |= {f"MESSAGE_DATA({name.title()})": value for name, value in headers.items()}
        self.result = []

    def sendCommand(self, command):
        if command.startswith("SET VARIABLE"):
            self.result.append(command.split()[-1])
            return succeed("1")
        nonce, *asked = re.fullmatch(r'GET FULL VARIABLE "?([^"]*)"?', command)[1].split("|")
        names = [re.fullmatch(r"\$\{BASE64_ENCODE\(\$\{(.*)\}\)\}", each)[1] for each in asked]
        said = [base64.b64encode(self.values.get(name, "").encode()).decode() for name in names]
        return succeed(f"1 ({'|'.join([nonce, *said])})")


class House:
    def __init__(self, path, said):
        self.engine = databases.sqlite(path, databases.three_subscribers)
        with self.engine.begin() as tx:
            add_seller(tx, stock=1000)
            set_pin(tx)
        self.metrics, self.said = Metrics(), said
        commands = Conversation(CONFIG.command_rules, self.transact, PlainHashes())
        self.updates = PendingUpdates(reactor)
        self.texts = SmsScript(CONFIG, self, self.updates, self.metrics, commands)

    def transact(self, work):
        return succeed(transact(self.engine, work))

    def charge(self, request):
        raise AssertionError("a command is no message to anybody")

    async def text(self, *words, **facts):
        session = Session(*words, **facts)
        await self.texts(session)
        return session.result[-1]

    def sold(self):
        with self.engine.begin() as tx:
            return 1000 - stock_of(tx)


class Said:
    def __init__(self, lines):
        self.lines = lines

    def info(self, text, **fields):
        self.lines.append(text.format(**fields))


@pytest.fixture
def house(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(sms, "_LOG", Said(said))
    made = House(tmp_path / "texts.sqlite", said)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.updates.drain()))
    with made.engine.begin() as tx:
        assert audit(tx).ok
    made.engine.dispose()
    assert not any(PIN in line for line in said)


SALE = f"{PIN}#1002#50"


@pytest.mark.parametrize(
    ("facts", "result"),
    [
        ({}, "UNTRUSTED_SENDER"),
        ({"authorization": DIGEST}, "UNTRUSTED_SENDER"),
        ({"argument": "authenticated"}, "UNTRUSTED_SENDER"),
        ({"argument": "authenticated", "authorization": OTHERS}, "UNTRUSTED_SENDER"),
        ({"argument": "authenticated", "authorization": 'Basic username="1001"'}, "UNTRUSTED_SENDER"),
        ({"argument": "authenticated", "authorization": "Digest"}, "UNTRUSTED_SENDER"),
        ({"argument": "payer=1003", "authorization": DIGEST}, "WRONG_PIN"),
        ({"argument": "payer=4711"}, "UNKNOWN"),
        ({"sender": "garbage", **BY_PASSWORD}, "UNKNOWN"),
        ({"sender": "<sip:1002@h>", **BY_PASSWORD}, "UNTRUSTED_SENDER"),
        (BY_PASSWORD, "GRANTED"),
        ({"argument": "payer=1001"}, "GRANTED"),
        ({"argument": "payer=u1001", "sender": "<sip:anybody@h>"}, "GRANTED"),
        ({"sender": '"A" <sip:1001;user=phone@h>', **BY_PASSWORD}, "GRANTED"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_a_password_names_a_sender(house, facts, result):
    assert await house.text(SALE, **facts) == result
    assert house.sold() == (50 if result == "GRANTED" else 0)


@pytest_twisted.ensureDeferred
async def test_the_same_message_is_done_once(house):
    for _ in range(3):
        assert await house.text(SALE, **BY_PASSWORD) == "GRANTED"
    assert house.sold() == 50
    assert house.said == ["Command sell of …1001: done"] * 3
    assert await house.text(SALE, sequence="2 MESSAGE", **BY_PASSWORD) == "GRANTED"  # asked about
    assert house.sold() == 50
    counted = {
        tuple(each.labels.values()): each.value
        for family in house.metrics.messages._commands.collect()
        for each in family.samples
        if each.name.endswith("_total")
    }
    assert counted == {
        ("asterisk", "sell", "done"): 1,
        ("asterisk", "sell", "repeated"): 2,
        ("asterisk", "sell", "asked"): 1,
    }


@pytest.mark.parametrize(
    ("date", "result"),
    [
        ("Sat, 13 Nov 2010 23:29:00 GMT", "TOO_LATE"),
        ("Sat, 13 Nov 2010 23:29:00 -0300", "TOO_LATE"),
        ("Mon, 13 Nov 2090 23:29:00 GMT", "GRANTED"),
        ("yesterday", "GRANTED"),
        ("Sat, 99 Nov 2010 23:29:00 GMT", "GRANTED"),
        ("", "GRANTED"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_date_of_long_ago_is_refused(house, date, result):
    assert await house.text(SALE, date=date, **BY_PASSWORD) == result


@pytest_twisted.ensureDeferred
async def test_messages_without_ids_are_asked_about(house):
    for _ in range(2):
        assert await house.text(SALE, call_id="", sequence="", **BY_PASSWORD) == "GRANTED"
    assert house.sold() == 50
