"""The parent of several workers: what it does when one of them ends, and that in the end none is left."""

import pytest
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from celcombiller.core.errors import ConfigError
from celcombiller.runtime.process.prefork import STEADY_SECONDS, STOP_SECONDS, WORKER, Workers, check_attended, number


class Processes(Clock):
    """A reactor whose processes do as they are told here."""

    def __init__(self):
        super().__init__()
        self.started = []

    def callWhenRunning(self, work, *arguments):
        work(*arguments)

    def spawnProcess(self, protocol, program, arguments, env, childFDs):
        process = Process(protocol, int(env[WORKER]))
        self.started.append(process)
        protocol.transport = process

    def numbers(self):
        return [each.number for each in self.started]


class Process:
    pid = 4711

    def __init__(self, protocol, number):
        self.protocol, self.number, self.signals, self.ended = protocol, number, [], False

    def signalProcess(self, name):
        if self.ended:
            raise ProcessExitedAlready
        self.signals.append(name)

    def end(self):
        self.ended = True
        self.protocol.processEnded(Failure(ProcessDone(0)))


@pytest.fixture
def reactor():
    return Processes()


@pytest.fixture
def workers(reactor):
    made = Workers(reactor, {}, 2, None)
    made.startService()
    return made


def test_an_ended_worker_restarts_others_go_on(reactor, workers):
    first, second = reactor.started
    reactor.advance(STEADY_SECONDS + 1)
    first.end()
    reactor.advance(2)
    assert reactor.numbers() == [1, 2, 1]
    assert second.signals == []
    workers.stopService()


def test_a_failing_worker_restarts_more_slowly(reactor, workers):
    for _ in range(8):
        reactor.started[-1].end()
        reactor.advance(120)
    before = len(reactor.started)
    reactor.started[-1].end()
    reactor.advance(10)
    assert len(reactor.started) == before
    reactor.advance(60)
    assert len(reactor.started) == before + 1
    workers.stopService()


def test_a_long_lived_worker_restarts_at_once(reactor, workers):
    for _ in range(8):
        reactor.started[-1].end()
        reactor.advance(60)
    reactor.advance(STEADY_SECONDS + 1)
    before = len(reactor.started)
    reactor.started[-1].end()
    reactor.advance(2)
    assert len(reactor.started) == before + 1
    workers.stopService()


def test_the_stop_waits_for_all_workers(reactor, workers):
    over = []
    workers.stopService().addCallback(over.append)
    first, second = reactor.started
    assert (first.signals, second.signals) == (["TERM"], ["TERM"])
    first.end()
    assert over == []
    second.end()
    assert len(over) == 1
    reactor.advance(100)
    assert reactor.numbers() == [1, 2]
    assert reactor.getDelayedCalls() == []


def test_a_worker_that_does_not_end_is_killed(reactor, workers):
    workers.stopService()
    reactor.advance(STOP_SECONDS)
    assert [each.signals for each in reactor.started] == [["TERM", "KILL"]] * 2


@pytest.mark.parametrize(
    "options",
    [{"nodaemon": 0}, {"nodaemon": 1, "logfile": "twistd.log"}, {"nodaemon": 1, "syslog": 1}],
)
def test_workers_whose_lines_would_go_nowhere_are_refused(options):
    with pytest.raises(ConfigError, match="--nodaemon"):
        check_attended(options)


def test_workers_on_standard_output_are_welcome():
    check_attended({"nodaemon": 1, "logfile": None, "syslog": 0})
    check_attended({"nodaemon": 1, "logfile": "-", "syslog": 0})


def test_only_a_worker_has_a_number():
    assert (number({}), number({WORKER: "3"}), number({WORKER: "x"})) == (None, 3, None)
