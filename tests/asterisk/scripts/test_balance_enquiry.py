"""The script ``sms`` and a message to the short code: answered, refused when the ledger is away, and once for each."""

import base64
import re

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed

from celcombiller.asterisk.scripts import Scripts
from celcombiller.asterisk.scripts.sms import SmsScript
from celcombiller.config.tables import Asterisk, Balance, Calls, Config, Sms
from celcombiller.core.errors import StoreUnavailable
from celcombiller.core.schema import tables
from celcombiller.database.reader import Reader
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import ask, credit, database, proved
from tests.support.script_biller import StoreHere

PBX = Asterisk(name="pbx1", host="127.0.0.1", username="u", secret="s")


class MessageChannel:
    """Asterisk's channel of messages, with one message on it."""

    hungup = False

    def __init__(self, number, to="100", call_id="1@phone"):
        self.values = {
            "${MESSAGE(from)}": f"<sip:{number}@127.0.0.1>",
            "${MESSAGE(body)}": "balance?",
            "${MESSAGE_DATA(Call-ID)}|${MESSAGE_DATA(CSeq)}": f"{call_id}|1 MESSAGE" if call_id else "|",
        }
        self.variables = {"agi_extension": to, "agi_uniqueid": "1.0"}
        self.result = None

    def sendCommand(self, text):
        setting = re.fullmatch(r"SET VARIABLE CELCOMBILLER_RESULT (\w+)", text)
        if setting is not None:
            self.result = setting[1]
            return succeed("1")
        nonce = re.search(r"[0-9a-f]{16}", text)[0]
        questions = re.findall(r"\$\{BASE64_ENCODE\(((?:[^()]|\([^()]*\))*)\)\}", text)
        answers = [base64.b64encode(self.values[each].encode()).decode() for each in questions]
        return succeed(f"1 ({'|'.join((nonce, *answers))})")


class House(StoreHere):
    """The ledger in this thread, and the script; `away` is what it says in place of a transaction."""

    def __init__(self, path):
        engine = database(path)
        sms = Sms(on_net_route="asterisk", balance_code="100")
        calls = Calls(decision_seconds=1)
        super().__init__(engine, Config(sms=sms, asterisk=(PBX,), calls=calls, balance=Balance(text="{credits}")))
        self.away = None
        ask(engine, credit(60))
        scripts = Scripts(reactor, self.config, self, Reader(reactor, engine), {}, Metrics())
        self.scripts = scripts
        self.texts = SmsScript(self.config, self, scripts.updates, Metrics())

    def transact(self, work):
        if self.away is not None:
            return self.away
        with self.engine.begin() as tx:
            return succeed(work(tx))

    async def hear(self, number="1001", **facts):
        channel = MessageChannel(number, **facts)
        await self.texts(channel)
        return channel.result

    def answers(self):
        with self.engine.connect() as tx:
            rows = tx.execute(
                sa.select(tables.message.c.to_number, tables.message.c.text).order_by(tables.message.c.id)
            )
            return [tuple(row) for row in rows]


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "db.sqlite")
    yield made
    proved(made.engine)
    pytest_twisted.blockon(Deferred.fromCoroutine(made.scripts.updates.drain()))
    made.engine.dispose()


@pytest_twisted.ensureDeferred
async def test_a_message_to_the_code_is_answered(house):
    assert await house.hear() == "GRANTED"
    assert house.answers() == [("1001", "60")]


@pytest_twisted.ensureDeferred
async def test_two_billers_answer_an_enquiry_once(house):
    for _ in range(2):
        assert await house.hear() == "GRANTED"
    assert len(house.answers()) == 1


@pytest_twisted.ensureDeferred
async def test_indistinguishable_enquiries_are_each_answered(house):
    for _ in range(2):
        assert await house.hear(call_id="") == "GRANTED"
    assert len(house.answers()) == 2


@pytest_twisted.ensureDeferred
async def test_a_stranger_is_refused(house):
    assert await house.hear("1009") == "UNKNOWN"
    assert house.answers() == []


@pytest_twisted.ensureDeferred
async def test_a_ledger_that_is_away_is_said(house):
    house.away = fail(StoreUnavailable("away"))
    assert await house.hear() == "UNAVAILABLE"
    assert house.answers() == []


@pytest_twisted.ensureDeferred
async def test_a_hung_ledger_delays_no_other_message(house):
    house.away = late = Deferred()
    assert await house.hear() == "FAILED"
    late.errback(StoreUnavailable("at last"))
