"""AMI links that do not hear all, and channels with odd names, on a real Asterisk."""

import contextlib
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from celcombiller.asterisk.ami.probe import NO_EVENTS, UNHEARD
from tests.system.lab.asterisk import LATIN_ADDRESS, SECRET
from tests.system.lab.sip_phones import callee, caller
from tests.system.lab.waiting import until

CREDIT = 60


def _call(pbx, tmp_path, number, *, name="1", talk=1.5, **how):
    other = callee(tmp_path / f"callee{name}", "waits", port=pbx.port_of("2001"))
    phone = caller(
        tmp_path / f"caller{name}",
        "hangs_up",
        number=str(number),
        dials="2001",
        sip_port=pbx.sip_port,
        talk=talk,
        **how,
    )
    phone.until_answered()
    return phone, other


@pytest.mark.parametrize("user", ["deaf", "filtered"])
def test_a_kill_on_a_deaf_link_charges(biller, pbx, tmp_path, user):
    biller.ami_user = user
    biller.prepare({1200: CREDIT, 2001: 0}).start()
    phones = _call(pbx, tmp_path, 1200)
    biller.kill9()
    for phone in phones:
        phone.finish()
    until(lambda: pbx.channels() == 0, "the channels are gone")
    biller.start()
    call = biller.closed_call(1200)
    assert (call["witness"], call["cost"] > 0) == ("sweep", True), call
    biller.check_books(1200, credit=CREDIT, cost=call["cost"])
    if user == "deaf":
        until(lambda: NO_EVENTS in biller.log, "the missing right is reported")
    else:
        assert NO_EVENTS not in biller.log


@pytest.mark.parametrize(("user", "is_kept"), [("celcombiller", True), ("deaf", False)])
def test_a_slow_reader_keeps_its_link(pbx, user, is_kept):
    """The shipped user has 5 s to read what waits for it, and others Asterisk's 0.1 s. 3 s for both."""
    actions = 12_000
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", pbx.ami_port))
        link.settimeout(30)
        link.sendall(f"Action: Login\r\nUsername: {user}\r\nSecret: {SECRET}\r\nEvents: off\r\n\r\n".encode())
        asking = threading.Thread(target=_ask_often, args=(link, actions))
        asking.start()
        time.sleep(0.5)
        assert (_count_answers(link, actions) == actions) is is_kept
        asking.join()


def _ask_often(link, actions):
    with contextlib.suppress(ConnectionError):
        link.sendall(b"Action: CoreSettings\r\n\r\n" * actions)


def _count_answers(link, most):
    answers = 0
    with contextlib.suppress(ConnectionError), link.makefile("rb") as lines:
        while answers < most and (line := lines.readline()):
            answers += line.startswith(b"AMIversion")
    return answers


def test_a_filter_is_noticed_at_the_first_call(biller, pbx, tmp_path):
    biller.ami_user = "filtered"
    biller.prepare({1200: CREDIT, 2001: 0}).start()
    for phone in _call(pbx, tmp_path, 1200):
        phone.finish()
    biller.closed_call(1200)
    for fault in UNHEARD.values():
        until(lambda fault=fault: fault in biller.log, "what does not come is reported")
        assert biller.log.count(fault) == 1


def test_a_channel_named_in_latin1_is_found_again(biller, pbx, tmp_path):
    biller.prepare({1000: CREDIT, 2001: 0}).start()
    for phone in _call(pbx, tmp_path, 1000, address=LATIN_ADDRESS):
        phone.finish()
    call = biller.closed_call(1000)
    assert call["cost"] == 2
    engine = sa.create_engine(f"sqlite:///{biller.folder}/celcombiller.sqlite")

    def witnesses() -> list[str]:
        with engine.connect() as connection:
            return sorted(connection.execute(sa.text("select witness from testimony")).scalars())

    until(lambda: witnesses() == ["agi", "ami", "reducer"], "AMI confirms")
    engine.dispose()
    assert "No new limit" not in biller.log
    biller.check_books(1000, credit=CREDIT, cost=2)


def test_a_missed_answer_is_in_the_cdr(biller, pbx, tmp_path):
    biller.prepare({1200: CREDIT, 2001: 0}).start()
    other = callee(tmp_path / "callee", "waits", port=pbx.port_of("2001"), ring=2)
    phone = caller(tmp_path / "caller", "hangs_up", number="1200", dials="2001", sip_port=pbx.sip_port, talk=4)
    phone.until_rings()
    biller.kill9()
    phone.until_answered()
    answered_at = datetime.now(UTC)
    biller.start()
    said = until(lambda: biller.calls_of(1200)[0]["answered_at"], "the answer is found")
    assert abs(datetime.fromisoformat(said) - answered_at) < timedelta(seconds=0.5)
    for each in (phone, other):
        each.finish()
    call = biller.closed_call(1200)
    biller.check_books(1200, credit=CREDIT, cost=call["cost"])
    assert call["cost"] in (4, 5)
