"""Events go to their connections directly, and a fault of one ends nothing else."""

import os

import pytest
from twisted.internet import epollreactor
from twisted.internet.abstract import FileDescriptor
from twisted.python import context, log

from celcombiller.runtime.process import event_dispatch


@pytest.fixture
def reactor(monkeypatch):
    monkeypatch.setattr(epollreactor, "log", epollreactor.log)  # it is put back
    event_dispatch.dispatch_directly()
    return epollreactor.EPollReactor()


class Pipe(FileDescriptor):
    def __init__(self, reactor, fault=None):
        super().__init__(reactor)
        self.fault, self.systems = fault, []
        self.reading, self.writing = os.pipe()

    def fileno(self):
        return self.reading

    def logPrefix(self):
        return "Pipe"

    def doRead(self):
        self.systems.append(context.get(log.ILogContext)["system"])
        os.read(self.reading, 1)
        if self.fault is not None:
            raise self.fault

    def close(self):
        os.close(self.reading)
        os.close(self.writing)


def test_event_makes_no_log_context(reactor):
    pipe = Pipe(reactor)
    reactor.addReader(pipe)
    os.write(pipe.writing, b"x")
    reactor.doPoll(1)
    assert pipe.systems == ["-"]
    pipe.close()


def test_fault_of_one_event_spares_the_others(reactor, expected_failures):
    pipes = [Pipe(reactor, ZeroDivisionError()), Pipe(reactor)]
    for each in pipes:
        reactor.addReader(each)
        os.write(each.writing, b"x")
    reactor.doPoll(1)
    assert [each.systems for each in pipes] == [["-"], ["-"]]
    assert "ZeroDivisionError" in str(expected_failures)
    expected_failures.clear()
    for each in pipes:
        each.close()


@pytest.mark.parametrize("fault", [ValueError, SystemExit])
def test_error_outside_a_connection_is_logged(fault, expected_failures):
    event_dispatch.call_logged(None, exec, f"raise {fault.__name__}")
    assert fault.__name__ in str(expected_failures)
    expected_failures.clear()


def test_interrupt_ends_the_reactor():
    with pytest.raises(KeyboardInterrupt):
        event_dispatch.call_logged(None, exec, "raise KeyboardInterrupt")
