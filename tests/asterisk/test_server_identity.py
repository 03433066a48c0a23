"""Which server a session comes from: two that give one uniqueid are never taken for each other."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone

from celcombiller.asterisk import channel_variables
from celcombiller.asterisk.ami.codec import AmiRefused
from celcombiller.asterisk.server_identity import ServerIdentity, ServerNotIdentified
from celcombiller.config.tables import Asterisk
from tests.support.deferreds import failure_of, result_of

CHANNEL = "PJSIP/1001-00000001"


class Server:
    """An Asterisk of this address and systemname, and its AMI link."""

    def __init__(self, name, host="127.0.0.1", system_name="", *, up=True, refuses=""):
        self.name, self.host, self.said, self.refuses = name, host, system_name, refuses
        self.variables = {}
        self.link = SimpleNamespace(
            system_name=system_name if up else None, address=host if up else "", ami=self if up else None
        )

    @property
    def settings(self):
        return Asterisk(name=self.name, host=self.host, username="u", secret="s")

    def getVar(self, channel, variable):
        if self.refuses:
            return fail(AmiRefused(self.refuses))
        if channel != CHANNEL:
            return fail(AmiRefused("No such channel"))
        return succeed(self.variables.get(variable))

    def session(self, uniqueid="1795387182.0"):
        """A session of the channel that this server has; each server has one of this name."""
        prefix = f"{self.said}-" if self.said else ""
        return Session(self, {"agi_uniqueid": prefix + uniqueid, "agi_channel": CHANNEL})


class Session:
    def __init__(self, server, variables):
        self.server, self.variables, self.transport, self.asked = server, variables, self, 0

    def getPeer(self):
        return SimpleNamespace(host=self.server.host)

    def sendCommand(self, text):
        self.asked += 1
        *_, name, value = text.split(" ")
        self.server.variables[name] = value
        return succeed("1")


def identify(session, *servers):
    identity = ServerIdentity([each.settings for each in servers], {each.name: each.link for each in servers})
    return Deferred.fromCoroutine(identity.identify(session))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Server("a"), Server("b")),
        (Server("pbx1", system_name="pbx1"), Server("b", system_name="pbx1")),
        (Server("a", "192.0.2.1"), Server("b", "192.0.2.2")),
        (Server("pbx1", "192.0.2.1", "pbx1"), Server("b", "192.0.2.2", "pbx1")),
        (Server("pbx.sao-paulo.example", system_name="pbx.sao-paulo.example"), Server("b", system_name="pbx-b")),
        (Server("a"), Server("b", up=False)),
        (Server("pbx1", system_name="pbx1"), Server("b", system_name="pbx1", up=False)),
        (Server("pbx1", "192.0.2.1", "pbx1", up=False), Server("b", "192.0.2.2", "pbx1", up=False)),
    ],
)
def test_two_servers_with_one_uniqueid_are_apart(first, second):
    for server in (first, second):
        assert result_of(identify(server.session(), first, second)) == server.name


def test_lookalikes_are_refused_while_neither_answers():
    servers = Server("a", up=False), Server("b", up=False)
    refusal = failure_of(identify(servers[0].session(), *servers))
    assert isinstance(refusal, ServerNotIdentified)
    assert "systemname" in str(refusal)
    mute = [Server(name, refuses="Permission denied") for name in "ab"]
    assert isinstance(failure_of(identify(mute[0].session(), *mute)), ServerNotIdentified)


def test_a_broken_link_is_no_answer():
    servers = Server("a"), Server("b")
    servers[1].getVar = lambda *_: fail(ConnectionDone())
    assert result_of(identify(servers[1].session(), *servers)) == "b"


@pytest.mark.parametrize("system_name", ["", "pbx1", "other"])
def test_the_only_server_is_it_without_a_question(system_name):
    server = Server("pbx1", system_name=system_name)
    session = server.session()
    assert result_of(identify(session, server)) == "pbx1"
    assert session.asked == 0


def test_the_only_server_behind_another_address_is_found():
    server = Server("pbx1")
    session = server.session()
    session.getPeer = lambda: SimpleNamespace(host="172.17.0.2")
    assert result_of(identify(session, server)) == "pbx1"


def test_a_server_without_a_table_is_separate():
    ours, stranger = Server("pbx1", "192.0.2.1", "pbx1"), Server("x", "192.0.2.9", "away")
    assert result_of(identify(stranger.session(), ours)) == "away"
    nameless = Server("x", "192.0.2.9")
    assert result_of(identify(nameless.session(), ours, Server("b", "192.0.2.2", "b"))) == "192.0.2.9"
    assert result_of(identify(nameless.session())) == "192.0.2.9"


@given(
    st.lists(
        st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.sampled_from(["", "p", "q"])), min_size=1, max_size=4
    )
)
def test_with_links_up_every_session_is_identified(facts):
    servers = [Server(f"s{number}", host, name) for number, (host, name) in enumerate(facts)]
    for server in servers:
        assert result_of(identify(server.session(), *servers)) == server.name


def test_the_word_is_a_channel_variable():
    server = Server("a"), Server("b")
    session = server[0].session()
    result_of(identify(session, *server))
    assert list(server[0].variables) == [channel_variables.SESSION]
