"""The log's text is Twisted's own where that is printable, and one line; all else in it is escaped."""

import io

import hypothesis.strategies as st
import pytest
from hypothesis import given
from twisted.logger import FileLogObserver, LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure

from celcombiller.core.model.calls import Witness
from celcombiller.runtime.log.fast_text import PlainText
from celcombiller.runtime.log.observers import observer
from tests.core.test_text import is_shown_safely

EVENT = {"log_level": LogLevel.info, "log_namespace": "celcombiller.x", "log_time": 1785000000.25}
FORMATS = ["Granted {a} s to {b}", "{a!r} is {b:>5}", "{{}} {a", "{call()} {a}", "{0}", "{missing}", "", None, b"{a}"]


@given(
    st.sampled_from(FORMATS),
    st.fixed_dictionaries(
        {"log_time": st.floats(0, 4e9), "a": st.text(), "b": st.integers() | st.sampled_from(Witness)},
        optional={"log_system": st.just("-"), "log_level": st.none(), "log_namespace": st.text(max_size=5)},
    ),
)
def test_a_line_equals_what_twisted_writes(text, facts):
    event = EVENT | {"log_format": text, "call": lambda: "called"} | facts
    written, twisteds = PlainText()(event), formatEventAsClassicLogText(event)
    if twisteds is None or twisteds.removesuffix("\n").isprintable():
        assert written == twisteds
    else:
        lines = written.removesuffix("\n").split("\n\t")
        assert is_shown_safely("".join(lines))


def test_a_value_forges_no_line_or_cursor():
    forged = "ana\n2026-11-05T12:00:00+0000 [celcombiller#info] Granted\r\x1b[2J\x9b2J\u202e\u2028"
    line = PlainText()(EVENT | {"log_format": "Refused {name}", "name": forged})
    assert line.count("\n") == 1
    assert r"Refused ana\n2026-11-05" in line
    assert r"Granted\r\x1b[2J\x9b2J\u202e\u2028" in line


def test_a_failure_with_controls_is_escaped():
    failure = Failure(ValueError("x\x1b[2J\nforged"))
    lines = PlainText()(EVENT | {"log_format": "It failed", "log_failure": failure}).splitlines()
    assert all(is_shown_safely(line.removeprefix("\t")) for line in lines)
    assert all(line.startswith("\t") for line in lines[1:])


def test_a_failure_comes_with_its_traceback():
    event = EVENT | {"log_format": "It failed", "log_failure": Failure(ValueError("x"))}
    assert "Traceback" in PlainText()(event)


def test_the_stamp_follows_the_clock():
    write = PlainText()
    lines = [write(EVENT | {"log_format": "x", "log_time": moment}) for moment in (10.0, 10.9, 11.0, 10.0)]
    assert lines[0] == lines[1] == lines[3] != lines[2]


@pytest.mark.parametrize("options", [{"nodaemon": 1}, {"logfile": "-"}, {"logfile": "{tmp}/log"}])
def test_it_goes_where_twistd_would_have_written(options, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    options = {name: value.format(tmp=tmp_path) if isinstance(value, str) else value for name, value in options.items()}
    made = observer(options, as_json=False, worker=None)
    assert isinstance(made, FileLogObserver)
    assert (tmp_path / "log").exists() == options.get("logfile", "").endswith("/log")
