"""The AMI client, over a transport in memory and a clock that is told the time."""

import re
from hashlib import md5

import pytest
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.logger import Logger
from twisted.python.failure import Failure

from celcombiller.asterisk.ami import client
from celcombiller.asterisk.ami.client import SUSPECTS_LOG_SECONDS, AMIFactory
from celcombiller.asterisk.ami.codec import AmiActionInvalid, AmiProtocolError, AmiRefused
from tests.asterisk.ami.test_codec import GREETING, hangup, newchannel, status, written
from tests.support.deferreds import failure_of, result_of

ASTERISK = IPv4Address("TCP", "127.0.0.1", 5038)
ACCEPTED = [("Message", "Authentication accepted")]


class Transport(StringTransportWithDisconnection):
    aborted = False

    def abortConnection(self):
        self.aborted = True
        self.loseConnection()


class Manager:
    """Asterisk's end of one AMI connection to a client under test."""

    def __init__(self, **settings):
        self.reactor = MemoryReactorClock()
        self.factory = AMIFactory("biller", "s3cret", clock=self.reactor, **settings)
        self.login = self.factory.login("127.0.0.1", 5038, timeout=10)
        self.transport = None

    def accept(self):
        connecting = self.reactor.tcpClients[-1][2].buildProtocol(ASTERISK)
        self.transport = Transport(peerAddress=ASTERISK)
        self.transport.protocol = connecting
        connecting.makeConnection(self.transport)
        self.ami = connecting._wrappedProtocol
        self.ami.dataReceived(GREETING)
        return self

    def log_in(self):
        self.accept()
        self.answer(self.asked(), ("Challenge", "284866646"))
        self.answer(self.asked(), *ACCEPTED)
        assert result_of(self.login) is self.ami
        return self

    def asked(self):
        """The one action that the client sent."""
        data = self.transport.value().decode()
        self.transport.clear()
        assert data.endswith("\r\n\r\n")
        assert data.count("\r\n\r\n") == 1
        return [tuple(line.split(": ", 1)) for line in data.splitlines()[:-1]]

    def say(self, *messages):
        self.ami.dataReceived(written(*messages))

    def answer(self, asked, *fields, response="Success"):
        self.say([("Response", response), ("ActionID", dict(asked)["ActionID"]), *fields])


def logged_in(**settings):
    return Manager(**settings).log_in()


@pytest.fixture
def logged(monkeypatch):
    events = []
    monkeypatch.setattr(client, "_LOG", Logger(observer=events.append))
    return events


# ---- logging in ----


def test_a_login_does_not_send_the_secret():
    manager = Manager().accept()
    challenge = manager.asked()
    assert challenge[0] == ("Action", "Challenge")
    assert challenge[2:] == [("AuthType", "MD5")]
    manager.answer(challenge, ("Challenge", "284866646"))
    login = manager.asked()
    key = md5(b"284866646s3cret", usedforsecurity=False).hexdigest()
    assert login[0] == ("Action", "Login")
    assert login[2:] == [("AuthType", "MD5"), ("Username", "biller"), ("Key", key), ("Events", "call,system")]
    assert not manager.login.called
    manager.answer(login, *ACCEPTED)
    assert result_of(manager.login) is manager.ami
    assert manager.ami.amiVersion == "11.0.0"


def test_a_login_may_send_the_plain_secret():
    manager = Manager(plaintext_login=True, events="on").accept()
    asked = manager.asked()
    assert asked[2:] == [("Username", "biller"), ("Secret", "s3cret"), ("Events", "on")]
    manager.answer(asked, *ACCEPTED)
    assert result_of(manager.login) is manager.ami


def test_wrong_credentials_are_refused_and_the_connection_closed():
    manager = Manager().accept()
    manager.answer(manager.asked(), ("Challenge", "1"))
    manager.answer(manager.asked(), ("Message", "Authentication failed"), response="Error")
    refusal = failure_of(manager.login)
    assert isinstance(refusal, AmiRefused)
    assert str(refusal) == "Authentication failed"
    assert manager.transport.aborted
    assert manager.reactor.getDelayedCalls() == []


def test_a_refused_connection_fails_the_login():
    manager = Manager()
    manager.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
    assert isinstance(failure_of(manager.login), error.ConnectionRefusedError)


def test_a_connection_lost_before_the_login_fails_it():
    manager = Manager().accept()
    manager.transport.loseConnection()
    assert isinstance(failure_of(manager.login), error.ConnectionDone)


def test_a_silent_server_fails_the_login_in_time():
    for manager in (Manager(action_seconds=60), Manager(action_seconds=60).accept()):
        manager.reactor.advance(9.9)
        assert not manager.login.called
        manager.reactor.advance(0.1)
        assert failure_of(manager.login)
        assert manager.reactor.getDelayedCalls() == []
        assert manager.transport is None or manager.transport.aborted


def test_a_server_of_another_kind_fails_the_login(logged):
    manager = Manager()
    connecting = manager.reactor.tcpClients[-1][2].buildProtocol(ASTERISK)
    transport = Transport(peerAddress=ASTERISK)
    transport.protocol = connecting
    connecting.makeConnection(transport)
    connecting.dataReceived(b"SSH-2.0-OpenSSH\r\n")
    assert isinstance(failure_of(manager.login), AmiProtocolError)
    assert transport.aborted
    assert [event["log_level"].name for event in logged] == ["warn"]


# ---- asking ----


def test_answers_reach_their_askers_in_any_order():
    manager = logged_in()
    first = manager.ami.sendDeferred({"action": "A", "Key": 5})
    a = manager.asked()
    second = manager.ami.sendDeferred([("Action", "B"), ("Variable", "x"), ("Variable", "y")])
    b = manager.asked()
    assert a[2:] == [("Key", "5")]
    assert b[2:] == [("Variable", "x"), ("Variable", "y")]
    manager.answer(b, ("Message", "b"))
    manager.answer(a, ("Output", "1"), ("Output", "2"), response="Error")
    assert result_of(second) == {"response": "Success", "actionid": dict(b)["ActionID"], "message": "b"}
    assert result_of(first) == {"response": "Error", "actionid": dict(a)["ActionID"], "output": "1\n2"}


def test_action_ids_cannot_be_guessed_nor_chosen():
    manager = logged_in()
    ids = set()
    for _ in range(20):
        manager.ami.sendDeferred({"Action": "Ping", "ActionID": "mine"}).addErrback(lambda _: None)
        ids.add(dict(manager.asked())["ActionID"])
    assert len(ids) == 20
    assert all(re.fullmatch("[0-9a-f]{32}", action_id) for action_id in ids)


def test_an_answer_to_nobody_is_passed_over():
    manager = logged_in()
    asked = manager.ami.ping()
    manager.say([("Response", "Success"), ("ActionID", "guessed")], [("Response", "Success"), ("Message", "x")])
    assert not asked.called


@pytest.mark.parametrize(
    ("ask", "fields"),
    [
        (lambda ami: ami.hangup("PJSIP/1"), [("Action", "Hangup"), ("Channel", "PJSIP/1")]),
        (
            lambda ami: ami.absoluteTimeout("PJSIP/1", 2.5),
            [("Action", "AbsoluteTimeout"), ("Channel", "PJSIP/1"), ("Timeout", "2.5")],
        ),
        (
            lambda ami: ami.setVar("PJSIP/1", "X", 5),
            [("Action", "Setvar"), ("Channel", "PJSIP/1"), ("Variable", "X"), ("Value", "5")],
        ),
        (lambda ami: ami.setVar(None, "X", ""), [("Action", "Setvar"), ("Variable", "X"), ("Value", "")]),
        (lambda ami: ami.ping(), [("Action", "Ping")]),
        (
            lambda ami: ami.redirect("PJSIP/1", "bye", "s", 1),
            [("Action", "Redirect"), ("Channel", "PJSIP/1"), ("Context", "bye"), ("Exten", "s"), ("Priority", "1")],
        ),
        (
            lambda ami: ami.originate("Local/1@x", "y", "2", 1, timeout=2, variable={"A": 1, "B": 2}, nowait=True),
            [
                *[
                    ("Action", "Originate"),
                    ("Channel", "Local/1@x"),
                    ("Context", "y"),
                    ("Exten", "2"),
                    ("Priority", "1"),
                ],
                *[("Timeout", "2000"), ("Async", "true"), ("Variable", "A=1"), ("Variable", "B=2")],
            ],
        ),
    ],
)
def test_each_action_sends_fields_and_fails_refused(ask, fields):
    manager = logged_in()
    done = ask(manager.ami)
    asked = manager.asked()
    assert [field for field in asked if field[0] != "ActionID"] == fields
    manager.answer(asked, ("Message", "ok"))
    assert result_of(done)["message"] == "ok"
    refused = ask(manager.ami)
    manager.answer(manager.asked(), ("Message", "No such channel"), response="Error")
    refusal = failure_of(refused)
    assert isinstance(refusal, AmiRefused)
    assert str(refusal) == "No such channel"


def test_a_variable_is_read_by_its_value():
    manager = logged_in()
    for value, result in (("0.986", "0.986"), ("", ""), ("(null)", None)):
        read = manager.ami.getVar("PJSIP/1", "TIMEOUT(absolute)")
        manager.answer(manager.asked(), ("Variable", "TIMEOUT(absolute)"), ("Value", value))
        assert result_of(read) == result


def test_logging_off_is_answered_with_goodbye():
    manager = logged_in()
    done = manager.ami.logoff()
    manager.answer(manager.asked(), ("Message", "Thanks for all the fish."), response="Goodbye")
    assert result_of(done)["response"] == "Goodbye"


@pytest.mark.parametrize(
    "ask",
    [
        lambda ami: ami.hangup("PJSIP/1\r\nAction: Command"),
        lambda ami: ami.hangup("/.*/"),
        lambda ami: ami.setVar("PJSIP/1", "X", "a\nb"),
        lambda ami: ami.sendDeferred({"Action": "Ping\r\n"}),
    ],
)
def test_an_injected_action_is_not_sent(ask):
    manager = logged_in()
    with pytest.raises(AmiActionInvalid):
        ask(manager.ami)
    assert manager.transport.value() == b""


def test_a_late_answer_fails_and_is_ignored():
    manager = logged_in(action_seconds=10, ping_seconds=1000)
    asked = manager.ami.hangup("PJSIP/1")
    action = manager.asked()
    manager.reactor.advance(9.9)
    assert not asked.called
    manager.reactor.advance(0.1)
    assert isinstance(failure_of(asked), AmiProtocolError)
    manager.answer(action)
    assert manager.transport.connected


def test_an_originate_waits_as_long_as_ringing():
    manager = logged_in(action_seconds=10, ping_seconds=1000)
    rung = manager.ami.originate("Local/1@x", application="Echo", timeout=60)
    manager.reactor.advance(69)
    manager.answer(manager.asked(), ("Message", "Originate successfully queued"))
    assert result_of(rung)["response"] == "Success"


# ---- lists ----


def listed(manager, *events, items=None):
    """Answer a Status with these events."""
    done = manager.ami.status()
    asked = manager.asked()
    assert ("Action", "Status") in asked
    action_id = dict(asked)["ActionID"]
    manager.answer(asked, ("EventList", "start"))
    manager.say(*[event(action_id) for event in events])
    items = str(len(events) if items is None else items)
    manager.say([("Event", "StatusComplete"), ("ActionID", action_id), ("ListItems", items)])
    return done


def test_a_list_has_response_events_and_end():
    manager = logged_in()
    done = listed(manager, status, lambda action_id: status(action_id, uniqueid="1.1"))
    response, first, second, end = result_of(done)
    assert response["response"] == "Success"
    assert first["uniqueid"] == "1795387182.0"
    assert first["variable"] == "A=1\nB=2"
    assert second["uniqueid"] == "1.1"
    assert end["event"] == "StatusComplete"


def test_a_list_with_a_cut_item_fails():
    manager = logged_in()
    done = listed(manager, status, lambda action_id: status(action_id, number="1\r\n\r\nEvent: StatusComplete\r\nX: y"))
    refusal = failure_of(done)
    assert isinstance(refusal, AmiProtocolError)
    assert "not whole" in str(refusal)
    assert manager.ami.suspects == 2


def test_a_trailing_action_id_ends_no_list():
    manager = logged_in()
    done = manager.ami.status()
    asked = manager.asked()
    manager.answer(asked)
    manager.say([("Event", "StatusComplete"), ("X", "y"), ("ActionID", dict(asked)["ActionID"])])
    assert not done.called


def test_a_refused_list_fails():
    manager = logged_in()
    done = manager.ami.status("PJSIP/none")
    asked = manager.asked()
    assert ("Channel", "PJSIP/none") in asked
    manager.answer(asked, ("Message", "No such channel"), response="Error")
    assert isinstance(failure_of(done), AmiRefused)


def test_a_list_may_take_long_while_moving():
    manager = logged_in(action_seconds=10, ping_seconds=1000)
    done = manager.ami.status()
    asked = manager.asked()
    for _ in range(5):
        manager.reactor.advance(9)
        manager.say(status(dict(asked)["ActionID"]))
    manager.reactor.advance(9.9)
    assert not done.called
    manager.reactor.advance(0.1)
    assert isinstance(failure_of(done), AmiProtocolError)


# ---- events ----


def test_an_event_reaches_its_registered_listeners():
    manager = logged_in()
    heard = []
    manager.ami.registerEvent("Hangup", lambda ami, event: heard.append(("one", ami, event["uniqueid"])))
    manager.ami.registerEvent(("Hangup", "Newchannel"), lambda ami, event: heard.append(("two", ami, event["event"])))
    manager.ami.registerEvent(None, lambda ami, event: heard.append(("all", ami, event["cause-txt"])))
    manager.say(hangup())
    assert heard == [
        ("one", manager.ami, "1795387182.0"),
        ("two", manager.ami, "Hangup"),
        ("all", manager.ami, "Normal Clearing"),
    ]


def test_an_event_skips_deregistered_listeners():
    manager = logged_in()
    heard = []

    def first(ami, event):
        heard.append(1)

    def second(ami, event):
        heard.append(2)

    for hearer in (first, second):
        manager.ami.registerEvent(("Hangup", None), hearer)
    assert manager.ami.deregisterEvent("Hangup", first)
    assert manager.ami.deregisterEvent(None)
    manager.say(hangup())
    assert heard == [2]
    assert manager.ami.deregisterEvent(("Hangup",))
    assert not manager.ami.deregisterEvent("Hangup")
    manager.say(hangup())
    assert heard == [2]


def test_a_failing_listener_blocks_no_other(logged):
    manager = logged_in()
    heard = []
    manager.ami.registerEvent("Hangup", lambda ami, event: heard[5])
    manager.ami.registerEvent("Hangup", lambda ami, event: heard.append(event))
    manager.say(hangup())
    assert len(heard) == 1
    (event,) = logged
    assert event["log_failure"].check(IndexError)


def test_suspect_messages_reach_no_listener_one_line(logged):
    manager = logged_in(ping_seconds=1000)
    heard = []
    manager.ami.registerEvent(None, lambda ami, event: heard.append(event["uniqueid"]))
    forged = newchannel(number="1001\r\n\r\nEvent: Hangup\r\nUniqueid: FAKE")
    manager.say(forged, forged, hangup())
    assert heard == ["1795387182.0"]
    assert manager.ami.suspects == 4
    assert [event["log_level"].name for event in logged] == ["warn"]
    manager.reactor.advance(SUSPECTS_LOG_SECONDS)
    manager.say(forged)
    assert [event["count"] for event in logged] == [1, 5]


# ---- the end of the connection ----


def test_a_lost_connection_fails_all_waiting():
    manager = logged_in()
    asked = [manager.ami.ping(), manager.ami.status(), manager.ami.sendDeferred({"Action": "X"})]
    manager.transport.loseConnection()
    asked.append(manager.ami.ping())
    for answer in asked:
        assert isinstance(failure_of(answer), error.ConnectionDone)
    assert manager.reactor.getDelayedCalls() == []


def test_who_waits_for_the_end_learns_of_it():
    manager = logged_in()
    waiting = [manager.ami.onClose() for _ in range(2)]
    manager.transport.loseConnection()
    assert [result_of(closed) for closed in [*waiting, manager.ami.onClose()]] == [None] * 3


def test_a_peer_that_has_gone_silent_is_dropped(logged):
    manager = logged_in(ping_seconds=15)
    asked = manager.ami.sendDeferred([("Action", "X")])
    closed = manager.ami.onClose()
    manager.transport.clear()
    manager.reactor.advance(15)
    assert manager.asked()[0] == ("Action", "Ping")
    manager.reactor.advance(14.9)
    assert manager.transport.connected
    manager.reactor.advance(0.1)
    assert manager.transport.aborted
    assert result_of(closed) is None
    assert isinstance(failure_of(asked), AmiProtocolError)
    assert [event["fault"] for event in logged] == ["nothing was heard from Asterisk for two pings"]
    assert manager.reactor.getDelayedCalls() == []


def test_a_peer_that_answers_pings_is_kept():
    manager = logged_in(ping_seconds=15)
    for _ in range(10):
        manager.reactor.advance(15)
        manager.answer(manager.asked(), ("Ping", "Pong"))
    assert manager.transport.connected


def test_a_stream_not_ami_ends_the_connection(logged):
    manager = logged_in()
    asked = manager.ami.ping()
    manager.ami.dataReceived(b"x" * 70_000)
    assert isinstance(failure_of(asked), AmiProtocolError)
    assert manager.transport.aborted
    assert [event["log_level"].name for event in logged] == ["warn"]
