"""The sign of life that a biller leaves for the dialplan."""

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed

from celcombiller.asterisk.ami.alive_signal import AliveSignal
from tests.support.deferreds import result_of


class Ami:
    def __init__(self, here="127.0.0.1", there="127.0.0.1", **variables):
        self.here, self.there, self.variables, self.transport = here, there, variables, self

    def getHost(self):
        return IPv4Address("TCP", self.here, 40000)

    def getPeer(self):
        return IPv4Address("TCP", self.there, 5038)

    def getVar(self, channel, name):
        return succeed(self.variables.get(name))

    def setVar(self, channel, name, value):
        assert channel is None
        self.variables[name] = value
        return succeed({})

    def sendDeferred(self, message):
        assert message == {"Action": "Ping"}
        return succeed({"timestamp": "1795875874.275577"})


@pytest.mark.parametrize(
    ("facts", "signed"),
    [
        ({"CELCOMBILLER": "agi://127.0.0.1:4573"}, []),
        ({"CELCOMBILLER": "agi://127.0.0.1:4573", "CELCOMBILLER_SECOND": "agi://127.0.0.1:4574"}, ["CELCOMBILLER"]),
        ({"CELCOMBILLER": "agi://127.0.0.1", "CELCOMBILLER_SECOND": "agi://192.0.2.2"}, ["CELCOMBILLER"]),
        ({"CELCOMBILLER": "agi://localhost/", "CELCOMBILLER_SECOND": "agi://192.0.2.2"}, ["CELCOMBILLER"]),
        (
            {"CELCOMBILLER": "agi://192.0.2.1", "CELCOMBILLER_SECOND": "agi://192.0.2.2", "here": "192.0.2.2"},
            ["CELCOMBILLER_SECOND"],
        ),
        (
            {
                "CELCOMBILLER": "agi://127.0.0.1",
                "CELCOMBILLER_SECOND": "agi://192.0.2.2",
                "here": "192.0.2.7",
                "there": "192.0.2.9",
            },
            [],
        ),
        ({"CELCOMBILLER": "agi://[::1]:4573", "CELCOMBILLER_SECOND": "nonsense"}, ["CELCOMBILLER"]),
    ],
)
def test_a_biller_signs_where_there_is_a_second(facts, signed):
    ami, signal = Ami(**facts), AliveSignal(4573)
    result_of(Deferred.fromCoroutine(signal.look(ami)))
    result_of(Deferred.fromCoroutine(signal.send(ami)))
    assert {name for name in ami.variables if name.endswith("_ALIVE")} == {f"{name}_ALIVE" for name in signed}
    assert all(ami.variables[f"{name}_ALIVE"] == "1795875874" for name in signed)


def test_without_a_port_a_biller_signs_nothing():
    ami, signal = Ami(CELCOMBILLER="agi://127.0.0.1:0", CELCOMBILLER_SECOND="agi://127.0.0.1:0"), AliveSignal(None)
    result_of(Deferred.fromCoroutine(signal.look(ami)))
    assert signal.names == []
