"""The script ``sms`` and what carries messages over AMI: late decisions, a ledger that is away, and what a phone wrote."""

import base64
import re
from dataclasses import replace

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import deferLater

from celcombiller.asterisk.ami.message_sender import PIECE_BYTES_MAX, AmiCarrier, address_of, pieces
from celcombiller.asterisk.pending_updates import PendingUpdates
from celcombiller.asterisk.scripts.sms import SmsScript
from celcombiller.config.tables import Asterisk, Calls, Config, Sms
from celcombiller.core.charging import messages
from celcombiller.core.errors import BillerError, StoreUnavailable
from celcombiller.core.sms import message_queries
from celcombiller.core.sms.carrier import CarrierUnavailable, MessageDeferred
from celcombiller.core.sms.charging import MessageOutcome, MessageSubmission
from celcombiller.core.sms.outbox_queue import OutboxMessage
from celcombiller.database.transaction import transact
from celcombiller.runtime.metrics import Metrics
from tests.core.ledger.test_book import NOW, credit, database, proved, voice
from tests.core.sms.test_message_properties import ROUTES, do

CONFIG = Config(
    sms=Sms(on_net_route="asterisk", on_net_price=3, off_net_to="pjsip:trunk/sip:{number}@h"),
    asterisk=(Asterisk(name="pbx1", host="h", username="x", secret="x"),),
    calls=Calls(decision_seconds=1),
)


class Session:
    """Asterisk's side of one session of the script."""

    def __init__(self, sender="<sip:1001@h>", body=b"hello", to="1002", argument=None, status="SUCCESS"):
        self.variables = {"agi_extension": to, "agi_uniqueid": "1.0"}
        if argument is not None:
            self.variables["agi_arg_1"] = argument
        said = {"MESSAGE(from)": sender.encode(), "MESSAGE(body)": body}
        self._values = {
            f"${{BASE64_ENCODE(${{{name}}})}}": base64.b64encode(data).decode() for name, data in said.items()
        }
        self._values["${MESSAGE_SEND_STATUS}"] = status
        self.sent, self.result = [], []

    def sendCommand(self, command):
        if command.startswith("SET VARIABLE"):
            self.result.append(command.split()[-1])
            return succeed("1")
        nonce, *asked = re.fullmatch(r'GET FULL VARIABLE "?([^"]*)"?', command)[1].split("|")
        return succeed(f"1 ({'|'.join([nonce, *(self._values[each] for each in asked)])})")

    def execute(self, application, arguments):
        self.sent.append((application, arguments))
        return succeed("0")


class Hurried(PendingUpdates):
    """Waits a twentieth of the time."""

    async def with_timeout(self, work, seconds):
        return await super().with_timeout(work, seconds / 20)


class House:
    def __init__(self, path):
        self.engine = database(path)
        do(self.engine, credit(100))
        self.trouble = {}
        self.updates = Hurried(reactor)
        self.texts = SmsScript(CONFIG, self, self.updates, Metrics())

    def transact(self, work):
        return maybeDeferred(transact, self.engine, work)

    def charge(self, request):
        trouble = self.trouble.get(type(request), [])
        if trouble:
            first = trouble.pop(0)
            if isinstance(first, Deferred):
                return first.addCallback(lambda _: self.now(request))
            return fail(first)
        return self.now(request)

    def now(self, request):
        (answer,) = do(self.engine, request)
        return fail(answer) if isinstance(answer, BillerError) else succeed(answer)

    def states(self):
        with self.engine.begin() as tx:
            return [
                (each.message.state.value, each.username, each.message.note)
                for each in message_queries.list_messages(tx, limit=9)
            ]

    def account(self):
        now = voice(self.engine)
        return now.posted, now.held


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "texts.sqlite")
    yield made
    proved(made.engine)
    pytest_twisted.blockon(Deferred.fromCoroutine(made.updates.drain()))
    made.engine.dispose()


@pytest_twisted.ensureDeferred
async def test_a_message_goes_and_is_charged(house):
    session = Session()
    await house.texts(session)
    assert (session.sent, session.result) == ([("MESSAGESEND", "pjsip:1002,1001")], ["GRANTED"])
    assert house.states() == [("accepted", "u1001", "")]
    assert house.account() == (97, 0)


@pytest_twisted.ensureDeferred
async def test_a_message_for_another_route_is_queued(house):
    session = Session(to="5599")
    await house.texts(session)
    assert (session.sent, session.result) == ([], ["GRANTED"])
    assert house.states() == [("queued", "u1001", "")]
    assert house.account() == (100, 5)


@pytest_twisted.ensureDeferred
async def test_one_that_asterisk_cannot_send_is_not(house):
    session = Session(status="FAILURE")
    await house.texts(session)
    assert session.result == ["GRANTED", "FAILED"]
    assert house.states() == [("refused", "u1001", "MessageSend: FAILURE")]
    assert house.account() == (100, 0)


@pytest.mark.parametrize(
    ("facts", "result"),
    [
        ({"argument": "payer=u1002"}, "NO_CREDIT"),
        ({"argument": "payer=1001", "sender": "<sip:evil@h>"}, "GRANTED"),
        ({"argument": "payer=nobody"}, "UNKNOWN"),
        ({"sender": '"Ana <sip:9@x>" <sip:1001@h>'}, "UNKNOWN"),
        ({"sender": '"Ana" <sip:1001@h>'}, "GRANTED"),
        ({"sender": "<sip:72400000001001@h>"}, "UNKNOWN"),
        ({"sender": "<sip:IMSI724000000001001@h>"}, "GRANTED"),
        ({"sender": "<sip:1001\nagi_x@h>"}, "UNKNOWN"),
        ({"sender": "<sip:1001@h> <sip:1002@h>"}, "UNKNOWN"),
        ({"sender": ""}, "UNKNOWN"),
        ({"to": "1002,1003"}, "BAD_NUMBER"),
        ({"body": b""}, "INVALID"),
        ({"body": b"\xff\xfe"}, "INVALID"),
        ({"body": b"a\0b"}, "INVALID"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_payer_is_stated_or_the_sender(house, facts, result):
    session = Session(**facts)
    await house.texts(session)
    assert session.result[-1] == result
    assert len(session.sent) == (result == "GRANTED")
    assert house.account() == (97 if result == "GRANTED" else 100, 0)


@pytest_twisted.ensureDeferred
async def test_a_late_decision_is_given_back(house):
    late = Deferred()
    house.trouble[MessageSubmission] = [late]
    session = Session()
    await house.texts(session)
    assert (session.sent, session.result) == ([], ["FAILED"])
    late.callback(None)
    assert house.states() == [("refused", "u1001", "decided too late to be sent")]
    assert house.account() == (100, 0)


@pytest_twisted.ensureDeferred
async def test_a_ledger_outage_refuses_or_is_retried(house):
    house.trouble[MessageSubmission] = [StoreUnavailable("away")]
    session = Session()
    await house.texts(session)
    assert (session.sent, session.result) == ([], ["UNAVAILABLE"])
    house.trouble[MessageOutcome] = [StoreUnavailable("away")]
    await house.texts(Session())
    assert house.account() == (100, 3)
    while house.updates:
        await deferLater(reactor, 0.02)
    assert house.states() == [("accepted", "u1001", "")]
    assert house.account() == (97, 0)


# -- over AMI ----------------------------------------------------------------------------------------------------------


class Link:
    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    @property
    def ami(self):
        return self if self.answers else None

    def sendDeferred(self, request):
        self.asked.append(dict(request))
        return succeed(self.answers.pop(0))


def due_of(engine, text="hello", taken=()):
    with engine.begin() as tx:
        posting = messages.submit(tx, ROUTES, reference="n", to_number="1002", text=text, now=NOW)
    return OutboxMessage(1, posting.message, posting.callee, frozenset(taken), NOW)


async def carry(carrier, due):
    taken = []

    def took(part, network_id):
        taken.append((part, network_id))
        return succeed(None)

    await carrier.carry(due, took)
    return taken


@pytest_twisted.ensureDeferred
async def test_any_text_is_one_action(house):
    link = Link({"response": "Success"})
    text = 'two\r\nlines "and" Action: Originate\r\n'
    assert await carry(AmiCarrier(CONFIG, {"pbx1": link}), due_of(house.engine, text)) == []
    (asked,) = link.asked
    assert (asked["Action"], asked["To"], asked["From"]) == ("MessageSend", "pjsip:1002", "Rede")
    assert base64.b64decode(asked["Base64Body"]).decode() == text


@pytest_twisted.ensureDeferred
async def test_a_recorded_part_is_not_sent_again(house):
    due = due_of(house.engine)
    long = replace(due, message=replace(due.message, text="x" * 1600), taken=frozenset({1}))
    link = Link({"response": "Success"}, {"response": "Success"})
    assert await carry(AmiCarrier(CONFIG, {"pbx1": link}), long) == [(2, ""), (3, "")]


@pytest.mark.parametrize(
    ("answers", "error"),
    [([], CarrierUnavailable), ([{"response": "Error", "message": "Message failed to send."}], MessageDeferred)],
)
@pytest_twisted.ensureDeferred
async def test_what_asterisk_does_not_take_is_tried_again(house, answers, error):
    with pytest.raises(error):
        await carry(AmiCarrier(CONFIG, {"pbx1": Link(*answers)}), due_of(house.engine))


@given(st.text(st.characters(codec="utf-8"), max_size=2500))
def test_a_text_in_parts_is_whole_again(text):
    cut = pieces(text)
    assert "".join(each.decode() for each in cut) == text
    assert all(len(each) <= PIECE_BYTES_MAX for each in cut)
    assert len(cut) == 1 or all(len(each) > PIECE_BYTES_MAX - 4 for each in cut[:-1])


def test_an_ambiguous_address_is_refused(house):
    due = due_of(house.engine)
    by_name = Config(sms=Sms(on_net_to="pjsip:{username}"))
    for name in ("a,b", 'a"b', "a b", "a\nb", "a|b", "a${X}"):
        callee = replace(due.callee, username=name)
        assert address_of(by_name, due.message, callee) is None
    assert address_of(by_name, due.message, due.callee) == "pjsip:u1002"
    assert address_of(CONFIG, due.message, None) == "pjsip:trunk/sip:1002@h"
