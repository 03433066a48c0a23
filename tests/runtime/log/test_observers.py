"""The log as JSON: one line for each event, whatever it holds, by the setting alone."""

import io
import json
import os
import signal
import subprocess
import sys
import syslog
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import Application
from twisted.logger import FileLogObserver, ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.syslog import SyslogObserver

from celcombiller.core.model.calls import CallState
from celcombiller.runtime.log.observers import json_line, observer
from celcombiller.service import Options, makeService
from tests.system.lab.waiting import free_ports, until

RESERVED = {"time", "level", "namespace", "message"}


def logged(tell):
    """Give what ``tell`` wrote to a logger, read back line by line."""
    written = io.StringIO()
    tell(Logger(namespace="here", observer=FileLogObserver(written, json_line)))
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_an_event_is_one_line_with_fields():
    (line,) = logged(
        lambda log: log.info(
            "{state} call {reference}: {talk_ms} ms", state=CallState.SETTLED, reference="call:pbx1:1.0:0", talk_ms=2300
        )
    )
    at = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert line == {
        "level": "info",
        "namespace": "here",
        "message": "settled call call:pbx1:1.0:0: 2300 ms",
        "state": "settled",
        "reference": "call:pbx1:1.0:0",
        "talk_ms": 2300,
    }


def test_a_failure_has_its_traceback_in_a_field():
    def tell(log):
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            log.failure("Work of {server} failed", server="pbx1")

    (line,) = logged(tell)
    assert (line["level"], line["message"], line["server"]) == ("critical", "Work of pbx1 failed", "pbx1")
    assert line["traceback"].endswith("division by zero\n")
    assert __file__ in line["traceback"]


def test_phone_input_cannot_start_a_line():
    forged = '1.0\n{"level": "info", "message": "Granted"}\u2028'
    (line,) = logged(lambda log: log.warn("Channel {uniqueid}", uniqueid=forged))
    assert line["uniqueid"] == forged


class Mute:
    def __str__(self):
        raise RuntimeError("I say nothing")


@pytest.mark.parametrize("value", [Mute(), float("nan"), float("inf"), "\ud800", b"\xff", 10**400, {1: {2}}, object()])
def test_fields_unknown_to_json_become_text(value):
    (line,) = logged(lambda log: log.info("A sentence", value=value))
    assert line["message"] == "A sentence"
    assert isinstance(line["value"], str | int)


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text())


@given(st.text(), st.dictionaries(st.text(), anything), st.sampled_from(list(LogLevel.iterconstants())))
def test_any_event_is_one_strict_json_line(sentence, fields, level):
    event = {**fields, "log_format": sentence, "log_level": level, "log_time": 1.5, "log_namespace": "n"}
    text = json_line(event)
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.isascii()
    line = json.loads(text, parse_constant=pytest.fail)
    assert line.keys() >= RESERVED
    assert (line["level"], line["namespace"]) == (level.name, "n")


def test_legacy_events_become_lines_too():
    for event in ({"log_text": "x", "log_format": "{log_text}", "message": (), "time": 1.0, "isError": 0}, {}):
        line = json.loads(json_line(event))
        assert line.keys() == RESERVED
        assert line["level"] == "info"


def test_an_unprintable_failure_still_becomes_a_line():
    class Untold(Failure):
        def getTraceback(self, *_, **__):
            raise RuntimeError("lost")

    line = json.loads(json_line({"log_failure": Untold(ValueError("x")), "log_format": "It failed"}))
    assert line["traceback"] == "(no traceback: RuntimeError)"


def test_the_log_goes_where_twistd_says(tmp_path):
    assert observer({"nodaemon": True, "logfile": None}, as_json=True, worker=None)._outFile is sys.stdout
    assert observer({"nodaemon": False, "logfile": "-"}, as_json=True, worker=None)._outFile is sys.stdout
    to_file = observer({"nodaemon": True, "logfile": str(tmp_path / "biller.log")}, as_json=True, worker=None)
    to_file({"log_format": "To a file"})
    to_file._outFile.close()
    assert json.loads((tmp_path / "biller.log").read_text())["message"] == "To a file"


@pytest.mark.parametrize("as_json", [True, False])
def test_syslog_gets_printable_lines(monkeypatch, as_json):
    opened, written = [], []
    monkeypatch.setattr(SyslogObserver, "openlog", lambda _, *options: opened.append(options[0]))
    monkeypatch.setattr(SyslogObserver, "syslog", lambda _, priority, line: written.append((priority, line)))
    write = observer({"syslog": True, "prefix": "biller"}, as_json=as_json, worker=None)
    log = Logger("x", observer=write)
    log.info("a name: {name}", name="an\x1b[31ma\u202e\r\nforged")
    log.failure("it failed", Failure(ValueError("of \x9b text")))
    assert opened == ["biller"]
    assert written[0] == (syslog.LOG_INFO, "[x#info] a name: an\\x1b[31ma\\u202e\\r\\nforged")
    assert written[1] == (syslog.LOG_ALERT, "[x#critical] it failed")
    assert written[-1][1].endswith("ValueError: of \\x9b text")
    assert all(line.replace("\t", "").isprintable() for _, line in written)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
def test_the_setting_alone_decides_what_writes_twistds_log(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    subprocess.run([Path(sys.executable).parent / "celcombiller", "init"], check=True, capture_output=True)
    Path("celcombiller.toml").write_text(f'[service]\nlog = "{form}"\none_core = false\n', encoding="utf-8")
    options = Options()
    options.parseOptions([])
    options.parent = {"nodaemon": True, "logfile": None, "syslog": False}
    application = Application("celcombiller")
    root = makeService(options)
    root.setServiceParent(application)
    writes = application.getComponent(ILogObserver, None)
    assert (writes.formatEvent is json_line) == (form == "json")
    root._lock.close()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.slow
def test_every_line_of_a_running_biller_is_json(tmp_path):
    programs = Path(sys.executable).parent
    agi = free_ports(2)
    rest = agi + 1
    (tmp_path / "celcombiller.toml").write_text(
        f'[service]\nlog = "json"\n[agi]\nlisten = "tcp:{agi}:interface=127.0.0.1"\n'
        f'[rest]\nlisten = "tcp:{rest}:interface=127.0.0.1"\n',
        encoding="utf-8",
    )
    subprocess.run([programs / "celcombiller", "init"], cwd=tmp_path, check=True, capture_output=True)
    biller = subprocess.Popen(
        [programs / "twistd", "--nodaemon", "--pidfile=", "celcombiller"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        until(lambda: answers(f"http://127.0.0.1:{rest}/healthz"), "the biller answers", seconds=60)
        biller.send_signal(signal.SIGTERM)
        written, _ = biller.communicate(timeout=60)
    finally:
        biller.kill()
    lines = [json.loads(line) for line in written.splitlines()]
    messages = [line["message"] for line in lines]
    assert any("starting up" in each for each in messages)
    assert "Main loop terminated." in messages
    told = next(line for line in lines if line["message"].startswith("REST on"))
    assert (told["rest"], told["level"]) == (f"tcp:{rest}:interface=127.0.0.1", "info")
    assert told["namespace"] == "celcombiller.service.root.Root"
